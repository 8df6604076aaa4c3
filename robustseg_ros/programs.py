"""What `ros2 run robustseg` starts: where a package is missing, one sentence says how to get it."""

from __future__ import annotations

import importlib
import sys


def segment_node() -> int:
    """The node; the exit code."""
    return _start("segment_node")


def play_node() -> int:
    """Plays a recording; the exit code."""
    return _start("play_node")


def fault_node() -> int:
    """Breaks what passes; the exit code."""
    return _start("fault_node")


def _start(name: str) -> int:
    try:
        main = importlib.import_module(f"robustseg_ros.{name}").main
    except KeyboardInterrupt:  # before there was a node: nothing to close
        return 0
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("robustseg_core", "robustseg_ros"):
            raise
        why = f"{package or name} cannot be imported ({' '.join(str(error).split())[:300]})"
        if package in ("", "rclpy"):  # no name: a library of ROS that rclpy loads is not found
            return _complain(f"{why}; source ROS 2's setup.bash, or pip install 'robustseg[ros]'")
        return _complain(f"{why}; pip install -r requirements-robot.txt, or pip install robustseg")
    leave = importlib.import_module("robustseg_ros.running").leave
    code: int = leave(main())
    return code


def _complain(sentence: str) -> int:
    print(f"error: {sentence}", file=sys.stderr)  # noqa: T201
    return 2
