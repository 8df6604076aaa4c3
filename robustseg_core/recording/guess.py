"""Which topic is which sensor: by its type, its first message's encoding, the words of its name.

A guess is a score per topic and modality. Each modality declares what its topics have in common
(`Modality.guess`); here lies what is no sensor's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from robustseg_core import modalities
from robustseg_core.modalities import Modality
from robustseg_core.output.topics import is_output
from robustseg_core.robot.topics import TRANSPORTS

IMAGES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
CLOUD = "sensor_msgs/msg/PointCloud2"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"

_LABEL = re.compile(
    r"\b(labels?|masks?|seg|segmentation|semantics?|truth|gt|groundtruth|panoptic|class(es)?)\b"
)
"""Words that others' labels go by, ..."""
_DRAWN = re.compile(r"\b(overlay|annotated|debug|visuali[sz]ation|detections?|heatmap|result)\b")
"""... and others' drawings; ours are known by their names (`output.topics`)."""


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
    known = {name: modalities.load(name) for name in modalities.ranked()}
    return {name: m for name, m in known.items() if kind in m.messages}


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
    if candidate.type == "sensor_msgs/msg/CompressedImage":
        score -= 1  # of two copies of one picture, the one without artefacts
    return score


def _down(key: tuple[int, int, int]) -> tuple[int, int, int]:
    return -key[0], -key[1], -key[2]
