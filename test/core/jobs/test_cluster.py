"""On a Ray cluster of two nodes that are started here: the promises that local processes give."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from dataclasses import replace

import pytest

from robustseg_core.errors import RobustsegError
from robustseg_core.evaluation.many import Data, Plan, evaluate_each
from robustseg_core.evaluation.run import How
from robustseg_core.jobs import LOST, Workers, _as_we_are, each
from robustseg_core.models import checkpoint
from support import drives
from support.chores import chore
from support.learn_data import CLASSES, SIZE, make_shards

ray = pytest.importorskip("ray", reason="Ray is not installed (extra `cluster`)")
from ray.cluster_utils import Cluster  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.timeout(900),  # on a busy machine Ray takes minutes to start
]


@pytest.fixture(scope="module")
def nodes():
    """Two nodes with a core each."""
    with _as_we_are():
        try:
            cluster = Cluster(
                initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
            )
            cluster.add_node(num_cpus=1)
        except Exception as error:  # its own limit of 30 s
            ray.shutdown()
            pytest.skip(f"Ray does not start on this busy machine: {error}")
        yield cluster
        cluster.shutdown()


@pytest.fixture(scope="module")
def workers(nodes):
    return Workers(ray=nodes.address)


def outcomes(tasks, workers):
    return {o.number: o.error or o.result for o in each(chore, tasks, workers)}


def test_tasks_are_done_there_and_fail_for_themselves(workers, tmp_path):
    tasks = [("", 1), ("fail", 2), ("die", 3), (f"die once in {tmp_path}", 4), ("defect", 5)]
    assert outcomes(tasks, workers) == {
        0: 1,
        1: "number 2 cannot be done",
        2: LOST,
        3: 16,
        4: "ZeroDivisionError: of ours",
    }


def test_what_a_lost_node_was_at_is_done_elsewhere(nodes, workers, tmp_path):
    third = nodes.add_node(num_cpus=1)
    place = str(tmp_path / "s")
    found = {}
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(place)
        door.listen()
        tasks = [(f"ask {place}", number) for number in (1, 2, 3)]
        thread = threading.Thread(target=lambda: found.update(outcomes(tasks, workers)))
        thread.start()
        lines = {}
        while len(lines) < 3:  # each node is at one
            line, _ = door.accept()
            lines[line.makefile().readline().split()[1]] = line
        nodes.remove_node(third, allow_graceful=False)
        lost = lines.pop(third.node_id)
        assert lost.recv(1) == b""
        for line in lines.values():
            line.sendall(b"!")
        again, _ = door.accept()
        assert again.makefile().readline().split()[1] in lines
        again.sendall(b"!")
        thread.join()
    assert found == {0: 1, 1: 4, 2: 9}


def test_a_cluster_that_is_not_there_is_one_sentence():
    for address in ("nowhere.invalid:1", "127.0.0.1:1"):
        with pytest.raises(RobustsegError, match=f"no Ray cluster at '{address}' "):
            list(each(chore, [("", 1)], Workers(ray=address)))


def test_one_that_is_started_for_it_ends_with_it(capfd):
    assert outcomes([("", 1), ("", 2)], Workers(jobs=2, ray="local")) == {0: 1, 1: 4}
    assert not ray.is_initialized()
    assert capfd.readouterr() == ("", ""), "Ray itself says nothing"


RUN = """
import sys
from pathlib import Path
from robustseg_core.jobs import Workers
from robustseg_core.recording.many import run_each
address, out, weights, *bags = sys.argv[1:]
run_each(
    [Path(bag) for bag in bags],
    out=Path(out),
    workers=Workers(ray=address),
    overrides=[f"weights={weights}"],
    video=False,
    on_done=lambda done, total: print(done, flush=True),
)
"""


def test_eight_bags_killed_twice_and_started_again_none_is_done_twice(workers, tmp_path):
    weights = tmp_path / "net.safetensors"
    spec = checkpoint.default_spec(size=drives.SIZE)
    checkpoint.save(weights, checkpoint.untrained(spec, seed=1))
    first = drives.write_drive(tmp_path / "bags" / "0", 0.6, drives.truths(0.6))
    bags = [first] + [shutil.copytree(first, tmp_path / "bags" / str(k)) for k in range(1, 8)]
    out = tmp_path / "out"
    words = [sys.executable, "-c", textwrap.dedent(RUN), workers.ray, str(out), str(weights)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

    def stamps():
        return {path: path.stat().st_mtime_ns for path in out.glob("*/result.json")}

    def run(until, number):
        """Start it; when so many are done, send a signal."""
        with subprocess.Popen(
            [*words, *map(str, bags)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        ) as process:
            for _ in range(until):
                assert process.stdout.readline(), process.stderr.read()
            if number is not None:
                process.send_signal(number)
            _, said = process.communicate()
            return process.returncode, said

    before = {}
    for until, number in ((2, signal.SIGINT), (5, signal.SIGKILL)):
        code, _ = run(until, number)
        assert code != 0
        done = stamps()
        assert before.items() <= done.items() and len(done) >= until
        assert not (out / "runs.json").exists()
        before = done
    assert run(0, None) == (0, "")
    assert before.items() <= stamps().items(), "what was done stays as it was"
    table = json.loads((out / "runs.json").read_text())
    assert [row["name"] for row in table["runs"]] == [str(k) for k in range(8)]
    assert table["failed"] == 0
    assert sum(not row["made"] for row in table["runs"]) == len(before)
    assert not list(out.rglob("partial"))


def test_an_evaluation_is_the_same_there_to_the_bit(workers, tmp_path):
    for number, name in enumerate("abc"):
        make_shards(tmp_path / "shards" / name, 3, seed=number)
    spec = checkpoint.default_spec(
        size=SIZE, classes=CLASSES.names, palette=CLASSES.palette, trained=True
    )
    checkpoint.save(tmp_path / "net.safetensors", checkpoint.untrained(spec, seed=1))
    how = How(protocols=("subsets",), device="cpu")
    data = Data("shards", (tmp_path / "shards",))
    plan = Plan(tmp_path / "net.safetensors", data, how, tmp_path / "there")
    written = []
    for workers_, keep in ((workers, "there"), (Workers(), "here")):
        results, kept = evaluate_each(replace(plan, keep=tmp_path / keep), workers_)
        assert kept == 0
        (tmp_path / f"{keep}-results").mkdir()
        results.save(tmp_path / f"{keep}-results", {})
        written.append((tmp_path / f"{keep}-results" / "counts.npz").read_bytes())
    assert written[0] == written[1]
    assert evaluate_each(plan, workers)[1] == 3
