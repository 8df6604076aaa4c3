"""Does a stream come in bursts? Messages whose stamps go on, and that arrive many at once.

A network that batches, Wi-Fi that stalls, a recorder that flushes: the sensor is healthy, and so
are its stamps; only the hour of delivery is coarse. That is no silence and no loss.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import median

from robustseg_core.types import MS, SECOND, Fault, Finding

PAUSE_NS, PAUSES = 150 * MS, 1.6
"""A pause before a burst is so long, and so many of the stream's periods."""
LONGEST_NS = round(3.5 * SECOND)
"""A longer one is a silence, whatever comes after it."""
SHARE = 0.5
"""Messages are one delivery while their arrivals are closer than this share of their stamps."""
SIGNS = 3
"""Bursts in a row that are a habit, and are told."""


@dataclass(slots=True)
class _Delivery:
    """Messages that came at once."""

    pause_ns: int
    """Between its first message and the one before."""
    gap_ns: int
    """The same of their stamps."""
    count: int = 1
    span_ns: int = 0
    """From its first stamp to its last."""

    @property
    def every_ns(self) -> int:
        """How much of the sensor's time it brought."""
        return max(self.pause_ns, self.span_ns)

    @property
    def burst(self) -> bool:
        """Whether it brought what was missing while nothing came."""
        if self.count < 2:
            return False
        period_ns = self.span_ns / (self.count - 1)
        long = self.every_ns >= max(PAUSE_NS, PAUSES * period_ns)
        whole = self.gap_ns <= max(2.5 * period_ns, self.pause_ns / 2)
        return long and whole and self.pause_ns <= LONGEST_NS


class Bursts:
    """Of one stream; a pure function of its accepted messages."""

    def __init__(self) -> None:
        self._last: tuple[int, int] | None = None
        self._deliveries: deque[_Delivery] = deque(maxlen=SIGNS)
        self._told = False

    def reset(self) -> None:
        """Nothing is known of what comes next; what was told stays told."""
        self._last = None
        self._deliveries.clear()

    def see(self, stamp_ns: int, arrival_ns: int) -> Finding | None:
        """One message; once, when it is a habit: how it is delivered."""
        last, self._last = self._last, (stamp_ns, arrival_ns)
        if last is None:
            self._deliveries.append(_Delivery(0, 0))
            return None
        passed_ns, pause_ns = stamp_ns - last[0], arrival_ns - last[1]
        if self._deliveries and pause_ns < SHARE * passed_ns:
            newest = self._deliveries[-1]
            newest.count, newest.span_ns = newest.count + 1, newest.span_ns + passed_ns
        else:
            self._deliveries.append(_Delivery(pause_ns, passed_ns))
            return None
        known = list(self._deliveries)
        if self._told or len(known) < SIGNS or not all(d.burst for d in known):
            return None
        if newest.span_ns < SHARE * newest.pause_ns:
            return None  # there is more to come of it, and then it is told how much
        self._told = True
        each, every_s = known[-2].count, median(d.every_ns for d in known) / SECOND
        text = f"delivery in bursts: {each} messages at once every {every_s:.1f} s"
        return Finding(Fault.BURSTS, fatal=False, text=text, score=1.0)

    @property
    def every_ns(self) -> int:
        """The longest pause that its newest bursts ended; 0: it does not come in bursts."""
        return max((d.every_ns for d in self._deliveries if d.burst), default=0)
