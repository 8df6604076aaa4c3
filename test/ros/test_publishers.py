"""What the node says, as whoever listens gets it: each output of the table, and one more."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import String

from robustseg_core.output import topics
from robustseg_ros import optional
from robustseg_ros.publishers import Publishers
from support.label_maps import STAMP, UNSURE, a_map, a_spec, counted, of_a_scan

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


def test_each_output_comes_as_its_type_with_one_stamp_and_only_while_somebody_listens(
    world, monkeypatch
):
    made: Counter[str] = Counter()
    monkeypatch.setattr(topics, "OUTPUTS", tuple(counted(o, made) for o in topics.OUTPUTS))
    node, heard, subscriptions = world.node, {}, {}
    publishers = Publishers(node, a_spec())
    publishers.publish(of_a_scan())
    assert set(made) == {"status"}, "nobody listens"
    own = [o for o in topics.OUTPUTS if o is not topics.HEALTH]
    for output in own:
        name = output.topic.replace("~", node.get_fully_qualified_name())
        (offer,) = node.get_publishers_info_by_topic(name)
        assert offer.topic_type == output.type, name
        assert offer.qos_profile.reliability == ReliabilityPolicy.RELIABLE
        latched = offer.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
        assert latched is output.latched, name
        subscriptions[output.name] = optional.subscribe(
            node,
            output.type,
            name,
            lambda message, to=output.name: heard.setdefault(to, message),
            QoSProfile(depth=10, durability=offer.qos_profile.durability),
        )

    def all_came() -> bool:
        publishers.publish(of_a_scan())
        return len(heard) == len(own)

    world.until(all_came, "a message of each output")
    of_mask = {name: heard[name] for name in topics.of_a_mask()}
    stamps = {(m.header.stamp.sec, m.header.stamp.nanosec) for m in of_mask.values()}
    assert stamps == {divmod(STAMP, 10**9)}
    frames = {name: message.header.frame_id for name, message in of_mask.items()}
    assert frames == dict.fromkeys(of_mask, "camera_optical") | {"points": "lidar"}
    assert {c.class_id: c.class_name for c in heard["label_info"].class_map} == {
        0: "road",
        1: "tree",
        255: "unlabeled",
    }
    camera, color, cloud = (heard[name] for name in ("camera_info", "label_color", "points"))
    mask = heard["label_mask"]
    for image in (mask, heard["confidence"], color, camera):
        assert (image.height, image.width) == (3, 4)
    assert (color.encoding, bytes(color.data[:6])) == ("rgb8", bytes([0, 0, 255, 0, 255, 0]))
    assert camera.k[0] == camera.p[0] == 3.5 and camera.distortion_model == "plumb_bob"
    values = np.frombuffer(cloud.data, "<f4").reshape(-1, cloud.point_step // 4)
    assert [field.name for field in cloud.fields] == [*"xyz", "rgb", "label", "confidence"]
    np.testing.assert_array_equal(values[:, :3], [[0, 0, 5], [1, 0, 5]])
    row, cols = 1, (2, 2)  # the camera's principal point, and 1.4 of its pixels beside it
    assert values[:, 4].view("<u4").tolist() == [mask.data[row * 4 + col] for col in cols]
    np.testing.assert_allclose(values[:, 5], 200 / 255)
    curves = dict(zip(heard["sensor_states"].name, heard["sensor_states"].position, strict=True))
    assert (curves["lidar.state"], curves["lidar.used"]) == (0, 1)

    node.destroy_subscription(subscriptions.pop("points"))
    publisher = publishers._open["~/points"].rcl
    world.until(lambda: not publisher.get_subscription_count(), "nobody to listen to points")
    before = made.copy()
    publishers.publish(of_a_scan(), shed=("overlay",))
    again = {name for name in made if made[name] > before[name]}
    assert again == set(of_mask) - {"points", "overlay", "label_color"}
    publishers.close()


SPEAKER = """
import json
from collections import Counter

import rclpy
from rclpy.node import Node
from std_msgs.msg import String

from robustseg_core.output import topics
from robustseg_ros.publishers import Publishers
from support.label_maps import a_spec, counted, of_a_scan

made = Counter()
topics.OUTPUTS = tuple(counted(output, made) for output in topics.OUTPUTS)
rclpy.init()
node = Node("robustseg")
publishers, account = Publishers(node, a_spec()), node.create_publisher(String, "/made", 10)


def speak():
    publishers.publish(of_a_scan())
    account.publish(String(data=json.dumps(made)))


node.create_timer(0.02, speak)
rclpy.spin(node)
"""
"""One mask again and again, and how many messages of each output have been made of it."""


def test_what_another_process_stops_listening_to_is_made_no_more(world):
    """Each lazy output in turn: nothing of it before, with its stamp meanwhile, nothing after."""
    world.start("-c", SPEAKER)
    accounts: list[Counter[str]] = []
    world.node.create_subscription(
        String, "/made", lambda told: accounts.append(Counter(json.loads(told.data))), 10
    )

    def grown(count: int = 5) -> set[str]:
        """What is made more of within so many masks."""
        start = len(accounts)
        world.until(lambda: len(accounts) > start + count, "masks")
        return {*(accounts[-1] - accounts[start])}

    assert grown() == {"status"}
    for output in (o for o in topics.OUTPUTS if o.lazy):
        heard: list[Any] = []
        name = output.topic.replace("~", "/robustseg")
        listening = optional.subscribe(world.node, output.type, name, heard.append, 10)
        world.until(lambda to=heard: to, f"{name}")
        assert grown() == {"status", output.name}
        header = heard[0].header
        assert (header.stamp.sec, header.stamp.nanosec) == divmod(STAMP, 10**9)
        assert header.frame_id == ("lidar" if output.name == "points" else "camera_optical")
        world.node.destroy_subscription(listening)
        world.until(lambda: grown() == {"status"}, f"{name} to be made no more")
