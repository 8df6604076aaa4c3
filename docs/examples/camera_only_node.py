"""Somebody else's node: a camera and its calibration in, class ids out; all or nothing.

    python docs/examples/camera_only_node.py --ros-args -p image_transport:=compressed

An example for `robustseg robustness --node`, written as many nodes are: `image` (or
`image/compressed`) and `camera_info` go through an ApproximateTimeSynchronizer, and a mask is made
of each set. It knows nothing of health. Masks go out on `~/label` (mono8, class ids). Where ROS's
message_filters is not installed, a stand-in with its rule serves: a set needs a message of every
topic within the slop.
"""

# ruff: noqa: TID251 (this is no part of the core)
from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import rclpy
from numpy.typing import NDArray
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

import robustseg_core

try:
    import message_filters
except ImportError:
    message_filters = None

QUEUE, SLOP_S = 10, 0.05
COLORS = {"rgb8": [0, 1, 2], "bgr8": [2, 1, 0]}


class Sets:
    """message_filters' rule, without it: of each topic the message nearest to the newest image.

    A set goes out as soon as every topic has a message within the slop, and never without one.
    """

    def __init__(self, topics: int, callback: Callable[..., None]) -> None:
        self._queues: list[deque[Any]] = [deque(maxlen=QUEUE) for _ in range(topics)]
        self._callback = callback

    def add(self, number: int, message: Any) -> None:
        """A message of the topic of that number."""
        self._queues[number].append(message)
        if not all(self._queues):
            return
        pivot_s = min(seconds(queue[-1]) for queue in self._queues)
        chosen = [min(q, key=lambda m: abs(seconds(m) - pivot_s)) for q in self._queues]
        stamps = [seconds(message) for message in chosen]
        if max(stamps) - min(stamps) > SLOP_S:
            return
        for queue, used in zip(self._queues, chosen, strict=True):
            while queue and seconds(queue[0]) <= seconds(used):
                queue.popleft()
        self._callback(*chosen)


def seconds(message: Any) -> float:
    """The stamp of a message."""
    return float(message.header.stamp.sec + message.header.stamp.nanosec * 1e-9)


def colors(image: Any) -> NDArray[np.uint8] | None:
    """(H, W, 3) RGB of an Image (rgb8, bgr8) or a CompressedImage; None: another kind."""
    if hasattr(image, "format"):
        found = cv2.imdecode(np.frombuffer(bytes(image.data), np.uint8), cv2.IMREAD_COLOR)
        return None if found is None else np.ascontiguousarray(found[..., ::-1], np.uint8)
    if image.encoding not in COLORS:
        return None
    rows = np.frombuffer(bytes(image.data), np.uint8).reshape(image.height, image.step)
    pixels = rows[:, : 3 * image.width].reshape(image.height, image.width, 3)
    return np.ascontiguousarray(pixels[..., COLORS[image.encoding]])


class CameraOnly(Node):
    """One mask for each pair of an image and its calibration."""

    def __init__(self) -> None:
        super().__init__("camera_only")
        self._student = robustseg_core.load("street_tiny")
        self._publisher = self.create_publisher(Image, "~/label", 10)
        self.declare_parameter("image_transport", "raw")
        packed = self.get_parameter("image_transport").value == "compressed"
        camera = (CompressedImage, "image/compressed") if packed else (Image, "image")
        topics = (camera, (CameraInfo, "camera_info"))
        if message_filters is not None:
            heard = [
                message_filters.Subscriber(self, kind, name, qos_profile=qos_profile_sensor_data)
                for kind, name in topics
            ]
            self._sets = message_filters.ApproximateTimeSynchronizer(heard, QUEUE, SLOP_S)
            self._sets.registerCallback(self.segment)
            return
        self._sets = Sets(len(topics), self.segment)
        for number, (kind, name) in enumerate(topics):
            self.create_subscription(kind, name, self._adder(number), qos_profile_sensor_data)

    def _adder(self, number: int) -> Callable[[Any], None]:
        return lambda message: self._sets.add(number, message)

    def segment(self, image: Any, info: Any) -> None:
        """The mask of a set; the calibration is only waited for."""
        rgb = colors(image)
        if rgb is None:
            self.get_logger().warning("pictures of a kind that is not known here", once=True)
            return
        ids = self._student.predict({"rgb": rgb}).ids
        mask = Image(header=image.header, height=ids.shape[0], width=ids.shape[1])
        mask.encoding, mask.step = "mono8", ids.shape[1]
        mask.data = np.ascontiguousarray(ids, np.uint8).tobytes()
        self._publisher.publish(mask)


def main() -> int:
    """Entry point; the exit code."""
    rclpy.init()
    try:
        rclpy.spin(CameraOnly())
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
