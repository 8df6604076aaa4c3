"""What a running robot publishes: topics, rates, the guessed sensors and a robot.yaml to paste.

    python -m robustseg_ros.inspect_node --seconds 5 > robot.yaml

`robustseg inspect --live` starts it. It listens to every topic of a type that a sensor may have,
best effort, and looks into one message of each, as `inspect` does with a recording.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy

from robustseg_core.bag import Recorded
from robustseg_core.bag.codec import codec_for
from robustseg_core.bag.sealed import Sealed
from robustseg_core.cli.survey_table import show
from robustseg_core.cli.terminal import answer
from robustseg_core.cli.told import add_printing, take_wishes
from robustseg_core.codecs.message_types import CAMERA_INFO
from robustseg_core.errors import RobustsegError
from robustseg_core.recording.guess import takers
from robustseg_core.recording.survey import Surveyor
from robustseg_core.types import SECOND
from robustseg_ros import optional
from robustseg_ros.rclpy_names import LoggingSeverity
from robustseg_ros.running import command_line, run

LOOK_NS = SECOND // 4
"""How often the graph is looked at."""
LOOSE = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)


class InspectNode(Node):
    """One look at a robot; `work` takes it and prints it.

    Args:
        words: `--seconds S`, `--json`, `--quiet`, `--out FILE`.
    """

    def __init__(self, words: Sequence[str]) -> None:
        super().__init__("robustseg_inspect", enable_rosout=False)
        self.get_logger().set_level(LoggingSeverity.ERROR)
        options = _options(words)
        self._seconds: float = options.seconds
        take_wishes(options, prints=True)
        self._surveyor = Surveyor()
        self._heard: dict[tuple[str, str], Any] = {}
        self._notices: list[str] = []

    def work(self) -> None:
        """Listen, then print.

        Raises:
            RobustsegError: nothing was heard.
        """
        executor = SingleThreadedExecutor(context=self.context)
        executor.add_node(self)
        start_ns, look_ns = time.monotonic_ns(), 0
        end_ns = start_ns + round(self._seconds * SECOND)
        try:
            while (now_ns := time.monotonic_ns()) < end_ns:
                if not self.context.ok():
                    raise ExternalShutdownException
                if now_ns >= look_ns:
                    self._look()
                    look_ns = now_ns + LOOK_NS
                executor.spin_once(timeout_sec=(min(look_ns, end_ns) - now_ns) / SECOND)
        finally:
            executor.remove_node(self)
            executor.shutdown(timeout_sec=0)
        found = self._surveyor.found(start_ns, end_ns - start_ns, self._notices)
        if not any(topic.count for topic in found.topics):
            names = [name for name, _ in self.get_topic_names_and_types()]
            raise RobustsegError(
                f"no message of a sensor came within {self._seconds:g} s (topics: "
                f"{', '.join(sorted(names)) or 'none'}); start the drivers, look at ROS_DOMAIN_ID, "
                "or give more --seconds"
            )
        if not answer(found.to_json()):
            show(found, "live")

    def close(self) -> None:
        """Destroy the subscriptions."""
        for subscription in self._heard.values():
            if subscription is not None:
                self.destroy_subscription(subscription)
        self._heard.clear()

    def _look(self) -> None:
        """Listen to what has appeared on the graph, if it may be a sensor's."""
        for name, kinds in self.get_topic_names_and_types():
            for kind in kinds:
                wanted = kind == CAMERA_INFO or takers(kind)
                if (name, kind) in self._heard or not wanted or not self.count_publishers(name):
                    continue
                self._surveyor.expect(name, kind)
                hear = partial(self._hear, name, kind)
                try:
                    heard = optional.subscribe(self, kind, name, hear, LOOSE, sealed=True)
                except RobustsegError as error:
                    heard = None
                    self._notices.append(f"{name} is not heard: {error}")
                self._heard[name, kind] = heard

    def _hear(self, name: str, kind: str, message: Sealed) -> None:
        now_ns = time.time_ns()
        self._surveyor.add(Recorded(name, kind, now_ns, message.raw, codec_for(kind)))


def _options(words: Sequence[str]) -> argparse.Namespace:
    parser = command_line("inspect_node", __doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="how long to listen")
    add_printing(parser)
    return parser.parse_args(words)


def main(args: list[str] | None = None) -> int:
    """Entry point; the exit code."""
    return run(InspectNode, args)


if __name__ == "__main__":
    sys.exit(main())
