"""The deadline synchronizer: the newest consistent set, on time, with whoever is there.

`message_filters` waits for every topic, so one dead sensor silences all. Here a *reference* opens a
set; it closes when every usable stream has matched or is not due, and at the latest at the
deadline. When the reference itself stays away, sets go on at its rate, made of what the others have
brought. What arrives at once (a burst) is taken apart by its stamps, a set for each reference, as
long as the consumer keeps up. Nothing is known about messages here: only modality, stamp, arrival,
payload. No clock.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Generic, TypeAlias, TypeVar

from robustseg_core.config import StreamConfig, SyncConfig
from robustseg_core.sync.buffer import EVENT_SPAN_NS, HOLD_MAX_NS, StreamBuffer
from robustseg_core.sync.deadline import Deadline
from robustseg_core.sync.offsets import DOUBTED_NS
from robustseg_core.sync.stamps import Stamped
from robustseg_core.types import MS, SECOND, Fault, Finding

T = TypeVar("T")

TARDY_NS = MS
"""A consumer that asks later than this after a set should have left is busy."""
OVERTAKEN = 3
"""After so many messages of the opener in a row that were too late for the set of their moment,
ticks run ahead of it, and would for good."""


Vet: TypeAlias = Callable[[Mapping[str, tuple[Stamped[T], ...]]], bool]
"""Whether a set may be made of these messages, by stream."""


@dataclass(frozen=True, slots=True)
class Match(Generic[T]):
    """A set that has closed."""

    stamp_ns: int
    opened_by: str | None
    """The reference whose message opened it; None: the reference stayed away, a tick did."""
    items: Mapping[str, tuple[Stamped[T], ...]]
    """modality -> its messages, oldest first; one for a snapshot sensor, all recent for events."""
    absent: Mapping[str, Finding]
    """Usable streams that have nothing for this set, and why."""
    held_ns: Mapping[str, int]
    """Age of each item's newest data beside the set's stamp."""

    @property
    def came_ns(self) -> int:
        """When the message arrived that gave the set its stamp."""
        every = [item for items in self.items.values() for item in items[-1:]]
        return max((item.stamp_ns == self.stamp_ns, item.arrival_ns) for item in every)[1]


@dataclass(slots=True)
class _Clock(Generic[T]):
    """When the last set left, and what the reference last said: what ticks are measured from."""

    emitted_ns: int | None = None
    tick_base_ns: int = 0
    """What the next tick is counted from: when the last set was due, so that ticks do not drift."""
    reference: Stamped[T] | None = None
    """The message that opened the newest set which had an opener."""
    opener: str | None = None
    """Who opens sets at present."""
    polled: bool = False
    """Whether `opener` has been asked for since the reset: the first to open replaces nobody."""
    cutoff_ns: int = 0
    """What arrived before the reference changed, and longer before than the deadline, opens no set.
    A tick may show it for one period more; then it has missed its moment, and is only held."""
    ticks: int = 0
    """Periods since a message opened a set."""
    overtaken: int = 0
    """Messages of the opener in a row, one by one, that came too late to open a set."""
    before: Stamped[T] | None = None
    """The opener's message before the newest."""


class Synchronizer(Generic[T]):
    """Push messages as they come, poll when `wake_ns` says; a pure function of both.

    Args:
        config: deadline, reference priority (none: that of the streams), buffer size.
        streams: the configured streams.
        accumulating: names of those of which a set wants everything recent (events).
    """

    def __init__(
        self,
        config: SyncConfig,
        streams: Mapping[str, StreamConfig],
        accumulating: Collection[str] = (),
    ) -> None:
        self._config = config
        self._deadline = Deadline(config)
        self._buffers: dict[str, StreamBuffer[T]] = {
            name: StreamBuffer(stream, accumulates=name in accumulating, most=config.ring)
            for name, stream in streams.items()
        }
        order = {name: rank for rank, name in enumerate(config.reference or streams)}
        self._priority = sorted(self._buffers, key=lambda name: (order.get(name, len(order)), name))
        self._last_stamp_ns = 0
        self._clock: _Clock[T] = _Clock()
        self.skipped = 0
        """References that were overtaken by a newer one before a set could leave (latest only)."""

    def configure(self, streams: Mapping[str, StreamConfig]) -> None:
        """The same streams, and what else may be said of them in mid-drive."""
        for name, buffer in self._buffers.items():
            buffer.configure(streams[name])

    @property
    def longest_wait_ns(self) -> int:
        """No set stays open for longer after its reference came, whatever the reference's rate."""
        return self._deadline.longest_ns

    @property
    def period_ns(self) -> int:
        """Of the sets, as far as it is known."""
        return self._period_ns()

    def push(self, message: Stamped[T]) -> None:
        """One admitted message (the `StampGuard` has seen it); stamps of a stream only grow."""
        self._buffers[message.modality].push(message)
        if message.modality == self._clock.opener:
            self._rebase_ticks(message)

    def _rebase_ticks(self, message: Stamped[T]) -> None:
        """Count ticks from the opener's newest message, if they keep running ahead of it.

        A camera that needs a while for exposure and transport speaks after the tick of its moment.
        """
        clock, before = self._clock, self._clock.before
        clock.before = message
        behind_ns = self._last_stamp_ns - message.stamp_ns
        # No mask leaves until it has made up for that: in mid-drive no longer than a delivery may
        # lag that leaves a sensor in use; longer where it has not opened a set yet.
        longest_ns = DOUBTED_NS if self._buffers[message.modality].opened else HOLD_MAX_NS
        if not 0 <= behind_ns <= longest_ns:
            clock.overtaken = 0
            return
        if before is not None:
            apart_ns = message.arrival_ns - before.arrival_ns
            if 2 * apart_ns <= message.stamp_ns - before.stamp_ns:
                clock.overtaken = 0  # a burst: what is missing comes at once, and ticks go on
                return
        clock.overtaken += 1
        if clock.overtaken >= OVERTAKEN:
            clock.reference, clock.ticks, clock.overtaken = message, 0, 0

    def reset(self) -> None:
        """A clock jump or a bag loop: forget the messages, keep the learned rates."""
        for buffer in self._buffers.values():
            buffer.clear()
        self._last_stamp_ns = 0
        self._clock = _Clock(self._clock.emitted_ns, tick_base_ns=self._clock.tick_base_ns)

    def forget(self, name: str) -> None:
        """The messages of one stream; its rate stays known."""
        self._buffers[name].clear()

    def poll(
        self, now_ns: int, usable: Collection[str], vet: Vet[T] | None = None
    ) -> Match[T] | None:
        """The newest set that is ready, or None.

        Args:
            now_ns: arrival clock.
            usable: the streams that health believes; only they are waited for and used.
            vet: looks into what a set is about to be made of, and says whether it may leave; if
                not, it has dropped what is bad (`drop`), nothing leaves, and who polls asks again.
        """
        usable = [name for name in self._priority if name in usable]
        for name in usable:
            self._buffers[name].lived = True
        opener = self._opener(usable)
        if opener != self._clock.opener and self._clock.polled:
            # Where all fell silent at once, whoever dies last does not show what is long past.
            self._clock.cutoff_ns = now_ns - self._deadline_ns(opener)
        self._clock.opener, self._clock.polled = opener, True
        if opener is not None and (pending := self._pending(opener)):
            position = self._next(pending, opener, usable, now_ns)
            if position is None:
                return None  # a set is open, and will leave in time
            match = self._close(pending[position].stamp_ns, opener, usable, now_ns, vet)
            self.skipped += position if match is not None else 0
            return match
        return self._tick(now_ns, usable, opener, vet)

    def drop(self, message: Stamped[T]) -> None:
        """Forget a message that turned out to be bad."""
        self._buffers[message.modality].drop(message)

    def wake_ns(self, now_ns: int, usable: Collection[str]) -> int | None:
        """When `poll` should be called next if nothing arrives before; None: no need."""
        usable = [name for name in self._priority if name in usable]
        opener = self._opener(usable)
        if opener is not None and (pending := self._pending(opener)):
            ready = self._ready(pending[0], opener, usable, now_ns)
            due_ns: int | None = now_ns if ready else self._latest_ns(pending[0], opener, usable)
        else:
            due_ns = self._tick_due_ns(usable, opener)
        return None if due_ns is None else max(due_ns, now_ns + 1)

    # -- who opens a set, and how long it is kept open ------------------------------------------

    def _opener(self, usable: list[str]) -> str | None:
        """The most wanted usable snapshot sensor; None leaves it to the ticks."""
        return next((name for name in usable if not self._buffers[name].accumulates), None)

    def _pending(self, opener: str) -> list[Stamped[T]]:
        """Messages of the reference that no set has left with; oldest first.

        What lay there when the last set left was part of it, though another stream opened it.
        """
        buffer = self._buffers[opener]
        since_ns = max(self._last_stamp_ns, buffer.taken_ns or 0)
        return [
            item
            for item in buffer.items
            if item.stamp_ns > since_ns and item.arrival_ns >= self._clock.cutoff_ns
        ]

    def _next(
        self, pending: list[Stamped[T]], opener: str, usable: list[str], now_ns: int
    ) -> int | None:
        """Which reference leaves now: the newest that is ready, but those of a burst in turn.

        A consumer that is late for the older ones gets the newest here, too.
        """
        position = next(
            (
                k
                for k in reversed(range(len(pending)))
                if self._ready(pending[k], opener, usable, now_ns)
            ),
            None,
        )
        while position:
            older, newer = pending[position - 1 : position + 1]
            apart_ns = newer.arrival_ns - older.arrival_ns
            late_ns = now_ns - self._latest_ns(older, opener, usable)
            if 2 * apart_ns > newer.stamp_ns - older.stamp_ns or late_ns > TARDY_NS:
                break
            position -= 1
        return position

    def _period_ns(self) -> int:
        """The rate promised to the user: that of the most wanted stream that has ever lived."""
        for name in self._priority:
            buffer = self._buffers[name]
            if buffer.lived and not buffer.accumulates and (period := buffer.rate.period_ns):
                return period
        return round(SECOND / self._config.free_rate_hz)

    def _tick_period_ns(self, usable: list[str]) -> int:
        """The same on the arrival clock, which a recording in slow motion stretches for all."""
        known = [s for name in usable if (s := self._buffers[name].slowness) is not None]
        return round(self._period_ns() * min(known, default=1.0))

    def _deadline_ns(self, opener: str | None) -> int:
        """How long a set that this stream opens may wait; None: one that a tick makes."""
        period_ns = self._buffers[opener].rate.period_ns if opener else self._period_ns()
        return self._deadline.of(period_ns)

    def _latest_ns(self, reference: Stamped[T], opener: str, usable: list[str]) -> int:
        """When an open set leaves at the latest: its deadline, or the tick that it stands for."""
        deadline_ns = reference.arrival_ns + self._deadline_ns(opener)
        tick_ns = self._tick_due_ns(usable, opener)
        if tick_ns is None or tick_ns < reference.arrival_ns:  # all were away, and come at once
            return deadline_ns
        return min(deadline_ns, tick_ns)

    def _ready(self, reference: Stamped[T], opener: str, usable: list[str], now_ns: int) -> bool:
        latest_ns = self._latest_ns(reference, opener, usable)
        return now_ns >= latest_ns or not any(
            self._due(name, reference.stamp_ns, latest_ns) for name in usable if name != opener
        )

    def _due(self, name: str, stamp_ns: int, latest_ns: int) -> bool:
        """Whether waiting makes sense: nothing near `stamp_ns` yet, and it should come in time."""
        buffer = self._buffers[name]
        if not buffer.items:
            return True
        newest_ns, slop_ns = buffer.items[-1].stamp_ns, buffer.slop_ns(self._period_ns())
        if newest_ns >= stamp_ns - slop_ns:
            return False
        period_ns = buffer.rate.period_ns
        if period_ns is None:
            return True
        in_time = buffer.items[-1].arrival_ns + period_ns <= latest_ns
        return in_time and newest_ns + period_ns <= stamp_ns + slop_ns

    # -- sets without a reference ----------------------------------------------------------------

    def _tick_due_ns(self, usable: list[str], opener: str | None) -> int | None:
        if not usable:
            return None
        clock = self._clock
        if clock.emitted_ns is None:  # only events so far: start when they do
            newest = [self._buffers[n].items[-1] for n in usable if self._buffers[n].items]
            return min(i.arrival_ns for i in newest) if opener is None and newest else None
        if self._awaited(usable) is None or clock.ticks:
            return clock.tick_base_ns + self._tick_period_ns(usable)
        # The first tick grants the late reference one deadline, from when it should have come; the
        # next ones follow at its rate. Where nobody has spoken since, all have stopped: no tick.
        since_ns = clock.tick_base_ns if clock.reference is None else clock.reference.arrival_ns
        expected_ns = since_ns + self._tick_period_ns(usable)
        spoken_ns = [
            i.arrival_ns
            for n in usable
            for i in self._buffers[n].items
            if i.arrival_ns > expected_ns
        ]
        if not spoken_ns:
            return None
        deadline_ns = self._deadline_ns(opener)
        if min(spoken_ns) > expected_ns + deadline_ns:  # all were away, and may come at once
            return min(spoken_ns) + deadline_ns
        return expected_ns + deadline_ns

    def _lag_ns(self, name: str, usable: list[str]) -> int:
        """How much later than the promptest stream this one delivers what it measured.

        A LiDAR that stamps the start of its sweep is a whole sweep behind the camera for good; that
        does not make its newest scan stale.
        """
        if self._buffers[name].told_age:
            return 0
        delays = {n: d for n in usable if (d := self._buffers[n].delay_ns) is not None}
        return min(delays[name] - min(delays.values()), HOLD_MAX_NS) if name in delays else 0

    def _awaited(self, usable: list[str]) -> str | None:
        """The most wanted stream, where it is believed: ticks leave because it stays away."""
        wanted = next((n for n in self._priority if self._buffers[n].lived), None)
        if wanted is None or wanted not in usable or self._buffers[wanted].accumulates:
            return None
        return wanted

    def _tick(
        self, now_ns: int, usable: list[str], opener: str | None, vet: Vet[T] | None
    ) -> Match[T] | None:
        due_ns = self._tick_due_ns(usable, opener)
        if due_ns is None or now_ns < due_ns:
            return None
        clock, awaited = self._clock, self._awaited(usable)
        # A busy consumer comes late: keep the beat, unless a whole one was missed.
        tick_base_ns = due_ns if now_ns - due_ns < self._tick_period_ns(usable) else now_ns
        until_ns = None
        if awaited is not None and clock.reference is not None:
            # It may yet come: stay behind its predicted stamp, so that it can still open a set.
            elapsed = clock.ticks + 0.75
            until_ns = clock.reference.stamp_ns + round(elapsed * self._period_ns())
        # A reference that was always there is left out at once: it may have died. One that is
        # known to be slow, or to lose messages, is held like the others.
        if awaited is not None and not self._buffers[awaited].unsteady:
            usable = [name for name in usable if name != awaited]
        stamps = [
            item.stamp_ns
            for name in usable
            for item in self._buffers[name].items
            if item.stamp_ns > self._last_stamp_ns
            and item.arrival_ns >= clock.cutoff_ns - self._period_ns()
            and (until_ns is None or item.stamp_ns <= until_ns)
        ]
        if not stamps:
            # Nothing new: look again a period later; an arrival is polled anyway.
            clock.emitted_ns = now_ns
            self._take_all(None)
            clock.tick_base_ns = tick_base_ns
            clock.ticks += 1
            return None
        match = self._close(max(stamps), None, usable, now_ns, vet)
        if match is None:
            return None
        self._clock.tick_base_ns = tick_base_ns
        if awaited is not None and awaited not in usable:
            missed = _late("expected for this mask, and did not come")
            return replace(match, absent={**match.absent, awaited: missed})
        return match

    # -- closing a set ---------------------------------------------------------------------------

    def _close(
        self,
        stamp_ns: int,
        opener: str | None,
        usable: list[str],
        now_ns: int,
        vet: Vet[T] | None,
    ) -> Match[T] | None:
        items: dict[str, tuple[Stamped[T], ...]] = {}
        absent: dict[str, Finding] = {}
        held_ns: dict[str, int] = {}
        period_ns = self._period_ns()
        for name in usable:
            buffer = self._buffers[name]
            limit_ns = buffer.max_age_ns(period_ns) + self._lag_ns(name, usable)
            slop_ns = 0 if buffer.accumulates else buffer.slop_ns(period_ns)
            known = [i for i in buffer.items if i.stamp_ns <= stamp_ns + slop_ns]
            if buffer.accumulates:  # of a burst there is more than a set wants
                known = [i for i in known if stamp_ns - i.stamp_ns <= EVENT_SPAN_NS] or known[-1:]
            if not known:
                absent[name] = _late("nothing as old as this mask yet")
                continue
            nearest = min(reversed(known), key=lambda item: abs(item.stamp_ns - stamp_ns))
            age_ns = stamp_ns - nearest.stamp_ns
            if age_ns > limit_ns:
                absent[name] = _too_old(age_ns, limit_ns)
                continue
            items[name] = tuple(known) if buffer.accumulates else (nearest,)
            held_ns[name] = age_ns
        if vet is not None and not vet(items):
            return None
        self._last_stamp_ns = stamp_ns
        self._take_all(opener)
        self._clock.emitted_ns = self._clock.tick_base_ns = now_ns
        self._clock.ticks = 0 if opener else self._clock.ticks + 1
        if opener:
            self._clock.reference = items[opener][0]
            self._buffers[opener].opened = True
        return Match(stamp_ns, opener, items, absent, held_ns)

    def _take_all(self, opener: str | None) -> None:
        """What lies there is part of the set that leaves; a burst's references open one each."""
        for name, buffer in self._buffers.items():
            if name != opener:
                buffer.take()


def _late(text: str) -> Finding:
    """Why a living stream is not in a set; nobody's quality suffers."""
    return Finding(Fault.LATE, fatal=False, text=text, score=1.0)


def _too_old(age_ns: int, limit_ns: int) -> Finding:
    age_ms, limit_ms = age_ns / MS, limit_ns / MS
    text = f"newest data is {age_ms:.0f} ms older than the mask, limit {limit_ms:.0f} ms"
    return replace(_late(text), value=age_ms, limit=limit_ms, unit="ms")
