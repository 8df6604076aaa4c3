"""Four drivers of a soak: their sensors break by the catalog, they themselves die and return."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from rclpy.node import Node

from fuzz.scenery import arrivals, healthy
from fuzz.soak import EVERY_S, schedule
from robustseg_core.codecs.fields import stamp_of
from robustseg_core.faults import Injector, parse_fault
from robustseg_core.faults._base import Sample, with_stamp
from robustseg_core.types import SECOND
from support import drives
from support.live_sensors import advertise, calibrate

WARM_UP_NS = 10 * SECOND
"""Healthy driving before anything is measured: periods are learned, allocators fill."""
SLIP_NS = SECOND // 2
"""Further behind than this, drivers let the lost time be: a burst would be another test."""
KEPT = 4096
"""Stamps whose time of sending is remembered."""


class Drivers:
    """Four sensors, their faults, and their deaths; messages leave when `speak` is called.

    Args:
        node: the publishers' owner.
        seconds: how long faults and deaths are scheduled for.
        seed: of both.
        faults: in place of random ones; then nobody dies.
    """

    def __init__(self, node: Node, seconds: float, seed: int, faults: Sequence[str] = ()) -> None:
        self.faults = list(faults) or schedule(seconds, seed)
        self.sent_ns: dict[int, int] = {}
        """Stamp -> when the newest message with it was sent, steady clock."""
        self.messages = self.slips = 0
        self.deaths = [] if faults else _deaths(seconds, seed)
        self._node = node
        self._publishers: dict[str, Any] = {}
        self._names = {topic: name for name, topic in drives.TOPICS.items()}
        specs = [parse_fault(text) for text in self.faults]
        self._injector = Injector(specs, seed=seed, topics=drives.TOPICS, start_ns=0)
        self._healthy = arrivals(WARM_UP_NS / SECOND + seconds + 60)
        self._next = next(self._healthy)
        for name in drives.ALL:
            healthy(name, 0, 0)  # draws a whole pool, which takes its time
        self._start_ns = self._epoch_ns = 0
        calibrate(node)

    def begin(self) -> None:
        """Time starts, with the warm-up."""
        self._start_ns = time.monotonic_ns()
        self._epoch_ns = time.time_ns()

    def now_ns(self) -> int:
        """Since the faults began to count; negative while all warm up."""
        return time.monotonic_ns() - self._start_ns - WARM_UP_NS

    @property
    def floods(self) -> list[tuple[float, float]]:
        """(begin, end) in seconds of every flood of events."""
        floods = (spec for spec in self._injector.specs if spec.name == "event_flood")
        return [(spec.start_s, spec.start_s + (spec.duration_s or 0)) for spec in floods]

    def calm(self) -> bool:
        """Whether nothing is broken now, nor was two seconds ago."""
        now_s = self.now_ns() / SECOND
        spans = [(spec.start_s, spec.duration_s) for spec in self._injector.specs]
        spans += [(at_s, lasts_s) for at_s, lasts_s, _ in self.deaths]
        return not any(at_s <= now_s < at_s + lasts_s + 2 for at_s, lasts_s in spans)

    def due_s(self) -> float:
        """Until the next message wants to leave."""
        at_ns = self._next[0] - WARM_UP_NS
        held_ns = self._injector.due_ns
        return (min(at_ns, at_ns if held_ns is None else held_ns) - self.now_ns()) / SECOND

    def speak(self) -> None:
        """Send what is due."""
        now_ns = self.now_ns()
        self._live(now_ns / SECOND)
        for sample in self._injector.release(now_ns):
            self._send(sample)
        while (at_ns := self._next[0] - WARM_UP_NS) <= now_ns:
            if now_ns - at_ns > SLIP_NS:
                self._start_ns += now_ns - at_ns
                self._epoch_ns += now_ns - at_ns
                self.slips += 1
                return
            at, name, message = self._next
            message = with_stamp(message, self._epoch_ns + at)
            for sample in self._injector.feed(drives.TOPICS[name], message, at_ns):
                self._send(sample)
            self._next = next(self._healthy)

    def _live(self, now_s: float) -> None:
        """Drivers that are due to be dead have no publisher, the others have one."""
        for name in drives.ALL:
            dead = any(n == name and at <= now_s < at + lasts for at, lasts, n in self.deaths)
            if dead and name in self._publishers:
                self._node.destroy_publisher(self._publishers.pop(name).rcl)
            elif not dead and name not in self._publishers:
                self._publishers[name] = advertise(self._node, name)

    def _send(self, sample: Sample) -> None:
        publisher = self._publishers.get(self._names[sample.topic])
        if publisher is None:
            return
        publisher.publish(sample.message)
        self.messages += 1
        self.sent_ns[stamp_of(sample.message)] = time.monotonic_ns()
        if len(self.sent_ns) > KEPT:
            del self.sent_ns[next(iter(self.sent_ns))]


def _deaths(seconds: float, seed: int) -> list[tuple[float, float, str]]:
    """(when, how long, who): drivers that die as often as sensors break."""
    random = np.random.default_rng([seed, 10])
    found, at_s = [], EVERY_S / 2
    while at_s < seconds - 12:
        found.append((at_s, random.uniform(0.5, 5), drives.ALL[int(random.integers(4))]))
        at_s += float(random.exponential(EVERY_S))
    return found
