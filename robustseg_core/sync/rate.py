"""How often a stream speaks: told or learned, and whether it keeps that promise.

What was learned does not bend: while a stream is slow, its slow intervals teach nothing, so that
warnings and masks keep the old rate. Only after half a minute is a slow stream taken at its word.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from itertools import pairwise

from robustseg_core.types import SECOND

BASELINE = 101
"""Intervals in the learned baseline: odd, and long enough that a short drop-out cannot bend it."""
TRUSTED = 10
"""Intervals from which the baseline is trusted."""
RECENT, RECENT_NS, RECENT_MOST = 6, SECOND // 2, 128
"""The current rate is taken over this many intervals and this long: fast streams come in bursts."""
SLOW_RATIO = 0.5
"""Slower than this share of what was learned, a stream teaches nothing."""
RELEARN_NS = 30 * SECOND
"""... until it has been that slow for so long."""
LATEST, MISSING = 10, 2.8
"""Intervals in which losses are looked for, and how many messages have to be missing from them."""
BURSTS = 3.0, 1.5
"""A mean interval this many times the median, or a median this many times the mean: messages come
in bursts, as from a machine that starves."""
LONG, SHORT = 1.6, 1.4
"""Periods: more than LONG, and a message is missing; up to SHORT, and none is."""
FRESH_NS = SECOND // 2
"""A stream has a say for so long after a message, or for 1.5 of its periods, or pauses."""


def say_ns(period_ns: float) -> int:
    """How long after a message a stream of this period has a say."""
    return max(FRESH_NS, round(1.5 * period_ns))


class RateEstimator:
    """The period of one stream in nanoseconds, from its stamps or from its arrivals.

    Args:
        rate_hz: the expected rate, if the user knows it; 0 learns it.
    """

    def __init__(self, rate_hz: float = 0.0) -> None:
        self._told_ns = round(SECOND / rate_hz) if rate_hz > 0 else None
        self._last_ns: int | None = None
        self._learned: deque[int] = deque(maxlen=BASELINE)
        self._sorted: list[int] = []
        """The same intervals by length: one more costs no more than a search."""
        self._recent: deque[int] = deque(maxlen=RECENT_MOST)
        self._totals: deque[int] = deque([0], maxlen=RECENT_MOST + 1)
        """Sums of all intervals up to each recent one, and to the one before them."""
        self._slow_ns = 0
        """Time spent slow in one piece."""
        self._bursts = False
        """Whether the learned intervals are those of bursts: only many of them tell a rate."""
        self._kept: dict[str, float | None] = {}
        """What the properties found since the newest interval."""

    def observe(self, time_ns: int) -> None:
        """One more message; a time that does not advance is not an interval."""
        last_ns, self._last_ns = self._last_ns, time_ns
        if last_ns is None or time_ns <= last_ns:
            return
        interval_ns = time_ns - last_ns
        self._recent.append(interval_ns)
        self._totals.append(self._totals[-1] + interval_ns)
        self._kept.pop("recent", None)
        self._kept.pop("lossy", None)
        if self._told_ns is not None:
            return
        if not self.slower_than(SLOW_RATIO):
            self._slow_ns = 0
            self._learn(interval_ns)
        else:
            self._slow_ns += interval_ns
            if self._slow_ns < RELEARN_NS:
                return
            self._slow_ns = 0
            self._learned.clear()
            self._sorted.clear()
            for recent_ns in list(self._recent)[-TRUSTED:]:
                self._learn(recent_ns)
        self._kept.clear()

    def _learn(self, interval_ns: int) -> None:
        if len(self._learned) == BASELINE:
            del self._sorted[bisect_left(self._sorted, self._learned[0])]
        self._learned.append(interval_ns)
        insort(self._sorted, interval_ns)

    def interrupt(self) -> None:
        """The next interval means nothing (a gap, a clock jump); what was learned stays."""
        self._last_ns = None

    @property
    def period_ns(self) -> int | None:
        """Told, else the usual interval of what was learned; None before the first one."""
        if self._told_ns is not None:
            return self._told_ns
        if "period" not in self._kept:
            self._kept["period"] = self._usual() if self._learned else None
        period_ns = self._kept["period"]
        return None if period_ns is None else round(period_ns)

    @property
    def trusted_period_ns(self) -> int | None:
        """As `period_ns`, but None until ten intervals support it."""
        told = self._told_ns is not None
        return self.period_ns if told or len(self._learned) >= TRUSTED else None

    @property
    def recent_ns(self) -> float | None:
        """Mean of the last intervals, over half a second and six of them at least; else None."""
        if "recent" not in self._kept:
            self._kept["recent"] = self._mean_of_recent()
        return self._kept["recent"]

    def slower_than(self, ratio: float) -> bool:
        """Whether the current rate is below `ratio` times the expected one."""
        period_ns, recent_ns = self.trusted_period_ns, self.recent_ns
        return bool(period_ns and recent_ns and recent_ns * ratio > period_ns)

    @property
    def lossy(self) -> bool:
        """Whether messages are missing here and there, between others that come on time."""
        period_ns = self.trusted_period_ns
        if not period_ns or len(self._recent) < LATEST:
            return False
        if "lossy" not in self._kept:
            missing = self._latest_ns(LATEST) / period_ns - LATEST  # 0 where some were only late
            self._kept["lossy"] = float(missing >= MISSING and self._returns(period_ns) >= 2)
        return bool(self._kept["lossy"])

    def _mean_of_recent(self) -> float | None:
        period_ns = self.period_ns
        if not period_ns:
            return None
        count = max(RECENT, -(-RECENT_NS // period_ns))
        count = RECENT_MOST if self._bursts else min(count, RECENT_MOST)
        if len(self._recent) < count:
            return None
        return self._latest_ns(count) / count

    def _latest_ns(self, count: int) -> int:
        """Sum of the last intervals."""
        return self._totals[-1] - self._totals[-1 - count]

    def _returns(self, period_ns: int) -> int:
        """How often, of late, a message came on time after one that was missing."""
        latest = [self._recent[k] for k in range(-LATEST, 0)]
        long_ns, short_ns = LONG * period_ns, SHORT * period_ns
        return sum(a > long_ns and b <= short_ns for a, b in pairwise(latest))

    def _usual(self) -> float:
        """The median, which losses and late messages do not bend; the mean, where bursts would."""
        half, rest = divmod(len(self._sorted), 2)
        middle = self._sorted[half] if rest else (self._sorted[half - 1] + self._sorted[half]) / 2
        mean = sum(self._sorted) / len(self._sorted)
        above, below = BURSTS
        self._bursts = mean > above * middle or middle > below * mean
        return mean if self._bursts else middle
