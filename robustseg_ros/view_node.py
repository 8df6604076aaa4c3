"""What the node publishes, in Rerun's viewer or in a file for it.

    python -m robustseg_ros.view_node --out out/view

`robustseg view --live` starts it. It listens to the node's own topics, like any other program:
masks, overlays, clouds, states and reasons. What is lazy is made because this one listens.
"""

from __future__ import annotations

import argparse
import signal
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from robustseg_core import config
from robustseg_core.cli.options import PARAMS
from robustseg_core.cli.terminal import answer, err
from robustseg_core.cli.told import add_wishes, take_wishes
from robustseg_core.codecs.fields import stamp_of
from robustseg_core.codecs.points import table_of
from robustseg_core.errors import RobustsegError
from robustseg_core.output import messages
from robustseg_core.output.rerun_file import NAME, RerunFile
from robustseg_core.output.topics import Mask, of_a_mask
from robustseg_core.robot.config import RobotConfig
from robustseg_core.segmenter import Segmenter
from robustseg_core.storage.output_folder import staged
from robustseg_core.types import Rejection
from robustseg_ros import optional
from robustseg_ros.assembly import MADE_OF, assemble
from robustseg_ros.rclpy_names import LoggingSeverity
from robustseg_ros.running import command_line, leave, run

WANTED = ("label_mask", "confidence", "overlay", "status", "points")
"""Of a mask, what is shown."""
HELD = 8
"""Masks that wait for their parts: a node gives some of them up for speed."""
DEPTH = 20
"""Messages that may wait for this process, per topic."""
COLUMNS = tuple((name, (name,)) for name in ("x", "y", "z", "label"))


class ViewNode(Node):
    """Shows a node; `work` listens until it is ended.

    Args:
        words: `--out FOLDER`, `--params FILE`, `--set KEY=VALUE`, `--seconds S`, `--json`,
            `--quiet`.

    Raises:
        RobustsegError: a robot that cannot be, or Rerun is not installed.
    """

    def __init__(self, words: Sequence[str]) -> None:
        options = _options(words)
        super().__init__("robustseg_view", enable_rosout=False)
        self.get_logger().set_level(LoggingSeverity.ERROR)
        take_wishes(options)
        self._out: Path | None = options.out
        self._seconds: float | None = options.seconds
        self._inputs = [options.params] if options.params else []
        robot = config.load(RobotConfig, options.params, options.set)
        self._spec = Segmenter.spec_of(robot)
        self._waiting: dict[int, dict[str, Any]] = {}
        """Stamp -> parts of a mask."""
        self._begin_ns: int | None = None
        """Stamp of the first mask."""
        self._masks = 0
        self._file: RerunFile | None = None

    def work(self) -> None:
        """Listen and show.

        Raises:
            RobustsegError: no mask came.
        """
        folder: AbstractContextManager[Path | None] = nullcontext()
        if self._out is not None:
            folder = staged(self._out, command="view", inputs=self._inputs)
        with folder as place:
            path = None if place is None else place / NAME
            with RerunFile(path, self._spec, title="robustseg view --live") as self._file:
                err.say("listening to the node ...", style="dim")
                self._listen()
                for stamp_ns in sorted(self._waiting):
                    self._show(stamp_ns)
            if not self._masks:
                raise RobustsegError(
                    f"no mask came on /{messages.NODE}/label_mask; start the node, look at "
                    "ROS_DOMAIN_ID, or ask `robustseg doctor --live`"
                )
        made = None if self._out is None else self._out / NAME
        answer({"masks": self._masks, "out": made})
        err.say(f"{self._masks} masks")
        if made is not None:
            err.say(f"  {made}")

    def close(self) -> None:
        """Nothing is left open."""

    def _listen(self) -> None:
        """Until the seconds are over, or somebody ends us: what was seen is kept."""
        ended = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):  # rclpy's own would end the file, too
            signal.signal(number, lambda *_: ended.set())
        for name in WANTED:
            topic = f"/{messages.NODE}/{name}"
            optional.subscribe(
                self, of_a_mask()[name].type, topic, partial(self._hear, name), DEPTH
            )
        executor = SingleThreadedExecutor(context=self.context)
        executor.add_node(self)
        end_s = float("inf") if self._seconds is None else time.monotonic() + self._seconds
        try:
            while not ended.is_set() and time.monotonic() < end_s and self.context.ok():
                executor.spin_once(timeout_sec=0.1)
        finally:
            executor.remove_node(self)
            executor.shutdown(timeout_sec=0)

    def _hear(self, name: str, message: Any) -> None:
        stamp_ns = stamp_of(message)
        parts = self._waiting.setdefault(stamp_ns, {})
        parts[name] = message
        if len(parts) == len(WANTED):
            self._show(stamp_ns)
        while len(self._waiting) > HELD:
            self._show(min(self._waiting))

    def _show(self, stamp_ns: int) -> None:
        """Log a mask; one that lacks what makes it a mask is forgotten."""
        parts = self._waiting.pop(stamp_ns)
        if self._file is None or not parts.keys() >= MADE_OF:
            return
        begin_ns = self._begin_ns = stamp_ns if self._begin_ns is None else self._begin_ns
        self._masks += 1
        label_map, overlay = assemble(parts, self._spec)
        mask = Mask(label_map, self._spec, picture=overlay)
        self._file.add(mask, stamp_ns - begin_ns)
        if "points" in parts:
            self._show_points(parts["points"])

    def _show_points(self, message: Any) -> None:
        assert self._file is not None
        try:
            table = table_of(message, COLUMNS).ravel()
        except Rejection as rejection:
            self.get_logger().error(f"points: {rejection}")
            return
        xyz = np.stack([table[name] for name in "xyz"], axis=1).astype(np.float32)
        self._file.add_points(xyz, table["label"], message.header.frame_id)


def _options(words: Sequence[str]) -> argparse.Namespace:
    parser = command_line("view_node", __doc__)
    parser.add_argument("--out", type=Path, help=f"folder for {NAME}; default: a window")
    parser.add_argument(PARAMS.flag, type=Path, metavar=PARAMS.metavar, help=PARAMS.help)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of it")
    parser.add_argument("--seconds", type=float, help="end after so long; default: at Ctrl-C")
    add_wishes(parser)
    return parser.parse_args(words)


def main(args: list[str] | None = None) -> int:
    """Entry point; the exit code."""
    return run(ViewNode, args)


if __name__ == "__main__":
    leave(main())
