"""The simulated robot: which sensors it carries, where, how fast they are; three sizes of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from robustseg_core.errors import RobustsegError, did_you_mean

FIELD_OF_VIEW_DEG = 80.0
"""Horizontal, of all three cameras: a common automotive front camera."""

OPTICAL = np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], np.float64)
"""Rotation base_from_optical: z ahead, x right, y down (REP 103's optical frames)."""


def mount(
    x: float, y: float, z: float, *, pitch_deg: float = 0.0, optical: bool = True
) -> NDArray[np.float64]:
    """(4, 4) pose of a sensor on the robot (base_from_sensor), tilted down by `pitch_deg`."""
    pitch = math.radians(pitch_deg)
    tilt = np.array(
        [
            [math.cos(pitch), 0, math.sin(pitch)],
            [0, 1, 0],
            [-math.sin(pitch), 0, math.cos(pitch)],
        ]
    )
    pose = np.eye(4)
    pose[:3, :3] = tilt @ OPTICAL if optical else tilt
    pose[:3, 3] = x, y, z
    return pose


FRAMES: dict[str, tuple[str, NDArray[np.float64]]] = {
    "rgb": ("camera_color_optical_frame", mount(1.6, 0.0, 1.45, pitch_deg=2)),
    "depth": ("camera_depth_optical_frame", mount(1.6, 0.06, 1.45, pitch_deg=2)),
    "event": ("event_camera_optical_frame", mount(1.6, -0.06, 1.45, pitch_deg=2)),
    "lidar": ("lidar", mount(0.9, 0.0, 1.85, optical=False)),
}
"""modality -> (frame_id, base_from_sensor)."""

TOPICS = {
    "rgb": "/camera/color/image_raw/compressed",
    "rgb_info": "/camera/color/camera_info",
    "label": "/camera/color/label",
    "depth": "/camera/depth/image_rect_raw/compressedDepth",
    "depth_info": "/camera/depth/camera_info",
    "event": "/event_camera/events",
    "event_info": "/event_camera/camera_info",
    "lidar": "/lidar/points",
}


@dataclass(frozen=True)
class Rig:
    """Sizes and rates; every number is what a user could buy."""

    height: int
    width: int
    """Pixels of the RGB and the depth camera."""
    rgb_hz: float
    depth_hz: float
    event_height: int
    event_width: int
    event_hz: float
    """Radiance samples a second that the event camera's light is interpolated between."""
    rings: int
    columns: int
    lidar_hz: float = 10.0
    slices: int = 12
    """Batches per sweep; within one, other cars stand still (8 ms: 10 cm at 45 km/h)."""


PRESETS = {
    "tiny": Rig(120, 160, 10, 5, 90, 120, 50, rings=32, columns=256, slices=4),
    "default": Rig(400, 640, 15, 10, 240, 320, 100, rings=32, columns=1024),
    "hd": Rig(720, 1280, 30, 15, 480, 640, 200, rings=64, columns=2048, slices=24),
}


def rig(preset: str, size: tuple[int, int] | None = None) -> Rig:
    """The rig called `preset`, with an RGB camera of `size` (H, W) if given.

    Raises:
        RobustsegError: no such preset, or a size that no camera has.
    """
    if preset not in PRESETS:
        raise RobustsegError(f"no preset called {preset!r}; {did_you_mean(preset, PRESETS)}")
    found = PRESETS[preset]
    if size is None:
        return found
    height, width = size
    if not (32 <= height <= 2160 and 32 <= width <= 3840):
        raise RobustsegError(f"size is {width}x{height}; give WIDTHxHEIGHT of 32x32 to 3840x2160")
    return replace(found, height=height, width=width)


def focal_px(width: int) -> float:
    """Focal length in pixels of an image `width` pixels wide."""
    return width / 2 / math.tan(math.radians(FIELD_OF_VIEW_DEG) / 2)
