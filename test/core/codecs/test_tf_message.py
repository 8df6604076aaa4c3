"""Transforms off the wire: the same rows as of the deserialized message, or a Rejection."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustseg_core.bag.sealed import Sealed
from robustseg_core.bag.typestore import typestore
from robustseg_core.codecs.tf_message import MOST_TRANSFORMS, Edge, edges, shifted
from robustseg_core.types import SECOND, Fault, Rejection
from support.makers import header, make, transform

TF = "tf2_msgs/msg/TFMessage"
names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
numbers = st.floats(allow_nan=False)


@st.composite
def messages(draw: Any) -> Any:
    made = transform("", "")
    made.transforms = []
    for parent, child, stamp_ns, x, w in draw(
        st.lists(st.tuples(names, names, st.integers(0, (2**31 - 2) * 10**9), numbers, numbers))
    ):
        one = transform(parent, child, (x, 2, -x), (0.25, x, 0, w)).transforms[0]
        one.header = header(stamp_ns, parent)
        made.transforms.append(one)
    return made


def sealed(message: Any, *, little: bool = True) -> Sealed:
    raw = typestore().serialize_cdr(message, TF, little_endian=little)
    return Sealed(bytes(raw), TF)


@given(messages(), st.booleans())
def test_bytes_say_what_the_message_says(message, little):
    wire = sealed(message, little=little)
    assert list(edges(wire)) == list(edges(message))
    assert not wire.opened


def test_a_row_has_names_without_a_slash_stamp_and_pose():
    message = transform("/map", "/base", (1, 2, 3), (0, 0, 1, 0))
    message.transforms[0].header = header(5_000_000_007, "/map")
    (row,) = edges(sealed(message))
    assert row == Edge("map", "base", 5_000_000_007, (1, 2, 3, 0, 0, 1, 0))


@given(messages(), st.data())
def test_damaged_bytes_are_refused_or_read_and_nothing_else(message, data):
    raw = bytearray(sealed(message).raw)
    for _ in range(data.draw(st.integers(0, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(raw)))
    try:
        rows = list(edges(Sealed(bytes(raw[:cut]), TF)))
    except Rejection as rejection:
        assert rejection.finding.fault is Fault.FORMAT
    else:
        assert all(isinstance(row, Edge) for row in rows)


@given(messages(), st.booleans())
def test_stamps_are_moved_and_nothing_else(message, little):
    moved = shifted(sealed(message, little=little).raw, SECOND)
    expected = [
        row._replace(stamp_ns=row.stamp_ns + (SECOND if row.stamp_ns else 0))
        for row in edges(message)
    ]
    assert list(edges(Sealed(moved, TF))) == expected


def test_too_many_transforms_are_refused_before_they_are_read():
    lots = SimpleNamespace(transforms=transform("a", "b").transforms * (MOST_TRANSFORMS + 1))
    with pytest.raises(Rejection, match="4097 transforms, limit 4096"):
        edges(lots)
    message = make(TF, transforms=lots.transforms)
    with pytest.raises(Rejection, match="4097 transforms, limit 4096"):
        edges(sealed(message))


@pytest.mark.parametrize("junk", [None, SimpleNamespace(), SimpleNamespace(transforms=7)])
def test_what_is_no_message_is_refused(junk):
    with pytest.raises(Rejection, match=r"transforms is .*; expected a list"):
        edges(junk)


def test_one_that_is_no_transform_takes_no_other_with_it():
    good = transform("a", "b").transforms[0]
    rows = list(
        edges(SimpleNamespace(transforms=[None, good, SimpleNamespace(header=good.header)]))
    )
    assert [isinstance(row, Edge) for row in rows] == [False, True, False]
