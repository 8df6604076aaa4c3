"""libcaer_cmp: what libcaer_driver packs events into by default, 16-bit words of seven kinds.

Top four bits say what a word is; they are others than EVT3's: 0 and 1 time, 2 column, 3 row and
polarity of one event, 4 row and polarity at which vectors begin, 5 and 6 the next 8 and 12 rows of
a column (ros-event-camera/event_camera_codecs). Each packet stands on its own: its times count from
the message's `time_base`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from robustseg_core.codecs.events._base import EARLY, OUTSIDE, UNKNOWN, LoneDecoder
from robustseg_core.codecs.fields import Brief

_NANOSECONDS = 10**17
"""From here on `time_base` is nanoseconds since 1970: 1973, or the year 5138 in the microseconds
that it was counted in before libcaer_driver of December 2023."""


class LibcaerCmpDecoder(LoneDecoder):
    """Words in, events out; any packet, in any order."""

    max_side: ClassVar = 2048
    word: ClassVar = 2

    def _room(self, data: NDArray[np.uint8]) -> int:
        return _count(data)

    def _read(
        self,
        data: NDArray[np.uint8],
        tally: NDArray[np.int64],
        x: NDArray[np.uint16],
        y: NDArray[np.uint16],
        p: NDArray[np.bool_],
        t: NDArray[np.int64],
    ) -> int:
        base = self.time_base
        base_us = base // 1000 if base >= _NANOSECONDS else base
        return _decode(data, base_us, tally, self.width, self.height, x, y, p, t)


@Brief
def _count(data: NDArray[np.uint8]) -> int:
    """How many events the words can make at most."""
    n = 0
    for i in range(1, data.size, 2):
        kind = data[i] >> 4
        if kind == 3:
            n += 1
        elif kind == 5 or kind == 6:
            mask = np.int64(data[i - 1])
            if kind == 6:
                mask |= (np.int64(data[i]) & 15) << 8
            while mask:
                mask &= mask - 1
                n += 1
    return n


@Brief
def _decode(  # noqa: C901  # a branch for each kind of word, as in the format's table
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
    n, high, low, column, base, polarity = 0, 0, 0, -1, -1, 0
    for i in range(0, data.size - 1, 2):
        word: Any = np.int64(data[i]) | (np.int64(data[i + 1]) << 8)
        kind = word >> 12
        if kind == 0:  # time high
            high = (word & 0xFFF) << 12
        elif kind == 1:  # time low
            low = word & 0xFFF
        elif kind == 2:
            column = word & 0x7FF
        elif kind == 3:  # row: an event
            row = word & 0x7FF
            if column < 0:
                tally[EARLY] += 1
            elif column < width and row < height:
                x[n], y[n], p[n], t[n] = column, row, (word >> 11) & 1, base_us + high + low
                n += 1
            else:
                tally[OUTSIDE] += 1
        elif kind == 4:  # base of the vectors that follow
            base, polarity = word & 0x7FF, (word >> 11) & 1
        elif kind <= 6:  # 8 or 12 rows at once
            size = 8 if kind == 5 else 12
            if column < 0 or base < 0:
                tally[EARLY] += 1
                continue
            for k in range(size):
                if (word >> k) & 1:
                    if column < width and base + k < height:
                        x[n], y[n], p[n], t[n] = column, base + k, polarity, base_us + high + low
                        n += 1
                    else:
                        tally[OUTSIDE] += 1
            base += size
        else:
            tally[UNKNOWN] += 1
    return n
