"""event_array: events one after the other as CDR structures, as in dvs_msgs/EventArray.

An event is x, y (uint16), sec (int32), nanosec (uint32) and polarity (a byte); CDR aligns each to
its own size (OMG DDS-XTypes 7.4). The payload is the number of events (uint32) and they. These lie
16 bytes apart, but for x and y of the first one, which stand two bytes later than the others':

    byte   0      4   6   8     12     16      18  20      24    28     32      34 ...
           count  x0  y0  sec0  nsec0  p0      x1  y1      sec1  nsec1  p1      x2

`bag/event_array.py` cuts this out of messages.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from robustseg_core.codecs.events._base import EventDecoder, Events
from robustseg_core.codecs.fields import as_bytes

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


class EventArrayDecoder(EventDecoder):
    """Structures in, events out; any message, in any order."""

    max_side: ClassVar = 1 << 16

    def reset(self) -> None:
        """Nothing: messages do not depend on each other."""

    def resync(self) -> None:
        """Nothing: messages do not depend on each other."""

    def decode(self, payload: Any) -> Events:
        """As of `EventDecoder`; a nanosecond or polarity that cannot be is an unknown word."""
        data = as_bytes(payload)
        said = int(data[:COUNT].copy().view("<u4")[0]) if data.size >= COUNT else 0
        count = min(said, max(0, data.size - 1) // STRIDE)
        self.expect_room(count, data.size)
        odd = int(data.size != (COUNT + STRIDE * said - 3 if said else 0))
        rows = np.ndarray(count, ROWS, data.data, FIRST if count else 0, (STRIDE,))
        x, y, sec, nsec, p = (rows[name].copy() for name in ROWS.names or ())
        if count:
            x[0], y[0] = data[COUNT : COUNT + 4].copy().view("<u2")
        known = (nsec < 1_000_000_000) & (p <= 1) & (sec >= 0)
        on_sensor = (x < self.width) & (y < self.height)
        t = sec.astype(np.int64) * 1_000_000 + nsec // 1000
        keep = known & on_sensor
        every: Any = slice(None) if keep.all() else keep
        return Events(
            x[every],
            y[every],
            p[every].view(np.bool_),
            t[every],
            count,
            unknown=count - int(known.sum()),
            outside=int((known & ~on_sensor).sum()),
            odd_bytes=odd,
        )
