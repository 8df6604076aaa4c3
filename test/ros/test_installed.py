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
from robustseg_core.codecs.compressed_depth import decode_depth
from robustseg_core.codecs.image import FORMATS, decode_compressed, decode_image
from robustseg_core.codecs.points import decode_points
from robustseg_ros import optional
from robustseg_ros.filter import DeadlineSynchronizer
from robustseg_ros.publishers import Publishers
from support import makers
from support.label_maps import a_spec, of_a_scan

pytestmark = pytest.mark.ros
RNG = np.random.default_rng(4)
NOT_OF_EVERY_CV_BRIDGE = {"uyvy", "yuyv", "yuv422_yuy2", "nv12", "nv21"}
"""Encodings that it came to know late, or never."""


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


def read_by_cv_bridge(cv_bridge: Any, message: Any) -> np.ndarray:
    """(H, W, 3) RGB; what it calls no color, such as 8UC3, in OpenCV's order."""
    bridge = cv_bridge.CvBridge()
    try:
        if "UC" not in message.encoding:
            return bridge.imgmsg_to_cv2(message, "rgb8")
    except cv_bridge.CvBridgeError as error:
        if message.encoding in NOT_OF_EVERY_CV_BRIDGE:
            pytest.skip(str(error))
        raise
    read = bridge.imgmsg_to_cv2(message)
    high = (read >> 8).astype(np.uint8) if read.dtype == np.uint16 else read
    return np.dstack([high] * 3) if high.ndim == 2 else high[..., 2::-1]


@pytest.mark.parametrize("encoding", FORMATS)
def test_an_image_reads_as_cv_bridge_reads_it(encoding):
    """To the bit, rows padded or not; of 16 bits we keep the high byte, and cv_bridge rounds."""
    cv_bridge = pytest.importorskip("cv_bridge", exc_type=ImportError)
    form = FORMATS[encoding]
    (height, width), (more, less) = (48, 64), form.rows
    for order, padding in itertools.product("<>" if form.bits == 16 else "<", (0, 16)):
        shape = height * more // less, width + padding, form.channels
        table = RNG.integers(0, 1 << form.bits, shape).astype(f"{order}u{form.bits // 8}")
        message = makers.image(table, encoding, width=width, is_bigendian=order == ">")
        message.height = height
        expected = read_by_cv_bridge(cv_bridge, compiled(message)).astype(int)
        off = np.abs(decode_image(compiled(message)) - expected).max()
        assert off <= (0 if form.bits == 8 else 1)


@pytest.mark.parametrize("form", ["jpg", "png", "webp"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_compressed_image_reads_as_cv_bridge_reads_it(form, channels):
    """Which writes it, too."""
    cv_bridge = pytest.importorskip("cv_bridge", exc_type=ImportError)
    bridge, (picture,) = cv_bridge.CvBridge(), makers.scenes(1)
    message = bridge.cv2_to_compressed_imgmsg(picture if channels == 3 else picture[..., 0], form)
    expected = bridge.compressed_imgmsg_to_cv2(message, "passthrough")
    expected = expected[..., ::-1] if expected.ndim == 3 else np.dstack([expected] * 3)
    np.testing.assert_array_equal(decode_compressed(message), expected)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("encoding", ["16UC1", "mono16", "32FC1"])
def test_depth_reads_as_cv_bridge_reads_it(encoding, order):
    """In metres; millimetres of 0 and 65535 are none."""
    cv_bridge = pytest.importorskip("cv_bridge", exc_type=ImportError)
    millimetres = RNG.integers(0, 1 << 16, (48, 64))
    millimetres[:2] = [[0], [65535]]
    values = millimetres / 1000 if encoding == "32FC1" else millimetres
    table = values.astype(f"{order}{'f4' if encoding == '32FC1' else 'u2'}")
    message = compiled(makers.image(table, encoding, is_bigendian=order == ">"))
    read = cv_bridge.CvBridge().imgmsg_to_cv2(message)
    expected = read if encoding == "32FC1" else read * np.float32(1e-3)
    none = read == 0 if encoding == "32FC1" else (read == 0) | (read == 65535)
    np.testing.assert_array_equal(decode_depth(message), np.where(none, np.nan, expected))


def test_a_depth_png_reads_as_cv_bridge_reads_it():
    cv_bridge = pytest.importorskip("cv_bridge", exc_type=ImportError)
    bridge = cv_bridge.CvBridge()
    millimetres = RNG.integers(1, 65535, (48, 64)).astype(np.uint16)
    message = bridge.cv2_to_compressed_imgmsg(millimetres, "png")
    read = bridge.compressed_imgmsg_to_cv2(message)
    np.testing.assert_array_equal(decode_depth(message), read * np.float32(1e-3))


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
