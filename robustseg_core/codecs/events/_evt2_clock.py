"""What EVT2 and EVT2.1 share: a clock whose upper 28 bits come in words of their own."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustseg_core.codecs.events._base import (
    EventEncoder,
    Events,
    WordDecoder,
    checked_columns,
)
from robustseg_core.codecs.fields import as_bytes

# Places in the state that is carried over.
HIGH, EPOCH = range(2)
HALF = 1 << 27
"""Steps of time-high beyond which it has wrapped: 2.4 hours of the clock's 4.8."""


class ClockedDecoder(WordDecoder):
    """Carries the clock over from packet to packet."""

    def __init__(self, width: int, height: int) -> None:
        super().__init__(width, height)
        self._state = np.empty(2, np.int64)
        self.reset()

    def reset(self) -> None:
        """Start over: the clock's epoch included."""
        self._state[HIGH], self._state[EPOCH] = -1, 0

    def resync(self) -> None:
        """Packets were lost: ignore events until time-high came again."""
        self._state[HIGH] = -1


class ClockedEncoder(EventEncoder):
    """Words with an event each, and the clock in words of its own.

    Args:
        width: of the sensor, in pixels.
        height: of the sensor.
    """

    decoder: ClassVar[type[ClockedDecoder]]

    def __init__(self, width: int, height: int) -> None:
        self._decoder = self.decoder(width, height)
        self._high: int | None = None
        """The last time-high word's bits of the clock."""

    def encode(self, x: ArrayLike, y: ArrayLike, p: ArrayLike, t_us: ArrayLike) -> bytes:
        """Begins with time-high, which is said again whenever it changes.

        A pause of more than 2.4 hours within a packet would be read as one of the clock's laps.
        """
        name = type(self).__module__.rpartition(".")[2].upper()
        columns, rows, signs, t = checked_columns(name, self.decoder.max_side, x, y, p, t_us)
        high = t >> 6
        said = np.flatnonzero(np.diff(high, prepend=-1))
        upper = (signs != 0) << 28 | (t & 0x3F) << 22 | columns << 11 | rows
        words = np.insert(upper, said, 0x8 << 28 | (high[said] & 0xFFFFFFF))
        lower = np.insert(np.ones_like(upper), said, 0)
        return self._bytes(words.astype("<u4"), lower.astype("<u4"))

    def read(self, payload: Any) -> Events:
        """The events of the next packet; a part of a word at the end is dropped."""
        found = self._decoder.decode(payload)
        upper = self._upper(as_bytes(payload))
        if (clock := np.flatnonzero(upper >> 28 == 0x8)).size:
            self._high = int(upper[clock[-1]])
        return found

    def tail(self) -> bytes:
        """The last time-high."""
        if self._high is None:
            return b""
        return self._bytes(np.array([self._high], "<u4"), np.zeros(1, "<u4"))

    def resync(self) -> None:
        """As of the decoder."""
        self._decoder.resync()

    @abstractmethod
    def _bytes(self, upper: NDArray[np.uint32], lower: NDArray[np.uint32]) -> bytes:
        """A payload of words: kind, time, row and column; and, where there are, vectors."""

    @abstractmethod
    def _upper(self, data: NDArray[np.uint8]) -> NDArray[np.uint32]:
        """(N,) the parts of a payload's words that say what they are."""
