"""What one stream said of late: what is simultaneous with it, and how long it may be held.

Nothing is known about messages here: only stamp, arrival, payload. No clock.
"""

from __future__ import annotations

from collections import deque
from itertools import islice, pairwise
from statistics import median
from typing import Generic, TypeVar

from robustseg_core.config import StreamConfig
from robustseg_core.sync.rate import SLOW_RATIO, RateEstimator
from robustseg_core.sync.stamps import Stamped
from robustseg_core.types import MS, SECOND

T = TypeVar("T")

SLOP_MIN_NS, SLOP_MAX_NS = 5 * MS, 50 * MS
HOLD_PERIODS = 1.2
"""Data is held for this many of its own periods unless the robot says otherwise: a 10 Hz LiDAR
beside a 30 Hz camera for 120 ms (docs/specs/synchronizer.md)."""
HOLD_MAX_NS = SECOND // 2
HOLD_EVENTS_NS = 50 * MS
"""... and an accumulating stream for at least this: its packets are stamped where they begin."""
EVENT_SPAN_NS = SECOND // 4
"""How much of an accumulating stream is kept; covers any sensible event window."""
SLOW_MOTION, SLOW_MOTION_OF = 1.3, 9
"""From this many times slower than its stamps say, in the median of so many messages, a stream is a
recording in slow motion."""
ACCUMULATED = 4096
"""... and never more items than this, whatever floods in."""
DELIVERY_NS, DELIVERED = 50 * MS, 64
"""What arrived within this is one delivery, and is kept whole, up to so many messages: a burst
holds more moments than a buffer does."""


class StreamBuffer(Generic[T]):
    """The newest messages of one stream.

    Args:
        config: the stream's.
        accumulates: a set wants everything recent (events), not only the newest message.
        most: messages that are kept, of a stream that does not accumulate; more of a burst.
    """

    def __init__(self, config: StreamConfig, *, accumulates: bool, most: int) -> None:
        self.accumulates = accumulates
        self.rate = RateEstimator(config.rate_hz)
        self.items: deque[Stamped[T]] = deque(
            maxlen=ACCUMULATED if accumulates else max(most, DELIVERED)
        )
        self.taken_ns: int | None = None
        """The newest stamp that was there when the last set left: it was part of that one."""
        self.lived = False
        """Whether it has ever been believed."""
        self.opened = False
        """Whether it has opened a set since the clocks last jumped."""
        self._most = most
        self.configure(config)

    def configure(self, config: StreamConfig) -> None:
        """What is simultaneous, and how old data may be; the rate stays the one that is known."""
        self.told_age = config.max_age_ms > 0
        """Whether the robot has said what is too old."""
        self._config = config

    def push(self, message: Stamped[T]) -> None:
        """One more; its stamp is later than those before it."""
        self.rate.observe(message.stamp_ns)
        self.items.append(message)
        while self._over(message) and message.arrival_ns - self.items[0].arrival_ns > DELIVERY_NS:
            self.items.popleft()

    def drop(self, message: Stamped[T]) -> None:
        """Forget this one, if it is still here."""
        kept = [item for item in self.items if item is not message]
        self.items = deque(kept, maxlen=self.items.maxlen)

    def _over(self, message: Stamped[T]) -> bool:
        """Whether the oldest item is one too many beside the newest."""
        if self.accumulates:
            return message.stamp_ns - self.items[0].stamp_ns > EVENT_SPAN_NS
        return len(self.items) > self._most

    def take(self) -> None:
        """A set leaves: what is here opens no other."""
        self.taken_ns = self.items[-1].stamp_ns if self.items else self.taken_ns

    def clear(self) -> None:
        """Forget the messages, keep the learned rate."""
        self.items.clear()
        self.taken_ns = None
        self.opened = False
        self.rate.interrupt()

    @property
    def unsteady(self) -> bool:
        """Known to come less often than it should."""
        return self.rate.lossy or self.rate.slower_than(SLOW_RATIO)

    @property
    def delay_ns(self) -> int | None:
        """Least time from stamp to arrival among the messages; None: there are none."""
        return min((i.arrival_ns - i.stamp_ns for i in self.items), default=None)

    @property
    def slowness(self) -> float | None:
        """Arrival time per stamp time of what is kept: 2 for a bag that is played at half speed.

        Lost messages lengthen both alike. 1 where it is not clearly more: arrivals jitter. None:
        too few messages to say.
        """
        newest = list(islice(reversed(self.items), SLOW_MOTION_OF))
        if len(newest) < 5:
            return None
        # The median, so that one late message is no slow motion.
        ratio = median(
            (b.arrival_ns - a.arrival_ns) / (b.stamp_ns - a.stamp_ns) for b, a in pairwise(newest)
        )
        return ratio if ratio > SLOW_MOTION else 1.0

    def slop_ns(self, set_period_ns: int) -> int:
        """Half a period (its own or the sets', the shorter), 5 to 50 ms: the same moment."""
        if self._config.slop_ms > 0:
            return round(self._config.slop_ms * MS)
        period_ns = self.rate.period_ns
        if period_ns is None:
            return SLOP_MAX_NS
        return min(max(min(period_ns, set_period_ns) // 2, SLOP_MIN_NS), SLOP_MAX_NS)

    def max_age_ns(self, set_period_ns: int) -> int:
        """How much older than a set its data may be."""
        if self._config.max_age_ms > 0:
            return round(self._config.max_age_ms * MS)
        period_ns = self.rate.period_ns or 0
        held_ns = min(round(HOLD_PERIODS * period_ns), HOLD_MAX_NS)
        least_ns = HOLD_EVENTS_NS if self.accumulates else self.slop_ns(set_period_ns)
        return max(held_ns, least_ns)
