"""Fields into messages: every kind of field, one memory copy, errors with a way out."""

from __future__ import annotations

import array

import numpy as np
import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray
from hypothesis import given
from hypothesis import strategies as st
from sensor_msgs.msg import CameraInfo, Image, LaserScan, PointCloud2
from std_msgs.msg import Header

from robustseg_core.codecs.fields import nanoseconds
from robustseg_core.errors import RobustsegError
from robustseg_core.output import messages
from robustseg_ros.convert import to_message

pytestmark = pytest.mark.ros


def test_an_image_becomes_a_message_of_the_same_bytes():
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)[:, ::-1]  # not contiguous
    fields = {
        "header": messages.header(1_500_000_002, "camera"),
        "height": 2,
        "width": np.int64(4),
        "encoding": "rgb8",
        "step": 12,
        "data": pixels,
    }
    message = to_message(Image, fields)
    assert isinstance(message.data, array.array) and message.data.typecode == "B"
    assert message.data.tobytes() == pixels.tobytes()
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (1, 500_000_002)
    assert (message.header.frame_id, message.width) == ("camera", 4)


def test_arrays_of_every_shape_arrive_as_rosidl_keeps_them():
    info = to_message(CameraInfo, {"k": np.eye(3), "d": [0.1, 0.2], "roi": {"width": 7}})
    assert info.k.tolist() == np.eye(3).reshape(-1).tolist()
    assert info.d.tolist() == [0.1, 0.2] and info.roi.width == 7
    assert to_message(LaserScan, {"ranges": [1.0, 2.0]}).ranges.typecode == "f"
    fields = [{"name": "x", "offset": 0, "datatype": 7, "count": 1}]
    assert to_message(PointCloud2, {"fields": fields, "data": []}).fields[0].name == "x"


def test_a_diagnostic_level_is_one_byte():
    status = {"level": 2, "name": "a", "message": "b", "values": [{"key": "k", "value": "v"}]}
    message = to_message(DiagnosticArray, {"status": [status]})
    assert message.status[0].level == b"\x02"
    assert message.status[0].values[0].key == "k"


def test_messages_pass_with_field_checks_on():
    """ROS_PYTHON_CHECK_FIELDS=1 makes every setter check its value."""
    message = to_message(Image, {"data": np.zeros((2, 2), np.uint8), "height": 2})
    again = Image(check_fields=True)
    again.data, again.height, again.header = message.data, message.height, message.header
    assert again == message


def test_a_misspelt_field_is_an_error_with_a_hint():
    with pytest.raises(RobustsegError, match="Image has no field 'widht'; did you mean 'width'"):
        to_message(Image, {"widht": 1})


@given(st.integers(0, 2**31 * 10**9 - 1))
def test_a_stamp_survives_the_way_there_and_back(stamp_ns):
    header = to_message(Header, messages.header(stamp_ns, "map"))
    assert nanoseconds(header.stamp) == stamp_ns
