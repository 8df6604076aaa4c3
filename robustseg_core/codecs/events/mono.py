"""mono: an event in 64 bits, its time since the message's `time_base`; early Prophesee drivers.

Bit 63 is the polarity, 62 to 48 the row, 47 to 32 the column, 31 to 0 nanoseconds
(ros-event-camera/event_camera_codecs). Each packet stands on its own.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustseg_core.codecs.events._base import OUTSIDE, LoneDecoder, LoneEncoder, checked_columns
from robustseg_core.codecs.fields import Brief, as_bytes


class MonoDecoder(LoneDecoder):
    """Words in, events out; any packet, in any order. Nothing in a word can be meaningless."""

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
        base = divmod(self.time_base, 1000)
        return _decode(data, *base, tally, self.width, self.height, x, y, p, t)


class MonoEncoder(LoneEncoder):
    """Writes mono, counted from the message's `time_base`: 4.29 s at most."""

    decoder: ClassVar = MonoDecoder

    def encode(self, x: ArrayLike, y: ArrayLike, p: ArrayLike, t_us: ArrayLike) -> bytes:
        """A word for each event."""
        columns, rows, signs, t = checked_columns("mono", MonoDecoder.max_side, x, y, p, t_us)
        base_us, base_ns = divmod(self.time_base, 1000)
        after_ns = np.clip((t - base_us) * 1000 - base_ns, 0, (1 << 32) - 1)
        upper = columns | rows << 16 | (signs != 0).astype(np.int64) << 31
        return np.stack([after_ns, upper], axis=1).astype("<u4").tobytes()

    @staticmethod
    def swapped_polarity(payload: Any) -> bytes:
        """The uppermost bit of each word."""
        data = as_bytes(payload)
        words = np.frombuffer(data[: data.size // 8 * 8].tobytes(), "<u4").copy()
        words[1::2] ^= 1 << 31
        return words.tobytes()


@Brief
def _decode(
    data: NDArray[np.uint8],
    base_us: int,
    base_ns: int,
    tally: NDArray[np.int64],
    width: int,
    height: int,
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    p: NDArray[np.bool_],
    t: NDArray[np.int64],
) -> int:
    """Fill x, y, p, t; return how many events; count oddities in `tally`.

    What their times are counted from is `base_us` microseconds and `base_ns` nanoseconds.
    """
    n = 0
    for i in range(0, data.size - 7, 8):
        column = np.int64(data[i + 4]) | (np.int64(data[i + 5]) << 8)
        row = np.int64(data[i + 6]) | ((np.int64(data[i + 7]) & 0x7F) << 8)
        if column < width and row < height:
            after_ns = (
                np.int64(data[i])
                | (np.int64(data[i + 1]) << 8)
                | (np.int64(data[i + 2]) << 16)
                | (np.int64(data[i + 3]) << 24)
            )
            x[n], y[n], p[n] = column, row, data[i + 7] >> 7
            t[n] = base_us + (base_ns + after_ns) // 1000
            n += 1
        else:
            tally[OUTSIDE] += 1
    return n
