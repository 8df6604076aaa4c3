"""Stamps moved inside serialized messages, and nothing else touched."""

from __future__ import annotations

import numpy as np
import pytest

from support import makers

pytest.importorskip("rclpy")

from hypothesis import given
from hypothesis import strategies as st

from robustseg_core.bag.typestore import typestore
from robustseg_ros.restamp import has_header, restamp

IMAGE = "sensor_msgs/msg/Image"
NS = st.integers(1, 2**31 * 10**9 - 1)


def raw_image(stamp_ns: int, little: bool = True) -> bytes:
    message = makers.image(np.ones((2, 3), np.uint8), "mono8", stamp_ns)
    return bytes(typestore().serialize_cdr(message, IMAGE, little_endian=little))


@given(NS, NS, st.booleans())
def test_only_the_stamp_moves(before_ns, after_ns, little):
    moved = restamp(raw_image(before_ns, little), IMAGE, after_ns - before_ns)
    assert moved == raw_image(after_ns, little)


def test_a_stamp_that_was_never_set_stays_unset():
    assert restamp(raw_image(0), IMAGE, 10**18) == raw_image(0)


def test_types_without_a_header_pass_untouched():
    assert not has_header("unheard_of/msg/Type")
    text = makers.make("std_msgs/msg/String", data="a word or two")
    raw = bytes(typestore().serialize_cdr(text, "std_msgs/msg/String"))
    assert restamp(raw, "std_msgs/msg/String", 10**9) == raw


@given(st.lists(NS, max_size=4), NS, st.booleans())
def test_every_transform_has_a_stamp_of_its_own(stamps_ns, shift_ns, little):
    shift_ns %= 2**31 * 10**9 - max(stamps_ns, default=1)
    before, after = (transforms([s + d for s in stamps_ns], little) for d in (0, shift_ns))
    assert restamp(before, "tf2_msgs/msg/TFMessage", shift_ns) == after
    torn = before[:-1]
    assert not stamps_ns or restamp(torn, "tf2_msgs/msg/TFMessage", shift_ns) == torn


def transforms(stamps_ns: list[int], little: bool) -> bytes:
    message = makers.transform("base", "")
    rows = [makers.transform("base", "wheel" * k).transforms[0] for k in range(len(stamps_ns))]
    for row, stamp_ns in zip(rows, stamps_ns, strict=True):
        row.header = makers.header(stamp_ns, "base")
    message.transforms = rows
    return bytes(typestore().serialize_cdr(message, message.__msgtype__, little_endian=little))


def test_a_torn_message_passes_untouched():
    assert restamp(b"\0\1\0\0abc", IMAGE, 1) == b"\0\1\0\0abc"
