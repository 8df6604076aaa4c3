"""What EVT2 and EVT2.1 share: a clock whose upper 28 bits come in words of their own."""

from __future__ import annotations

import numpy as np

from robustseg_core.codecs.events._base import WordDecoder

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
