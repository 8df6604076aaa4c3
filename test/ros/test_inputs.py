"""What the node listens with, where the graph and the names disagree."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy")

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.topic_endpoint_info import TopicEndpointInfo

from robustseg_core.bag import Bag
from robustseg_core.codecs.message_types import COMPRESSED_IMAGE, IMAGE
from robustseg_ros.inputs import choose_type
from robustseg_ros.play_node import guess
from robustseg_ros.qos import why_not

pytestmark = pytest.mark.ros
BOTH = (IMAGE, COMPRESSED_IMAGE)


@pytest.mark.parametrize(
    ("topic", "accepted", "offered", "chosen"),
    [
        ("/cam/image_raw", BOTH, [], IMAGE),
        ("/cam/image_raw/compressed", BOTH, [], COMPRESSED_IMAGE),
        ("/cam/depth/compressedDepth", BOTH, [], COMPRESSED_IMAGE),
        ("/cam/image_raw", BOTH, [COMPRESSED_IMAGE], COMPRESSED_IMAGE),
        ("/cam/image_raw/compressed", BOTH, [IMAGE], IMAGE),
        ("/cam/image_raw", BOTH, ["std_msgs/msg/String"], IMAGE),
        ("/points/compressed", ("sensor_msgs/msg/PointCloud2",), [], "sensor_msgs/msg/PointCloud2"),
    ],
)
def test_what_is_offered_beats_what_a_name_suggests(topic, accepted, offered, chosen):
    assert choose_type(topic, accepted, offered) == chosen


def test_a_mismatch_names_both_sides_and_the_parameter_that_mends_it():
    profiles = {
        "loose": QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT),
        "strict": QoSProfile(
            depth=1,
            reliability=ReliabilityPolicy.RELIABLE,
            durability=DurabilityPolicy.TRANSIENT_LOCAL,
        ),
    }
    them = [
        TopicEndpointInfo(node_name="driver", node_namespace="/front", qos_profile=p)
        for p in profiles.values()
    ]
    assert why_not("/tf_static", profiles["strict"], them, we="subscription") == (
        "/tf_static: /front/driver offers BEST_EFFORT reliability, this node asks RELIABLE; "
        "set qos_overrides./tf_static.subscription.reliability: best_effort"
    )
    assert why_not("/mask", profiles["loose"], them, we="publisher") == (
        "/mask: /front/driver asks RELIABLE reliability, this node offers BEST_EFFORT; "
        "set qos_overrides./mask.publisher.reliability: reliable"
    )
    assert why_not("/points", profiles["loose"], them, we="subscription") is None


def test_the_player_guesses_which_topic_is_which_sensor(realdata):
    with Bag(realdata / "collage_four_sensors") as bag:
        assert guess(bag) == {
            "rgb": "/camera/color/image_raw/compressed",
            "depth": "/camera/aligned_depth_to_color/image_raw",
            "event": "/event_camera/events",
            "lidar": "/velodyne_points",
        }
