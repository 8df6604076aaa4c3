"""dvs_msgs/EventArray and its twin of Prophesee, off the wire: no object per event.

What deserializers make of such a message is a list of objects, a million a second. Here its events
stay bytes, for `codecs/events/event_array.py` to read in one look.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustseg_core.bag.typestore import EVENT_ARRAYS, typestore
from robustseg_core.codecs.events.event_array import COUNT, FIRST, ROWS, STRIDE
from robustseg_core.codecs.fields import LONGEST_WORD

_ROS1 = np.dtype(
    {
        "names": ["x", "y", "sec", "nsec", "p"],
        "formats": ["<u2", "<u2", "<u4", "<u4", "u1"],
        "offsets": [0, 2, 4, 8, 12],
        "itemsize": 13,
    }
)
"""An event of ROS 1, whose serialization pads nothing."""


@dataclass
class EventArray:
    """An EventArray with the fields of an EventPacket that it has."""

    header: Any
    height: int
    width: int
    events: NDArray[np.uint8]
    """CDR: the number of events, and they; nothing where there is none."""
    encoding: str = "event_array"
    __msgtype__: str = EVENT_ARRAYS[0]


def deserialize(raw: bytes, msgtype: str) -> Any:
    """The message of CDR bytes; an `EventArray` of either kind is one of these.

    Raises:
        Exception: of any kind; the bytes are no such message.
    """
    if msgtype not in EVENT_ARRAYS:
        return typestore().deserialize_cdr(raw, msgtype)
    if raw[1] != 1:
        raise ValueError("expected little-endian CDR")
    stamp, frame_id, at = _header(raw, 4)
    at += -at % 4
    return _array(stamp, frame_id, raw, at, msgtype)


def from_ros1(raw: bytes, msgtype: str) -> EventArray:
    """The same of ROS 1's bytes.

    Raises:
        Exception: of any kind; the bytes are no such message.
    """
    stamp, frame_id, at = _header(raw, 4)  # after Header.seq
    made = _array(stamp, frame_id, raw, at, msgtype)
    if made.events.size:
        (count,) = struct.unpack_from("<I", raw, at + 8)
        made.events = _to_cdr(np.frombuffer(raw, _ROS1, count, at + 12))
    return made


def serialize(message: Any, msgtype: str) -> bytes:
    """The CDR bytes of a message of the type store, or of an `EventArray`.

    Raises:
        Exception: of any kind; it is no such message.
    """
    if not isinstance(message, EventArray):
        return bytes(typestore().serialize_cdr(message, msgtype))
    stamp, name = message.header.stamp, message.header.frame_id.encode() + b"\0"
    head = struct.pack("<iII", stamp.sec, stamp.nanosec, len(name)) + name
    head += bytes(-len(head) % 4) + struct.pack("<II", message.height, message.width)
    written: bytes = b"\0\1\0\0" + head + (bytes(message.events) or bytes(COUNT))
    return written


def _header(raw: bytes, at: int) -> tuple[tuple[int, int], str, int]:
    """(stamp, frame_id, where the next field begins, padding aside)."""
    sec, nanosec, length = struct.unpack_from("<iII", raw, at)
    name = raw[at + 12 : at + 12 + length]
    if len(name) < length or length > LONGEST_WORD:
        raise ValueError(f"frame_id of {length} bytes")
    return (sec, nanosec), bytes(name).rstrip(b"\0").decode(), at + 12 + length


def _array(stamp: tuple[int, int], frame_id: str, raw: bytes, at: int, msgtype: str) -> EventArray:
    height, width, count = struct.unpack_from("<III", raw, at)
    header = SimpleNamespace(
        stamp=SimpleNamespace(sec=stamp[0], nanosec=stamp[1]), frame_id=frame_id
    )
    events = np.frombuffer(raw, np.uint8, offset=at + 8) if count else np.empty(0, np.uint8)
    return EventArray(header, height, width, events, __msgtype__=msgtype)


def _to_cdr(events: NDArray[Any]) -> NDArray[np.uint8]:
    """What CDR makes of a sequence of events: `codecs/events/event_array.py` says how it lies."""
    data = np.zeros(COUNT + STRIDE * len(events) - 3, np.uint8)
    rows = np.ndarray(len(events), ROWS, data.data, FIRST, (STRIDE,))
    for name in ROWS.names or ():
        rows[name] = events[name]
    data[:8] = np.frombuffer(
        struct.pack("<IHH", len(events), int(events["x"][0]), int(events["y"][0])), np.uint8
    )
    return data
