"""Four small healthy sensors over genuine DDS, driven by whoever spins their node.

`live_sensors.py rgb depth` is a process that is these two drivers: something that can be shot.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import rclpy
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile

from fuzz.scenery import healthy
from robustseg_core.bag import BagWriter
from robustseg_core.types import SECOND
from robustseg_ros import optional
from support import drives
from support.makers import camera_info, transform

QUIET = PublisherEventCallbacks(use_default_callbacks=False)
"""rclpy's own complaint uses a deprecated call, and warnings are errors in tests."""
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
TICK_S = 0.025
EVERY = {"rgb": 8, "depth": 4, "event": 1, "lidar": 4}
"""Ticks from message to message: 5, 10, 40 and 10 Hz. So slow a camera is late only if it is."""


class Sensors:
    """Drivers that publish on `drives.TOPICS` while their node is spun.

    Each message is stamped when it is published, less the time spent in pauses, as a paused bag's.

    Args:
        node: the publishers' owner.
        names: the sensors.
        calibration: say CameraInfo and /tf_static once, latched.
    """

    def __init__(
        self, node: Node, names: Iterable[str] = drives.ALL, *, calibration: bool = True
    ) -> None:
        self.silent: set[str] = set()
        """Sensors that are alive, and say nothing."""
        self.ticks = 0
        self.spoke: dict[str, int] = {}
        """Sensor -> the tick of its newest message."""
        self.stamps: dict[str, list[int]] = {name: [] for name in names}
        """Sensor -> stamps of all that it said, ns."""
        self._behind_ns = 0
        self._paused_ns: int | None = None
        self._publishers = {name: advertise(node, name) for name in names}
        if calibration:
            calibrate(node)
        node.create_timer(TICK_S, self._tick)

    def pause(self) -> None:
        """Say nothing, and let no time go by on the stamps."""
        self._paused_ns = time.time_ns()

    def resume(self) -> None:
        """Go on where `pause` stopped."""
        if self._paused_ns is not None:
            self._behind_ns += time.time_ns() - self._paused_ns
        self._paused_ns = None

    def _tick(self) -> None:
        if self._paused_ns is not None:
            return
        for name, stamps in self.stamps.items():
            number, rest = divmod(self.ticks, EVERY[name])
            if rest == 0 and name not in self.silent:
                stamps.append(time.time_ns() - self._behind_ns)
                self.spoke[name] = self.ticks
                self._publishers[name].publish(healthy(name, number, stamps[-1]))
        self.ticks += 1


def advertise(node: Node, name: str) -> optional.Publisher:
    """A driver's publisher: reliable, as the drivers' and the players' are."""
    return _advertise(node, healthy(name, 0, 0), drives.TOPICS[name], 10)


def calibrate(node: Node) -> None:
    """Say CameraInfo and /tf_static, once, latched; they are heard as long as the node lives."""
    for topic, sent in _calibration().items():
        _advertise(node, sent, topic, LATCHED).publish(sent)


def _calibration() -> dict[str, Any]:
    tf = transform("camera", "lidar", quaternion=drives.OPTICAL)
    return {"/tf_static": tf, "/camera_info": camera_info(48, 64, fx=60.0)}


def _advertise(node: Node, sent: Any, topic: str, qos: QoSProfile | int) -> optional.Publisher:
    return optional.publisher(node, sent.__msgtype__, topic, qos, event_callbacks=QUIET)


def write_bag(path: Path, seconds: float) -> Path:
    """What they say in so long, with their calibration, as a recording."""
    with BagWriter(path) as writer:
        for topic, sent in _calibration().items():
            writer.write(topic, sent.__msgtype__, sent, drives.EPOCH, latched=True)
        for tick in range(round(seconds / TICK_S)):
            at_ns = drives.EPOCH + round(tick * TICK_S * SECOND)
            for name, topic in drives.TOPICS.items():
                number, rest = divmod(tick, EVERY[name])
                if rest == 0:
                    sent = healthy(name, number, at_ns)
                    writer.write(topic, sent.__msgtype__, sent, at_ns)
    return path


def parameter_file(folder: Path, **others: str) -> Path:
    """A robot that listens to them; `others` are top-level parameters, as YAML."""
    path = folder / "live.yaml"
    streams = "".join(f"      {name}: {{topic: {drives.TOPICS[name]}}}\n" for name in drives.ALL)
    rest = "".join(f"    {key}: {value}\n" for key, value in others.items())
    path.write_text(f"/**:\n  ros__parameters:\n{rest}    streams:\n{streams}")
    return path


def main() -> None:
    rclpy.init()
    node = Node("sensors")
    Sensors(node, sys.argv[1:], calibration=False)
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        return


if __name__ == "__main__":
    main()
