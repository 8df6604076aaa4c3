"""Packages that a robot has and PyPI has not: where one is installed, it and ours say the same.

Each test skips where its package is missing; what is used where: docs/robot/README.md.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from robustseg_core.bag.typestore import typestore
from robustseg_core.codecs.image import decode_image
from robustseg_core.codecs.points import decode_points
from robustseg_ros import optional
from robustseg_ros.filter import DeadlineSynchronizer
from robustseg_ros.publishers import Publishers
from support import makers
from support.label_maps import a_spec, of_a_scan

pytestmark = pytest.mark.ros
RNG = np.random.default_rng(4)


def compiled(message: Any) -> Any:
    """The same message of rclpy's class, as the packages want it."""
    msgtype = message.__msgtype__
    raw = bytes(typestore().serialize_cdr(message, msgtype))
    return deserialize_message(raw, optional.message_class(msgtype))


def test_a_cloud_reads_as_sensor_msgs_py_reads_it():
    theirs = pytest.importorskip("sensor_msgs_py.point_cloud2", exc_type=ImportError)
    table = np.zeros(50, [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("intensity", "<f4")])
    for name in table.dtype.names:
        table[name] = RNG.normal(size=50)
    table["y"][:5] = np.nan
    message = compiled(makers.cloud(table))
    expected = theirs.read_points(message, field_names=[*"xyz", "intensity"], skip_nans=True)
    found = decode_points(message)
    for axis, name in enumerate("xyz"):
        np.testing.assert_array_equal(found.xyz[:, axis], expected[name])
    np.testing.assert_array_equal(found.intensity, expected["intensity"])


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8", "mono8"])
def test_an_image_reads_as_cv_bridge_reads_it(encoding):
    cv_bridge = pytest.importorskip("cv_bridge", exc_type=ImportError)
    channels = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4}.get(encoding, 1)
    pixels = RNG.integers(0, 256, (48, 64, channels), np.uint8)
    message = compiled(makers.image(pixels.squeeze(), encoding))
    expected = cv_bridge.CvBridge().imgmsg_to_cv2(message, "rgb8")
    assert np.abs(decode_image(message).astype(int) - expected).max() <= 1


@pytest.fixture
def speaking(world) -> Iterator[Callable[[], None]]:
    """Says one mask of a LiDAR, stamped anew each time, on all outputs of the node /test."""
    publishers, numbers = Publishers(world.node, a_spec()), itertools.count(1)

    def say() -> None:
        mask = of_a_scan()
        publishers.publish(replace(mask, stamp_ns=mask.stamp_ns + next(numbers) * 100_000_000))

    yield say
    publishers.close()


def heard_on(world: Any, topic: str) -> int:
    """How many subscribers the publishers of a topic of the world's own node have matched."""
    return sum(p.get_subscription_count() for p in world.node.publishers if p.topic_name == topic)


def test_our_outputs_are_read_by_cv_bridge(world, speaking):
    """Class ids and confidence bit for bit; colors in either order."""
    cv_bridge = pytest.importorskip("cv_bridge", exc_type=ImportError)
    heard: dict[str, Any] = {}
    for name in ("label_mask", "confidence", "overlay", "label_color"):
        world.node.create_subscription(
            Image, f"/test/{name}", lambda m, to=name: heard.setdefault(to, m), 10
        )

    def came() -> bool:
        speaking()
        return len(heard) == 4

    world.until(came, "all images")
    bridge, mask = cv_bridge.CvBridge(), of_a_scan()
    for name, pixels in (("label_mask", mask.ids), ("confidence", mask.confidence)):
        for wanted in ("passthrough", "mono8"):
            np.testing.assert_array_equal(bridge.imgmsg_to_cv2(heard[name], wanted), pixels)
    for name in ("overlay", "label_color"):
        ours = decode_image(heard[name])
        np.testing.assert_array_equal(bridge.imgmsg_to_cv2(heard[name], "rgb8"), ours)
        np.testing.assert_array_equal(bridge.imgmsg_to_cv2(heard[name], "bgr8"), ours[..., ::-1])


@pytest.mark.parametrize("kind", ["TimeSynchronizer", "ApproximateTimeSynchronizer"])
def test_our_outputs_meet_in_message_filters(world, speaking, kind):
    """What belongs to one mask has one stamp, so that even the exact synchronizer joins it."""
    message_filters = pytest.importorskip("message_filters", exc_type=ImportError)
    types = {
        "label_mask": Image,
        "confidence": Image,
        "camera_info": CameraInfo,
        "points": PointCloud2,
        "status": DiagnosticArray,
    }
    subscribers = [
        message_filters.Subscriber(world.node, of, f"/test/{name}", qos_profile=10)
        for name, of in types.items()
    ]
    more = [0.001] if kind.startswith("Approximate") else []
    joined = getattr(message_filters, kind)(subscribers, 10, *more)
    sets: list[tuple[Any, ...]] = []
    joined.registerCallback(lambda *messages: sets.append(messages))

    for name in types:
        world.until(lambda n=name: heard_on(world, f"/test/{n}"), f"a match on {name}")
    for number in range(3):
        speaking()
        world.until(lambda n=number: len(sets) > n, "a set of all five")
    for messages in sets:
        assert [type(message) for message in messages] == list(types.values())
        assert len({(m.header.stamp.sec, m.header.stamp.nanosec) for m in messages}) == 1
        assert messages[2].height == messages[0].height


def test_our_cloud_is_read_by_sensor_msgs_py(world, speaking):
    """x y z, the color as PCL packs it, the class id, the confidence; as our own reader reads."""
    theirs = pytest.importorskip("sensor_msgs_py.point_cloud2", exc_type=ImportError)
    heard: list[Any] = []
    world.node.create_subscription(PointCloud2, "/test/points", heard.append, 10)

    def came() -> bool:
        speaking()
        return bool(heard)

    world.until(came, "a cloud")
    read = theirs.read_points(heard[0])
    assert read.dtype.names == ("x", "y", "z", "rgb", "label", "confidence")
    ours = decode_points(heard[0])
    for axis, name in enumerate("xyz"):
        np.testing.assert_array_equal(read[name], ours.xyz[:, axis])
    palette = [int.from_bytes(bytes(color), "big") for color in a_spec().palette]
    colors = read["rgb"].view(np.uint32)
    for label, color in zip(read["label"], colors, strict=True):
        if label < len(palette):
            assert color & 0xFFFFFF == palette[label]
    np.testing.assert_allclose(read["confidence"], 200 / 255)


def test_the_synchronizer_is_a_filter_of_message_filters():
    message_filters = pytest.importorskip("message_filters", exc_type=ImportError)
    first, second = message_filters.SimpleFilter(), message_filters.SimpleFilter()
    clock = [0]
    ours = DeadlineSynchronizer([first, second], 10, 0.02, clock_ns=lambda: clock[0])
    assert isinstance(ours, message_filters.SimpleFilter)
    cache = message_filters.Cache(ours_single(message_filters, ours), 10)
    sets: list[Any] = []
    ours.registerCallback(lambda *sent: sets.append(sent))
    for k in range(10):
        clock[0] = k * 100_000_000
        for each in (first, second):
            each.signalMessage(stamped(k))
    assert len(sets) >= 8 and all(a is not None for a, _ in sets)
    assert cache.getLast() is not None


def stamped(k: int) -> Any:
    stamp = Time(sec=1000, nanosec=k * 100_000_000)
    return SimpleNamespace(header=SimpleNamespace(stamp=stamp, frame_id=""))


def ours_single(message_filters: Any, several: Any) -> Any:
    """A filter of the first of a set's messages, for the package's own `Cache`."""

    class First(message_filters.SimpleFilter):
        def __init__(self) -> None:
            super().__init__()
            several.registerCallback(lambda first, *_rest: self.signalMessage(first))

    return First()
