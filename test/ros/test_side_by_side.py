"""Two nodes in processes of their own, each in its namespace."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import Image

from fuzz.scenery import healthy
from robustseg_core.output import messages
from robustseg_ros import optional
from support.live_sensors import QUIET

pytestmark = [pytest.mark.ros, pytest.mark.slow]
CAMERA_S = 0.2


class Camera:
    """A driver in the test's process, 5 Hz."""

    def __init__(self, world: Any, topic: str) -> None:
        self.silent = False
        self._count = 0
        self._publisher = optional.publisher(
            world.node, "sensor_msgs/msg/Image", topic, 10, event_callbacks=QUIET
        )
        world.node.create_timer(CAMERA_S, self._tick)

    def _tick(self) -> None:
        self._count += 1
        if not self.silent:
            self._publisher.publish(healthy("rgb", self._count, time.time_ns()))


def test_two_namespaced_nodes_speak_of_their_own_sensors(world, tmp_path):
    """One file with a relative topic serves both; the left camera dies, and only left says so."""
    (tmp_path / "robot.yaml").write_text(
        "/**:\n  ros__parameters:\n    weights: untrained\n    streams: {rgb: {topic: image}}\n"
    )
    words = ["--params-file", str(tmp_path / "robot.yaml")]
    cameras = {side: Camera(world, f"/{side}/image") for side in ("left", "right")}
    newest: dict[str, Any] = {}
    said: Counter[str] = Counter()

    def hear(message: DiagnosticArray) -> None:
        for status in message.status:
            newest[status.name] = status
            said[status.name] += 1

    world.node.create_subscription(DiagnosticArray, "/diagnostics", hear, 10)
    masks: Counter[str] = Counter()
    for side in cameras:
        topic = f"/{side}/robustseg/label_mask"
        world.node.create_subscription(Image, topic, lambda _, to=side: masks.update([to]), 10)
    nodes = [world.segment(*words, "-r", f"__ns:=/{side}") for side in cameras]
    world.until(lambda: set(masks) == set(cameras), "masks of both")
    parts = ("sensors", "rgb", "node")
    names = {f"{side}/robustseg: {part}" for side in cameras for part in parts}
    world.until(lambda: names <= set(newest), "diagnostics of both")
    rgb = [f"{side}/robustseg: rgb" for side in cameras]
    world.until(lambda: all(newest[name].level == b"\0" for name in rgb), "two healthy cameras")
    assert set(newest) == names
    for name, status in newest.items():
        assert status.hardware_id == f"/{messages.part_of(name)[0]}"

    cameras["left"].silent = True
    world.until(lambda: newest["left/robustseg: rgb"].level == b"\x02", "the left camera's death")
    assert "silent" in newest["left/robustseg: rgb"].message
    before = said["right/robustseg: rgb"]
    world.until(lambda: said["right/robustseg: rgb"] > before + 2, "more of the right one")
    assert newest["right/robustseg: rgb"].level == b"\0"
    assert newest["right/robustseg: sensors"].level == b"\0"
    assert newest["left/robustseg: sensors"].level == b"\x02"
    for node in nodes:
        assert "nodes are called" not in node.output
        assert node.end() == 0, node.output
