"""A process that publishes one message of every kind, over and over: `ros_speaker.py`.

`ros_speaker.py images` publishes one large image instead, best effort; `ros_speaker.py mixed` small
ones and large ones in turn.
"""

from __future__ import annotations

import itertools
import sys

import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile, qos_profile_sensor_data

from robustseg_core.bag.typestore import LABEL_INFO
from robustseg_core.output import messages
from robustseg_ros import optional
from support import makers

MESSAGES = {
    "event_camera_msgs/msg/EventPacket": makers.events(
        np.arange(1000, dtype=np.uint16), 123_456_789, "event_camera", seq=7
    ),
    "tf2_msgs/msg/TFMessage": makers.transform("base", "lidar", (1, 2, 3)),
    LABEL_INFO: messages.to_rosbags(
        LABEL_INFO,
        {"class_map": [{"class_id": 255, "class_name": "unlabeled"}], "threshold": 0.25},
    ),
    "sensor_msgs/msg/PointCloud2": makers.xyz(np.arange(30.0).reshape(10, 3)),
}
IMAGE = "sensor_msgs/msg/Image"
WAYS = ("installed", "stand-in")


def topic_of(msgtype: str, way: str) -> str:
    return f"/{msgtype.rpartition('/')[2]}/{way.replace('-', '_')}"


def speak(node: Node) -> None:
    publishers = []
    installed = optional.message_class
    for way in WAYS:
        optional.message_class = installed if way == "installed" else lambda msgtype: None
        for msgtype, message in MESSAGES.items():
            if way == "installed" and installed(msgtype) is None:
                continue
            topic = topic_of(msgtype, way)
            publisher = optional.publisher(node, msgtype, topic, QoSProfile(depth=10))
            publishers.append((publisher, publisher.serialize(message)))
    node.create_timer(0.05, lambda: [each.publish(raw) for each, raw in publishers])


def show(node: Node) -> None:
    publisher = optional.publisher(node, IMAGE, "/large", qos_profile_sensor_data)
    raw = publisher.serialize(makers.image(np.ones((1200, 1920, 3), np.uint8), "rgb8"))
    node.create_timer(0.1, lambda: publisher.publish(raw))


def mix(node: Node) -> None:
    publisher = optional.publisher(node, IMAGE, "/mixed", qos_profile_sensor_data)
    sizes = [(48, 64, 3), (1200, 1920, 3)]
    raws = [publisher.serialize(makers.image(np.ones(size, np.uint8), "rgb8")) for size in sizes]
    turns = itertools.cycle(raws)
    node.create_timer(0.1, lambda: publisher.publish(next(turns)))


def main() -> None:
    rclpy.init()
    node = rclpy.create_node("speaker")
    (show if "images" in sys.argv else mix if "mixed" in sys.argv else speak)(node)
    rclpy.spin(node)


if __name__ == "__main__":
    main()
