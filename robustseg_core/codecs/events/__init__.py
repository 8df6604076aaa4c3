"""Formats of event payloads: one file, one format; the file's name is the message's `encoding`,
without dots (`evt2.1` is `evt21`).

A file holds one public `EventDecoder`. That is enough to read the format. With an `EventEncoder`
beside it, faults and the simulator can make such packets, too.
"""

from __future__ import annotations

from robustseg_core import plugins
from robustseg_core.codecs.events._base import EventDecoder, EventEncoder, Events, Packet
from robustseg_core.types import Fault, Rejection

__all__ = [
    "EventDecoder",
    "EventEncoder",
    "Events",
    "Packet",
    "available",
    "encoder_of",
    "load",
]


def available() -> list[str]:
    """Names of all formats that there are."""
    return plugins.available(__name__)


def load(encoding: str) -> type[EventDecoder]:
    """The decoder of the format that a message calls `encoding`.

    Raises:
        Rejection: UNDECODABLE; no such format, and the next message will be no better.
    """
    known = available()
    if _file_of(encoding) not in known:
        text = f"unsupported event encoding {encoding!r}; supported: {', '.join(known)}"
        raise Rejection(Fault.UNDECODABLE, text, final=True)
    return plugins.load(__name__, _file_of(encoding), EventDecoder)


def encoder_of(encoding: str) -> type[EventEncoder]:
    """What writes the format that a message calls `encoding`.

    Raises:
        Rejection: UNDECODABLE; no such format, or one that can only be read.
    """
    load(encoding)
    found = _encoders(encoding)
    if not found:
        written = [name for name in available() if _encoders(name)]
        text = f"event encoding {encoding!r} is not changed, only {', '.join(written)}"
        raise Rejection(Fault.UNDECODABLE, text)
    return found[0]


def _encoders(encoding: str) -> list[type[EventEncoder]]:
    return plugins.subclasses(__name__, _file_of(encoding), EventEncoder)


def _file_of(encoding: str) -> str:
    return encoding.replace(".", "")
