"""Is this stamp believable? One outlier never blocks the others; when all move, it is one jump.

A stream is compared with its peers by its offset, stamp minus arrival: no clock has to agree with
the stamps, and a paused bag moves nobody. A message whose offset leaves the others' is *held*: if
its stream comes back, it was an outlier and is rejected; if its peers speak at the old offset, they
contradict it and it is rejected; if they follow it, the clock has jumped (or the bag looped) and
everything held is released in order, so that a loop costs no message. A late message has not moved:
what comes in bursts, or after a pause, is held against the best offsets of the last moments.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from statistics import median
from typing import Generic, TypeVar

from robustseg_core.config import SyncConfig
from robustseg_core.sync.rate import RateEstimator, say_ns
from robustseg_core.types import SECOND, Fault, Finding

T = TypeVar("T")

LATELY_NS, GRAIN_NS = 3 * SECOND, SECOND // 10
"""The offsets of the last moments are those of so long, in grains of that: bursts come every two
seconds at the most."""
HELD = 256
"""Messages held per stream while it is unclear who is right: fast ones send many before a slow one
has its say, which is soon (`FRESH_NS`)."""


@dataclass(frozen=True, slots=True)
class Stamped(Generic[T]):
    """A message with its two times."""

    modality: str
    stamp_ns: int
    arrival_ns: int
    payload: T

    @property
    def offset_ns(self) -> int:
        """Stamp minus arrival: constant for a healthy stream, whatever the clocks are."""
        return self.stamp_ns - self.arrival_ns


@dataclass(slots=True)
class Admission(Generic[T]):
    """What became of the messages so far: the new one, and those that it decided about."""

    accepted: list[Stamped[T]] = field(default_factory=list)
    rejected: list[tuple[str, Finding]] = field(default_factory=list)
    """(modality, why), one entry per message."""
    jump_ns: int | None = None
    """Set once per clock jump or bag loop: by how much the stamps moved."""


@dataclass(slots=True)
class _Stream(Generic[T]):
    meter: RateEstimator
    last: Stamped[T] | None = None
    suspects: deque[Stamped[T]] = field(default_factory=deque)
    doubted: bool = False
    """Its newest message was not where it should be: lateness excuses it no longer."""
    lately: deque[tuple[int, int, int]] = field(default_factory=deque)
    """(arrival, least, most): offsets of the accepted messages of the last moments."""

    def take(self, message: Stamped[T]) -> None:
        """A message that is believed."""
        self.meter.observe(message.arrival_ns)
        self.last, self.doubted = message, False
        arrival_ns, offset_ns = message.arrival_ns, message.offset_ns
        if self.lately and arrival_ns - self.lately[-1][0] < GRAIN_NS:
            since_ns, least_ns, most_ns = self.lately.pop()
            self.lately.append((since_ns, min(least_ns, offset_ns), max(most_ns, offset_ns)))
        else:
            self.lately.append((arrival_ns, offset_ns, offset_ns))
        while arrival_ns - self.lately[0][0] > LATELY_NS:
            self.lately.popleft()

    def forget(self) -> None:
        """All stamps moved; the learned rate stays."""
        self.last, self.doubted = None, False
        self.suspects.clear()
        self.lately.clear()
        self.meter.interrupt()

    def range_ns(self, now_ns: int) -> tuple[int, int] | None:
        """(least, most) offset of the last moments."""
        kept = [part for part in self.lately if now_ns - part[0] <= LATELY_NS]
        if not kept:
            return None
        return min(least_ns for _, least_ns, _ in kept), max(most_ns for _, _, most_ns in kept)

    def patience_ns(self) -> int:
        """How long after a message this stream still has a say."""
        return say_ns(self.meter.period_ns or 0)

    def fresh(self, now_ns: int) -> bool:
        return self.last is not None and now_ns - self.last.arrival_ns <= self.patience_ns()


class StampGuard(Generic[T]):
    """Admits messages by their stamps; a pure function of what it was shown."""

    def __init__(self, config: SyncConfig, rates_hz: dict[str, float]) -> None:
        self._jump_ns = round(config.jump_s * SECOND)
        self._loop_ns = round(config.loop_s * SECOND)
        self._streams: dict[str, _Stream[T]] = {
            name: _Stream(RateEstimator(rate)) for name, rate in rates_hz.items()
        }
        self.jumps = 0

    def reset(self) -> None:
        """Forget all stamps; keep the learned rates."""
        for stream in self._streams.values():
            stream.forget()

    def forget(self, name: str) -> None:
        """The stamps of one stream; its rate stays known."""
        self._streams[name].forget()

    def admit(self, message: Stamped[T]) -> Admission[T]:
        """Decide about a message, and about earlier ones that it clears up."""
        result: Admission[T] = Admission()
        stream = self._streams[message.modality]
        if message.stamp_ns <= 0:
            text = f"header stamp is {message.stamp_ns}; expected the time of measurement"
            result.rejected.append(
                (message.modality, Finding(Fault.ZERO_STAMP, fatal=True, text=text))
            )
            return result
        moved_ns = self._moved(stream, message)
        if moved_ns:
            self._suspect(stream, message, moved_ns, result)
            return result
        if stream.last is not None and message.stamp_ns <= stream.last.stamp_ns:
            back_ms = (stream.last.stamp_ns - message.stamp_ns) / 1e6
            fault = Fault.OUT_OF_ORDER if back_ms else Fault.REPEATED_STAMP
            text = f"stamp is {back_ms:.1f} ms behind the one before it; expected a later one"
            result.rejected.append((message.modality, Finding(fault, fatal=True, text=text)))
            return result
        for outlier in stream.suspects:  # the stream came back: what was held was wrong
            self._reject(outlier, moved_ns=self._distance(stream, outlier), result=result)
        stream.suspects.clear()
        self._accept(stream, message, result)
        return result

    def _accept(self, stream: _Stream[T], message: Stamped[T], result: Admission[T]) -> None:
        stream.take(message)
        result.accepted.append(message)

    def _peers(self, message: Stamped[T]) -> list[_Stream[T]]:
        return [
            other
            for name, other in self._streams.items()
            if name != message.modality and other.fresh(message.arrival_ns)
        ]

    def _moved(self, stream: _Stream[T], message: Stamped[T]) -> int:
        """How far the stamp is from where it should be, in ns; 0: it is believable."""
        if stream.last is not None:
            step_ns = message.stamp_ns - stream.last.stamp_ns
            if step_ns < -self._loop_ns:
                return step_ns
            ahead_ns = message.offset_ns - stream.last.offset_ns
            if stream.fresh(message.arrival_ns) and ahead_ns > self._jump_ns:
                known_ns = stream.range_ns(message.arrival_ns)
                ahead_ns -= known_ns[1] - stream.last.offset_ns if known_ns else 0
                if ahead_ns > self._jump_ns:  # of all that came of late, not of one that was late
                    return ahead_ns
        peers = self._peers(message)
        offsets = [peer.last.offset_ns for peer in peers if peer.last]
        if offsets and abs(message.offset_ns - round(median(offsets))) > self._jump_ns:
            distance_ns = round(median(self._apart(stream, message, peer) for peer in peers))
            if abs(distance_ns) > self._jump_ns:
                return distance_ns
        return 0

    def _apart(self, stream: _Stream[T], message: Stamped[T], peer: _Stream[T]) -> int:
        """How far the offsets of a stream are from all those that a peer had of late."""
        now_ns, offset_ns = message.arrival_ns, message.offset_ns
        own_ns = None if stream.doubted else stream.range_ns(now_ns)
        best_ns = max(offset_ns, own_ns[1]) if own_ns else offset_ns
        peer_ns = peer.range_ns(now_ns)
        least_ns, most_ns = peer_ns or (0, 0)
        if peer_ns is None and peer.last is not None:  # it is slow, and still has a say
            least_ns = most_ns = peer.last.offset_ns
        return max(0, offset_ns - most_ns) or min(0, best_ns - least_ns)

    def _distance(self, stream: _Stream[T], message: Stamped[T]) -> int:
        return message.offset_ns - stream.last.offset_ns if stream.last else 0

    def _suspect(
        self, stream: _Stream[T], message: Stamped[T], moved_ns: int, result: Admission[T]
    ) -> None:
        held, stream.doubted = stream.suspects, True
        if held and (
            abs(held[-1].offset_ns - message.offset_ns) > self._jump_ns
            or message.stamp_ns <= held[-1].stamp_ns
        ):
            for outlier in held:  # two wild stamps that do not even agree with each other
                self._reject(outlier, moved_ns, result)
            held.clear()
        held.append(message)

        movers, since_ns = self._movers(message)
        others = [s for s in self._peers(message) if s not in movers]
        contradicting = [s for s in others if s.last and s.last.arrival_ns > since_ns]
        undecided = [
            s
            for s in others
            if s not in contradicting and message.arrival_ns - since_ns < s.patience_ns()
        ]
        # Two streams that went back are a loop, unless as many object. A leap ahead, or a stream
        # that moved alone, could be one bad clock: there everybody who might object is heard first.
        heard = moved_ns < 0 and len(movers) > 1
        needed = len(contradicting) + (0 if heard else len(undecided))
        if len(movers) > needed and (len(movers) > 1 or len(held) > 1):
            self._jump(movers, moved_ns, result)
        elif contradicting and len(movers) <= len(contradicting):
            for outlier in held:
                self._reject(outlier, moved_ns, result)
            held.clear()
        elif len(held) > HELD:
            self._reject(held.popleft(), moved_ns, result)

    def _movers(self, message: Stamped[T]) -> tuple[list[_Stream[T]], int]:
        """The streams that hold messages at this one's offset, and when the first of them came."""
        movers = [
            s
            for s in self._streams.values()
            if s.suspects and abs(s.suspects[-1].offset_ns - message.offset_ns) <= self._jump_ns
        ]
        return movers, min(s.suspects[0].arrival_ns for s in movers)

    def _jump(self, movers: list[_Stream[T]], moved_ns: int, result: Admission[T]) -> None:
        held = sorted((m for s in movers for m in s.suspects), key=lambda m: m.arrival_ns)
        for stream in self._streams.values():
            for outlier in stream.suspects if stream not in movers else ():
                self._reject(outlier, moved_ns, result)
        self.reset()
        for message in held:
            self._accept(self._streams[message.modality], message, result)
        self.jumps += 1
        result.jump_ns = moved_ns

    def _reject(self, outlier: Stamped[T], moved_ns: int, result: Admission[T]) -> None:
        where = "ahead of" if moved_ns > 0 else "behind"
        text = (
            f"stamp is {abs(moved_ns) / 1e9:.2f} s {where} where its peers' stamps put it, limit "
            f"{self._jump_ns / 1e9:g} s; synchronize the sensor's clock"
        )
        found = Finding(
            Fault.OFFSET,
            fatal=True,
            text=text,
            value=moved_ns / SECOND,
            limit=self._jump_ns / SECOND,
            unit="s",
        )
        result.rejected.append((outlier.modality, found))
