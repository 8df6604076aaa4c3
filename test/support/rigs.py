"""A robot that turns cameras to all sides, and its messages: small, and the same each time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from robustseg_core import config
from robustseg_core.bag import BagWriter
from robustseg_core.robot.config import RobotConfig
from robustseg_core.types import MS, SECOND, kind_of, name_of
from support.makers import camera_info, image, scenes, transform, xyz

EPOCH = 1_700_000_000 * SECOND
CAMERAS = ("front", "left", "rear", "right", "front_left", "front_right")
YAW_DEG = {
    "front": 0.0,
    "left": 90.0,
    "rear": 180.0,
    "right": -90.0,
    "front_left": 45.0,
    "front_right": -45.0,
}
OPTICAL = Rotation.from_matrix(np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]]))
"""A camera's frame (z ahead) in that of a body (x ahead)."""
PERIOD = {"rgb": 50 * MS, "lidar": 100 * MS}
TYPES = {"rgb": "sensor_msgs/msg/Image", "lidar": "sensor_msgs/msg/PointCloud2"}
HEIGHT, WIDTH = 48, 64


def streams_of(cameras: Sequence[str], lidars: Sequence[str] = ("top", "rear")) -> list[str]:
    return [*(f"rgb.{name}" for name in cameras), *(f"lidar.{name}" for name in lidars)]


def topic_of(stream: str) -> str:
    return f"/{name_of(stream)}/{'image' if kind_of(stream) == 'rgb' else 'points'}"


def robot(streams: Iterable[str], **words: Any) -> RobotConfig:
    told = {name: {"topic": topic_of(name)} for name in streams}
    return config.parse(RobotConfig, {"streams": told, **words})


def transforms() -> list[Any]:
    """Where everything hangs, a message each."""
    hung = [transform("base", "top", (0.0, 0.0, 1.0))]
    hung.append(transform("base", "rear", (-1.0, 0.0, 0.2), yaw(180.0)))
    for name, degrees in YAW_DEG.items():
        turned = Rotation.from_euler("z", degrees, degrees=True) * OPTICAL
        hung.append(transform("base", f"cam_{name}", (0.3, 0.0, 0.5), tuple(turned.as_quat())))
    return hung


def yaw(degrees: float) -> tuple[float, float, float, float]:
    return tuple(Rotation.from_euler("z", degrees, degrees=True).as_quat().tolist())


def info(camera: str) -> Any:
    return camera_info(HEIGHT, WIDTH, fx=50.0, frame_id=f"cam_{camera}")


@cache
def pictures(camera: str) -> np.ndarray:
    return scenes(20, seed=CAMERAS.index(camera), size=(HEIGHT, WIDTH))


@cache
def points(lidar: str) -> np.ndarray:
    """(N, 3) on every side, in the LiDAR's own frame."""
    rng = np.random.default_rng(7 if lidar == "top" else 8)
    around, far = rng.uniform(-np.pi, np.pi, 3000), rng.uniform(3, 30, 3000)
    return np.column_stack(
        [far * np.cos(around), far * np.sin(around), rng.uniform(-1.5, 1.5, 3000)]
    )


def message(stream: str, stamp_ns: int, k: int) -> Any:
    name = name_of(stream)
    if kind_of(stream) == "rgb":
        return image(pictures(name)[k % 20], "rgb8", stamp_ns, f"cam_{name}")
    return xyz(points(name) + 0.001 * k, stamp_ns=stamp_ns, frame_id=name)


def schedule(
    seconds: float, streams: Iterable[str], *, apart_ns: int = 7 * MS
) -> list[tuple[int, str, int]]:
    """(nanoseconds since the start, stream, number), by time; cameras are triggered in turn."""
    rows = []
    for place, name in enumerate(streams):
        period = PERIOD[kind_of(name)]
        late = place * apart_ns if kind_of(name) == "rgb" else 3 * MS
        rows += [(k * period + late, name, k) for k in range(int(seconds * SECOND / period))]
    return sorted(rows)


def write_bag(path: Path, rows: Iterable[tuple[int, str, int]], streams: Iterable[str]) -> Path:
    """The same as a recording."""
    with BagWriter(path) as writer:
        for one in transforms():
            writer.write("/tf_static", "tf2_msgs/msg/TFMessage", one, EPOCH, latched=True)
        for name in streams:
            if kind_of(name) == "rgb":
                topic = f"/{name_of(name)}/camera_info"
                writer.write(topic, "sensor_msgs/msg/CameraInfo", info(name_of(name)), EPOCH)
        for at, name, k in rows:
            kind = TYPES[kind_of(name)]
            writer.write(topic_of(name), kind, message(name, EPOCH + at, k), EPOCH + at + MS)
    return path
