"""Messages through scheduled faults, one by one: seeded, repeatable, nothing else touched."""

from __future__ import annotations

import heapq
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from robustseg_core.errors import RobustsegError, did_you_mean
from robustseg_core.faults._base import FaultModel, FaultState, Sample
from robustseg_core.faults.schedule import ALL, FaultSpec, check
from robustseg_core.types import SECOND, Rejection, kind_of


class Injector:
    """Does what the faults of a schedule would do to a stream of messages; it has no clock.

    Each fault throws its own seeds for each topic, so adding a fault does not change the others.

    Args:
        specs: what goes wrong and when; faults of one topic are done in this order.
        seed: the same seed makes the same faults, to the bit.
        topics: stream -> its topic; a modality is a target for all of its streams.
        start_ns: the time that schedules count from; None: that of the first message fed.

    Raises:
        RobustsegError: a target that is no sensor here, or a fault that cannot be done to it.
    """

    def __init__(
        self,
        specs: Sequence[FaultSpec],
        *,
        seed: int = 0,
        topics: Mapping[str, str],
        start_ns: int | None = None,
    ) -> None:
        self.specs = tuple(specs)
        self.changed: Counter[str] = Counter()
        """Fault, as its spec prints -> messages that came while it was on."""
        self.refused: Counter[str] = Counter()
        """Why a message could not be changed, and was passed on as it is -> how many."""
        self._start_ns = start_ns
        self._later: list[tuple[int, int, Sample]] = []
        self._number = 0
        self._lines: dict[str, list[tuple[FaultSpec, FaultModel, FaultState]]] = {}
        names = {topic: kind_of(stream) for stream, topic in topics.items() if topic}
        for spec in self.specs:
            for topic in _targets(spec, topics):
                fault = check(spec, modality=names.get(topic))
                seeds = [seed, *(zlib.crc32(word.encode()) for word in (str(spec), topic))]
                state = FaultState(np.random.default_rng(seeds), modality=names.get(topic))
                self._lines.setdefault(topic, []).append((spec, fault, state))

    @property
    def topics(self) -> frozenset[str]:
        """The topics that some fault is done to; others need not be fed (but see `release`)."""
        return frozenset(self._lines)

    def reads(self, topic: str) -> bool:
        """Whether a fault of this topic looks into messages; else `feed` takes whatever stands for
        one, such as its bytes."""
        return any(fault.reads for _, fault, _ in self._lines.get(topic, ()))

    def feed(self, topic: str, message: Any, time_ns: int) -> list[Sample]:
        """What arrives now: what was held back until now, and what became of this message.

        The message passed in is never changed; one that no fault is done to comes back as it is.
        """
        ready = self.release(time_ns)
        samples = [Sample(topic, message, time_ns)]
        for spec, fault, state in self._lines.get(topic, ()):
            samples = [out for sample in samples for out in self._do(spec, fault, state, sample)]
        for sample in samples:
            if sample.time_ns <= time_ns:
                ready.append(sample)
            else:
                self._hold(sample)
        return ready

    def release(self, now_ns: int) -> list[Sample]:
        """Messages held back whose time has come, in the order of their times."""
        if self._start_ns is None:
            self._start_ns = now_ns
        ready = []
        while self._later and self._later[0][0] <= now_ns:
            ready.append(heapq.heappop(self._later)[2])
        return ready

    def flush(self) -> list[Sample]:
        """All that is still held back; the recording has ended."""
        for line in self._lines.values():
            for _, fault, state in line:
                for sample in fault.finish(state):
                    self._hold(sample)
        return [heapq.heappop(self._later)[2] for _ in range(len(self._later))]

    @property
    def due_ns(self) -> int | None:
        """When the next message that is held back wants to be released; None: there is none."""
        return self._later[0][0] if self._later else None

    def _hold(self, sample: Sample) -> None:
        self._number += 1  # equal times keep their order
        heapq.heappush(self._later, (sample.time_ns, self._number, sample))

    def _do(
        self, spec: FaultSpec, fault: FaultModel, state: FaultState, sample: Sample
    ) -> list[Sample]:
        state.now_ns = sample.time_ns
        try:
            if not spec.covers((sample.time_ns - (self._start_ns or 0)) / SECOND):
                fault.observe(sample.message, state)
                state.last = sample.message
                held = fault.finish(state) if state.count else []
                return [*(s._replace(time_ns=sample.time_ns) for s in held), sample]
            if not state.count:
                state.start_ns = sample.time_ns
            state.count += 1
            if state.last is None:
                state.last = sample.message
            self.changed[str(spec)] += 1
            return fault.apply(sample, state)
        except Rejection as rejection:
            text = str(rejection)
        except Exception as error:  # a message damaged already, or of a type that has no such part
            text = f"{type(error).__name__}: {error}"
        self.refused[f"{spec}: {text}"] += 1
        return [sample]


def _targets(spec: FaultSpec, topics: Mapping[str, str]) -> list[str]:
    """The topics that a target names."""
    if spec.target == ALL:
        return [topic for topic in topics.values() if topic]
    if found := [t for s, t in topics.items() if t and spec.target in (s, kind_of(s))]:
        return found
    if spec.target.startswith("/") or spec.target in topics.values():
        return [spec.target]
    raise RobustsegError(
        f"fault {spec} names no sensor of this robot; {did_you_mean(spec.target, topics)}"
    )
