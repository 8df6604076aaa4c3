"""Six real cameras and a LiDAR, of nuScenes, through one node over DDS."""

from __future__ import annotations

import signal
from typing import Any

import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from robustseg_core.models import checkpoint
from robustseg_core.output import messages
from support import ROOT, drives, nuscenes

pytestmark = [pytest.mark.ros, pytest.mark.slow, pytest.mark.alone]

RELIABLE = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
CAMERAS = ("front", "front_left", "front_right", "back", "back_left", "back_right")


def test_one_node_makes_the_masks_of_six_cameras_with_the_lidar_in_each(world, tmp_path, published):
    bag = nuscenes.write_bag(tmp_path / "bag", published, 15.0)
    weights = tmp_path / "small.safetensors"
    checkpoint.save(weights, checkpoint.untrained(checkpoint.default_spec(size=drives.SIZE)))
    ready = (ROOT / "config" / "robots" / "six_cameras.yaml").read_text()
    robot = tmp_path / "robot.yaml"
    keyframes = ready.replace("rate_hz: 12.0", "rate_hz: 2.0").replace(
        "rate_hz: 20.0", "rate_hz: 2.0"
    )
    robot.write_text(keyframes)
    heard: dict[str, list[Any]] = {}
    kinds = {"label_mask": Image, "camera_info": CameraInfo, "points": PointCloud2}
    for camera in CAMERAS:
        for name, kind in (kinds | {"status": DiagnosticArray}).items():
            some = heard[f"{camera}/{name}"] = []
            topic = f"/robustseg/{camera}/{name}"
            world.node.create_subscription(kind, topic, some.append, RELIABLE)
    node = world.segment("--params-file", str(robot), "-p", f"weights:={weights}")
    player = world.play(bag)

    def whole() -> bool:
        return all(
            any(
                set(messages.read_status(m)["used"]) == {f"rgb.{camera}", "lidar"}
                for m in heard[f"{camera}/status"]
            )
            and all(heard[f"{camera}/{name}"] for name in kinds)
            for camera in CAMERAS
        )

    world.until(whole, "a mask of each camera, made of it and of the LiDAR")
    for camera in CAMERAS:
        mask, cloud = heard[f"{camera}/label_mask"][-1], heard[f"{camera}/points"][-1]
        assert mask.header.frame_id == f"CAM_{camera.upper()}"
        assert (mask.height, mask.width) == (nuscenes.HEIGHT, nuscenes.WIDTH)
        lens = heard[f"{camera}/camera_info"][-1]
        assert (lens.height, lens.width) == (nuscenes.HEIGHT, nuscenes.WIDTH)
        assert cloud.header.frame_id == "LIDAR_TOP" and cloud.width > 1000
    player.end(signal.SIGKILL)
    assert node.end(signal.SIGTERM) == 0, node.output
