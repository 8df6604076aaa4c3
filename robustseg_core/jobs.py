"""Tasks side by side, in processes of this machine or on a Ray cluster: one piece for all commands.

A task that fails does not stop the others: its sentence is its outcome. What a task has done before
it finds by itself (`storage.output_folder`, accounts with a recipe), so work that was killed is
started again as it was.
"""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, TypeVar

from robustseg_core.errors import RobustsegError, not_installed
from robustseg_core.version import __version__

log = logging.getLogger(__name__)

LOCAL = "local"
"""In the place of a cluster's address: one that is started here, and ends with us."""
KILLED = "its process was killed; is memory short? use fewer jobs"
LOST = "its process or node was lost three times; is memory short there?"
RETRIES = 2
"""How often a cluster does a task again whose process or node is lost."""
_PATIENCE_S = 10.0
"""For a connection to a cluster's head."""
_DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of prctl(2)."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Workers:
    """Who does the tasks."""

    jobs: int = 1
    """How many are done at once; 1, without a cluster: one after the other, in this process."""
    ray: str = ""
    """Address of a Ray cluster, or `local`; empty: processes of this machine."""

    @property
    def alone(self) -> bool:
        """Whether this process does them itself."""
        return self.jobs <= 1 and not self.ray

    def for_tasks(self, count: int) -> Workers:
        """The same, but no more at once than there are tasks."""
        return replace(self, jobs=max(1, min(self.jobs, count)))


ALONE = Workers()
"""This process, task after task."""


@dataclass(frozen=True, slots=True)
class Outcome(Generic[R]):
    """What became of one task."""

    number: int
    """Its place among the tasks."""
    result: R | None
    error: str = ""
    """Why it failed; empty: it did not."""


def each(
    job: Callable[[T], R],
    tasks: Sequence[T],
    workers: Workers,
    *,
    inline: Callable[[T], R] | None = None,
) -> Generator[Outcome[R], None, None]:
    """What becomes of every task, in the order in which they end.

    Closed, or broken off by an error in the loop, it ends the processes that are at it.

    Args:
        job: picklable, as tasks and results are; raises `RobustsegError` where a task cannot be
            done. Where a process is killed, the tasks that it may have been at are tried once more,
            each alone.
        tasks: what there is to do.
        workers: who does it.
        inline: the same, in this process, where it can tell how far it is; None: `job`.

    Raises:
        RobustsegError: the cluster cannot be used.
    """
    if workers.alone:
        for number, task in enumerate(tasks):
            yield _tried(inline or job, number, task)
    elif workers.ray:
        yield from _on_cluster(job, tasks, workers)
    else:
        yield from _in_processes(job, tasks, min(workers.jobs, len(tasks)))


def results(outcomes: Iterable[Outcome[R]]) -> Generator[R, None, None]:
    """The results of tasks of which none may fail.

    Raises:
        RobustsegError: the first that failed.
    """
    for outcome in outcomes:
        if outcome.error or outcome.result is None:
            raise RobustsegError(outcome.error)
        yield outcome.result


def _tried(job: Callable[[T], R], number: int, task: T) -> Outcome[R]:
    try:
        return Outcome(number, job(task))
    except RobustsegError as error:
        return Outcome(number, None, str(error) or type(error).__name__)
    except Exception as error:  # a defect, a full disk: that of one task
        log.info("the traceback:", exc_info=error)
        return Outcome(number, None, f"{type(error).__name__}: {error}")


def _in_processes(
    job: Callable[[T], R], tasks: Sequence[T], jobs: int
) -> Generator[Outcome[R], None, None]:
    """One pool after the other: a process that is killed takes its pool with it."""
    left, suspects = deque(range(len(tasks))), deque[int]()
    while left or suspects:
        if not suspects:
            suspects.extend((yield from _until_broken(job, tasks, left, jobs)))
            continue
        # Whoever was there when a process was killed is tried once more, and alone
        for number in (yield from _until_broken(job, tasks, suspects, 1)):
            yield Outcome(number, None, KILLED)


def _until_broken(
    job: Callable[[T], R], tasks: Sequence[T], due: deque[int], jobs: int
) -> Generator[Outcome[R], None, list[int]]:
    """Do what is due in one pool; the tasks that were being done when one process was killed."""
    running: dict[Future[Outcome[R]], int] = {}
    broken: list[int] = []
    with _pool(jobs) as pool:
        try:
            while (due and not broken) or running:
                while due and not broken and len(running) < jobs:
                    number = due.popleft()
                    try:
                        running[pool.submit(_tried, job, number, tasks[number])] = number
                    except BrokenProcessPool:
                        broken.append(number)
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    number = running.pop(future)
                    try:
                        outcome = future.result()
                    except BrokenProcessPool:
                        broken.append(number)
                    else:
                        yield outcome
        except BaseException:
            _end(pool)
            raise
    return broken


def _pool(jobs: int) -> ProcessPoolExecutor:
    # Fresh processes: those that are forked from one in which PyTorch has run may hang.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(jobs, mp_context=context, initializer=partial(_begin, os.getpid()))


def _begin(parent: int) -> None:
    """In a new process: Ctrl-C ends it without a word, and so does the end of whoever waits for
    its results."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with suppress(OSError, AttributeError):  # no Linux
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def _end(pool: ProcessPoolExecutor) -> None:
    """Nobody wants what the processes are at; the system lets go of the folders that they hold."""
    processes = list((getattr(pool, "_processes", None) or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.kill()


def _on_cluster(
    job: Callable[[T], R], tasks: Sequence[T], workers: Workers
) -> Generator[Outcome[R], None, None]:
    """As Ray does it: what a lost process or node was at is done again, `RETRIES` times at most."""
    ray = _ray()
    address = None if workers.ray == LOCAL else workers.ray
    more: dict[str, Any] = {} if address else {"num_cpus": workers.jobs, "include_dashboard": False}
    try:
        if address:
            _knock(address)
        with nullcontext() if address else _as_we_are():
            ray.init(
                address=address or LOCAL,
                log_to_driver=False,
                logging_level="error",
                configure_logging=False,
                **more,
            )
    except Exception as error:  # Ray's own are of many kinds, or of none
        text = " ".join(str(error).split())[:200]
        raise RobustsegError(
            f"no Ray cluster at {workers.ray!r} ({text}); give the address that `ray start` "
            "printed, or local"
        ) from None
    try:
        if ray.cluster_resources().get("CPU", 0) < 1:
            raise RobustsegError(
                f"the Ray cluster at {workers.ray!r} has no core for a task; add a node to it "
                "(`ray start --address`), or give it cores (--num-cpus)"
            )
        remote = ray.remote(_there).options(num_cpus=1, max_retries=RETRIES)
        here = (os.getcwd(), __version__)
        running = {remote.remote(*here, job, n, task): n for n, task in enumerate(tasks)}
        while running:
            done, _ = ray.wait(list(running), num_returns=1)
            for reference in done:
                number = running.pop(reference)
                try:
                    outcome: Outcome[R] = ray.get(reference)
                except ray.exceptions.RayTaskError as error:  # it cannot even be begun there
                    said = str(error).strip().splitlines()[-1]
                    outcome = Outcome(number, None, f"{said}; is robustseg installed on all nodes?")
                except ray.exceptions.RayError:
                    outcome = Outcome(number, None, LOST)
                yield outcome
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Nothing, if somebody listens there: Ray itself would try for minutes.

    Raises:
        OSError, ValueError: nobody does.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon:
        socket.create_connection((host, int(port)), _PATIENCE_S).close()


@contextmanager
def _as_we_are() -> Iterator[None]:
    """What is started meanwhile imports what we can import, and is as urgent as we are: Ray's
    workers would yield to every other process (nice 15)."""
    before = dict(os.environ)
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    os.environ.setdefault("RAY_worker_niceness", "0")
    try:
        yield
    finally:
        for name in ("PYTHONPATH", "RAY_worker_niceness"):
            os.environ.pop(name)
            if name in before:
                os.environ[name] = before[name]


def _there(folder: str, version: str, job: Callable[[T], R], number: int, task: T) -> Outcome[R]:
    """A task on a node, where relative paths mean what they mean here."""
    if version != __version__:
        text = (
            f"node {socket.gethostname()} has robustseg {__version__}, and {version} was started; "
            "install the same on all nodes"
        )
        return Outcome(number, None, text)
    with suppress(OSError):
        os.chdir(folder)
    return _tried(job, number, task)


def _ray() -> Any:
    """Ray, which nothing else needs.

    Raises:
        RobustsegError: it is not installed; says how to install it.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_task_oom_retries", str(RETRIES))  # else for ever
    try:
        import ray
    except ImportError:
        raise RobustsegError(not_installed("ray")) from None
    logging.getLogger("ray").setLevel(logging.ERROR)  # importing it sets another one
    return ray
