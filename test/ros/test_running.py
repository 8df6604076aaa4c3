"""How a node of ours ends."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys

from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from robustseg_ros import running

shutdown = SingleThreadedExecutor.shutdown


def told(self, timeout_sec=None):
    print("the context lives:", self.context.ok())
    return shutdown(self, timeout_sec)


SingleThreadedExecutor.shutdown = told


class Worker(Node):
    def __init__(self):
        super().__init__("worker")
        self.create_timer(0.01, self.interrupted)

    def interrupted(self):
        running.time.sleep = lambda _s: self.context.try_shutdown()  # the other thread's turn
        raise KeyboardInterrupt

    def work(self):
        running.spin(self)

    def close(self):
        print("closed")


sys.exit(running.run(lambda words: Worker()))
"""


@pytest.mark.slow
def test_the_executor_outlives_the_thread_that_spreads_a_signal(world, tmp_path):
    """rclpy's thread walks through guard conditions; a destroyed one is a segmentation fault."""
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    program = world.start(str(path))
    assert program.wait() == 0, program.output
    assert program.output.splitlines() == ["the context lives: False", "closed"]


@pytest.mark.slow
def test_whoever_leaves_has_said_everything():
    code = "import sys; from robustseg_ros.running import leave; print('said', end=''); leave(3)"
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (3, "said", "")
