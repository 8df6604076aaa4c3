"""Which topics a configured robot listens to beside its sensors; the same live and in a replay."""

from __future__ import annotations

from robustseg_core import modalities
from robustseg_core.robot.config import RobotConfig

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
