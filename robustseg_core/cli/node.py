"""The ROS layer as another program: the core does not know it, a command may still start it."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

import yaml

from robustseg_core.cli.terminal import require
from robustseg_core.robot.config import nested, parse_robot


def run_with_parameters(module: str, tree: Mapping[str, Any], *words: str) -> int:
    """Run a program of the ROS layer to its end, with a robot's parameters; its exit code.

    A terminal's Ctrl-C reaches it by itself; SIGTERM is passed on.

    Args:
        module: what `python -m` takes.
        tree: the robot's configuration, checked here: what users can mend is said before a node
            is started.
        words: options of the program, before ROS's.

    Raises:
        RobustsegError: a configuration that cannot be used, or ROS is not installed.
    """
    parse_robot(tree)
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", prefix="robustseg-") as file:
        parameters = {"ros__parameters": nested(tree)}  # ROS takes no other form
        yaml.safe_dump({"/**": parameters}, file)
        file.flush()
        return run_program(module, *words, "--ros-args", "--params-file", file.name)


def run_program(module: str, *words: str) -> int:
    """Run a program of the ROS layer to its end; its exit code. Signals as above.

    Raises:
        RobustsegError: ROS is not installed.
    """
    require("rclpy")
    process = subprocess.Popen([sys.executable, "-m", module, *words])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, _frame: process.send_signal(number))
    return process.wait()
