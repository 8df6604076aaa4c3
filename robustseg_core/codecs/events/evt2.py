"""EVT2: 32-bit words, an event each; the upper bits of the clock come in words of their own.

Top four bits say what a word is (Prophesee, "EVT 2.0 Format"). The upper 28 bits of the clock carry
over from packet to packet, so a decoder belongs to one stream.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from robustseg_core.codecs.events._base import (
    EARLY,
    OTHER,
    OUTSIDE,
    TRIGGERS,
    UNKNOWN,
)
from robustseg_core.codecs.events._evt2_clock import HALF, ClockedDecoder, ClockedEncoder
from robustseg_core.codecs.fields import Brief, as_bytes


class Evt2Decoder(ClockedDecoder):
    """Words in, events out; feed it every packet of one stream in order."""

    max_side: ClassVar = 2048
    word: ClassVar = 4

    def _room(self, data: NDArray[np.uint8]) -> int:
        return data.size // 4

    def _read(
        self,
        data: NDArray[np.uint8],
        tally: NDArray[np.int64],
        x: NDArray[np.uint16],
        y: NDArray[np.uint16],
        p: NDArray[np.bool_],
        t: NDArray[np.int64],
    ) -> int:
        return _decode(data, self._state, tally, self.width, self.height, x, y, p, t)


class Evt2Encoder(ClockedEncoder):
    """Writes EVT2, and knows what the next packet of a stream will take for granted."""

    decoder: ClassVar = Evt2Decoder

    @staticmethod
    def swapped_polarity(payload: Any) -> bytes:
        """One bit of each event."""
        words = _words(as_bytes(payload)).copy()
        words[words >> 28 <= 1] ^= 1 << 28
        return words.tobytes()

    def _bytes(self, upper: NDArray[np.uint32], lower: NDArray[np.uint32]) -> bytes:
        return upper.tobytes()

    def _upper(self, data: NDArray[np.uint8]) -> NDArray[np.uint32]:
        return _words(data)


def _words(data: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """(N,) words; a part of a word at the end is dropped."""
    return np.frombuffer(data[: data.size // 4 * 4].tobytes(), "<u4")


@Brief
def _decode(  # noqa: C901  # a branch for each kind of word, as in the format's table
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
    high, epoch = state
    n = 0
    for i in range(0, data.size - 3, 4):
        word = (
            np.int64(data[i])
            | (np.int64(data[i + 1]) << 8)
            | (np.int64(data[i + 2]) << 16)
            | (np.int64(data[i + 3]) << 24)
        )
        kind = word >> 28
        if kind <= 1:  # event: OFF, ON
            column, row = (word >> 11) & 0x7FF, word & 0x7FF
            if high < 0:
                tally[EARLY] += 1
            elif column < width and row < height:
                x[n], y[n], p[n] = column, row, kind
                t[n] = epoch + (high << 6) + ((word >> 22) & 0x3F)
                n += 1
            else:
                tally[OUTSIDE] += 1
        elif kind == 0x8:  # bits 6 to 33 of the clock
            new = word & 0xFFFFFFF
            if high >= 0 and new - high < -HALF:
                epoch += 1 << 34
            elif high >= 0 and new - high > HALF:
                epoch -= 1 << 34  # late from before the wrap
            high = new
        elif kind == 0xA:
            tally[TRIGGERS] += 1
        elif kind == 0xE:
            tally[OTHER] += 1
        elif kind != 0xF:  # continuation
            tally[UNKNOWN] += 1
    state[:] = high, epoch
    return n
