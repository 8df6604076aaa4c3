"""What a bag holds, seen in one pass, of each topic one message; and which topic is which sensor.

This is what `robustseg inspect` shows, what `robustseg run` guesses from, and what writes the first
`robot.yaml` of a new robot.
"""

from __future__ import annotations

import statistics
from array import array
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from robustseg_core import modalities
from robustseg_core.bag import Bag, Recorded
from robustseg_core.bag.typestore import EVENT_ARRAYS, EVENT_PACKET, FORMER_EVENT_PACKET
from robustseg_core.codecs.event_cloud import EVENT_CLOUD, is_event_cloud
from robustseg_core.codecs.fields import as_bytes, sizes, word
from robustseg_core.codecs.picture import picture_size
from robustseg_core.config import StreamConfig, scalar
from robustseg_core.recording.guess import (
    CAMERA_INFO,
    CLOUD,
    IMAGES,
    Candidate,
    camera_info_of,
    is_truth,
    modality_of,
    rank,
    takers,
)
from robustseg_core.robot.config import RobotConfig
from robustseg_core.types import MS, SECOND, Rejection

_PACKETS = (EVENT_PACKET, FORMER_EVENT_PACKET, *EVENT_ARRAYS)
_GAP_PERIODS = 3.0
"""A pause of more median periods than this is a gap; the health monitor's silence limit."""
_LATEST_NS = 2**63 - 1
"""A log time has 64 bits, of which a damaged file may set the topmost."""


@dataclass(frozen=True, slots=True)
class TopicSurvey:
    """One topic, measured."""

    topic: str
    type: str
    count: int
    """Messages seen, not those that an index promises."""
    rate_hz: float | None
    """Of the stream while it runs: gaps are not counted in; None below two messages."""
    clock: str
    """`header`: rate and gaps are those of the header stamps; `log`: of the log times."""
    largest_gap_ms: float | None
    gaps: int
    """Pauses of more than three median periods."""
    first_ns: int
    """Log time."""
    last_ns: int
    frame_id: str
    encoding: str
    """Of the first image or event packet."""
    width: int
    """Pixels of the first image, event sensor or CameraInfo; 0: unknown."""
    height: int
    points: int
    """Of the first cloud."""
    modality: str | None = None
    """What this topic is guessed to be; one topic per modality."""
    alternative_for: str | None = None
    """What it could also have been, where another topic was more likely."""
    camera_info: str = ""
    """The CameraInfo topic of an image topic; empty: there is none."""
    truth: bool = False
    """Holds labels, not what a sensor saw."""
    problem: str = ""
    """Why its messages cannot be used, in the words of who would have to; empty: one could."""

    @property
    def refused(self) -> bool:
        """Whether it would be a sensor's, could its messages be used."""
        return bool(self.problem and self.count and takers(self.type) and not self.truth)

    @property
    def decodable(self) -> bool:
        """Whether its messages can be used."""
        return not self.problem


@dataclass(frozen=True, slots=True)
class Survey:
    """What `survey` found."""

    topics: tuple[TopicSurvey, ...]
    start_ns: int
    duration_s: float
    notices: tuple[str, ...]

    @property
    def modalities(self) -> dict[str, TopicSurvey]:
        """modality -> its topic, by rank."""
        found = {t.modality: t for t in self.topics if t.modality}
        return {name: found[name] for name in modalities.ranked(found)}

    def to_json(self) -> dict[str, Any]:
        """Plain dicts and lists: `topics`, `start_ns`, `duration_s`, `notices`."""
        return {
            "topics": [asdict(topic) for topic in self.topics],
            "start_ns": self.start_ns,
            "duration_s": self.duration_s,
            "notices": list(self.notices),
        }

    def robot(self) -> RobotConfig:
        """The guess as a configuration; a modality without a topic is left out."""
        return RobotConfig(
            streams={
                name: StreamConfig(
                    topic=topic.topic,
                    camera_info=topic.camera_info,
                    rate_hz=_rounded(topic.rate_hz),
                )
                for name, topic in self.modalities.items()
            }
        )

    def robot_yaml(self) -> str:
        """`robot()` as a ROS parameter file to paste, with the alternatives as comments."""
        lines = ["/**:", "  ros__parameters:"]  # any node: the segmenter, the saboteur
        lines.append("    streams:" if self.modalities else "    streams: {}")
        for name, topic in self.modalities.items():
            lines += [f"      {name}:", f"        topic: {scalar(topic.topic)}"]
            others = [t.topic for t in self.topics if t.alternative_for == name]
            lines += [f"        # or: {scalar(other)}" for other in others]
            if topic.camera_info:
                lines.append(f"        camera_info: {scalar(topic.camera_info)}")
            if topic.rate_hz:
                lines.append(f"        rate_hz: {_rounded(topic.rate_hz)}")
        return "\n".join(lines) + "\n"


def survey(bag: Bag) -> Survey:
    """Everything about `bag` in one pass: 16 bytes are kept per message, and one message per topic.

    Never raises for what is in the bag: a topic that cannot be decoded says so in `problem`.
    """
    tallies = {(t.name, t.type): _Tally(t.name, t.type, problem=t.why) for t in bag.topics}
    for recorded in bag.messages():
        key = recorded.topic, recorded.type
        if key not in tallies:  # found on the way in a damaged bag
            tallies[key] = _Tally(*key)
        tallies[key].add(recorded)
    return Survey(
        topics=tuple(_guessed([tally.topic() for tally in tallies.values()])),
        start_ns=bag.start_ns,
        duration_s=bag.duration_ns / SECOND,
        notices=tuple(bag.notices),
    )


@dataclass
class _Tally:
    """One topic while it is being counted."""

    name: str
    type: str
    problem: str = ""
    logs: array[int] = field(default_factory=lambda: array("q"))
    stamps: array[int] = field(default_factory=lambda: array("q"))
    frame_id: str = ""
    look: dict[str, Any] | None = None
    """What the first message looked like."""
    seen: bool = False
    """Whether no other message needs to be looked at."""

    def add(self, recorded: Recorded) -> None:
        self.logs.append(min(recorded.time_ns, _LATEST_NS))
        if header := recorded.header():
            self.stamps.append(header[0])
            self.frame_id = self.frame_id or header[1]
        if not self.seen and recorded.codec.why == "":
            try:
                if self.type == CAMERA_INFO or takers(self.type):
                    message = recorded.message()
                    self.look = _look(self.type, message)
                    self._probe(message)
                self.seen, self.problem = True, ""
            except Rejection as rejection:
                self.seen, self.problem = rejection.finding.final, str(rejection)

    def _probe(self, message: Any) -> None:
        """What `run` would say of the message, had this topic been chosen."""
        look = self.look or {}
        name = modality_of(Candidate(self.name, self.type, 1, look.get("encoding", "")))
        if name is not None:
            modalities.load(name)().probe(message)

    def topic(self) -> TopicSurvey:
        clock, times = "log", np.array(self.logs, np.int64)
        stamps = np.array(self.stamps, np.int64)
        if len(stamps) == len(times) > 0 and np.all(stamps > 0) and _mostly_new(stamps):
            clock, times = "header", stamps
        periods = np.diff(times)
        periods = periods[periods > 0]  # a bag loop goes back, and is no period
        rate_hz = largest_gap_ms = None
        gaps = 0
        if len(periods):
            ordinary = periods <= _GAP_PERIODS * statistics.median(periods.tolist())
            rate_hz = float(SECOND / periods[ordinary].mean())
            largest_gap_ms = float(periods.max() / MS)
            gaps = int((~ordinary).sum())
        look: dict[str, Any] = {"encoding": "", "width": 0, "height": 0, "points": 0} | (
            self.look or {}
        )
        return TopicSurvey(
            topic=self.name,
            type=self.type,
            count=len(self.logs),
            rate_hz=rate_hz,
            clock=clock,
            largest_gap_ms=largest_gap_ms,
            gaps=gaps,
            first_ns=min(self.logs, default=0),
            last_ns=max(self.logs, default=0),
            frame_id=self.frame_id,
            problem=self.problem,
            **look,
        )


def _mostly_new(stamps: np.ndarray) -> bool:
    return len(stamps) < 2 or bool(np.mean(np.diff(stamps) > 0) > 0.5)


def _look(kind: str, message: Any) -> dict[str, Any]:
    """Size and encoding of one message; empty for types without."""
    if kind not in (*IMAGES, *_PACKETS, CLOUD, CAMERA_INFO):
        return {}
    if kind == IMAGES[1]:
        data = as_bytes(getattr(message, "data", None))
        # also behind the 12 bytes of compressedDepth
        height, width = picture_size(data) or picture_size(data[12:]) or (0, 0)
        return {"encoding": word(message, "format"), "width": width, "height": height}
    width, height = sizes(message, "width", "height")
    if kind == CLOUD:
        form = EVENT_CLOUD if is_event_cloud(message) else ""
        return {"points": width * height, "encoding": form}
    encoding = "" if kind == CAMERA_INFO else word(message, "encoding")
    return {"width": width, "height": height, "encoding": encoding}


def _guessed(topics: list[TopicSurvey]) -> Iterable[TopicSurvey]:
    """The topics with modality, alternatives, CameraInfo and truth filled in."""
    candidates = {
        t.topic: Candidate(t.topic, t.type, 0 if t.problem else t.count, t.encoding, t.points)
        for t in topics
    }
    ranked = rank(candidates.values())
    chosen = {names[0]: modality for modality, names in ranked.items()}
    others = {name: modality for modality, names in ranked.items() for name in names[1:]}
    infos = [t for t in topics if t.type == CAMERA_INFO and t.count]
    for t in topics:
        yield replace(
            t,
            modality=chosen.get(t.topic),
            alternative_for=others.get(t.topic),
            camera_info=_camera_info(t, infos) if t.type in IMAGES else "",
            truth=is_truth(candidates[t.topic]),
        )


def _camera_info(image: TopicSurvey, infos: list[TopicSurvey]) -> str:
    """By namespace; else the only one of the same frame and size (depth aligned to colour)."""
    if name := camera_info_of(image.topic, (info.topic for info in infos)):
        return name
    twins = [
        info.topic
        for info in infos
        if (info.frame_id, info.width, info.height) == (image.frame_id, image.width, image.height)
    ]
    return twins[0] if len(twins) == 1 else ""


def _rounded(rate_hz: float | None) -> float:
    """Three digits are what a measured rate is good for; 0: unknown."""
    return float(f"{rate_hz:.3g}") if rate_hz else 0.0
