"""tf2_msgs/TFMessage as rows, from a message or straight off its bytes.

/tf has dozens of transforms a hundred times a second, of which a robot's sensors hang on two or
three. Deserialized, each costs fifteen microseconds; read off the bytes, two.
"""

from __future__ import annotations

import reprlib
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from robustseg_core.codecs.fields import LONGEST_WORD, nanoseconds, word
from robustseg_core.types import SECOND, Fault, Rejection

TF_MESSAGE = "tf2_msgs/msg/TFMessage"
MOST_TRANSFORMS = 4096
"""Of one message; seconds of work, behind a lock. No robot has so many frames."""
_START = 4
"""Bytes of encapsulation before the first field (DDS-RTPS 10.5); the second says the byte order."""
_POSE = 7 * 8


class Edge(NamedTuple):
    """One geometry_msgs/TransformStamped."""

    parent: str
    child: str
    stamp_ns: int
    pose: tuple[Any, ...]
    """x y z qx qy qz qw as they came, of the child in its parent; `geometry.transforms` judges."""


def strip(frame_id: str) -> str:
    """A frame's name without the leading slash that ROS 1 wrote."""
    return frame_id.lstrip("/")


def edges(message: Any) -> Iterator[Edge | Rejection]:
    """The transforms of a message, in its order; a Rejection in the place of one that is none.

    Args:
        message: rclpy's or rosbags', or one that is still serialized (`raw`, CDR).

    Raises:
        Rejection: FORMAT; it is no TFMessage, or has too many transforms.
    """
    raw = getattr(message, "raw", None)
    if isinstance(raw, (bytes, memoryview)):
        return iter(_walk(bytes(raw)))
    transforms = getattr(message, "transforms", None)
    if not isinstance(transforms, (list, tuple)):
        text = f"transforms is {reprlib.repr(transforms)}; expected a list"
        raise Rejection(Fault.FORMAT, text)
    _bounded(len(transforms))
    return map(_edge, transforms)


def _edge(stamped: Any) -> Edge | Rejection:
    header, transform = getattr(stamped, "header", None), getattr(stamped, "transform", None)
    t, q = getattr(transform, "translation", None), getattr(transform, "rotation", None)
    pose = [getattr(t, axis, None) for axis in "xyz"] + [getattr(q, axis, None) for axis in "xyzw"]
    try:
        parent, child = strip(word(header, "frame_id")), strip(word(stamped, "child_frame_id"))
        return Edge(parent, child, nanoseconds(getattr(header, "stamp", None)), tuple(pose))
    except Rejection as rejection:
        return rejection
    except (AttributeError, TypeError, ValueError, OverflowError):
        return Rejection(Fault.FORMAT, f"{reprlib.repr(stamped)} has no stamp; expected a header")


def shifted(raw: bytes, shift_ns: int) -> bytes:
    """CDR bytes of a TFMessage with all stamps moved; a stamp of zero stays: it was never set.

    Raises:
        Rejection: FORMAT.
    """
    moved, form = bytearray(raw), f"{_order(raw)}iI"
    for at, _, _, stamp_ns, _ in _rows(raw):
        if stamp_ns:
            struct.pack_into(form, moved, at, *divmod(stamp_ns + shift_ns, SECOND))
    return bytes(moved)


def _walk(raw: bytes) -> list[Edge | Rejection]:
    """`edges` of CDR bytes: nothing is made that nobody asked for."""
    numbers = struct.Struct(f"{_order(raw)}7d").unpack_from
    return [
        Edge(parent, child, stamp_ns, numbers(raw, at))
        for _, parent, child, stamp_ns, at in _rows(raw)
    ]


def _order(raw: bytes) -> str:
    return "<" if raw[1:2] == b"\1" else ">"


def _rows(raw: bytes) -> list[tuple[int, str, str, int, int]]:
    """(place of the stamp, parent, child, stamp in ns, place of the pose) of each transform."""
    order = _order(raw)
    stamp = struct.Struct(f"{order}iII").unpack_from
    length = struct.Struct(f"{order}I").unpack_from
    found = []
    try:
        at = _START + 4
        _bounded(count := length(raw, _START)[0])
        for _ in range(count):
            at = start = -(-at // 4) * 4
            seconds, nanosec, size = stamp(raw, at)
            at += 12
            parent = _name(raw, at, size)
            at = -(-(at + size) // 4) * 4
            (size,) = length(raw, at)
            at += 4
            child = _name(raw, at, size)
            # Doubles are aligned from where the fields start.
            at = -(-(at + size - _START) // 8) * 8 + _START
            if at + _POSE > len(raw):
                raise ValueError("it ends in a pose")
            found.append((start, parent, child, seconds * SECOND + nanosec, at))
            at += _POSE
    except (struct.error, ValueError) as error:
        text = f"{len(raw)} bytes are no {TF_MESSAGE}: {type(error).__name__}: {error}"
        raise Rejection(Fault.FORMAT, text) from None
    return found


def _name(raw: bytes, at: int, size: int) -> str:
    if not 0 < size <= LONGEST_WORD + 1 or at + size > len(raw):
        raise ValueError(f"a name of {size} bytes, expected 1 to {LONGEST_WORD + 1} that are there")
    return strip(raw[at : at + size - 1].decode())


def _bounded(count: int) -> None:
    if count > MOST_TRANSFORMS:
        text = f"message has {count} transforms, limit {MOST_TRANSFORMS}"
        raise Rejection(Fault.FORMAT, text)
