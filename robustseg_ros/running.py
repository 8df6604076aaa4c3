"""How a node of ours lives and ends, once for all: init, work, quiet Ctrl-C, shutdown.

Exit codes: 0 for a finished job and for Ctrl-C or SIGTERM (a robot is switched off like that), 2
with one sentence for what the user can mend, a traceback for our own bugs.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NoReturn, Protocol

import rclpy
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.utilities import remove_ros_args

from robustseg_core.errors import RobustsegError
from robustseg_core.robot.transports import carry_large_messages
from robustseg_core.text import visible
from robustseg_ros.arrivals import Ear
from robustseg_ros.optional import RCLError

LOOK_UP_S = 0.05
"""An idle executor looks up this often: one that does not is busy, or kept from running."""
SIGNAL_THREAD_S = 2.0
"""A context that has not ended by then was not told to: somebody else raised KeyboardInterrupt."""
UnknownArguments = rclpy_implementation.UnknownROSArgsError


class Logger(Protocol):
    """What we want of rclpy's logger."""

    def info(self, message: str, /) -> object:
        """Tell."""

    def warning(self, message: str, /) -> object:
        """Tell what is not as it should be."""

    def error(self, message: str, /) -> object:
        """Tell what failed."""


class Worker(Protocol):
    """A node that `run` can run."""

    def work(self) -> None:
        """The node's whole life; returns when it is done, or raises when the context ends."""

    def close(self) -> None:
        """Stop threads and timers; called once, whatever happened before."""

    def destroy_node(self) -> None:
        """rclpy's."""

    def get_logger(self) -> Logger:
        """rclpy's."""


def run(make: Callable[[list[str]], Worker], args: Sequence[str] | None = None) -> int:
    """Make a node and let it work; the exit code of the process.

    Args:
        make: gets the words of the command line that are not ROS's.
        args: the command line without the program's name; None: that of the process.
    """
    words = list(sys.argv[1:] if args is None else args)
    carry_large_messages(os.environ)  # before the first participant reads it
    node: Worker | None = None
    try:
        try:
            rclpy.init(args=[sys.argv[0], *words])
            node = make(remove_ros_args([sys.argv[0], *words])[1:])
            forward_logs(node)
            node.work()
        except UnknownArguments:
            raise
        except RuntimeError as error:
            # rcl's errors, and what pybind makes of a SIGINT while it converts a message. Without
            # a node the command line or the parameter file was at fault; without a context
            # somebody has switched us off in the middle of something.
            if node is None and isinstance(error, RCLError):
                return _complain(error)
            if rclpy.ok():
                raise
            return 0
    except (KeyboardInterrupt, ExternalShutdownException):  # also while an RCLError is looked at
        return 0
    except RobustsegError as error:
        return _complain(error)
    except UnknownArguments as error:
        return _complain(f"unknown ROS argument {error}; see `ros2 run --help`")
    finally:
        # The interpreter's last collections would visit every object of PyTorch and Numba: a second
        # of CPU at each Ctrl-C, for memory that goes back to the system anyway.
        gc.freeze()
        try:
            if node is not None:
                node.close()
                node.destroy_node()
            rclpy.try_shutdown()
        except KeyboardInterrupt:  # a second Ctrl-C, from someone in a hurry
            return 0
    return 0


def leave(code: int) -> NoReturn:
    """End this process now: what `run` closed needs nothing else of the interpreter.

    Its own end takes PyTorch and Numba apart, piece by piece, and a thread that hangs in them with
    it: measured 0.3 s of CPU, beside 0.01 s of ours.
    """
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads it any more
            stream.flush()
    os._exit(code)


def command_line(program: str, description: str | None) -> argparse.ArgumentParser:
    """The parser of an executable of ours; `--help` says how ROS parameters are given, too.

    Args:
        program: as `ros2 run robustseg` calls it.
        description: a module's docstring, of which the first sentence is shown.
    """
    return argparse.ArgumentParser(
        prog=program,
        description=(description or "").partition("\n\n")[0],
        epilog="ROS arguments come last: --ros-args --params-file robot.yaml -p device:=cpu "
        "-r __ns:=/front --log-level debug. `robustseg params` prints all parameters.",
    )


def spin(node: Node, ear: Ear | None = None) -> None:
    """Serve callbacks until the context ends; `ear` is told how far they have come.

    One thread, rclpy's plain executor: `rclpy.experimental.EventsExecutor` of 9.1.2 was tried with
    this node and neither fired a timer nor ended at Ctrl-C.
    """
    ear = ear or Ear(lambda: None)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        # `executor.spin` waits without end, and a SIGTERM that comes between two waits of an idle
        # node is lost (seen with rclpy 9.1.2, about once in ten): look up now and then.
        while node.context.ok():
            ear.turn(executor, LOOK_UP_S)
    except KeyboardInterrupt:
        _await_signal_thread(node.context)
        raise
    finally:
        executor.remove_node(node)
        executor.shutdown(timeout_sec=0)


def _await_signal_thread(context: Context) -> None:
    """Wait until rclpy's own thread has done with a SIGINT: it ends the context last.

    It walks through the executors' guard conditions before, without a lock: one that is destroyed
    meanwhile ends the process in a segmentation fault (rclpy 9.1.2, `signal_handler.cpp`, in
    `trigger_guard_conditions`; seen in about one of thirty ends of an idle node).
    """
    end_s = time.monotonic() + SIGNAL_THREAD_S
    while context.ok() and time.monotonic() < end_s:
        time.sleep(0.001)


class _Forward(logging.Handler):
    """Python's log records as the node's: on /rosout, in ROS's format, at ROS's level."""

    def __init__(self, node: Worker) -> None:
        super().__init__()
        self._logger = node.get_logger()

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR:
            self._logger.error(self.format(record))
        elif record.levelno >= logging.WARNING:
            self._logger.warning(self.format(record))
        else:
            self._logger.info(self.format(record))


def forward_logs(node: Worker) -> None:
    """Let the core speak through the node's logger."""
    core = logging.getLogger("robustseg_core")
    core.handlers = [_Forward(node)]
    core.propagate = False


def _complain(error: object) -> int:
    print(f"error: {visible(' '.join(str(error).split()))}", file=sys.stderr)  # noqa: T201
    return 2
