"""EVT2.1: 64-bit words, up to 32 neighbors of one row, moment and polarity each.

Top four bits say what a word is (Prophesee, "EVT 2.1 Format"). Sensors disagree on which half of a
word comes first: GenX320 sends 64 bits, little-endian; IMX636 sends two times 32 bits, the upper
half first. No message says which, so the words do: time goes on in one of the two orders only.
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

_LONGEST = 1 << 14
"""Steps of time-high that a sensor makes from one such word to the next: 1 s."""
_SURE = 16
"""Words by which one order must be better than the other to be looked at no more."""
_KINDS = (0x0, 0x1, 0x8, 0xA, 0xE, 0xF)


class Evt21Decoder(ClockedDecoder):
    """Words in, events out; feed it every packet of one stream in order."""

    max_side: ClassVar = 2048
    word: ClassVar = 8

    def reset(self) -> None:
        """Start over: the clock's epoch and the order of the halves included."""
        super().reset()
        self._lead = 0
        """How much better the upper half is as the first one; < 0: as the second one."""

    def _room(self, data: NDArray[np.uint8]) -> int:
        if abs(self._lead) < _SURE:
            before = self._lead > 0
            halves = _halves(data)
            self._lead += _plausible(*halves.T) - _plausible(*halves.T[::-1])
            if before != (self._lead > 0):
                self.resync()  # what was taken for a clock was none
        return _count(data, self.upper)

    @property
    def upper(self) -> int:
        """Byte of a word at which its upper half begins."""
        return 0 if self._lead > 0 else 4

    def _read(
        self,
        data: NDArray[np.uint8],
        tally: NDArray[np.int64],
        x: NDArray[np.uint16],
        y: NDArray[np.uint16],
        p: NDArray[np.bool_],
        t: NDArray[np.int64],
    ) -> int:
        size = self.width, self.height
        return _decode(data, self.upper, self._state, tally, *size, x, y, p, t)


class Evt21Encoder(ClockedEncoder):
    """Writes EVT2.1 in the order of halves that it has read, and an event in each word."""

    decoder: ClassVar = Evt21Decoder
    _decoder: Evt21Decoder

    @staticmethod
    def swapped_polarity(payload: Any) -> bytes:
        """One bit of each word of events, in the order of halves that this packet supports."""
        halves = _halves(as_bytes(payload)).copy()
        first = _plausible(*halves.T) > _plausible(*halves.T[::-1])
        upper = halves[:, 0 if first else 1]
        upper[upper >> 28 <= 1] ^= 1 << 28
        return halves.tobytes()

    def _bytes(self, upper: NDArray[np.uint32], lower: NDArray[np.uint32]) -> bytes:
        # A word names 32 columns from a multiple of 32 on, as the sensors do.
        events = upper >> 28 <= 1
        bit = (upper >> 11 & 0x1F) * events
        pair = [upper - (bit << 11), lower << bit]
        return np.stack(pair if self._decoder.upper == 0 else pair[::-1], axis=1).tobytes()

    def _upper(self, data: NDArray[np.uint8]) -> NDArray[np.uint32]:
        return _halves(data)[:, 0 if self._decoder.upper == 0 else 1]


def _halves(data: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """(N, 2) halves of the words, as they come; a part of a word at the end is dropped."""
    return np.frombuffer(data[: data.size // 8 * 8].tobytes(), "<u4").reshape(-1, 2)


def _plausible(upper: NDArray[np.uint32], lower: NDArray[np.uint32]) -> int:
    """How many words support that these are the upper halves, less those that deny it."""
    kind = upper >> 28
    clock = kind == 0x8
    steps = np.diff((upper[clock] & 0xFFFFFFF).astype(np.int64))
    goes_on = int(((steps > 0) & (steps < _LONGEST)).sum()) - int((steps < 0).sum())
    empty = int((clock & (lower == 0)).sum()) - int(((kind <= 1) & (lower == 0)).sum())
    return goes_on + empty - int((~np.isin(kind, _KINDS)).sum())


@Brief
def _count(data: NDArray[np.uint8], upper: int) -> int:
    """How many events the words can make at most."""
    n = 0
    for i in range(0, data.size - 7, 8):
        if data[i + upper + 3] >> 4 <= 1:
            for k in range(i + 4 - upper, i + 8 - upper):
                bits = np.int64(data[k])
                while bits:
                    bits &= bits - 1
                    n += 1
    return n


@Brief
def _decode(  # noqa: C901  # a branch for each kind of word, as in the format's table
    data: NDArray[np.uint8],
    upper: int,
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
    for i in range(0, data.size - 7, 8):
        j = i + upper
        word = (
            np.int64(data[j])
            | (np.int64(data[j + 1]) << 8)
            | (np.int64(data[j + 2]) << 16)
            | (np.int64(data[j + 3]) << 24)
        )
        kind = word >> 28
        if kind <= 1:  # events: OFF, ON
            if high < 0:
                tally[EARLY] += 1
                continue
            column, row = (word >> 11) & 0x7FF, word & 0x7FF
            now = epoch + (high << 6) + ((word >> 22) & 0x3F)
            for k in range(4):
                bits = np.int64(data[i + 4 - upper + k])
                at = column + 8 * k
                while bits:
                    if bits & 1:
                        if at < width and row < height:
                            x[n], y[n], p[n], t[n] = at, row, kind, now
                            n += 1
                        else:
                            tally[OUTSIDE] += 1
                    bits >>= 1
                    at += 1
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
