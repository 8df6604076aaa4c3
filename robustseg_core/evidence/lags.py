"""The time lag at which two sensors agree best; 0 where their stamps are right.

What a sensor shows now is compared with what another showed before, as both lie in the view. If a
sensor's stamps are wrong, all its peers agree with it best at one and the same lag.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from robustseg_core.types import MS, SECOND

REACH_NS = 400 * MS
"""Longest lag that is looked for; what is older shows another place."""
STEP_NS = 20 * MS
"""Lags are told to this."""
LEAST_NS = 60 * MS
"""A shorter one is none."""
OWN_NS = 120 * MS
"""A lag up to this that is there from the beginning is the sensors' own: a window of events, the
sweep of a LiDAR, an exposure."""
MEMORY_S = 2.0
"""Of what was seen at each lag."""
_WIDTH_NS = 100 * MS
"""How soon an agreement goes with time, on the street: to 1 / e."""
_FEWEST = 3
"""Lags that must have been seen to tell which is the best, ..."""
_SEEN = 0.3
"""... with at least this weight; an agreement that was just seen has 1."""

_CLEAR = 0.5
"""What explains less than this is no lag of the sensors' own."""
_LEVEL = 2.0
"""Agreement that chance does not reach at any lag, in standard deviations of a look."""
_NOISY = 0.35
"""A lag that explains less than this share of what was seen explains nothing."""
_MOST = 2.0
"""No pair explains more: it is many pairs that tell whose stamps are wrong."""

_EACH = REACH_NS // STEP_NS
_NEAR = np.s_[_EACH - LEAST_NS // STEP_NS + 1 : _EACH + LEAST_NS // STEP_NS]
LAGS_NS = np.arange(-_EACH, _EACH + 1) * STEP_NS
_SHAPES = np.exp(-np.abs(LAGS_NS[:, None] - LAGS_NS) / _WIDTH_NS)
"""(lag, lag) what agreement is like around each lag, if it is the true one."""

Curve = NDArray[np.float64]
"""(len(LAGS_NS),) something at each lag."""


class LagCurve:
    """How two sensors agreed of late, by how much later the second one's stamps were."""

    def __init__(self) -> None:
        self._sums = np.zeros(len(LAGS_NS))
        self._weights = np.zeros(len(LAGS_NS))
        self._own = 0
        """Steps of the lag that is the sensors' own."""
        self.seen_ns = 0
        """When something was added."""

    def see(self, seen: Iterable[tuple[int, float]], now_ns: int) -> None:
        """More of it.

        Args:
            seen: (stamp of the second sensor minus stamp of the first, in ns; agreement).
            now_ns: not before the last time.
        """
        kept = math.exp((self.seen_ns - now_ns) / (MEMORY_S * SECOND))
        for lag_ns, agreement in seen:
            if self.seen_ns != now_ns:
                self._sums *= kept
                self._weights *= kept
                self.seen_ns = now_ns
            place = (lag_ns + REACH_NS) / STEP_NS
            if not 0 <= place <= len(LAGS_NS) - 1:
                continue
            below = min(int(place), len(LAGS_NS) - 2)
            for index, share in ((below, below + 1 - place), (below + 1, place - below)):
                self._sums[index] += share * agreement
                self._weights[index] += share

    def settle(self) -> None:
        """The lag that is best now, if it is a short one, is the sensors' own."""
        gain, lag_ns = best(self._explained())
        self._own = lag_ns // STEP_NS if gain > _CLEAR and abs(lag_ns) <= OWN_NS else 0

    @property
    def explained(self) -> Curve:
        """How much of what was seen each lag beyond their own explains, if it were the true one, in
        squares of the unit of the agreement; all 0 where too little was seen."""
        places = np.clip(np.arange(len(LAGS_NS)) + self._own, 0, len(LAGS_NS) - 1)
        return self._explained(places[_NEAR])[places]

    def _explained(self, near: NDArray[np.int64] | None = None) -> Curve:
        """A line in `_SHAPES`, fitted by least squares; a hollow explains nothing.

        Between two lags that were seen, nobody knows: no more than a line between these. Who is
        well has the benefit of that doubt: of lags that are none, `near`, as much as they may
        explain. A robot that stands, before which somebody walks, sees a LiDAR's front half a turn
        after its stamp, and no lag between a turn and none.
        """
        weights, total = self._weights, float(self._weights.sum())
        seen = np.flatnonzero(weights > _SEEN)
        if len(seen) < _FEWEST:
            return np.zeros(len(LAGS_NS))
        values = self._sums / np.maximum(weights, 1e-9)
        if values[seen].max() < _LEVEL:
            return np.zeros(len(LAGS_NS))
        values -= weights @ values / total
        means = _SHAPES @ weights / total
        together = (_SHAPES * weights) @ values / total
        spread = np.maximum(np.square(_SHAPES) @ weights / total - np.square(means), 1e-4)
        explained = np.square(np.maximum(together, 0)) / spread
        varied = max(float(weights @ np.square(values)) / total, 1e-9)
        # What a lag leaves over is the noise: beside much of it, a lag says little.
        explained *= np.clip((explained / varied - _NOISY) / (1 - _NOISY), 0, 1)
        explained *= min(1.0, _MOST / max(float(explained.max()), 1e-9))
        told = np.asarray(np.interp(LAGS_NS, LAGS_NS[seen], explained[seen]), np.float64)
        if near is not None:
            told[near] = np.maximum(told[near], explained[near])
        return told


def best(explained: Curve) -> tuple[float, int]:
    """(how much better than none the best lag explains what was seen, that lag in ns); (0, 0):
    not better."""
    other = explained.copy()
    other[_NEAR] = -np.inf
    index = int(other.argmax())
    gain = float(other[index] - explained[_NEAR].max())
    return (gain, int(LAGS_NS[index])) if gain > 0 else (0.0, 0)
