"""Events to EVT3 words: what an event camera would have said; the inverse of `decode.evt3`.

A packet made here stands on its own: it begins with time-high, time-low and row, so that a reader
who lost everything before it misses nothing. Word types: Prophesee, "EVT 3.0 format".
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustseg_core.codecs.evt3 import MAX_SIDE
from robustseg_core.codecs.fields import Compiled
from robustseg_core.errors import RobustsegError

_STRIDE = 2048
"""Longest step of time-high that a reader takes for going on, not for being late: 8.4 s."""


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
    columns = [np.atleast_1d(np.asarray(a)).astype(np.int64) for a in (x, y, p, t_us)]
    _check(*columns)
    t = columns[3]
    if not t.size:
        return np.empty(0, np.dtype("<u2"))
    bridges = int((np.diff(t >> 12) // _STRIDE).sum())
    words = np.empty(4 * t.size + bridges, np.uint16)
    count = _encode(*columns, vectors, words)
    return words[:count].astype("<u2")


def _check(
    x: NDArray[np.int64], y: NDArray[np.int64], p: NDArray[np.int64], t: NDArray[np.int64]
) -> None:
    if len({a.shape for a in (x, y, p, t)}) > 1 or x.ndim != 1:
        raise RobustsegError(
            f"x, y, p and t_us have shapes {x.shape}, {y.shape}, {p.shape} and {t.shape}; "
            "give four vectors of one length"
        )
    for name, side in (("x", x), ("y", y)):
        if side.size and (side.min() < 0 or side.max() >= MAX_SIDE):
            raise RobustsegError(
                f"{name} goes from {side.min()} to {side.max()}; EVT3 addresses 0 to {MAX_SIDE - 1}"
            )
    if t.size and (t[0] < 0 or (np.diff(t) < 0).any()):
        raise RobustsegError(
            "t_us is negative or goes back; sort the events by time, and count from the start"
        )


@Compiled
def _encode(
    x: NDArray[np.int64],
    y: NDArray[np.int64],
    p: NDArray[np.int64],
    t: NDArray[np.int64],
    vectors: bool,
    words: NDArray[np.uint16],
) -> Any:
    """Fill `words`; return how many."""
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
        # neighbors that one vector of 12 can hold: same moment, row and polarity, to the right
        follows = base >= 0 and p[i] == polarity and base <= x[i] < base + 12
        start = base if follows else x[i]
        end = i + 1
        while (
            vectors
            and end < x.size
            and t[end] == t[i]
            and y[end] == row
            and p[end] == p[i]
            and x[end - 1] < x[end] < start + 12
        ):
            end += 1
        if not vectors or end - i < (2 if follows else 3):
            words[n] = 0x2000 | (p[i] << 11) | x[i]
            n += 1
            i += 1
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
