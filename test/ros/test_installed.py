"""Packages that a robot has and PyPI has not: where one is installed, it and ours say the same.

Each test skips where its package is missing; what is used where: docs/robot/README.md.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

from builtin_interfaces.msg import Time
from rclpy.serialization import deserialize_message

from robustseg_core.bag.typestore import typestore
from robustseg_core.codecs.image import decode_image
from robustseg_core.codecs.points import decode_points
from robustseg_ros import optional
from robustseg_ros.filter import DeadlineSynchronizer
from support import makers

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
