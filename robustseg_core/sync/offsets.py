"""Has one sensor's clock, or its delivery, moved? Its delay beside the delays of its peers.

The delay of a message is arrival minus stamp. Its lower envelope, the least of the last messages,
is constant for a healthy stream: jitter, losses, bursts and queues only add to it. When one
envelope leaves those of two others or more that stay together, that stream has moved; where two
disagree and no third decides, both are told so. What happens to all at once (a paused bag, slow
motion, a busy machine) moves nobody. From outside, a wrong stamp and a slow delivery are one.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import combinations
from statistics import median

from robustseg_core.sync.rate import FRESH_NS, say_ns
from robustseg_core.types import MS, SECOND, Fault, Finding

DOUBTED_NS = 200 * MS
"""A delay that grew by up to this leaves a sensor in use, and in doubt: if only its delivery became
slower, its stamps are right, and the robot would lose it for good. More, or a stamp that is ahead,
which no slow delivery explains, leaves it out."""
DOUBT = 0.4
"""Quality that is left to it."""
BIN_NS = 50 * MS
"""Messages that arrive within this are one delivery: the least of their delays counts."""
BINS = 400
"""Deliveries remembered per stream."""
WINDOW_NS, LEAST = round(1.4 * SECOND), 8
"""An envelope is taken over so long, and so many deliveries; longer, where jitter asks for it."""
CHANCE = 1e-5
"""The chance at which jitter may pass for a step: late deliveries in a row decide the window."""
MOST_LATE = 0.95
"""A stream of which more deliveries are late has no say: its usual delay was that of a queue which
had not filled yet."""
FORGET = 200
"""Deliveries after which those before them count half."""
EVERY_NS = SECOND // 5
"""How often streams are compared."""
FOLLOW = 1e-3
"""How fast a usual delay follows: clocks drift by a tenth of that (100 ppm)."""
LONG_PAUSE, PACKED = 2.5, 1.4
"""From so many intervals without a delivery, or so many times the usual number of messages in one,
a stream comes in bursts: the newest message of each is up to an interval old."""
SLOWER = 1.25
"""From this many usual intervals on, a stream packs more into a message, or loses some."""


@dataclass(slots=True)
class _Bin:
    """One delivery: when it began, the least delay in it, and how many messages it had."""

    start_ns: int
    least_ns: int
    count: int = 1


@dataclass(slots=True)
class _Window:
    """What a stream has shown of late."""

    span_ns: int
    interval_ns: float
    """Between messages."""
    pause_ns: int
    """The longest between deliveries."""
    each: float
    """Messages per delivery."""

    @property
    def bursts(self) -> bool:
        usual = max(1.0, BIN_NS / self.interval_ns)
        long = self.pause_ns > LONG_PAUSE * max(self.interval_ns, BIN_NS)
        return long or self.each > PACKED * usual


@dataclass(slots=True)
class _Stream:
    bins: deque[_Bin] = field(default_factory=lambda: deque(maxlen=BINS))
    usual_ns: float | None = None
    """The delay that it has had; None: not known yet."""
    usual_interval_ns: float = 0.0
    usual_slack_ns: float = 0.0
    newest: tuple[int, int] | None = None
    """(arrival, delay) of the newest message."""
    counted_ns: int = 0
    """Deliveries until then are counted in the next two."""
    deliveries: float = 0.0
    late: float = 0.0

    def add(self, delay_ns: int, arrival_ns: int) -> None:
        start_ns = arrival_ns - arrival_ns % BIN_NS
        self.newest = (arrival_ns, delay_ns)
        if self.bins and start_ns <= self.bins[-1].start_ns:
            last = self.bins[-1]
            last.least_ns, last.count = min(last.least_ns, delay_ns), last.count + 1
        else:
            self.bins.append(_Bin(start_ns, delay_ns))

    def needed(self) -> int:
        """Deliveries in a row that would by chance not all be late."""
        if not self.deliveries:
            return LEAST
        most = (self.late + 2 * math.sqrt(self.late) + 0.5) / (self.deliveries + 1)
        if most > MOST_LATE:
            return BINS + 1
        return max(LEAST, math.ceil(math.log(CHANCE) / math.log(most)))

    def window(self, now_ns: int) -> _Window | None:
        """The evidence of the last moments; None: too little, or nothing of late."""
        if not self.bins:
            return None
        needed, later_ns = self.needed(), now_ns
        count = messages = longest_ns = 0
        for item in reversed(self.bins):
            if item.start_ns + BIN_NS > now_ns:
                continue  # there may be more to come of this delivery
            pause_ns = later_ns - item.start_ns
            if count:
                longest_ns = max(longest_ns, pause_ns)
            later_ns = item.start_ns
            count, messages = count + 1, messages + item.count
            span_ns = now_ns - item.start_ns
            if count >= needed and span_ns >= max(WINDOW_NS, 2 * longest_ns):
                newest_ns = now_ns - self.bins[-1].start_ns
                if newest_ns > say_ns(longest_ns):
                    return None
                return _Window(span_ns, span_ns / messages, longest_ns, messages / count)
        return None

    def envelope(self, now_ns: int, span_ns: int) -> tuple[float, float] | None:
        """(least, most) of the least delays in both halves of a window, beside the usual one."""
        halves: list[int | None] = [None, None]
        for item in reversed(self.bins):
            age_ns = now_ns - item.start_ns
            if age_ns > span_ns:
                break
            if age_ns >= BIN_NS:
                half = 2 * age_ns > span_ns
                known = halves[half]
                halves[half] = item.least_ns if known is None else min(known, item.least_ns)
        new, old = halves
        if new is None or old is None or self.usual_ns is None:
            return None
        return min(new, old) - self.usual_ns, max(new, old) - self.usual_ns

    def slack_ns(self, window: _Window) -> float:
        """By how much its delay may differ because it packs or delivers more at once."""
        slack_ns = self.usual_slack_ns
        if window.interval_ns > SLOWER * self.usual_interval_ns:
            slack_ns += window.interval_ns - self.usual_interval_ns
        return slack_ns + (window.interval_ns if window.bursts else 0.0)

    def count_late(self, until_ns: int, limit_ns: float) -> None:
        """Learn how often its deliveries are late, though its envelope is where it was."""
        counted_ns, self.counted_ns = self.counted_ns, max(self.counted_ns, until_ns)
        for item in reversed(self.bins):
            if item.start_ns <= counted_ns or self.usual_ns is None:
                break
            if item.start_ns <= until_ns:
                self.deliveries += 1
                self.late += item.least_ns - self.usual_ns > limit_ns
        if self.deliveries > FORGET:
            self.deliveries, self.late = self.deliveries / 2, self.late / 2


@dataclass(frozen=True, slots=True)
class _Pair:
    """How two streams stand to each other."""

    differ: bool
    same: bool
    """Neither: part of the window is before a change, or there is much jitter."""
    step_ns: float
    """By how much the delay of the first grew more than that of the second."""


class Offsets:
    """Compares the streams' delays; a pure function of the messages that it was shown.

    Args:
        limit_ns: a lasting step above this is named.
        names: the streams.
    """

    def __init__(self, limit_ns: int, names: Iterable[str]) -> None:
        self.limit_ns = limit_ns
        self._streams = {name: _Stream() for name in names}
        self._now_ns = 0
        self._compared_ns: int | None = None
        self.moved: dict[str, Finding] = {}
        """Streams that have left their peers, and by how much; for as long as it lasts."""
        self.told: dict[str, Finding] = {}
        """What was said of a stream last, though it may be back since: for a drive's account."""
        self.undecided: dict[str, Finding] = {}
        """Streams that have left each other, and nobody can say which of them moved."""
        self._disputes: dict[tuple[str, str], int] = {}
        """Since when two streams have disagreed; a third may need longer to have its say."""

    def reset(self) -> None:
        """All clocks jumped, or a bag looped: learn anew."""
        self._streams = {name: _Stream() for name in self._streams}
        self._compared_ns = None
        self.moved, self.undecided, self._disputes = {}, {}, {}

    def forget(self, name: str) -> None:
        """Learn one stream anew: nobody has heard it for a while."""
        self._streams[name] = _Stream()
        self.moved.pop(name, None)
        self._disputes = {pair: t for pair, t in self._disputes.items() if name not in pair}
        told = {one for pair in self._disputes for one in pair}
        self.undecided = {n: found for n, found in self.undecided.items() if n in told}

    def see(self, name: str, stamp_ns: int, arrival_ns: int) -> None:
        """One message; arrivals need not be in order from stream to stream."""
        self._streams[name].add(arrival_ns - stamp_ns, arrival_ns)
        self._now_ns = max(self._now_ns, arrival_ns)
        if self._compared_ns is None:
            self._compared_ns = self._now_ns
        elapsed_ns = self._now_ns - self._compared_ns
        if elapsed_ns >= EVERY_NS:
            self._compared_ns = self._now_ns
            self._compare(elapsed_ns)

    def distance_ns(self, name: str, stamp_ns: int, arrival_ns: int) -> float | None:
        """How far the delay of a message is from the usual one; None: that is not known."""
        usual_ns = self._streams[name].usual_ns
        return None if usual_ns is None else arrival_ns - stamp_ns - usual_ns

    def ahead(self) -> dict[str, float]:
        """Streams whose newest stamp is ahead of where two peers or more put it.

        No delivery does that: what they say is not of the moment that they claim. Nobody has moved
        yet, but neither should anybody be held against such a stamp.

        Returns:
            name -> how far the delay of its newest message is from the usual one (negative), ns.
        """
        left_ns = {
            name: stream.newest[1] - stream.usual_ns
            for name, stream in self._streams.items()
            if stream.newest is not None
            and stream.usual_ns is not None
            and self._now_ns - stream.newest[0] <= 2 * FRESH_NS
        }
        found: dict[str, float] = {}
        for name, own_ns in left_ns.items():
            limit_ns = self.limit_ns + self._streams[name].usual_slack_ns
            if own_ns >= -limit_ns:
                continue
            peers = [peer_ns for other, peer_ns in left_ns.items() if other != name]
            apart = sum(own_ns - peer_ns < -limit_ns for peer_ns in peers)
            if apart >= 2 and 2 * apart > len(peers):
                found[name] = own_ns
        return found

    def _compare(self, elapsed_ns: int) -> None:
        now_ns = self._now_ns
        windows: dict[str, _Window] = {}
        for name, stream in self._streams.items():
            window = stream.window(now_ns)
            if window is not None and stream.usual_ns is None:
                self._learn(stream, window)
            if window is not None:
                windows[name] = window
        pairs: dict[tuple[str, str], _Pair] = {}
        for a, b in combinations(windows, 2):
            if (pair := self._pair(a, b, windows)) is not None:
                pairs[a, b] = pair
                pairs[b, a] = _Pair(pair.differ, pair.same, -pair.step_ns)
        self._judge(list(windows), pairs)
        calm = [] if self._disputes else [n for n in windows if n not in self.moved]
        for name, stream in self._streams.items():
            if name not in calm:
                stream.counted_ns = now_ns  # late or not: that is in dispute
        self._follow(calm, windows, elapsed_ns)

    def _learn(self, stream: _Stream, window: _Window) -> None:
        """Its usual delay, from as many deliveries as its jitter asks for."""
        closed = [b for b in stream.bins if b.start_ns + BIN_NS <= self._now_ns]
        stream.usual_ns = float(min(item.least_ns for item in closed))
        stream.counted_ns = 0
        stream.deliveries = stream.late = 0.0
        stream.count_late(closed[-1].start_ns, self.limit_ns)
        if len(closed) < min(stream.needed(), BINS - 1):
            stream.usual_ns = None
            stream.deliveries = stream.late = 0.0
            return
        stream.usual_interval_ns = window.interval_ns
        stream.usual_slack_ns = window.interval_ns if window.bursts else 0.0

    def _pair(self, a: str, b: str, windows: dict[str, _Window]) -> _Pair | None:
        span_ns = max(windows[a].span_ns, windows[b].span_ns)
        one = self._streams[a].envelope(self._now_ns, span_ns)
        two = self._streams[b].envelope(self._now_ns, span_ns)
        if one is None or two is None:
            return None
        slacks = (self._streams[n].slack_ns(windows[n]) for n in (a, b))
        limit_ns = self.limit_ns + max(slacks)
        gap_ns = max(one[0], two[0]) - min(one[1], two[1])
        widest_ns = max(one[1] - two[0], two[1] - one[0])
        return _Pair(gap_ns > limit_ns, widest_ns <= limit_ns, one[0] - two[0])

    def _judge(self, names: list[str], pairs: dict[tuple[str, str], _Pair]) -> None:
        """Who left whom: who has at least two others against it that are more than its side."""
        for name in list(self.moved):
            if name not in names:
                continue  # it says nothing: what was said of it stays
            told = [pairs[name, n] for n in names if n not in self.moved and (name, n) in pairs]
            if not any(p.differ for p in told) and (not told or any(p.same for p in told)):
                del self.moved[name]
        voters = [name for name in names if name not in self.moved]
        fresh: dict[str, Finding] = {}
        for name in [*voters, *self.moved]:
            others = [n for n in voters if n != name and (name, n) in pairs]
            against = [n for n in others if pairs[name, n].differ]
            united = not any(
                pairs[a, b].differ for a, b in combinations(against, 2) if (a, b) in pairs
            )
            side = 1 + sum(pairs[name, n].same for n in others)
            if (len(against) > max(1, side) and united) or (name in self.moved and against):
                step_ns = median(pairs[name, n].step_ns for n in against)
                fresh[name] = self._finding(step_ns, against)
        self.moved.update(fresh)
        self.told.update(fresh)
        disputes = [
            (a, b)
            for a, b in combinations([n for n in voters if n not in self.moved], 2)
            if (a, b) in pairs and pairs[a, b].differ
        ]
        self._disputes = {pair: self._disputes.get(pair, self._now_ns) for pair in disputes}
        self.undecided = {}
        for (a, b), since_ns in self._disputes.items():
            if self._now_ns - since_ns >= WINDOW_NS:
                for name, other in ((a, b), (b, a)):
                    finding = self._finding(pairs[name, other].step_ns, [other], decided=False)
                    self.undecided.setdefault(name, finding)

    def _finding(self, step_ns: float, against: list[str], *, decided: bool = True) -> Finding:
        where = "behind" if step_ns > 0 else "ahead of"
        text = (
            f"stamps are {abs(step_ns) / SECOND:.2f} s {where} where {' and '.join(against)} put "
            f"them until now, limit {self.limit_ns / SECOND:g} s; stamp or delivery moved"
        )
        found = Finding(
            Fault.OFFSET,
            fatal=True,
            text=text,
            final=True,
            value=-step_ns / SECOND,
            limit=self.limit_ns / SECOND,
            unit="s",
        )
        if not decided:
            text = f"{text}, undecided on which of the two"
            return replace(found, text=text, fatal=False, final=False, score=1.0)
        if 0 < step_ns <= DOUBTED_NS:
            return replace(found, fatal=False, final=False, score=DOUBT)
        return found

    def _follow(self, names: list[str], windows: dict[str, _Window], elapsed_ns: int) -> None:
        """Usual delays follow drift, and whatever happens to all."""
        if not names:
            return
        span_ns = max(windows[name].span_ns for name in names)
        found = {n: self._streams[n].envelope(self._now_ns, span_ns) for n in names}
        known = {name: envelope for name, envelope in found.items() if envelope is not None}
        settled = all(most - least <= self.limit_ns for least, most in known.values())
        if settled and known:
            common_ns = median(least for least, _ in known.values())
            slacks = (self._streams[name].slack_ns(windows[name]) for name in known)
            if abs(common_ns) > self.limit_ns + max(slacks):
                self._shift(common_ns, alone=len(known) == 1, who=set(known))
                return
        far_ns = FOLLOW * elapsed_ns
        for name, (least_ns, _) in known.items():
            stream, window = self._streams[name], windows[name]
            slack_ns = stream.slack_ns(window)
            if stream.usual_ns is None or abs(least_ns) > self.limit_ns + slack_ns:
                continue
            # An envelope is the least there was; what bursts add to it will go with them.
            over_ns = least_ns if least_ns < 0 else max(0.0, least_ns - slack_ns)
            stream.usual_ns += min(over_ns, far_ns)
            stream.count_late(self._now_ns - windows[name].span_ns, self.limit_ns)
            if not window.bursts:
                stream.usual_slack_ns = max(0.0, stream.usual_slack_ns - far_ns)
                weight = min(1.0, elapsed_ns / (30 * SECOND))
                stream.usual_interval_ns += weight * (window.interval_ns - stream.usual_interval_ns)

    def _shift(self, common_ns: float, *, alone: bool, who: set[str]) -> None:
        """All have moved together; where only one speaks, it says nothing about the others."""
        for name, stream in self._streams.items():
            stream.counted_ns = self._now_ns
            if stream.usual_ns is None:
                continue
            if alone and name not in who:
                stream.usual_ns = None
            else:
                stream.usual_ns += common_ns
