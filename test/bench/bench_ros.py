"""What our conversions add to rclpy with a 1920x1200 rgb8 image: `python test/bench/bench_ros.py`.

Sending is measured up to the return of `publish`, with a subscriber in another process; receiving
from the serialized message to pixels. The variant is the cheapest way that rclpy has: one copy
into an `array.array` out, `np.frombuffer` in; all others are 3 to 3000 times slower. Variants take
turns, so the ratios hold on a busy machine.
"""

from __future__ import annotations

import array
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

sys.path[:0] = [str(Path(__file__).resolve().parents[level]) for level in (1, 2)]

import numpy as np  # noqa: E402
import rclpy  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.qos import qos_profile_sensor_data  # noqa: E402
from rclpy.serialization import deserialize_message, serialize_message  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402

from robustseg_core.codecs.fields import stamp_of  # noqa: E402
from robustseg_core.modalities.rgb import Rgb  # noqa: E402
from robustseg_core.output import messages  # noqa: E402
from robustseg_core.robot.transports import carry_large_messages  # noqa: E402
from robustseg_ros.convert import to_message  # noqa: E402

HEIGHT, WIDTH = 1200, 1920
ROUNDS = 100
LISTENER = """
import rclpy
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
rclpy.init()
node = rclpy.create_node("listener")
node.create_subscription(Image, "/bench", lambda message: None, qos_profile_sensor_data, raw=True)
try:
    rclpy.spin(node)
except (KeyboardInterrupt, rclpy.executors.ExternalShutdownException):
    pass
"""


def side_by_side(variants: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median milliseconds of each variant, in changing order; the first round warms up."""
    taken: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(ROUNDS + 1):
        for name, call in list(variants.items())[:: 1 if turn % 2 else -1]:
            start = time.perf_counter()
            call()
            taken[name].append((time.perf_counter() - start) * 1e3)
    return {name: median(times[1:]) for name, times in taken.items()}


def fields_of(pixels: np.ndarray) -> dict[str, object]:
    """sensor_msgs/Image as nested dicts, the way `robustseg_core.output.messages` makes them."""
    return {
        "header": messages.header(1_700_000_000_000_000_000, "camera"),
        "height": HEIGHT,
        "width": WIDTH,
        "encoding": "rgb8",
        "is_bigendian": 0,
        "step": 3 * WIDTH,
        "data": pixels.reshape(-1),
    }


def cheapest_message(pixels: np.ndarray) -> Image:
    """By hand, with the one copy that must be."""
    message = Image()
    message.header.stamp.sec, message.header.frame_id = 1_700_000_000, "camera"
    message.height, message.width, message.encoding, message.step = HEIGHT, WIDTH, "rgb8", 3 * WIDTH
    payload = array.array("B")
    payload.frombytes(memoryview(pixels).cast("B"))
    message.data = payload
    return message


def sending(node: Node, pixels: np.ndarray) -> dict[str, float]:
    """Fields to `publish` returned, beside the cheapest."""
    publisher = node.create_publisher(Image, "/bench", qos_profile_sensor_data)
    environment = {**os.environ, "ROS_DOMAIN_ID": str(node.context.get_domain_id())}
    listener = subprocess.Popen(
        [sys.executable, "-c", LISTENER], env=environment, stderr=subprocess.DEVNULL
    )
    try:
        end = time.monotonic() + 30
        while not publisher.get_subscription_count():
            if time.monotonic() > end:
                raise RuntimeError("the listening process did not come up in 30 s")
            time.sleep(0.05)
        took = side_by_side(
            {
                "ours": lambda: publisher.publish(to_message(Image, fields_of(pixels))),
                "cheapest": lambda: publisher.publish(cheapest_message(pixels)),
            }
        )
    finally:
        listener.terminate()
        listener.wait()
    return {
        "image_publish_ms": took["ours"],
        "image_publish_over_cheapest": took["ours"] / took["cheapest"],
    }


def receiving(pixels: np.ndarray) -> dict[str, float]:
    """Serialized message to an (H, W, 3) array, through our decoder and by hand."""
    raw = serialize_message(cheapest_message(pixels))
    rgb = Rgb()

    def ours() -> np.ndarray:
        message = deserialize_message(raw, Image)
        return rgb.decode(message, stamp_of(message))

    def cheapest() -> np.ndarray:
        message = deserialize_message(raw, Image)
        return np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)

    if not np.array_equal(ours(), cheapest()):
        raise RuntimeError("the decoder and np.frombuffer disagree")
    took = side_by_side({"ours": ours, "cheapest": cheapest})
    return {
        "image_receive_ms": took["ours"],
        "image_receive_over_cheapest": took["ours"] / took["cheapest"],
    }


def run() -> dict[str, float]:
    """Figure -> value; milliseconds of this machine, and ratios."""
    carry_large_messages(os.environ)
    pixels = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=1 + os.getpid() % 100)
    node = Node("bench", context=context)
    try:
        return sending(node, pixels) | receiving(pixels)
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)


if __name__ == "__main__":
    for figure, value in run().items():
        print(f"{figure:<32} {value:.3f}")
