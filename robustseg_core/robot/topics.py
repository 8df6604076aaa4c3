"""Which topics a configured robot listens to; the same live and in a replay."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from robustseg_core import modalities
from robustseg_core.codecs.message_types import COMPRESSED_IMAGE, IMAGE
from robustseg_core.config import AUTO
from robustseg_core.robot.config import RobotConfig, base_of

TF_STATIC, TF = TF_TOPICS = "/tf_static", "/tf"
TRANSPORTS = ("compressed", "compressedDepth", "theora", "ffmpeg", "zstd")
"""What image_transport appends to an image's topic."""


def camera_info_topic(topic: str, told: str = "") -> str:
    """The CameraInfo topic of an image topic: told, or `camera_info` beside the image.

    `/camera/color/image_raw/compressed` -> `/camera/color/camera_info`.
    """
    if told:
        return told
    parts = topic.rstrip("/").split("/")
    if parts[-1] in TRANSPORTS:
        parts.pop()
    return "/".join([*parts[:-1], "camera_info"])


def calibrations(config: RobotConfig) -> dict[str, list[str]]:
    """CameraInfo topic -> the modalities that it calibrates; those with pixels of their own."""
    topics: dict[str, list[str]] = {}
    for name, topic in config.topics.items():
        if not modalities.load(name).needs_view:
            info = camera_info_topic(topic, config.streams[name].camera_info)
            topics.setdefault(info, []).append(name)
    return topics


def spellings(name: str, topic: str, transport: str) -> dict[str, tuple[str, ...]]:
    """Topics that a stream may come on, the most wanted first, and the types that it takes there.

    `/cam/image_raw`, `/cam/image_raw/compressed` and `.../compressedDepth` are one image to
    image_transport. Those of a stream without transports are its topic alone.

    Args:
        name: the modality.
        topic: as configured.
        transport: as configured: `auto`, or one of the modality's.
    """
    kind = modalities.load(name)
    if not kind.transports:
        return {topic: kind.messages}
    base, _ = base_of(topic)
    each = {t: base if t == "raw" else f"{base}/{t}" for t in kind.transports}
    if transport != AUTO:
        return {each[transport]: (IMAGE if transport == "raw" else COMPRESSED_IMAGE,)}
    siblings = {
        there: (IMAGE if t == "raw" else COMPRESSED_IMAGE,)
        for t, there in each.items()
        if there != topic
    }
    return {topic: kind.messages, **siblings}


def choose(spelled: Mapping[str, Collection[str]], offered: Mapping[str, Collection[str]]) -> str:
    """The topic of a stream: the first of its spellings that is offered as a type it takes.

    Args:
        spelled: as `spellings` has them.
        offered: topic -> types that somebody publishes, or that were recorded.
    """
    for topic, kinds in spelled.items():
        if set(kinds) & set(offered.get(topic, ())):
            return topic
    return next(iter(spelled))


def contradiction(name: str, topic: str, transport: str, kinds: Collection[str]) -> str:
    """Why a configured transport is not what its topic has; empty: it is, or nobody offers it."""
    expected = spellings(name, topic, transport)
    there = next(iter(expected))
    if transport == AUTO or not kinds or set(kinds) & set(expected[there]):
        return ""
    return (
        f"streams.{name}.transport is {transport}, and {there} has {', '.join(sorted(kinds))}, "
        f"expected {' or '.join(expected[there])}; set streams.{name}.transport: auto"
    )


def changing(name: str, kinds: Collection[str]) -> str:
    """What people are told of a topic of several types; empty: it has one."""
    if len(kinds) < 2:
        return ""
    return f"{name} changes its type: {', '.join(sorted(kinds))}; publish one type on a topic"
