"""Large best-effort images arrive, also at those who never heard of our environment variable."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("rclpy")

from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

from robustseg_core.robot.transports import ROOMY, VARIABLE, carry_large_messages
from support import ros_speaker

pytestmark = pytest.mark.ros


@pytest.mark.parametrize("ours", [ROOMY, "DEFAULT"])
def test_a_large_image_reaches_every_listener(make_world, monkeypatch, ours):
    monkeypatch.setenv(VARIABLE, ours)
    world = make_world()
    world.environment[VARIABLE] = ROOMY
    got: list[Image] = []
    world.node.create_subscription(Image, "/large", got.append, qos_profile_sensor_data)
    world.start(str(Path(ros_speaker.__file__)), "images")
    world.until(lambda: len(got) >= 10, "ten images of 6.9 MB")
    assert len(got[0].data) == 1200 * 1920 * 3


def test_what_the_user_chose_stays():
    environment = {VARIABLE: "UDPv4"}
    carry_large_messages(environment)
    assert environment == {VARIABLE: "UDPv4"}
    environment = {}
    carry_large_messages(environment)
    assert environment == {VARIABLE: ROOMY}
