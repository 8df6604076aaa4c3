"""Tasks side by side: outcomes, failures, processes that are killed; here and on a Ray cluster."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from contextlib import closing

import pytest

from robustseg_core.errors import RobustsegError
from robustseg_core.jobs import KILLED, Workers, _there, each, results
from robustseg_core.version import __version__
from support.chores import chore

pytestmark = pytest.mark.slow

HERE, TWO = Workers(), Workers(jobs=2)


def outcomes(tasks, workers):
    return {o.number: o.error or o.result for o in each(chore, tasks, workers)}


@pytest.mark.parametrize("workers", [HERE, TWO], ids=["here", "two"])
def test_a_task_that_fails_does_not_stop_the_others(workers):
    tasks = [("", 1), ("fail", 2), ("defect", 3), ("", 4)]
    assert outcomes(tasks, workers) == {
        0: 1,
        1: "number 2 cannot be done",
        2: "ZeroDivisionError: of ours",
        3: 16,
    }


def test_a_process_that_is_killed_takes_nobody_with_it(tmp_path):
    """Whoever ran beside it is tried again, and so is it itself."""
    tasks = [("", 1), ("die", 2), ("", 3), (f"die once in {tmp_path}", 4), ("", 5)]
    assert outcomes(tasks, TWO) == {0: 1, 1: KILLED, 2: 9, 3: 16, 4: 25}


def test_results_of_tasks_that_may_not_fail():
    assert sorted(results(each(chore, [("", k) for k in range(4)], HERE))) == [0, 1, 4, 9]
    with pytest.raises(RobustsegError, match="number 2"):
        list(results(each(chore, [("", 1), ("fail", 2)], HERE)))


def test_who_breaks_off_ends_the_processes():
    with closing(each(chore, [("", 1), ("wait", 2), ("wait", 3)], TWO)) as running:
        assert next(running).result == 1  # and two wait for ever


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_processes_end_with_whoever_waits_for_them(number):
    """Killed or interrupted from outside, nothing goes on behind the user's back."""
    program = """
        import multiprocessing, sys
        from robustseg_core.jobs import Workers, each
        from support.chores import chore
        if __name__ == "__main__":
            for outcome in each(chore, [("", 1), ("wait", 2)], Workers(jobs=2)):
                print(*(p.pid for p in multiprocessing.active_children()), flush=True)
    """
    words = [sys.executable, "-c", textwrap.dedent(program)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        pids = [int(word) for word in process.stdout.readline().split()]
        assert pids
        process.send_signal(number)
        # The pipe ends when the last process that has it does
        assert process.stdout.read() == ""
        assert process.wait() != 0


def test_without_ray_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RobustsegError, match=r"ray is not installed; pip install 'robustseg\[clus"):
        list(each(chore, [("", 1)], Workers(ray="local")))


def test_a_node_with_another_version_does_nothing():
    """Its results would be said to be of ours."""
    outcome = _there(os.getcwd(), "9.9.9", chore, 3, ("", 1))
    assert outcome.number == 3 and outcome.result is None
    assert f"has robustseg {__version__}, and 9.9.9 was started; install" in outcome.error
