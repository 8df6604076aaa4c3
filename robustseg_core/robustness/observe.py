"""A robot that is watched: what was said of each sensor, when, and what each mask was made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from robustseg_core.bag import Bag
from robustseg_core.engines.blank import blank
from robustseg_core.errors import RobustsegError
from robustseg_core.robot.config import RobotConfig
from robustseg_core.segmenter import Segmenter
from robustseg_core.types import MS, SECOND, Fault, Finding, LabelMap, ModelSpec, State

EVERY_NS = 50 * MS
"""Health is asked for at least this often."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One mask, without its pixels."""

    at_s: float
    """When it was made, in seconds of the drive's (arrival) time."""
    stamp_ns: int
    used: frozenset[str]
    absent: frozenset[str]
    """Modalities that are believed, and are not in it all the same."""


class Watched(Segmenter):
    """A segmenter that keeps a diary.

    Args:
        config: the robot.
        spec: what the network expects.
        start_ns: what seconds count from.
        on_mask: is shown every mask.
    """

    def __init__(
        self,
        config: RobotConfig,
        spec: ModelSpec,
        *,
        start_ns: int,
        on_mask: Callable[[LabelMap], None] = lambda label_map: None,
    ) -> None:
        super().__init__(config, spec, blank(spec))
        self.seen: list[Seen] = []
        self.said: dict[str, list[tuple[float, Fault]]] = {name: [] for name in self.streams}
        """Of each sensor, what was said of it, and when: once when it begins, rejections each."""
        self.states: dict[str, list[tuple[float, State]]] = {name: [] for name in self.streams}
        """Of each sensor, its states, and when they began."""
        self._start_ns = self._looked_ns = start_ns
        self._on_mask = on_mask
        self._saying: dict[str, frozenset[Fault]] = dict.fromkeys(self.streams, frozenset())
        self._rejected: dict[str, dict[Fault, int]] = {name: {} for name in self.streams}

    def push(self, modality: str, message: Any, now_ns: int) -> Finding | None:
        """As a segmenter; then the diary is written."""
        self.look(now_ns)  # what silence has done until now
        finding = super().push(modality, message, now_ns)
        self.look(now_ns)
        return finding

    def step(self, now_ns: int) -> LabelMap | None:
        """As a segmenter; the mask goes into the diary."""
        label_map = super().step(now_ns)
        self.look(now_ns, label_map)
        if label_map is not None:
            self._on_mask(label_map)
        return label_map

    def wake_ns(self, now_ns: int) -> int | None:
        """As a segmenter, but no later than the next look: a node publishes diagnostics, too."""
        wake_ns, look_ns = super().wake_ns(now_ns), self._looked_ns + EVERY_NS
        return max(now_ns + 1, look_ns if wake_ns is None else min(wake_ns, look_ns))

    def look(self, now_ns: int, label_map: LabelMap | None = None) -> None:
        """Write down what is new."""
        self._looked_ns = now_ns
        at_s = (now_ns - self._start_ns) / SECOND
        reasons = {} if label_map is None else label_map.reasons
        used = () if label_map is None else label_map.used
        for name, health in self.health(now_ns).items():
            if not self.states[name] or self.states[name][-1][1] is not health.state:
                since_ns = now_ns if health.since_ns is None else health.since_ns
                began_s = (since_ns - self._start_ns) / SECOND
                self.states[name].append((began_s, health.state))
            saying = frozenset(finding.fault for finding in health.findings)
            told = () if name in used else reasons.get(name, ())
            news = set(saying - self._saying[name]) | {finding.fault for finding in told[:1]}
            for fault, count in health.rejected.items():
                if count != self._rejected[name].get(fault, 0):
                    news.add(fault)
            self.said[name] += [(at_s, fault) for fault in sorted(news)]
            self._saying[name], self._rejected[name] = saying, dict(health.rejected)
        if label_map is not None:
            believed = frozenset(n for n, state in label_map.states.items() if state.usable)
            made = frozenset(label_map.used)
            self.seen.append(Seen(at_s, label_map.stamp_ns, made, believed - made))


def rates(bag: Bag, robot: RobotConfig) -> dict[str, float]:
    """Messages a second of each sensor, from the recording's counts.

    Raises:
        RobustsegError: a sensor of which there are not two messages.
    """
    counts = {topic.name: topic.count for topic in bag.topics}
    found = {}
    for name, stream in robot.streams.items():
        if not stream.topic:
            continue
        if (count := counts.get(stream.topic, 0)) < 2:
            raise RobustsegError(
                f"{bag.paths[0].name} has {count} messages of {name} ({stream.topic}); the matrix "
                "needs a drive on which every configured sensor is healthy"
            )
        found[name] = count * SECOND / bag.duration_ns
    return found
