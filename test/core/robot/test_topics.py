"""Which CameraInfo belongs to which image."""

from __future__ import annotations

import pytest

from robustseg_core import config
from robustseg_core.robot.config import RobotConfig
from robustseg_core.robot.topics import calibrations, camera_info_topic


@pytest.mark.parametrize(
    "topic, info",
    [
        ("/camera/color/image_raw", "/camera/color/camera_info"),
        ("/camera/color/image_raw/compressed", "/camera/color/camera_info"),
        ("/depth/image_rect/compressedDepth", "/depth/camera_info"),
        ("image", "camera_info"),
    ],
)
def test_camera_info_lies_beside_the_image(topic, info):
    assert camera_info_topic(topic) == info


def test_one_camera_info_may_calibrate_two_streams_and_a_lidar_has_none():
    streams = {
        "rgb": {"topic": "/color/image_raw"},
        "depth": {"topic": "/aligned/image_raw", "camera_info": "/color/camera_info"},
        "lidar": {"topic": "/points"},
        "event": {"topic": ""},
    }
    robot = config.parse(RobotConfig, {"streams": streams})
    assert calibrations(robot) == {"/color/camera_info": ["rgb", "depth"]}
