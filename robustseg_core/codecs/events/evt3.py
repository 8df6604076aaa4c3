"""EVT3, the sensors' own format: 16-bit words whose meaning depends on those before them.

Top four bits say what a word is (Prophesee, "EVT 3.0 format"). Rows, vector bases and the clock
carry over from packet to packet, so a decoder belongs to one stream.

A packet made here stands on its own: it begins with time-high, time-low and row, so that a reader
who lost everything before it misses nothing.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustseg_core.codecs.events._base import (
    EARLY,
    OTHER,
    OUTSIDE,
    TRIGGERS,
    UNKNOWN,
    EventEncoder,
    Events,
    WordDecoder,
    checked_columns,
)
from robustseg_core.codecs.fields import Brief, Compiled, as_bytes

MAX_SIDE = 2048
"""Rows and columns that 11 bits can name."""

BRIEF = 1 << 16
"""Bytes of a packet that is decoded without letting other threads run."""
_STRIDE = 2048
"""Longest step of time-high that a reader takes for going on, not for being late: 8.4 s."""

# Places in the state that is carried over; -1: not seen since the last resync.
_HIGH, _LOW, _ROW, _BASE, _POLARITY, _EPOCH = range(6)
_CARRIED = (0x8, 0x6, 0x0, 0x3)
"""Kinds of words whose meaning lasts: time-high, time-low, row, base of vectors."""


class Evt3Decoder(WordDecoder):
    """Words in, events out; feed it every packet of one stream in order."""

    max_side: ClassVar = MAX_SIDE
    word: ClassVar = 2

    def __init__(self, width: int, height: int) -> None:
        super().__init__(width, height)
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

    def _room(self, data: NDArray[np.uint8]) -> int:
        return (_count_brief if data.size <= BRIEF else _count)(data)

    def _read(
        self,
        data: NDArray[np.uint8],
        tally: NDArray[np.int64],
        x: NDArray[np.uint16],
        y: NDArray[np.uint16],
        p: NDArray[np.bool_],
        t: NDArray[np.int64],
    ) -> int:
        decode = _decode_brief if data.size <= BRIEF else _decode
        return decode(data, self._state, tally, self.width, self.height, x, y, p, t)


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
    high, low, row, base, polarity, epoch = state
    n = 0
    for i in range(0, data.size - 1, 2):
        word = np.int64(data[i]) | (np.int64(data[i + 1]) << 8)
        kind = word >> 12
        now = epoch + high * 4096 + low
        if kind == 0x2:  # single event
            column = word & 0x7FF
            if row < 0:
                tally[EARLY] += 1
            elif column < width and row < height:
                x[n], y[n], p[n], t[n] = column, row, (word >> 11) & 1, now
                n += 1
            else:
                tally[OUTSIDE] += 1
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
                tally[EARLY] += 1
            else:
                for k in range(size):
                    if (word >> k) & 1:
                        if base + k < width and row < height:
                            x[n], y[n], p[n], t[n] = base + k, row, polarity, now
                            n += 1
                        else:
                            tally[OUTSIDE] += 1
                base += size
        elif kind == 0xA:
            tally[TRIGGERS] += 1
        elif kind == 0xE:
            tally[OTHER] += 1
        elif not (kind == 0x7 or kind == 0xF or word == 0x9999):  # continuation, padding
            tally[UNKNOWN] += 1
    state[:] = high, low, row, base, polarity, epoch
    return n


_count_brief, _decode_brief = Brief(_count.python), Brief(_decode.python)


def encode_evt3(
    x: ArrayLike, y: ArrayLike, p: ArrayLike, t_us: ArrayLike, *, vectors: bool = True
) -> NDArray[np.uint16]:
    """Words of one packet, little-endian uint16; they decode to exactly these events, in order.

    The sensor's clock has 24 bits: a reader unwraps it as long as packets follow each other by less
    than 8 s. Within a packet, longer pauses are bridged by repeated time-high words.

    Args:
        x: (N,) columns.
        y: (N,) rows.
        p: (N,) polarity, True for brighter.
        t_us: (N,) sensor clock in microseconds, never decreasing.
        vectors: write neighbors of one row, moment and polarity as bits of one word.

    Raises:
        RobustsegError: lengths differ, pixels beyond 11 bits, or a time that is negative or goes
            back.
    """
    columns, rows, signs, t = checked_columns("EVT3", MAX_SIDE, x, y, p, t_us)
    if not t.size:
        return np.empty(0, np.dtype("<u2"))
    bridges = int((np.diff(t >> 12) // _STRIDE).sum())
    words = np.empty(4 * t.size + bridges, np.uint16)
    count = _encode(columns, rows, signs, t, 12 if vectors else 0, words)
    return words[:count].astype("<u2")


@Compiled
def _encode(
    x: NDArray[np.int64],
    y: NDArray[np.int64],
    p: NDArray[np.int64],
    t: NDArray[np.int64],
    longest: int,
    words: NDArray[np.uint16],
) -> int:
    """Fill `words`; return how many. A vector spans `longest` columns: 12, or 0: there is none."""
    n, i = 0, 0
    high, low, row, base, polarity = -1, -1, -1, -1, -1
    while i < x.size:
        new = t[i] >> 12
        if new != high:
            while high >= 0 and new - high > _STRIDE:
                high += _STRIDE
                words[n] = 0x8000 | (high & 0xFFF)
                n += 1
            high, low = new, -1
            words[n] = 0x8000 | (high & 0xFFF)
            n += 1
        if (t[i] & 0xFFF) != low:
            low = t[i] & 0xFFF
            words[n] = 0x6000 | low
            n += 1
        if y[i] != row:
            row = y[i]
            words[n] = row
            n += 1
        # neighbors that one vector can hold: same moment, row and polarity, to the right
        follows = base >= 0 and p[i] == polarity and base <= x[i] < base + 12
        start = base if follows else x[i]
        end = i + 1
        while (
            end < x.size
            and t[end] == t[i]
            and y[end] == row
            and p[end] == p[i]
            and x[end - 1] < x[end] < start + longest
        ):
            end += 1
        if end - i < (2 if follows else 3):
            words[n] = 0x2000 | (p[i] << 11) | x[i]
            n += 1
            i += 1
            base = -1  # expelliarmus and faery take its column and polarity for those of vectors
            continue
        if not follows:
            words[n] = 0x3000 | (p[i] << 11) | start
            n += 1
            polarity = p[i]
        mask = 0
        for k in range(i, end):
            mask |= 1 << (x[k] - start)
        size = 12 if mask >> 8 else 8
        words[n] = (0x4000 if size == 12 else 0x5000) | mask
        n += 1
        base = start + size
        i = end
    return n


class Evt3Encoder(EventEncoder):
    """Writes EVT3, and knows what the next packet of a stream will take for granted."""

    def __init__(self, width: int, height: int) -> None:
        self._decoder = Evt3Decoder(width, height)
        self._known: dict[int, int] = {}
        """Kind of word -> the last one, of those in `_CARRIED`."""

    def encode(self, x: ArrayLike, y: ArrayLike, p: ArrayLike, t_us: ArrayLike) -> bytes:
        """The words of `encode_evt3`."""
        return encode_evt3(x, y, p, t_us).tobytes()

    @staticmethod
    def swapped_polarity(payload: Any) -> bytes:
        """One bit of each event, and of each base of vectors."""
        words = _words(payload).copy()
        kind = words >> 12
        words[(kind == 0x2) | (kind == 0x3)] ^= 0x800
        return words.tobytes()

    def read(self, payload: Any) -> Events:
        """The events of the next packet; half a word at the end is dropped."""
        words = _words(payload)
        kind = words >> 12
        for number in _CARRIED:
            if (places := np.flatnonzero(kind == number)).size:
                self._known[number] = int(words[places[-1]])
        if 0x3 in self._known:  # every vector moves the base on
            bases = np.flatnonzero(kind == 0x3)
            rest = kind[bases[-1] :] if bases.size else kind
            step = 12 * int((rest == 0x4).sum()) + 8 * int((rest == 0x5).sum())
            base = self._known[0x3]
            self._known[0x3] = (base & 0xF800) | min((base & 0x7FF) + step, 0x7FF)
        return self._decoder.decode(words.tobytes())

    def tail(self) -> bytes:
        """The last time-high, time-low, row and vector base."""
        return np.array([self._known[k] for k in _CARRIED if k in self._known], "<u2").tobytes()

    def resync(self) -> None:
        """As of the decoder."""
        self._decoder.resync()


def _words(payload: Any) -> NDArray[np.uint16]:
    """(N,) words; half a word at the end is dropped."""
    data = as_bytes(payload)
    return np.frombuffer(data[: data.size // 2 * 2].tobytes(), "<u2")
