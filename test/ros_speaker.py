"""A process that publishes one message of every kind, over and over: `ros_speaker.py`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import makers  # noqa: E402
import numpy as np  # noqa: E402
import rclpy  # noqa: E402
from rclpy.qos import QoSProfile  # noqa: E402

from robustseg_ros import optional  # noqa: E402

MESSAGES = {
    "event_camera_msgs/msg/EventPacket": makers.events(
        np.arange(1000, dtype=np.uint16), 123_456_789, "event_camera", seq=7
    ),
    "tf2_msgs/msg/TFMessage": makers.transform("base", "lidar", (1, 2, 3)),
    "sensor_msgs/msg/PointCloud2": makers.xyz(np.arange(30.0).reshape(10, 3)),
}
WAYS = ("installed", "stand-in")


def topic_of(msgtype: str, way: str) -> str:
    return f"/{msgtype.rpartition('/')[2]}/{way.replace('-', '_')}"


def main() -> None:
    rclpy.init()
    node = rclpy.create_node("speaker")
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
    rclpy.spin(node)


if __name__ == "__main__":
    main()
