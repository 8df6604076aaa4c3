"""libcaer: an event in two 32-bit words, as iniVation's library keeps it (DAVIS, DVXplorer).

The first word is the event: bit 0 whether it counts, bit 1 the polarity, 16 to 2 the row, 31 to 17
the column; the second is its time, microseconds since the message's `time_base` (nanoseconds), and
never negative (libcaer, "polarity.h"; ros-event-camera/event_camera_codecs). Each packet stands on
its own.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustseg_core.codecs.events._base import (
    OTHER,
    OUTSIDE,
    UNKNOWN,
    LoneDecoder,
    LoneEncoder,
    checked_columns,
)
from robustseg_core.codecs.fields import Brief, as_bytes

_HALF = 1 << 30
"""Microseconds by which a time must fall for the clock's 31 bits to have wrapped."""


class LibcaerDecoder(LoneDecoder):
    """Words in, events out; any packet, in any order."""

    max_side: ClassVar = 1 << 15
    word: ClassVar = 8

    def _room(self, data: NDArray[np.uint8]) -> int:
        return data.size // 8

    def _read(
        self,
        data: NDArray[np.uint8],
        tally: NDArray[np.int64],
        x: NDArray[np.uint16],
        y: NDArray[np.uint16],
        p: NDArray[np.bool_],
        t: NDArray[np.int64],
    ) -> int:
        base_us = self.time_base // 1000
        return _decode(data, base_us, tally, self.width, self.height, x, y, p, t)


class LibcaerEncoder(LoneEncoder):
    """Writes libcaer, counted from the message's `time_base`: 17.9 minutes at most."""

    decoder: ClassVar = LibcaerDecoder

    def encode(self, x: ArrayLike, y: ArrayLike, p: ArrayLike, t_us: ArrayLike) -> bytes:
        """Two words for each event, all valid."""
        side = LibcaerDecoder.max_side
        columns, rows, signs, t = checked_columns("libcaer", side, x, y, p, t_us)
        after_us = np.clip(t - self.time_base // 1000, 0, _HALF)
        events = columns << 17 | rows << 2 | (signs != 0).astype(np.int64) << 1 | 1
        return np.stack([events, after_us], axis=1).astype("<u4").tobytes()

    @staticmethod
    def swapped_polarity(payload: Any) -> bytes:
        """Bit 1 of each event."""
        data = as_bytes(payload)
        words = np.frombuffer(data[: data.size // 8 * 8].tobytes(), "<u4").copy()
        words[::2] ^= 2
        return words.tobytes()


@Brief
def _decode(
    data: NDArray[np.uint8],
    base_us: int,
    tally: NDArray[np.int64],
    width: int,
    height: int,
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    p: NDArray[np.bool_],
    t: NDArray[np.int64],
) -> int:
    """Fill x, y, p, t; return how many events; count oddities in `tally`."""
    n = 0
    last = np.int64(0)
    for i in range(0, data.size - 7, 8):
        word = (
            np.int64(data[i])
            | (np.int64(data[i + 1]) << 8)
            | (np.int64(data[i + 2]) << 16)
            | (np.int64(data[i + 3]) << 24)
        )
        now = (
            np.int64(data[i + 4])
            | (np.int64(data[i + 5]) << 8)
            | (np.int64(data[i + 6]) << 16)
            | (np.int64(data[i + 7]) << 24)
        )
        if now >> 31:
            tally[UNKNOWN] += 1
            continue
        if now < last - _HALF:
            base_us += 1 << 31
        elif now > last + _HALF and last > 0:
            base_us -= 1 << 31  # late from before the wrap
        last = now
        column, row = word >> 17, (word >> 2) & 0x7FFF
        if not word & 1:
            tally[OTHER] += 1
        elif column < width and row < height:
            x[n], y[n], p[n], t[n] = column, row, (word >> 1) & 1, base_us + now
            n += 1
        else:
            tally[OUTSIDE] += 1
    return n
