"""Stamps of serialized messages, moved in place: of the header, and of each transform.

A header comes first where a type has one, so its stamp is at a fixed place: four bytes of
encapsulation (DDS-RTPS 10.5; the second says the byte order), then seconds and nanoseconds.
"""

from __future__ import annotations

import struct
from contextlib import suppress
from functools import cache

from rosbags.interfaces import Nodetype

from robustseg_core.bag.typestore import typestore
from robustseg_core.codecs.tf_message import TF_MESSAGE, shifted
from robustseg_core.types import SECOND, Rejection

_AT = 4
_HEADER = (Nodetype.NAME, "std_msgs/msg/Header")


@cache
def has_header(msgtype: str) -> bool:
    """Whether messages of this type begin with a std_msgs/Header."""
    if msgtype not in typestore().fielddefs:
        return False
    fields = typestore().fielddefs[msgtype][1]
    return bool(fields) and fields[0][1] == _HEADER


def restamp(raw: bytes, msgtype: str, shift_ns: int) -> bytes:
    """`raw` with its stamps moved by `shift_ns`; unchanged where the type has none, or it is torn.

    A zero stamp stays zero: it means "never set", and that is a fault worth keeping.
    """
    if msgtype == TF_MESSAGE:
        with suppress(Rejection):
            return shifted(raw, shift_ns)
    if not has_header(msgtype) or len(raw) < _AT + 8:
        return raw
    form = "<iI" if raw[1] & 1 else ">iI"
    sec, nanosec = struct.unpack_from(form, raw, _AT)
    if sec == 0 and nanosec == 0:
        return raw
    sec, nanosec = divmod(sec * SECOND + nanosec + shift_ns, SECOND)
    return raw[:_AT] + struct.pack(form, sec, nanosec) + raw[_AT + 8 :]
