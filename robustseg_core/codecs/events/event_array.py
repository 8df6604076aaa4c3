"""event_array: events one after the other as CDR structures, as in dvs_msgs/EventArray.

An event is x, y (uint16), sec (int32), nanosec (uint32) and polarity (a byte); CDR aligns each to
its own size (OMG DDS-XTypes 7.4). The payload is the number of events (uint32) and they. These lie
16 bytes apart, but for x and y of the first one, which stand two bytes later than the others':

    byte   0      4   6   8     12     16      18  20      24    28     32      34 ...
           count  x0  y0  sec0  nsec0  p0      x1  y1      sec1  nsec1  p1      x2

`bag/event_array.py` cuts this out of messages.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from robustseg_core.codecs.events._base import OUTSIDE, UNKNOWN, Events, LoneDecoder
from robustseg_core.codecs.fields import Brief, as_bytes

COUNT, FIRST, STRIDE = 4, 2, 16
"""Bytes of the count; where the row of the first event begins; from one row to the next."""
ROWS: np.dtype[Any] = np.dtype(
    {
        "names": ["x", "y", "sec", "nsec", "p"],
        "formats": ["<u2", "<u2", "<i4", "<u4", "u1"],
        "offsets": [0, 2, 6, 10, 14],
        "itemsize": 15,
    }
)
"""An event as all but the first one lie."""


class EventArrayDecoder(LoneDecoder):
    """Structures in, events out; any message, in any order.

    Seconds, nanoseconds and polarities that cannot be make an unknown word; a payload of another
    length than its count says has odd bytes.
    """

    max_side: ClassVar = 1 << 16
    word: ClassVar = STRIDE

    def decode(self, payload: Any) -> Events:
        """As of `EventDecoder`."""
        data = as_bytes(payload)
        said, there = _count(data), self._room(data)
        length = COUNT + STRIDE * said - 3 if said else data.size
        return replace(super().decode(data), words=there, odd_bytes=int(data.size != length))

    def _room(self, data: NDArray[np.uint8]) -> int:
        return min(_count(data), max(0, data.size - 1) // STRIDE)

    def _read(
        self,
        data: NDArray[np.uint8],
        tally: NDArray[np.int64],
        x: NDArray[np.uint16],
        y: NDArray[np.uint16],
        p: NDArray[np.bool_],
        t: NDArray[np.int64],
    ) -> int:
        return _decode(data, self._room(data), tally, self.width, self.height, x, y, p, t)


def _count(data: NDArray[np.uint8]) -> int:
    return int.from_bytes(data[:COUNT].tobytes(), "little") if data.size >= COUNT else 0


@Brief
def _decode(
    data: NDArray[np.uint8],
    count: int,
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
    for k in range(count):
        i = FIRST + STRIDE * k
        j = i if k else COUNT
        column = np.int64(data[j]) | (np.int64(data[j + 1]) << 8)
        row = np.int64(data[j + 2]) | (np.int64(data[j + 3]) << 8)
        seconds = (
            np.int64(data[i + 6])
            | (np.int64(data[i + 7]) << 8)
            | (np.int64(data[i + 8]) << 16)
            | (np.int64(data[i + 9]) << 24)
        )
        nanoseconds = (
            np.int64(data[i + 10])
            | (np.int64(data[i + 11]) << 8)
            | (np.int64(data[i + 12]) << 16)
            | (np.int64(data[i + 13]) << 24)
        )
        if seconds >> 31 or nanoseconds >= 1_000_000_000 or data[i + 14] > 1:
            tally[UNKNOWN] += 1
        elif column < width and row < height:
            x[n], y[n], p[n] = column, row, data[i + 14]
            t[n] = seconds * 1_000_000 + nanoseconds // 1000
            n += 1
        else:
            tally[OUTSIDE] += 1
    return n
