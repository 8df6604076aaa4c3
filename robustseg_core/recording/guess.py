"""Which topic is which sensor: by its type, its first message's encoding, the words of its name.

A guess is a score per topic and modality. Each modality declares what its topics have in common
(`Modality.guess`); here lies what is no sensor's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from robustseg_core import modalities
from robustseg_core.codecs.message_types import CLOUD, COMPRESSED_IMAGE, IMAGE
from robustseg_core.modalities import Modality
from robustseg_core.output.topics import is_output
from robustseg_core.robot.topics import TRANSPORTS

IMAGES = (IMAGE, COMPRESSED_IMAGE)

_LABEL = re.compile(
    r"\b(labels?|masks?|seg|segmentation|semantics?|truth|gt|groundtruth|panoptic|class(es)?)\b"
)
"""Words that others' labels go by, ..."""
_DRAWN = re.compile(r"\b(overlay|annotated|debug|visuali[sz]ation|detections?|heatmap|result)\b")
"""... and others' drawings; ours are known by their names (`output.topics`)."""
CAMERA = "rgb"
"""Whose topics say whether a robot has several cameras."""
_SIDES = (
    *("front", "fwd", "forward", "center", "middle", "top", "left", "right", "side"),
    *("rear", "back", "backward", "bottom", "fl", "fr", "rl", "rr", "bl", "br", "near", "far"),
)
"""Words for the side that a sensor looks to, or hangs at."""
_NUMBERED = ("camera", "cam", "lidar", "image", "velodyne", "ouster", "livox", "pandar")
"""Words that a sensor's number follows."""
_PAIR = frozenset({"left", "right"})
"""A stereo pair."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """What the guess knows of a topic."""

    topic: str
    type: str
    count: int
    encoding: str = ""
    """Image encoding, compressed format or event encoding of the first message."""
    points: int = 0
    """Of the first cloud."""


def words(topic: str) -> str:
    """The words of a topic's name, in lower case: `/os1_cloudNode` is `os cloud node`."""
    return re.sub(r"[^a-z]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", topic).lower()).strip()


def is_truth(candidate: Candidate) -> bool:
    """Whether an image or cloud holds labels rather than what a sensor saw."""
    known = candidate.type in (*IMAGES, CLOUD)
    return known and bool(_LABEL.search(words(candidate.topic)))


def modality_of(candidate: Candidate) -> str | None:
    """What sensor a topic could be; None: none of ours (labels and drawings are no sensors)."""
    name = words(candidate.topic)
    drawn = is_output(candidate.topic) or _DRAWN.search(name)
    if is_truth(candidate) or (candidate.type in (*IMAGES, CLOUD) and drawn):
        return None
    taking = takers(candidate.type)
    claims = [kind for kind, m in taking.items() if m.guess.claims(name, candidate.encoding)]
    if claims:
        return max(claims, key=lambda kind: taking[kind].guess.score(name, candidate.encoding))
    return next((kind for kind, m in taking.items() if not m.guess.picky(candidate.type)), None)


def takers(kind: str) -> dict[str, type[Modality]]:
    """The modalities that have messages of this type, by rank."""
    return {name: m for name, m in modalities.usable().items() if kind in m.messages}


def rank(candidates: Iterable[Candidate]) -> dict[str, list[str]]:
    """modality -> topics that could be it, the most likely first."""
    ranked: dict[str, list[tuple[tuple[int, int, int], str]]] = {}
    for candidate in candidates:
        modality = modality_of(candidate)
        if modality is None or not candidate.count:
            continue
        key = (score_of(modality, candidate), candidate.points, candidate.count)
        ranked.setdefault(modality, []).append((key, candidate.topic))
    return {
        modality: [
            topic for _, topic in sorted(ranked[modality], key=lambda r: (_down(r[0]), r[1]))
        ]
        for modality in modalities.ranked(ranked)
    }


def place_of(topic: str) -> tuple[tuple[str, ...], str]:
    """(the words of a topic's name that say nothing of a place, those that do as a stream's name).

    `/CAM_FRONT_LEFT/image` is `front_left` of (cam, image); `/sensing/camera/camera2/image_raw` is
    `camera2` of (sensing, camera, camera, image, raw); of a name without both, the name is empty.
    """
    spelled = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", topic).lower()
    rest, sides, numbers = list[str](), list[str](), list[str]()
    for word in re.findall(r"[a-z0-9]+", spelled):
        bare = word.rstrip("0123456789")
        rest += [] if word in _SIDES else [bare]
        sides += [word] if word in _SIDES else []
        numbers += [word] if bare != word and bare in _NUMBERED else []
    return tuple(filter(None, rest)), "_".join(sides or numbers[:1])


def several(ranked: Mapping[str, Sequence[str]], frames: Mapping[str, str]) -> dict[str, str]:
    """Topic -> stream, such as `rgb.front`, of a robot that looks as if it had several cameras.

    Its camera topics are called alike but for the side that each looks to, or for its number, and
    name frames of their own. A left and a right one are a stereo pair, and so are two numbers: one
    camera. Depth and event cameras join those that are called as they are; LiDARs are several as
    cameras are. Empty: it has one camera.

    Args:
        ranked: as `rank` gives it.
        frames: topic -> the frame of its messages.
    """
    cameras = _alike(ranked.get(CAMERA, ()), frames)
    if len(cameras) < 3 and (_is_pair(cameras) or _numbers(cameras)):
        return {}
    found = {topic: f"{CAMERA}.{name}" for name, topic in cameras.items()}
    for kind, topics in ranked.items():
        if kind == CAMERA or not topics:
            continue
        if modalities.load(kind).needs_view:
            group = _alike(topics, frames)
            found |= {topic: f"{kind}.{name}" for name, topic in group.items()}
            if not group:
                found[topics[0]] = kind
            continue
        own: dict[str, str] = {}
        for topic in topics:
            if (name := place_of(topic)[1]) in cameras:
                own.setdefault(name, topic)
        found |= {topic: f"{kind}.{name}" for name, topic in own.items()}
    return found


def _alike(topics: Sequence[str], frames: Mapping[str, str]) -> dict[str, str]:
    """Name -> topic of those that are called as the first is, but for their places; none: one."""
    group: dict[str, str] = {}
    for topic in topics:
        rest, name = place_of(topic)
        if name and rest == place_of(topics[0])[0]:
            group.setdefault(name, topic)
    apart = {frames.get(topic, "") for topic in group.values()} - {""}
    return {name: group[name] for name in sorted(group, key=in_order)} if len(apart) > 1 else {}


def in_order(stream: str) -> tuple[list[int], str]:
    """By its name, front first: as people go around a robot."""
    words = stream.rpartition(".")[2].split("_")
    return [_SIDES.index(word) for word in words if word in _SIDES], stream


def _numbers(names: Iterable[str]) -> bool:
    """Whether sensors are numbered."""
    return all(name[-1:].isdigit() for name in names)


def _is_pair(names: Iterable[str]) -> bool:
    """Whether they are left and right of one place."""
    places = {" ".join(w for w in name.split("_") if w not in _PAIR) for name in names}
    return len(places) == 1


def camera_info_of(topic: str, infos: Iterable[str]) -> str:
    """The CameraInfo topic beside an image topic, by namespace; empty: there is none.

    `/camera/color/image_raw/compressed` belongs to `/camera/color/camera_info`; a driver that has
    only one per node (`/cam/left/image`, `/cam/camera_info`) is found one level up.
    """
    known = set(infos)
    parts = topic.strip("/").split("/")
    if parts[-1] in TRANSPORTS:
        parts.pop()
    for depth in (len(parts) - 1, len(parts), len(parts) - 2):
        if depth >= 0 and (name := "/".join(["", *parts[:depth], "camera_info"])) in known:
            return name
    return ""


def score_of(modality: str, candidate: Candidate) -> int:
    """How much a topic looks like a sensor's."""
    name = words(candidate.topic)
    score = modalities.load(modality).guess.score(name, candidate.encoding)
    if candidate.type == COMPRESSED_IMAGE:
        score -= 1  # of two copies of one picture, the one without artefacts
    return score


def _down(key: tuple[int, int, int]) -> tuple[int, int, int]:
    return -key[0], -key[1], -key[2]
