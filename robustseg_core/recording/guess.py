"""Which topic is which sensor: by its type, its first message's encoding, the words of its name.

A guess is a score per topic and modality; the tables below are what the names of drivers' topics
have in common (realsense, zed, usb_cam, pylon, velodyne, ouster, hesai, livox, metavision).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from robustseg_core.bag.typestore import EVENT_PACKET
from robustseg_core.robot.topics import TRANSPORTS

IMAGES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
CLOUD = "sensor_msgs/msg/PointCloud2"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
MODALITIES = ("rgb", "depth", "event", "lidar")

_LABEL = re.compile(
    r"\b(labels?|masks?|seg|segmentation|semantics?|truth|gt|groundtruth|panoptic|class(es)?)\b"
)
_DRAWN = re.compile(r"\b(overlay|annotated|debug|visuali[sz]ation|detections?|heatmap|result)\b")
_DEPTH_NAME = re.compile(r"depth|\bdisparity\b|\btof\b")
_DEPTH_FORM = re.compile(r"16UC1|32FC1|compressedDepth")
_NOT_DEPTH = re.compile(r"\b(infra\w*|ir|thermal|lwir|flir|confidence|mono)\b")

_SCORES: dict[str, tuple[tuple[re.Pattern[str], int], ...]] = {
    "rgb": (
        (re.compile(r"\b(colou?r|rgb)\b"), 4),
        (re.compile(r"\b(left|front|center|main)\b"), 2),
        (re.compile(r"\b(right|rear|back|side|fisheye)\b"), -1),
        (re.compile(r"\b(infra\w*|ir|mono|gr[ae]y|thermal|lwir|flir|theora|confidence)\b"), -4),
    ),
    "depth": (
        (re.compile(r"\b(aligned|registered)\b"), 3),
        (re.compile(r"\bdepth\b"), 2),
        (re.compile(r"\b(disparity|confidence)\b"), -4),
    ),
    "event": ((re.compile(r"\b(event|events|dvs|prophesee)\b"), 1),),
    "lidar": (
        (
            re.compile(
                r"velo|lidar|laser|livox|hesai|pandar|rslidar|robosense|ouster|\b(os|hdl|vlp|vls)\b"
            ),
            4,
        ),
        (re.compile(r"depth|camera|stereo|zed|realsense|radar|disparity"), -6),
        (re.compile(r"\b(map|costmap|ground|obstacles?|clusters?|filtered|labell?ed)\b"), -3),
    ),
}


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
    if candidate.type == EVENT_PACKET:
        return "event"
    if is_truth(candidate) or _DRAWN.search(name):
        return None
    if candidate.type == CLOUD:
        return "lidar"
    if candidate.type not in IMAGES:
        return None
    by_name = _DEPTH_NAME.search(name)
    by_form = _DEPTH_FORM.search(candidate.encoding) and not _NOT_DEPTH.search(name)
    return "depth" if by_name or by_form else "rgb"


def rank(candidates: Iterable[Candidate]) -> dict[str, list[str]]:
    """modality -> topics that could be it, the most likely first."""
    ranked: dict[str, list[tuple[tuple[int, int, int], str]]] = {}
    for candidate in candidates:
        modality = modality_of(candidate)
        if modality is None or not candidate.count:
            continue
        key = (_score(modality, candidate), candidate.points, candidate.count)
        ranked.setdefault(modality, []).append((key, candidate.topic))
    return {
        modality: [
            topic for _, topic in sorted(ranked[modality], key=lambda r: (_down(r[0]), r[1]))
        ]
        for modality in MODALITIES
        if modality in ranked
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


def _score(modality: str, candidate: Candidate) -> int:
    name = words(candidate.topic)
    score = sum(points for pattern, points in _SCORES[modality] if pattern.search(name))
    if modality == "rgb" and re.match(r"mono|8UC1|16UC1", candidate.encoding):
        score -= 4
    if modality == "depth" and _DEPTH_FORM.search(candidate.encoding):
        score += 4
    if candidate.type == "sensor_msgs/msg/CompressedImage":
        score -= 1  # of two copies of one picture, the one without artefacts
    return score


def _down(key: tuple[int, int, int]) -> tuple[int, int, int]:
    return -key[0], -key[1], -key[2]
