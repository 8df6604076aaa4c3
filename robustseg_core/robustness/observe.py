"""A robot that is watched: what was said of each sensor, when, and what each mask was made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from robustseg_core.bag import Bag
from robustseg_core.engines.blank import blank
from robustseg_core.errors import RobustsegError
from robustseg_core.intake import Observer
from robustseg_core.robot.config import RobotConfig
from robustseg_core.segmenter import Segmenter
from robustseg_core.types import MS, SECOND, Fault, Finding, LabelMap, ModelSpec, State

EVERY_NS = 20 * MS
"""A watched robot is stepped, and its health looked at, at least this often: the grain of what it
says where nothing arrives that would step it (the live node has a timer for the very moment)."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One mask, without its pixels."""

    at_s: float
    """When it was made, in seconds of the drive's (arrival) time."""
    stamp_ns: int
    used: frozenset[str]
    absent: frozenset[str]
    """Modalities that are believed, and are not in it all the same."""


class Watched(Observer):
    """A segmenter, and a diary of what it says.

    Args:
        config: the robot.
        spec: what the network expects.
        start_ns: what seconds count from.
    """

    def __init__(self, config: RobotConfig, spec: ModelSpec, *, start_ns: int) -> None:
        self.segmenter = Segmenter(config, spec, blank(spec), observer=self)
        streams = self.segmenter.streams
        self.seen: list[Seen] = []
        self.said: dict[str, list[tuple[float, Fault]]] = {name: [] for name in streams}
        """Of each sensor, what was said of it, and when: once when it begins, rejections each."""
        self.states: dict[str, list[tuple[float, State]]] = {name: [] for name in streams}
        """Of each sensor, its states, and when they began."""
        self._start_ns = start_ns
        self._saying: dict[str, frozenset[Fault]] = dict.fromkeys(streams, frozenset())
        self._rejected: dict[str, dict[Fault, int]] = {name: {} for name in streams}

    def arriving(self, modality: str, now_ns: int) -> None:
        """Write down what silence has done until now."""
        self.look(now_ns)

    def pushed(self, modality: str, message: Any, now_ns: int, finding: Finding | None) -> None:
        """Write down what the message has done."""
        self.look(now_ns)

    def stepped(self, now_ns: int, label_map: LabelMap | None) -> None:
        """The mask goes into the diary."""
        self.look(now_ns, label_map)

    def look(self, now_ns: int, label_map: LabelMap | None = None) -> None:
        """Write down what is new."""
        at_s = (now_ns - self._start_ns) / SECOND
        reasons = {} if label_map is None else label_map.reasons
        used = () if label_map is None else label_map.used
        for name, health in self.segmenter.health(now_ns).items():
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
    for name, topic in robot.topics.items():
        if (count := counts.get(topic, 0)) < 2:
            raise RobustsegError(
                f"{bag.paths[0].name} has {count} messages of {name} ({topic}); the matrix "
                "needs a drive on which every configured sensor is healthy"
            )
        found[name] = count * SECOND / bag.duration_ns
    return found
