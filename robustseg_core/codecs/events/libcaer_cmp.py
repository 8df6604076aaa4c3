"""libcaer_cmp: what libcaer_driver packs events into by default, 16-bit words of seven kinds.

Top four bits say what a word is; they are others than EVT3's: 0 and 1 time, 2 column, 3 row and
polarity of one event, 4 row and polarity at which vectors begin, 5 and 6 the next 8 and 12 rows of
a column (ros-event-camera/event_camera_codecs). Each packet stands on its own: its times count from
the message's `time_base`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustseg_core.codecs.events._base import (
    EARLY,
    OUTSIDE,
    UNKNOWN,
    LoneDecoder,
    LoneEncoder,
    checked_columns,
)
from robustseg_core.codecs.fields import Brief, as_bytes

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
        base_us = _base_us(self.time_base)
        return _decode(data, base_us, tally, self.width, self.height, x, y, p, t)


class LibcaerCmpEncoder(LoneEncoder):
    """Writes libcaer_cmp without vectors, counted from the message's `time_base`: 16.8 s."""

    decoder: ClassVar = LibcaerCmpDecoder

    def encode(self, x: ArrayLike, y: ArrayLike, p: ArrayLike, t_us: ArrayLike) -> bytes:
        """A word for each event, and for what has changed before it: time, column."""
        side = LibcaerCmpDecoder.max_side
        columns, rows, signs, t = checked_columns("libcaer_cmp", side, x, y, p, t_us)
        after_us = np.clip(t - _base_us(self.time_base), 0, (1 << 24) - 1)
        high, low = after_us >> 12, after_us & 0xFFF
        words = np.stack(
            [high, 0x1000 | low, 0x2000 | columns, 0x3000 | (signs != 0) << 11 | rows], axis=1
        )
        said = np.ones(words.shape, bool)  # at the start time is zero, and no column is known
        said[:, 0] = np.diff(high, prepend=0) != 0
        said[:, 1] = np.diff(low, prepend=0) != 0
        said[:, 2] = np.diff(columns, prepend=-1) != 0
        return words[said].astype("<u2").tobytes()

    @staticmethod
    def swapped_polarity(payload: Any) -> bytes:
        """One bit of each event, and of each beginning of vectors."""
        data = as_bytes(payload)
        words = np.frombuffer(data[: data.size // 2 * 2].tobytes(), "<u2").copy()
        kind = words >> 12
        words[(kind == 3) | (kind == 4)] ^= 0x800
        return words.tobytes()


def _base_us(time_base: int) -> int:
    """What times are counted from, in microseconds."""
    return time_base // 1000 if time_base >= _NANOSECONDS else time_base


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
