"""What a bag holds, seen in one pass, of each topic one message; and which topic is which sensor.

This is what `robustseg inspect` shows, what `robustseg run` guesses from, and what writes the first
`robot.yaml` of a new robot.
"""

from __future__ import annotations

import math
import statistics
import tempfile
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from robustseg_core import modalities
from robustseg_core.bag import Bag, Recorded
from robustseg_core.bag.typestore import EVENT_ARRAYS, EVENT_PACKET, FORMER_EVENT_PACKET
from robustseg_core.codecs.event_cloud import EVENT_CLOUD, is_event_cloud
from robustseg_core.codecs.fields import as_bytes, sizes, word
from robustseg_core.codecs.message_types import CAMERA_INFO, CLOUD
from robustseg_core.codecs.picture import picture_size
from robustseg_core.config import StreamConfig, scalar
from robustseg_core.recording.guess import (
    IMAGES,
    Candidate,
    camera_info_of,
    in_order,
    is_truth,
    modality_of,
    rank,
    several,
    takers,
)
from robustseg_core.robot.config import RobotConfig
from robustseg_core.types import MS, SECOND, Rejection

_PACKETS = (EVENT_PACKET, FORMER_EVENT_PACKET, *EVENT_ARRAYS)
_GAP_PERIODS = 3.0
"""A pause of more median periods than this is a gap; the health monitor's silence limit."""
_SAME_LENS = 1e-3
"""Share by which the focal lengths of one camera differ; of two of a make, it is more."""
_MOST_NAMED = 4
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
    fx: float = 0.0
    """Focal length of a CameraInfo, in its pixels; 0: unknown."""
    truth: bool = False
    """Holds labels, not what a sensor saw."""
    problem: str = ""
    """Why its messages cannot be used, in the words of who would have to; empty: one could."""
    stream: str = ""
    """What it is guessed to be on a robot with several cameras, such as `rgb.front`; empty: no
    stream of one, or the robot has one camera."""

    @property
    def refused(self) -> bool:
        """Whether it would be a sensor's, could its messages be used."""
        return bool(self.problem and self.count and takers(self.type) and not self.truth)

    @property
    def candidate(self) -> Candidate:
        """What the guess knows of it."""
        count = 0 if self.problem else self.count
        return Candidate(self.topic, self.type, count, self.encoding, self.points)

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

    @property
    def streams(self) -> dict[str, TopicSurvey]:
        """stream -> its topic, by rank: `modalities`, unless the robot has several cameras."""
        found = {t.stream: t for t in self.topics if t.stream}
        ordered = modalities.ranked(sorted(found, key=in_order))
        return {name: found[name] for name in ordered} or self.modalities

    def to_json(self) -> dict[str, Any]:
        """Plain dicts and lists: `topics`, `start_ns`, `duration_s`, `notices`."""
        return {
            "topics": [asdict(topic) for topic in self.topics],
            "start_ns": self.start_ns,
            "duration_s": self.duration_s,
            "notices": list(self.notices),
        }

    def robot(self, *, several: bool = False) -> RobotConfig:
        """The guess as a configuration; a modality without a topic is left out.

        Args:
            several: with all cameras, if there are several; else with the likeliest.
        """
        return RobotConfig(
            streams={
                name: StreamConfig(
                    topic=topic.topic,
                    camera_info=topic.camera_info,
                    rate_hz=_rounded(topic.rate_hz),
                )
                for name, topic in (self.streams if several else self.modalities).items()
            }
        )

    def robot_yaml(self, *, several: bool = False) -> str:
        """`robot()` as a ROS parameter file to paste, with the alternatives as comments."""
        found = self.streams if several else self.modalities
        lines = ["/**:", "  ros__parameters:"]  # any node: the segmenter, the saboteur
        lines.append("    streams:" if found else "    streams: {}")
        for name, topic in found.items():
            kind, _, own = name.partition(".")
            if own and f"      {kind}:" not in lines:
                lines.append(f"      {kind}:")  # ROS takes no key with a dot in it
            indent = " " * (8 if own else 6)
            lines += [f"{indent}{own or kind}:", f"{indent}  topic: {scalar(topic.topic)}"]
            others = [
                t.topic
                for t in self.topics
                if t.alternative_for == name and not (several and t.stream)
            ]
            lines += [f"{indent}  # or: {scalar(other)}" for other in others]
            if topic.camera_info:
                lines.append(f"{indent}  camera_info: {scalar(topic.camera_info)}")
            if topic.rate_hz:
                lines.append(f"{indent}  rate_hz: {_rounded(topic.rate_hz)}")
        return "\n".join(lines) + "\n"


class Surveyor:
    """Looks at messages one by one: 16 bytes are kept of each, and one message per topic."""

    def __init__(self) -> None:
        self._tallies: dict[tuple[str, str], _Tally] = {}

    def expect(self, topic: str, kind: str, problem: str = "") -> None:
        """A topic that may have messages; `problem` says why they could not be used."""
        self._tallies.setdefault((topic, kind), _Tally(topic, kind, problem=problem))

    def add(self, recorded: Recorded) -> None:
        """A message."""
        key = recorded.topic, recorded.type
        if key not in self._tallies:  # found on the way in a damaged bag
            self.expect(*key)
        self._tallies[key].add(recorded)

    def found(self, start_ns: int, duration_ns: int, notices: Iterable[str]) -> Survey:
        """What was seen so far."""
        topics = tuple(_guessed([tally.topic() for tally in self._tallies.values()]))
        return Survey(
            topics=topics,
            start_ns=start_ns,
            duration_s=duration_ns / SECOND,
            notices=(*notices, *_in_one_frame(topics)),
        )


def survey(bag: Bag) -> Survey:
    """Everything about `bag` in one pass.

    Never raises for what is in the bag: a topic that cannot be decoded says so in `problem`.
    """
    surveyor = Surveyor()
    for topic in bag.topics:
        surveyor.expect(topic.name, topic.type, topic.why)
    for recorded in bag.messages():
        surveyor.add(recorded)
    return surveyor.found(bag.start_ns, bag.duration_ns, bag.notices)


def robot_file(path: Path) -> Path:
    """A parameter file, in a new temporary folder, of the robot that made this recording.

    Raises:
        RobustsegError: there is no such recording, or it is none.
    """
    with Bag([path]) as bag:
        text = survey(bag).robot_yaml()
    made = Path(tempfile.mkdtemp(prefix="robustseg-")) / "robot.yaml"
    made.write_text(text)
    return made


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
        look: dict[str, Any] = {"encoding": "", "width": 0, "height": 0, "points": 0, "fx": 0.0}
        look |= self.look or {}
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
    if kind == CAMERA_INFO:
        return {"width": width, "height": height, "fx": _focal(message)}
    return {"width": width, "height": height, "encoding": word(message, "encoding")}


def _focal(message: Any) -> float:
    """fx of a CameraInfo in pixels; 0: it has none."""
    try:
        fx = float(message.k[0])
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, OverflowError):
        return 0.0  # a damaged definition can make anything of it
    return fx if math.isfinite(fx) else 0.0


def _guessed(topics: list[TopicSurvey]) -> Iterable[TopicSurvey]:
    """The topics with modality, alternatives, CameraInfo and truth filled in."""
    candidates = {t.topic: t.candidate for t in topics}
    ranked = rank(candidates.values())
    chosen = {names[0]: modality for modality, names in ranked.items()}
    others = {name: modality for modality, names in ranked.items() for name in names[1:]}
    streams = several(ranked, {t.topic: t.frame_id for t in topics})
    infos = [t for t in topics if t.type == CAMERA_INFO and t.count]
    for t in topics:
        yield replace(
            t,
            modality=chosen.get(t.topic),
            alternative_for=others.get(t.topic),
            stream=streams.get(t.topic, ""),
            camera_info=_camera_info(t, infos) if t.type in IMAGES else "",
            truth=is_truth(candidates[t.topic]),
        )


def _in_one_frame(topics: Iterable[TopicSurvey]) -> Iterator[str]:
    """Cameras that say they are in one place, and are not: their lenses differ.

    A copy, a scaled copy and a crop have the same lens: aligned depth, a rectified image.
    """
    frames: dict[str, list[TopicSurvey]] = {}
    for info in topics:
        if info.type == CAMERA_INFO and info.frame_id and info.fx > 0 and info.width:
            frames.setdefault(info.frame_id, []).append(info)
    for frame_id, infos in frames.items():
        others = [one.topic for one in infos[1:] if not _same_lens(infos[0], one)]
        if others:
            shown = " and ".join([infos[0].topic, *others][:_MOST_NAMED])
            yield (
                f"{shown} are of different cameras, and all in the frame {frame_id!r}; let each "
                "driver name its own optical frame, or LiDAR and depth land in the wrong picture"
            )


def _same_lens(one: TopicSurvey, other: TopicSurvey) -> bool:
    pairs = (one.fx, other.fx), (one.fx / one.width, other.fx / other.width)
    return any(abs(a - b) <= _SAME_LENS * max(a, b) for a, b in pairs)


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
