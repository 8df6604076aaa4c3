"""The simulated robot: which sensors it carries, where, how fast they are.

There are three sizes of it, and any number of drawn ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from robustseg_core.errors import RobustsegError, did_you_mean
from robustseg_core.sim import generator
from robustseg_core.sim.camera_sensor import PLAIN, Photometry, drawn_photometry
from robustseg_core.sim.motion import LANE_M

FIELD_OF_VIEW_DEG = 80.0
"""Horizontal, of all three cameras of the presets: a common automotive front camera."""

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
"""modality -> (frame_id, base_from_sensor) of the presets."""

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
    fields_of_view_deg: Mapping[str, float] = field(
        default_factory=lambda: dict.fromkeys(("rgb", "depth", "event"), FIELD_OF_VIEW_DEG)
    )
    """modality -> horizontal field of view, of the three cameras."""
    depth_range_m: tuple[float, float] = (0.3, 40.0)
    """Nearest and farthest depth that the depth camera reports."""
    poses: Mapping[str, NDArray[np.float64]] = field(
        default_factory=lambda: {name: pose for name, (_, pose) in FRAMES.items()}
    )
    """modality -> base_from_sensor."""
    photometry: Photometry = PLAIN
    """What the RGB camera makes of light."""
    lane_m: float = LANE_M
    """Lateral place of the robot on its street, positive to the left of the middle."""

    def focal_px(self, camera: str) -> float:
        """Focal length in pixels of "rgb", "depth" or "event"."""
        width = self.event_width if camera == "event" else self.width
        return focal_px(width, self.fields_of_view_deg[camera])


PRESETS = {
    "tiny": Rig(120, 160, 10, 5, 90, 120, 50, rings=32, columns=256, slices=4),
    "default": Rig(400, 640, 15, 10, 240, 320, 100, rings=32, columns=1024),
    "hd": Rig(720, 1280, 30, 15, 480, 640, 200, rings=64, columns=2048, slices=24),
}


RIGS = ("preset", "random")
"""How a drive gets its rig: as the preset has it, or drawn from the seed."""


def rig(
    preset: str, size: tuple[int, int] | None = None, kind: str = "preset", seed: int = 0
) -> Rig:
    """The rig called `preset`, with an RGB camera of `size` (H, W) if given; `kind` of `RIGS`.

    Raises:
        RobustsegError: no such preset or kind, or a size that no camera has.
    """
    if kind not in RIGS:
        raise RobustsegError(f"no rig called {kind!r}; {did_you_mean(kind, RIGS)}")
    found = _sized(preset, size)
    return drawn(found, seed) if kind == "random" else found


def _sized(preset: str, size: tuple[int, int] | None) -> Rig:
    if preset not in PRESETS:
        raise RobustsegError(f"no preset called {preset!r}; {did_you_mean(preset, PRESETS)}")
    found = PRESETS[preset]
    if size is None:
        return found
    height, width = size
    if not (32 <= height <= 2160 and 32 <= width <= 3840):
        raise RobustsegError(f"size is {width}x{height}; give WIDTHxHEIGHT of 32x32 to 3840x2160")
    return replace(found, height=height, width=width)


def focal_px(width: int, field_of_view_deg: float = FIELD_OF_VIEW_DEG) -> float:
    """Focal length in pixels of an image `width` pixels wide."""
    return width / 2 / math.tan(math.radians(field_of_view_deg) / 2)


def drawn(base: Rig, seed: int) -> Rig:
    """Another robot of the same image size: where its sensors are, and what they see.

    From a delivery robot with its camera at half a metre to a van with a telephoto lens at two.
    The cameras sit together, apart by what housings need; the LiDAR is on a mast above or before
    them.
    """
    rng = generator(seed, "rig")
    ahead, high = rng.uniform(0.2, 2.2), rng.uniform(0.55, 2.1)
    pitch = rng.uniform(-3.0, 9.0)
    wide = float(rng.uniform(52.0, 98.0))
    poses = {}
    for name in ("rgb", "depth", "event"):
        away = rng.uniform(-0.12, 0.12, 3) * (name != "rgb")
        tilt = rng.uniform(-1.5, 1.5) * (name != "rgb")
        x, y, z = (float(v) for v in away + np.array([ahead, 0.0, high]))
        poses[name] = mount(x, y, z, pitch_deg=float(pitch + tilt))
    x, y, z = rng.uniform((-0.8, -0.3, 0.15), (0.4, 0.3, 0.9)) + np.array([ahead, 0.0, high])
    poses["lidar"] = mount(x, y, z, pitch_deg=float(rng.uniform(-2.0, 4.0)), optical=False)
    eye = (180, 240), (240, 320), (260, 346)
    event_height, event_width = eye[rng.integers(len(eye))]
    return replace(
        base,
        event_height=event_height,
        event_width=event_width,
        rings=int(rng.choice([16, 32, 32, 64])),
        fields_of_view_deg={
            "rgb": wide,
            "depth": float(np.clip(wide + rng.uniform(-14.0, 6.0), 50.0, 98.0)),
            "event": float(np.clip(wide + rng.uniform(-14.0, 14.0), 45.0, 105.0)),
        },
        depth_range_m=(float(rng.uniform(0.2, 0.8)), float(rng.uniform(12.0, 60.0))),
        poses=poses,
        photometry=drawn_photometry(rng),
        lane_m=LANE_M + float(rng.uniform(-0.9, 0.9)),
    )
