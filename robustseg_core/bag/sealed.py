"""A serialized message that is opened when somebody looks into it, and whose stamp is known before.

Most of what a busy computer receives is never looked at: a newer message has come meanwhile.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

from robustseg_core.bag.event_array import deserialize
from robustseg_core.types import Fault, Rejection

_AT = 4
"""Bytes of encapsulation before the first field (DDS-RTPS 10.5); the second says the byte order."""
_HEADER = struct.Struct("<iII"), struct.Struct(">iII")


class _Stamp(NamedTuple):
    sec: int
    nanosec: int


class _Header(NamedTuple):
    stamp: _Stamp
    frame_id: str


class Sealed:
    """Has the fields of the message that the bytes hold.

    Args:
        raw: CDR bytes of a message that begins with a std_msgs/Header.
        msgtype: its type, one of the type store's.

    Any field but `header` raises a FORMAT `Rejection` where the bytes are no such message.
    """

    def __init__(self, raw: bytes, msgtype: str) -> None:
        self.raw, self.msgtype = raw, msgtype
        self.opened = False
        """Whether somebody has looked into it."""

    @property
    def header(self) -> _Header:
        """Read off the first bytes, whatever follows them.

        Raises:
            Rejection: they are too few, or hold no text.
        """
        raw = self.raw
        try:
            sec, nanosec, length = _HEADER[not raw[1] & 1].unpack_from(raw, _AT)
            start = _AT + _HEADER[0].size
            text = raw[start : start + length]
            if len(text) < max(length, 1):
                raise ValueError("too short")
            return _Header(_Stamp(sec, nanosec), text[:-1].decode())
        except (IndexError, ValueError, struct.error) as error:
            raise self._refusal(error) from None

    def __getattr__(self, name: str) -> Any:
        if self.opened or name.startswith("__"):
            raise AttributeError(name)
        try:
            fields = vars(deserialize(self.raw, self.msgtype))
        except Exception as error:  # damaged bytes meet generated code: anything can come out
            raise self._refusal(error) from None
        self.__dict__.update(fields)
        self.opened = True
        return getattr(self, name)

    def _refusal(self, error: Exception) -> Rejection:
        text = f"{len(self.raw)} bytes are no {self.msgtype}: {type(error).__name__}: {error}"
        return Rejection(Fault.FORMAT, text)
