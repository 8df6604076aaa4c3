"""All that was seen and heard, as plain data: what the checks look at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from robustseg_core import modalities
from robustseg_core.config import StreamConfig
from robustseg_core.doctor.loss import Wire
from robustseg_core.doctor.probe import Probe, StreamLog
from robustseg_core.doctor.report import Check, Status
from robustseg_core.modalities import Modality
from robustseg_core.types import SECOND, Health

OK, WARN, BAD, NONE = Status.OK, Status.WARN, Status.BAD, Status.NONE


@dataclass(frozen=True, slots=True)
class Offer:
    """What a recording or the ROS graph has on one topic."""

    types: tuple[str, ...]
    publishers: int | None = None
    """None: a recording does not tell."""
    mismatch: str = ""
    """Why publisher and subscriber do not match: both policies; the parameter that mends it."""
    latched: bool = True
    """Whether those who come late get the last message."""


@dataclass(frozen=True)
class Observation:
    """One look at a robot.

    Args:
        probe: has watched the messages being taken.
        offers: topic, as configured -> what is there; topics of other names may be among them.
        start_ns: when listening began, on the clock of `probe`'s arrivals.
        end_ns: when it ended.
        live: a robot; else a recording.
        ages_ms: modality -> age of its newest stamp on the robot's clock when it arrived.
        wire: how messages came; None: a recording does not tell.
    """

    probe: Probe
    offers: Mapping[str, Offer]
    start_ns: int
    end_ns: int
    live: bool = False
    ages_ms: Mapping[str, float] = field(default_factory=dict)
    wire: Wire | None = None

    @property
    def seconds(self) -> float:
        """How long was listened."""
        return (self.end_ns - self.start_ns) / SECOND


@dataclass(frozen=True)
class Stream:
    """One configured stream of an `Observation`."""

    observation: Observation
    name: str

    @property
    def config(self) -> StreamConfig:
        """Its part of robot.yaml."""
        return self.observation.probe.segmenter.config.streams[self.name]

    @property
    def kind(self) -> type[Modality]:
        """The modality."""
        return modalities.load(self.name)

    @property
    def log(self) -> StreamLog:
        """What arrived."""
        return self.observation.probe.logs[self.name]

    @property
    def health(self) -> Health:
        """What the monitor believes at the end."""
        return self.observation.probe.segmenter.health(self.observation.end_ns)[self.name]

    @property
    def offer(self) -> Offer | None:
        """What is on its topic; None: nobody knows that topic."""
        return self.observation.offers.get(self.config.topic)

    def ok(self, check: str, found: str = "") -> Check:
        """Nothing to mend."""
        return Check(check, OK, self._named(found))

    def warn(self, check: str, found: str, fix: str) -> Check:
        """Masks come, but could be better."""
        return Check(check, WARN, self._named(found), self._named(fix))

    def bad(self, check: str, found: str, fix: str) -> Check:
        """This keeps the sensor out."""
        return Check(check, BAD, self._named(found), self._named(fix))

    def _named(self, text: str) -> str:
        """`text` with <name> and <topic> filled in."""
        return text.replace("<name>", self.name).replace("<topic>", self.config.topic)


def of_type(offers: Mapping[str, Offer], types: Iterable[str]) -> list[str]:
    """Topics that offer one of `types`, by name."""
    wanted = set(types)
    return sorted(topic for topic, offer in offers.items() if wanted & set(offer.types))


def cut(sentence: str) -> tuple[str, str]:
    """(what is wrong, the way out) of a sentence as all our errors are: both, with a semicolon."""
    wrong, _, way_out = sentence.rpartition("; ")
    return (wrong, way_out) if wrong else (way_out, "")
