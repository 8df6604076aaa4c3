"""The contract of an event format: packets in, events out; and back, where it can be written."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustseg_core.codecs.fields import as_bytes
from robustseg_core.errors import RobustsegError
from robustseg_core.storage.budget import budget
from robustseg_core.storage.limits import LIMIT
from robustseg_core.types import Fault, Rejection

_EVENT = 13
"""Bytes of an event: x, y, p, t. A vector of 12 has two bytes in EVT3."""

UNKNOWN, OTHER, TRIGGERS, OUTSIDE, EARLY = range(5)
"""Places in the tally of one packet; what they count says `Events`."""


@dataclass(frozen=True, slots=True)
class Events:
    """Brightness changes of one packet as arrays of length N, and what else was in it."""

    x: NDArray[np.uint16]
    y: NDArray[np.uint16]
    p: NDArray[np.bool_]
    """True: brighter (ON)."""
    t: NDArray[np.int64]
    """Sensor clock in microseconds, unwrapped since the last `reset`."""
    words: int = 0
    """Units of the format that were read, of which `unknown` is a share."""
    unknown: int = 0
    """Words whose type means nothing: a damaged payload, or another encoding."""
    other: int = 0
    """Words about the sensor itself (drop markers, end of frame)."""
    triggers: int = 0
    outside: int = 0
    """Events dropped because their pixel is not on the sensor."""
    early: int = 0
    """Event words ignored because clock or row were not known yet (after start or loss)."""
    odd_bytes: int = 0
    """1 if a part of a word trailed; it was dropped."""

    def thinned(self, stride: int) -> Events:
        """Every `stride`-th event, copied, so that the rest is freed; the counts stay."""
        return Events(
            self.x[::stride].copy(),
            self.y[::stride].copy(),
            self.p[::stride].copy(),
            self.t[::stride].copy(),
            self.words,
            self.unknown,
            self.other,
            self.triggers,
            self.outside,
            self.early,
            self.odd_bytes,
        )


@dataclass(frozen=True, slots=True)
class Packet:
    """Events of one message, on the clock of the header stamps."""

    height: int
    width: int
    events: Events
    """Every `stride`-th event of the packet."""
    zero_ns: int
    """The header time at which the sensor's clock showed 0."""
    rate: float
    """Events per second, before sub-sampling."""
    stride: int = 1
    lost: bool = False
    """Messages before this one are missing; its first events may have been unreadable."""
    missing: int = 0
    """How many, by their numbers; -1 for a late one, 0 where the numbers started anew."""
    repeated: bool = False
    """The same events, at the same times on the sensor's clock, as in the packet before."""
    span_us: tuple[int, int] | None = None
    """Earliest and latest time of its events on the sensor's clock; None: nobody looked."""

    def touches(self, since_ns: int, until_ns: int) -> bool:
        """Whether an event may have happened in (since, until]."""
        if self.span_us is None:
            return True
        since_us, until_us = ((ns - self.zero_ns) // 1000 for ns in (since_ns, until_ns))
        return self.span_us[1] > since_us and self.span_us[0] <= until_us

    def within(self, since_ns: int, until_ns: int) -> NDArray[np.intp]:
        """Which events happened in (since, until]; times are nanoseconds of header time."""
        t = self.events.t
        since_us, until_us = ((ns - self.zero_ns) // 1000 for ns in (since_ns, until_ns))
        return np.flatnonzero((t > since_us) & (t <= until_us))


class EventEncoder(ABC):
    """Writes one format. An instance reads one stream along, so that packets can be replaced."""

    time_base: int = 0
    """The field of that name of the message that is read and written next, as of the decoder."""

    @abstractmethod
    def __init__(self, width: int, height: int) -> None:
        """For a sensor of this size."""

    @abstractmethod
    def encode(self, x: ArrayLike, y: ArrayLike, p: ArrayLike, t_us: ArrayLike) -> bytes:
        """A payload that stands on its own and decodes to exactly these events, in order.

        Times that a format cannot count from `time_base` become the nearest that it can.

        Args:
            x: (N,) columns.
            y: (N,) rows.
            p: (N,) polarity, True for brighter.
            t_us: (N,) sensor clock in microseconds, never decreasing.

        Raises:
            RobustsegError: lengths differ, pixels that cannot be addressed, or times that go back.
        """

    @staticmethod
    @abstractmethod
    def swapped_polarity(payload: Any) -> bytes:
        """The payload with ON and OFF exchanged."""

    @abstractmethod
    def read(self, payload: Any) -> Events:
        """The events of the next packet."""

    @abstractmethod
    def tail(self) -> bytes:
        """What `encode`'s payload needs at its end, to leave a reader where the last packet read
        left him: the next one is then understood as before."""

    @abstractmethod
    def resync(self) -> None:
        """Packets were lost."""


def checked_columns(
    form: str, max_side: int, x: ArrayLike, y: ArrayLike, p: ArrayLike, t_us: ArrayLike
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """x, y, p and t of events that are to be written, (N,) each.

    Args:
        form: the format's name.
        max_side: rows and columns that it can address.
        x: columns.
        y: rows.
        p: polarity.
        t_us: microseconds.

    Raises:
        RobustsegError: lengths differ, pixels that cannot be addressed, or a time that is negative
            or goes back.
    """
    columns, rows, signs, t = (
        np.atleast_1d(np.asarray(a)).astype(np.int64) for a in (x, y, p, t_us)
    )
    if len({a.shape for a in (columns, rows, signs, t)}) > 1 or columns.ndim != 1:
        raise RobustsegError(
            f"x, y, p and t_us have shapes {columns.shape}, {rows.shape}, {signs.shape} and "
            f"{t.shape}; give four vectors of one length"
        )
    for name, side in (("x", columns), ("y", rows)):
        if side.size and (side.min() < 0 or side.max() >= max_side):
            raise RobustsegError(
                f"{name} goes from {side.min()} to {side.max()}; {form} addresses 0 to "
                f"{max_side - 1}"
            )
    if t.size and (t[0] < 0 or (np.diff(t) < 0).any()):
        raise RobustsegError(
            "t_us is negative or goes back; sort the events by time, and count from the start"
        )
    return columns, rows, signs, t


class EventDecoder(ABC):
    """Payloads in, events out; feed it every packet of one stream in order.

    Args:
        width: of the sensor, in pixels.
        height: of the sensor.

    Raises:
        RobustsegError: a sensor that the format cannot address.
    """

    max_side: ClassVar[int]
    """Rows and columns that the format can address."""
    time_base: int = 0
    """The field of that name of the message that is decoded next: what its times are counted from,
    in nanoseconds as a rule. Formats with a clock of their own (EVT) do not look at it."""

    def __init__(self, width: int, height: int) -> None:
        if text := self.impossible(width, height):
            raise RobustsegError(text)
        self.width, self.height = width, height

    @classmethod
    def impossible(cls, width: int, height: int) -> str:
        """Why the format has no sensor of this size; empty: it has."""
        if 0 < width <= cls.max_side and 0 < height <= cls.max_side:
            return ""
        name = cls.__module__.rpartition(".")[2].upper()
        return f"event sensor is {height}x{width}; {name} addresses 1 to {cls.max_side} each"

    @abstractmethod
    def reset(self) -> None:
        """Start over: the clock's epoch included."""

    @abstractmethod
    def resync(self) -> None:
        """Packets were lost: ignore events until all that they depend on was said again."""

    @abstractmethod
    def decode(self, payload: Any) -> Events:
        """The events of the next packet: any bytes are safe, and no pixel is ever off the sensor.

        A packet that is refused counts as lost: see `resync`.

        Raises:
            Rejection: `payload` is not a buffer of bytes, or holds more events than the budget has
                room for.
        """

    def expect_room(self, events: int, payload: int) -> None:
        """Nothing, where the budget has room for so many events of a payload of so many bytes.

        Raises:
            Rejection: FORMAT; it has not, and the packet counts as lost.
        """
        most = budget().small // _EVENT
        if events > most:
            self.resync()
            raise Rejection(
                Fault.FORMAT,
                f"packet of {payload} bytes holds {events} events; expected at most {most}, which "
                f"fill {budget().small} bytes; if you trust it, raise {LIMIT}",
            )


class WordDecoder(EventDecoder):
    """A format of words of one size, read by a compiled loop."""

    word: ClassVar[int]
    """Bytes of a word."""

    @abstractmethod
    def _room(self, data: NDArray[np.uint8]) -> int:
        """How many events the payload can hold at most."""

    @abstractmethod
    def _read(
        self,
        data: NDArray[np.uint8],
        tally: NDArray[np.int64],
        x: NDArray[np.uint16],
        y: NDArray[np.uint16],
        p: NDArray[np.bool_],
        t: NDArray[np.int64],
    ) -> int:
        """Fill x, y, p, t; return how many events; count oddities in `tally`."""

    def decode(self, payload: Any) -> Events:
        """As of `EventDecoder`; a part of a word at the end is dropped."""
        data = as_bytes(payload)
        data.flags.writeable = False  # one signature, so one compilation
        room = self._room(data)
        self.expect_room(room, data.size)
        x, y = np.empty(room, np.uint16), np.empty(room, np.uint16)
        p, t = np.empty(room, np.bool_), np.empty(room, np.int64)
        tally = np.zeros(5, np.int64)
        n = self._read(data, tally, x, y, p, t)
        unknown, other, triggers, outside, early = tally.tolist()
        return Events(
            x[:n],
            y[:n],
            p[:n],
            t[:n],
            words=data.size // self.word,
            unknown=unknown,
            other=other,
            triggers=triggers,
            outside=outside,
            early=early,
            odd_bytes=int(data.size % self.word > 0),
        )


class LoneEncoder(EventEncoder):
    """A format whose packets do not depend on each other, read by its decoder.

    Args:
        width: of the sensor, in pixels.
        height: of the sensor.
    """

    decoder: ClassVar[type[EventDecoder]]

    def __init__(self, width: int, height: int) -> None:
        self._decoder = self.decoder(width, height)

    def read(self, payload: Any) -> Events:
        """The events of the next packet."""
        self._decoder.time_base = self.time_base
        return self._decoder.decode(payload)

    def tail(self) -> bytes:
        """Nothing: packets do not depend on each other."""
        return b""

    def resync(self) -> None:
        """Nothing: packets do not depend on each other."""


class LoneDecoder(WordDecoder):
    """A format whose packets do not depend on each other."""

    def reset(self) -> None:
        """Nothing: packets do not depend on each other."""

    def resync(self) -> None:
        """Nothing: packets do not depend on each other."""
