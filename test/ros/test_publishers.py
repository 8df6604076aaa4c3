"""An output that is one more entry of the table is published like the others."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy")

from rclpy.qos import DurabilityPolicy, ReliabilityPolicy
from sensor_msgs.msg import Image

from robustseg_core.output import topics
from robustseg_ros.publishers import Publishers
from support.label_maps import UNSURE, a_map, a_spec

pytestmark = pytest.mark.ros


def test_an_output_that_is_one_more_entry_is_published_while_somebody_listens(world, monkeypatch):
    monkeypatch.setattr(topics, "OUTPUTS", (*topics.OUTPUTS, UNSURE))
    node, heard = world.node, []
    publishers = Publishers(node, a_spec())
    name = f"{node.get_fully_qualified_name()}/unsure"
    (offer,) = node.get_publishers_info_by_topic(name)
    assert offer.qos_profile.reliability == ReliabilityPolicy.RELIABLE
    assert offer.qos_profile.durability == DurabilityPolicy.VOLATILE
    publishers.publish(a_map())
    node.create_subscription(Image, name, heard.append, 10)
    world.until(lambda: node.count_subscribers(name), "a subscriber")

    def said() -> bool:
        publishers.publish(a_map())
        return bool(heard)

    world.until(said, "a message")
    assert set(heard[0].data) == {200}
    publishers.close()
    assert not node.get_publishers_info_by_topic(name)
