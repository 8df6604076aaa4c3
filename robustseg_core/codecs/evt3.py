"""EVT3, the event camera's own tongue: 16-bit words whose meaning depends on those before them.

Top four bits say what a word is (Prophesee, "EVT 3.0 format"). Rows, vector bases and the clock
carry over from packet to packet, so a decoder belongs to one stream.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustseg_core.codecs.fields import Compiled, as_bytes
from robustseg_core.errors import RobustsegError
from robustseg_core.storage.budget import LIMIT, budget
from robustseg_core.types import Fault, Rejection

MAX_SIDE = 2048
"""Rows and columns that 11 bits can name."""
_EVENT = 13
"""Bytes of an event: x, y, p, t. A vector of 12 has two bytes in the payload."""

# Places in the state that is carried over; -1: not seen since the last resync.
_HIGH, _LOW, _ROW, _BASE, _POLARITY, _EPOCH = range(6)
# Places in the tally of one packet.
_UNKNOWN, _OTHER, _TRIGGERS, _OUTSIDE, _EARLY = range(5)


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
    unknown: int = 0
    """Words whose type means nothing: a damaged payload, or another encoding."""
    other: int = 0
    """Words about the sensor itself (type 0xE: drop markers, end of frame)."""
    triggers: int = 0
    outside: int = 0
    """Events dropped because their pixel is not on the sensor."""
    early: int = 0
    """Event words ignored because clock or row were not known yet (after start or loss)."""
    odd_bytes: int = 0
    """1 if half a word trailed; it was dropped."""


class Evt3Decoder:
    """Words in, events out; feed it every packet of one stream in order."""

    def __init__(self, width: int, height: int) -> None:
        if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
            raise RobustsegError(
                f"event sensor is {height}x{width}; EVT3 addresses 1 to {MAX_SIDE} each"
            )
        self.width, self.height = width, height
        self._state = np.empty(6, np.int64)
        self.reset()

    def reset(self) -> None:
        """Start over: the clock's epoch included."""
        self._state[:] = -1
        self._state[_EPOCH] = 0

    def resync(self) -> None:
        """Packets were lost: ignore events until time-high, time-low and a row came again."""
        epoch = self._state[_EPOCH]
        self._state[:] = -1
        self._state[_EPOCH] = epoch

    def decode(self, payload: Any) -> Events:
        """The events of the next packet: any bytes are safe, and no pixel is ever off the sensor.

        A packet that is refused counts as lost: see `resync`.

        Raises:
            Rejection: `payload` is not a buffer of bytes, or its vectors hold more events than the
                budget has room for.
        """
        data = as_bytes(payload)
        data.flags.writeable = False  # one signature, so one compilation
        room, most = _count(data), budget().small // _EVENT
        if room > most:
            self.resync()
            raise Rejection(
                Fault.FORMAT,
                f"packet of {len(data)} bytes holds {room} events; expected at most {most}, which "
                f"fill {budget().small} bytes; if you trust it, raise {LIMIT}",
            )
        x, y = np.empty(room, np.uint16), np.empty(room, np.uint16)
        p, t = np.empty(room, np.bool_), np.empty(room, np.int64)
        tally = np.zeros(5, np.int64)
        n = _decode(data, self._state, tally, self.width, self.height, x, y, p, t)
        unknown, other, triggers, outside, early = tally.tolist()
        return Events(
            x[:n], y[:n], p[:n], t[:n], data.size // 2,
            unknown, other, triggers, outside, early, data.size % 2,
        )  # fmt: skip


@Compiled
def _count(data: NDArray[np.uint8]) -> int:
    """How many events the words can make at most."""
    n = 0
    for i in range(1, data.size, 2):
        kind = data[i] >> 4
        if kind == 0x2:
            n += 1
        elif kind == 0x4 or kind == 0x5:
            mask = np.int64(data[i - 1])
            if kind == 0x4:
                mask |= (np.int64(data[i]) & 15) << 8
            while mask:
                mask &= mask - 1
                n += 1
    return n


@Compiled
def _decode(
    data: NDArray[np.uint8],
    state: NDArray[np.int64],
    tally: NDArray[np.int64],
    width: int,
    height: int,
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    p: NDArray[np.bool_],
    t: NDArray[np.int64],
) -> int:
    """Fill x, y, p, t; return how many events; carry `state` over; count oddities in `tally`."""
    high, low, row, base, polarity, epoch = state
    n = 0
    for i in range(0, data.size - 1, 2):
        word = np.int64(data[i]) | (np.int64(data[i + 1]) << 8)
        kind = word >> 12
        now = epoch + high * 4096 + low
        if kind == 0x2:  # single event
            column = word & 0x7FF
            if row < 0:
                tally[_EARLY] += 1
            elif column < width and row < height:
                x[n], y[n], p[n], t[n] = column, row, (word >> 11) & 1, now
                n += 1
            else:
                tally[_OUTSIDE] += 1
        elif kind == 0x0:  # row; bit 11 names the camera of a pair
            if low >= 0:
                row = word & 0x7FF
        elif kind == 0x6:  # time low
            if high >= 0:
                low = word & 0xFFF
        elif kind == 0x8:  # time high: repeated often, and late by a few steps at times
            new = word & 0xFFF
            if high >= 0:
                if new - high < -10:
                    epoch += 1 << 24
                elif new - high > 4095 - 10:
                    epoch -= 1 << 24  # late from before the wrap
                if new != high and low >= 0:
                    low = 0  # its own time low follows; the old one would jump ahead
            high = new
        elif kind == 0x3:  # base of the vectors that follow
            base, polarity = word & 0x7FF, (word >> 11) & 1
        elif kind == 0x4 or kind == 0x5:  # 12 or 8 neighbours at once
            size = 12 if kind == 0x4 else 8
            if row < 0 or base < 0:
                tally[_EARLY] += 1
            else:
                for k in range(size):
                    if (word >> k) & 1:
                        if base + k < width and row < height:
                            x[n], y[n], p[n], t[n] = base + k, row, polarity, now
                            n += 1
                        else:
                            tally[_OUTSIDE] += 1
                base += size
        elif kind == 0xA:
            tally[_TRIGGERS] += 1
        elif kind == 0xE:
            tally[_OTHER] += 1
        elif not (kind == 0x7 or kind == 0xF or word == 0x9999):  # continuation, padding
            tally[_UNKNOWN] += 1
    state[:] = high, low, row, base, polarity, epoch
    return n
