"""A world for each test: its own ROS domain, real processes on it, and a node that listens."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from support import ROOT

rclpy = pytest.importorskip("rclpy", reason="needs rclpy: pip install '.[ros]'")

with warnings.catch_warnings():  # its parser, lark, still imports sre_parse
    warnings.simplefilter("ignore", DeprecationWarning)
    import rosidl_generator_py  # noqa: F401

from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402

from robustseg_core.robot.transports import carry_large_messages  # noqa: E402

PATIENCE_S = 180.0
"""A message that has not come by then will not come; nobody waits so long otherwise."""
_numbers = count()
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
HALF_A_TASK = re.compile(
    r"Exception ignored in: <function Task\.__del__ at 0x[0-9a-f]+>\n"
    r"Traceback \(most recent call last\):\n(?: .*\n)+"
    r"AttributeError: 'Task' object has no attribute '_exception'\n"
)
"""What rclpy says of a task that a signal has kept from being made (its `Task.__init__`)."""


def unused_domain() -> int:
    """A ROS domain (1 to 101) that no other test is in, in any worker of this run.

    Ports of higher domains run into those that Linux hands out to clients.
    """
    each = 101 // _WORKERS
    return 1 + _WORKER * each + (os.getpid() * 11 + next(_numbers)) % each


class Program:
    """A process on the test's domain; what it prints is kept."""

    def __init__(self, words: list[str], environment: dict[str, str], log: Path) -> None:
        self._log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, *words], cwd=ROOT, env=environment, stdout=file, stderr=file
            )

    @property
    def output(self) -> str:
        return HALF_A_TASK.sub("", self._log.read_text(errors="replace"))

    def wait(self) -> int:
        """The exit code; a process that hangs is made to say where."""
        try:
            return self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)  # faulthandler prints all stacks
            self.process.wait(PATIENCE_S)
            pytest.fail(f"a process did not end in {PATIENCE_S:.0f} s\n{self.output[-6000:]}")

    def end(self, number: int = signal.SIGINT) -> int:
        """Send a signal; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait()


class World:
    """One ROS domain with processes, and one node of our own on it."""

    def __init__(self, folder: Path) -> None:
        self.domain = unused_domain()
        self._folder = folder
        self.environment = {**os.environ, "ROS_DOMAIN_ID": str(self.domain)}
        paths = [str(ROOT), str(ROOT / "test"), os.environ.get("PYTHONPATH", "")]
        self.environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        self.environment |= {"PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"}
        carry_large_messages(self.environment)
        carry_large_messages(os.environ)
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=self.domain)
        self.node = Node("test", context=self.context)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._programs: list[Program] = []

    def add(self, node: Node) -> None:
        """Another node of ours that listens."""
        self._executor.add_node(node)

    def start(self, *words: str) -> Program:
        """A Python program; `-m module` or a file, with its arguments."""
        log = self._folder / f"program{len(self._programs)}.log"
        self._programs.append(Program(list(words), self.environment, log))
        return self._programs[-1]

    def segment(self, *words: str) -> Program:
        return self.start("-m", "robustseg_ros.segment_node", "--ros-args", *words)

    def play(self, bag: Path, *words: str) -> Program:
        return self.start("-m", "robustseg_ros.play_node", str(bag), "--wait", "60", *words)

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """Listen until `condition` holds; what it returned."""
        end_s = time.monotonic() + PATIENCE_S
        while not (result := condition()):
            if time.monotonic() > end_s:
                logs = "\n".join(program.output[-2000:] for program in self._programs)
                pytest.fail(f"waited {PATIENCE_S:.0f} s for {what}\n{logs}")
            self._executor.spin_once(timeout_sec=0.1)
        return result

    def call(self, kind: type, name: str, request: Any) -> Any:
        """A service's answer."""
        client = self.node.create_client(kind, name)
        self.until(lambda: client.service_is_ready(), f"service {name}")
        future = client.call_async(request)
        self.until(future.done, f"an answer of {name}")
        self.node.destroy_client(client)
        return future.result()

    def close(self) -> None:
        running = [p.process for p in self._programs if p.process.poll() is None]
        for process in running:
            process.terminate()  # a killed one leaves its shared memory behind
        for process in running:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def make_world(tmp_path: Path) -> Iterator[Callable[[], World]]:
    """Makes empty ROS domains of the test's own."""
    worlds: list[World] = []

    def make() -> World:
        worlds.append(World(tmp_path))
        return worlds[-1]

    yield make
    for each in worlds:
        each.close()


@pytest.fixture
def world(make_world: Callable[[], World]) -> World:
    """An empty ROS domain of the test's own."""
    return make_world()


@pytest.fixture
def node() -> Iterator[Node]:
    """A node that talks to nobody, made with the given overrides."""
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=unused_domain())
    made: list[Node] = []

    def make(*overrides: Any) -> Node:
        made.append(
            Node(
                "robustseg",
                context=context,
                parameter_overrides=list(overrides),
                start_parameter_services=False,
                enable_rosout=False,
            )
        )
        return made[-1]

    yield make
    for each in made:
        each.destroy_node()
    rclpy.shutdown(context=context)
