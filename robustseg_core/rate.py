"""How often a stream speaks: a running median of intervals, told or learned."""

from __future__ import annotations

from collections import deque
from statistics import median

from robustseg_core.types import SECOND

BASELINE = 101
"""Intervals in the learned baseline: odd, and long enough that a short drop-out cannot bend it."""
RECENT = 10
"""Intervals in the current rate, and the number from which the baseline is trusted."""


class PeriodMeter:
    """The period of one stream in nanoseconds, from its stamps or from its arrivals.

    Args:
        rate_hz: the expected rate, if the user knows it; 0 learns it.
    """

    def __init__(self, rate_hz: float = 0.0) -> None:
        self._told_ns = round(SECOND / rate_hz) if rate_hz > 0 else None
        self._last_ns: int | None = None
        self._intervals: deque[int] = deque(maxlen=BASELINE)
        self._median_ns: int | None = None

    def observe(self, time_ns: int) -> None:
        """One more message; a time that does not advance is not an interval."""
        if self._last_ns is not None and time_ns > self._last_ns:
            self._intervals.append(time_ns - self._last_ns)
            self._median_ns = None
        self._last_ns = time_ns

    def interrupt(self) -> None:
        """The next interval means nothing (a gap, a clock jump); what was learned stays."""
        self._last_ns = None

    @property
    def period_ns(self) -> int | None:
        """Told, else the running median of what was seen; None before the first interval."""
        if self._told_ns is not None:
            return self._told_ns
        if self._median_ns is None and self._intervals:
            self._median_ns = round(median(self._intervals))
        return self._median_ns

    @property
    def trusted_period_ns(self) -> int | None:
        """As `period_ns`, but None until ten intervals support it."""
        told = self._told_ns is not None
        return self.period_ns if told or len(self._intervals) >= RECENT else None

    @property
    def recent_ns(self) -> float | None:
        """Mean of the last ten intervals; None before there are ten."""
        if len(self._intervals) < RECENT:
            return None
        return sum(list(self._intervals)[-RECENT:]) / RECENT
