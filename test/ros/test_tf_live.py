"""/tf over DDS: a mount that moves is followed, and a base that drives costs nothing."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")

from rclpy.qos import QoSProfile, ReliabilityPolicy

from robustseg_ros import optional
from support import drives
from support.live_ear import Ear
from support.live_sensors import LATCHED, QUIET, Sensors
from support.makers import camera_info, header, transform

pytestmark = pytest.mark.ros
BOTH = ("rgb", "lidar")
TF = QoSProfile(depth=100)
"""tf2's broadcasters: reliable, and not latched."""


class Broadcaster:
    """Says /tf a hundred times a second, as robot_state_publisher does."""

    def __init__(self, world: Any, parent: str, child: str, quaternion: Any = (0, 0, 0, 1)) -> None:
        sent = transform(parent, child, quaternion=quaternion)
        self.silent = False
        self._frame = parent
        self._publisher = optional.publisher(
            world.node, sent.__msgtype__, "/tf", TF, event_callbacks=QUIET
        )
        self._sent = sent
        world.node.create_timer(0.01, self._tick)

    def _tick(self) -> None:
        if not self.silent:
            self._sent.transforms[0].header = header(time.time_ns(), self._frame)
            self._publisher.publish(self._sent)


def latched(world: Any, topic: str, sent: Any) -> Any:
    publisher = optional.publisher(
        world.node, sent.__msgtype__, topic, LATCHED, event_callbacks=QUIET
    )
    publisher.publish(sent)
    return publisher


def robot(folder: Path) -> Path:
    """With the small network that is shipped, for a busy machine."""
    path = folder / "live.yaml"
    rows = "".join(f"      {name}: {{topic: {drives.TOPICS[name]}}}\n" for name in BOTH)
    path.write_text(f"/**:\n  ros__parameters:\n    streams:\n{rows}")
    return path


def listeners(world: Any) -> list[Any]:
    return world.node.get_subscriptions_info_by_topic("/tf")


def test_a_mount_is_followed_its_silence_named_and_tf_left_when_all_is_static(world, tmp_path):
    sensors = Sensors(world.node, BOTH, calibration=False)
    mast = Broadcaster(world, "camera", "mast", drives.OPTICAL)
    Broadcaster(world, "odom", "camera")  # a base that drives
    said = [
        latched(world, "/tf_static", transform("mast", "lidar")),
        latched(world, "/camera_info", camera_info(48, 64, fx=60.0)),
    ]
    ear = Ear(world, sensors)
    world.segment("--params-file", str(robot(tmp_path)))
    world.until(lambda: ear.used(set(BOTH)), "a mask of both")
    (heard,) = listeners(world)
    assert heard.qos_profile.reliability == ReliabilityPolicy.RELIABLE
    mast.silent = True
    count = len(ear.heard)
    world.until(lambda: ear.used({"rgb"}, after=count), "a mask without it")

    def told() -> str:
        lidar = ear.health.get("robustseg: lidar")
        return lidar.message if lidar and "the newest transform" in lidar.message else ""

    text = world.until(told, "the reason")
    assert "'camera' to 'mast' on /tf is" in text and "view.tf_grace_s" in text
    mast.silent = False
    count = len(ear.heard)
    world.until(lambda: ear.used(set(BOTH), after=count), "both again")
    # Said to be static, it is: nobody has to listen to /tf any more.
    said.append(
        latched(world, "/tf_static", transform("camera", "mast", quaternion=drives.OPTICAL))
    )
    world.until(lambda: not listeners(world), "nobody on /tf")
    count = len(ear.heard)
    world.until(lambda: ear.used(set(BOTH), after=count), "masks all the same")
    assert len(said) == 3
