"""Do we keep up? How long messages wait for us, and what we lose of them: a state of ours.

A computer that is too slow looks like a robot whose sensors are late, silent and lossy. So it is
measured by itself, from the moment when the middleware received a message to the one when somebody
had the time to look at it, and told as OVERLOADED; no sensor is blamed for it.

Time is judged in bins, so that one hiccup is nothing, and by the caller's clock.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from robustseg_core.types import MS, SECOND

BIN_NS, BINS, ENOUGH = SECOND // 4, 4, 3
"""OVERLOADED when so many of the last bins were behind; over when none of them was."""
LEAST_NS, PERIODS = 50 * MS, 1.5
"""A message waits too long if it does for so long, and for so many periods of the sets."""
SHED = ("overlay", "confidence", "events", "rate")
"""What is given up for speed, in this order; the rate only where messages are lost for want of it.
"""
SHED_NS, RESTORE_NS, RESTORE_MOST_NS = SECOND, 4 * SECOND, 64 * SECOND
"""The next is given up when that was not enough for so long; the last comes back after so long a
calm, doubled whenever it came back too soon."""
NO_TIME = "this node has no time to look what has come"
WAY_OUT = "use a smaller network, a faster device, or fewer or slower sensors"


@dataclass(frozen=True, slots=True)
class Load:
    """How far behind we are."""

    overloaded: bool = False
    since_ns: int | None = None
    """Since when it is, or is no longer."""
    backlog_ms: Mapping[str, float] = field(default_factory=dict)
    """Stream -> longest that one of its messages waited for us, of the last second."""
    overtaken_hz: float = 0.0
    """References a second that a newer one overtook before there was time for them."""
    lost: Mapping[str, int] = field(default_factory=dict)
    """Stream -> times that its queue ran over, since the start."""
    shed: tuple[str, ...] = ()
    """What is given up for speed, of `SHED`."""

    @property
    def text(self) -> str:
        """What there is to be said of it; empty: nothing."""
        if not self.overloaded:
            return ""
        gone = f"; given up for speed: {', '.join(self.shed)}" if self.shed else ""
        return f"OVERLOADED: {', '.join(self._signs()) or NO_TIME}; {WAY_OUT}{gone}"

    def _signs(self) -> list[str]:
        """What shows it, with its numbers."""
        signs = []
        name = max(self.backlog_ms, key=lambda each: self.backlog_ms[each], default="")
        if (waited_ms := self.backlog_ms.get(name, 0.0)) * MS > LEAST_NS:
            signs.append(f"messages wait {waited_ms:.0f} ms for this node ({name})")
        if self.overtaken_hz:
            signs.append(f"{self.overtaken_hz:.1f} a second are overtaken")
        if over := [f"{stream} {count} times" for stream, count in self.lost.items() if count]:
            signs.append(f"queues have run over ({', '.join(over)})")
        return signs


@dataclass(slots=True)
class _Bin:
    """A quarter of a second."""

    behind: bool = False
    overtaken: int = 0
    waited_ns: Counter[str] = field(default_factory=Counter)
    """Stream -> the longest wait."""


class Backlog:
    """What waits for us, of all streams; a pure function of what it was told, and when.

    Args:
        streams: their names.
    """

    def __init__(self, streams: Iterable[str]) -> None:
        self._streams = tuple(streams)
        self._lost: Counter[str] = Counter()
        self._lost_now = self._losing = False
        self._overtaken = 0
        self.reset()

    def reset(self) -> None:
        """Nothing waits; what was lost stays counted."""
        self._bins: deque[_Bin] = deque(maxlen=BINS)
        self._bin = _Bin()
        self._end_ns: int | None = None
        """When the present bin is over."""
        self.overloaded = False
        self._since_ns: int | None = None
        self._level = 0
        """How much of `SHED` is given up."""
        self._raised_ns = self._restored_ns = self._busy_ns = 0
        """When the last was given up, the last came back, and a bin was behind."""
        self._restore_ns = RESTORE_NS

    def waited(self, name: str, age_ns: int) -> None:
        """A message is looked at, so long after it came."""
        self._bin.waited_ns[name] = max(self._bin.waited_ns[name], age_ns)

    def lost(self, name: str) -> None:
        """A stream's queue ran over before we took what was in it."""
        self._lost[name] += 1
        self._lost_now = self._losing = True

    def look(self, now_ns: int, *, overtaken: int, period_ns: int) -> None:
        """Time has passed, and somebody has the time to look.

        Args:
            now_ns: the caller's clock.
            overtaken: references that a newer one overtook, since the start.
            period_ns: of the sets.
        """
        if self._end_ns is None:
            self._end_ns = now_ns + BIN_NS
        news, self._overtaken = max(0, overtaken - self._overtaken), overtaken
        limit_ns = max(LEAST_NS, round(PERIODS * period_ns))
        late = any(age_ns > limit_ns for age_ns in self._bin.waited_ns.values())
        behind = late or news > 0 or self._lost_now
        self._lost_now = False
        self._bin.behind |= behind
        self._bin.overtaken += news
        if now_ns < self._end_ns:
            return
        passed = 1 + (now_ns - self._end_ns) // BIN_NS
        self._bins.append(self._bin)
        # Who has been away for longer than a bin found then what he finds now.
        self._bins.extend(_Bin(behind) for _ in range(min(passed - 1, BINS)))
        self._bin = _Bin()
        self._end_ns += passed * BIN_NS
        self._decide(now_ns)

    @property
    def losing(self) -> bool:
        """Whether, in this overload, queues ran over."""
        return self.overloaded and self._losing

    @property
    def shed(self) -> tuple[str, ...]:
        """What is given up for speed, of `SHED`."""
        return SHED[: self._level]

    def load(self) -> Load:
        """How far behind we are."""
        waited: Counter[str] = Counter()
        for each in (*self._bins, self._bin):
            for name, age_ns in each.waited_ns.items():
                waited[name] = max(waited[name], age_ns)
        overtaken = sum(each.overtaken for each in self._bins)
        return Load(
            self.overloaded,
            self._since_ns,
            {name: waited[name] / MS for name in self._streams},
            overtaken * SECOND / (BINS * BIN_NS),
            {name: self._lost[name] for name in self._streams},
            self.shed,
        )

    def _decide(self, now_ns: int) -> None:
        behind = sum(each.behind for each in self._bins)
        if behind:
            self._busy_ns = now_ns
        if not self.overloaded and behind >= ENOUGH:
            self.overloaded, self._since_ns = True, now_ns
            self._give_up(now_ns)
        elif self.overloaded and not behind:
            self.overloaded, self._since_ns = False, now_ns
            self._losing = False
        elif self.overloaded and behind >= ENOUGH and now_ns - self._raised_ns >= SHED_NS:
            self._give_up(now_ns)
        if self._level and now_ns - max(self._busy_ns, self._restored_ns) >= self._restore_ns:
            self._level, self._restored_ns = self._level - 1, now_ns

    def _give_up(self, now_ns: int) -> None:
        """One more; what had come back too soon is kept away for longer the next time."""
        most = len(SHED) if self._losing else len(SHED) - 1
        if self._level >= most:
            return
        if self._restored_ns:
            soon = now_ns - self._restored_ns < 2 * self._restore_ns
            self._restore_ns = min(2 * self._restore_ns, RESTORE_MOST_NS) if soon else RESTORE_NS
            self._restored_ns = 0
        self._level, self._raised_ns = self._level + 1, now_ns
