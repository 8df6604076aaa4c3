"""LiDAR scans: projected into the camera's view, nearest return wins; judged by what comes back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robustseg_core.codecs.fields import fingerprint
from robustseg_core.codecs.points import Cloud, decode_points
from robustseg_core.evidence.sight import Sight, jumps, most_of_cells, step_of
from robustseg_core.geometry._nearest import compile_nearest
from robustseg_core.geometry.scene import Placed
from robustseg_core.geometry.view import View
from robustseg_core.modalities import _arrays
from robustseg_core.modalities._base import Modality, moment
from robustseg_core.modalities._corruptions import (
    FLOOR,
    Corruption,
    dusty_scan,
    faded,
    jitter,
    noisy,
    nothing,
    rings,
    sector,
    sparse_cloud,
    spotted,
)
from robustseg_core.modalities._guess import Guess
from robustseg_core.modalities._lidar_checks import LidarCheck, LidarLimits
from robustseg_core.types import Finding, Frame, Reading


class Lidar(Modality):
    """A spinning or solid-state LiDAR; any source of PointCloud2 with x, y, z."""

    rank: ClassVar = 4
    initial: ClassVar = "L"
    messages: ClassVar = ("sensor_msgs/msg/PointCloud2",)
    content: ClassVar = "points"
    needs_view: ClassVar = True
    merges: ClassVar = True
    ranges: ClassVar = True
    guess: ClassVar = Guess(
        names=(
            (
                r"velo|lidar|laser|livox|hesai|pandar|rslidar|robosense|ouster|"
                r"\b(os|hdl|vlp|vls)\b",
                4,
            ),
            (r"depth|camera|stereo|zed|realsense|radar|disparity", -6),
            (r"\b(map|costmap|ground|obstacles?|clusters?|filtered|labell?ed)\b", -3),
        ),
    )
    corruptions: ClassVar = {
        "sector": Corruption(sector, 0.15, 0.7),
        "rings": Corruption(rings, 0.25, 0.9),
        "jitter": Corruption(jitter, 0.05, 0.5, native=True),
        "sparse_cloud": Corruption(sparse_cloud, 0.3, 0.95),
        "empty_cloud": Corruption(nothing),
        "gaussian_noise": Corruption(noisy, 0.02, 0.5),
        "fouling": Corruption(spotted, 0.05, 0.6),
        "dust": Corruption(dusty_scan, 0.05, 0.7, native=True),
        "fading": Corruption(faded, 0.3, 0.95),
    }

    class Encoding(Modality.Encoding):
        """Channels range, intensity, height above the camera, each in [0, 1]; no return is 0."""

        max_range_m: float = Field(80.0, gt=0, description="Range that is encoded as 1.")
        lowest_m: float = Field(
            -5.0, description="Height in the camera's frame (up) that is encoded as 0,"
        )
        highest_m: float = Field(15.0, description="and as 1.")
        grow: int = Field(
            3, ge=1, le=32, description="Side in pixels of the square that a return paints."
        )

    Limits: ClassVar = LidarLimits

    encoding: Encoding
    limits: LidarLimits
    checks: LidarCheck

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.checks = LidarCheck(self.limits)

    def decode(self, message: Any, stamp_ns: int) -> Cloud:
        """The returns in the sensor's frame."""
        return decode_points(message)

    def from_array(self, value: Any, size: tuple[int, int] | None = None) -> Cloud:
        """The same, of (N, 3 or more): x, y, z in metres, and the intensity if it is there."""
        return _arrays.cloud(self.name, value)

    def digest(self, message: Any) -> int:
        """crc32 of fixed parts of the payload."""
        return fingerprint(getattr(message, "data", None))

    def check(self, data: Cloud) -> Iterable[Finding]:
        """What comes back, from where, from which laser, and how smoothly; see `LidarLimits`."""
        return self.checks.check(data)

    def encode(self, readings: Sequence[Reading], view: View, stamp_ns: int) -> NDArray[np.float32]:
        """(3, H, W): range, intensity, height of the newest scan's nearest returns.

        Raises:
            Rejection: NO_CALIB or NO_TF.
        """
        cloud: Cloud = readings[-1].data
        frame_id, at = readings[-1].frame_id, moment(readings[-1], stamp_ns)
        found = view.nearest(self.name, frame_id, cloud.xyz, grow=self.encoding.grow, at=at)
        pixel = np.flatnonzero(found.index >= 0)
        source = found.index[pixel]
        lowest, highest = self.encoding.lowest_m, self.encoding.highest_m
        x, y, z = view.place(self.name, frame_id, cloud.xyz[source], at).T
        range_m = np.sqrt(x * x + y * y + z * z)
        height = (-y - lowest) / (highest - lowest)  # y points down
        array = np.zeros((3, view.size[0] * view.size[1]), np.float32)
        array[0, pixel] = np.clip(range_m / self.encoding.max_range_m, FLOOR, 1)
        if cloud.intensity is not None:
            array[1, pixel] = np.clip(cloud.intensity[source] / _unit(cloud.intensity), 0, 1)
        array[2, pixel] = np.clip(height, FLOOR, 1)
        return array.reshape(3, *view.size)

    def merge(self, readings: Sequence[Reading], view: View, stamp_ns: int) -> Reading:
        """All points in the view's frame, with intensities from 0 to 1.

        Where one scan has intensities and another has none, the other's are 0. Rings are none.
        """
        clouds: list[Cloud] = [reading.data for reading in readings]
        placed = [
            view.place(reading.modality, reading.frame_id, cloud.xyz, moment(reading, stamp_ns))
            for reading, cloud in zip(readings, clouds, strict=True)
        ]
        bright = None
        if any(cloud.intensity is not None for cloud in clouds):
            bright = np.concatenate([_brightness(cloud) for cloud in clouds])
        data = Cloud(np.concatenate(placed), bright, None, sum(cloud.total for cloud in clouds))
        quality = min(reading.quality for reading in readings)
        return Reading(self.name, readings[-1].stamp_ns, view.frame_id, data, quality)

    def astray(self, reading: Reading, view: View, stamp_ns: int) -> str:
        """Of a scan with returns: no point lands in the image."""
        if not len(reading.data.xyz):
            return ""
        return f"no point of {self.name} lands in the image; is T camera-from-{self.name}?"

    def placed(self, reading: Reading, view: View, stamp_ns: int | None = None) -> Placed | None:
        """Where the scan hangs."""
        camera = view.calibration
        if camera is None:
            return None
        at = moment(reading, stamp_ns)
        place = view.view_from(self.name, reading.frame_id, at)
        turned = view.turned(self.name, reading.frame_id, at)
        return Placed(reading, camera, place, turned=turned)

    @classmethod
    def points(cls, placed: Placed, most: int | None = None) -> NDArray[np.float32]:
        """The returns."""
        xyz: NDArray[np.float32] = placed.reading.data.xyz
        return xyz[:: max(1, math.ceil(len(xyz) / most))] if most else xyz

    def sight(self, frame: Frame, lengths: NDArray[np.float32]) -> Sight:
        """Where the range jumps, and the ranges; of a cell, the nearest."""
        share = frame.array[0]
        inverse = np.where(share > 0, 1 / np.maximum(share, FLOOR), 0).astype(np.float32)
        near = most_of_cells(inverse, step_of(share.shape))
        known = (near > 1) & (near < 1 / FLOOR)  # neither beyond `max_range_m` nor at its floor
        with np.errstate(all="ignore"):
            range_m = np.where(known, self.encoding.max_range_m / near, np.float32(np.nan))
            along = np.where(known, near * lengths, 0)  # inverse distance along the view's axis
        return Sight.of(frame.stamp_ns, jumps(along), range_m.astype(np.float32))

    def picture(self, array: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Near is warm, far is cold, no return is black."""
        level = ((1 - np.sqrt(array[0])) * 255).astype(np.uint8)
        colors = cv2.applyColorMap(level, cv2.COLORMAP_TURBO)[..., ::-1]
        return np.where(array[0][..., None] > 0, colors, np.uint8(0))

    def warm_up(self) -> None:
        """Compile what projects."""
        compile_nearest()

    def reset(self) -> None:
        """Forget how the scans used to be."""
        self.checks.reset()


def _brightness(cloud: Cloud) -> NDArray[np.float32]:
    """(N,) from 0 to 1."""
    if cloud.intensity is None:
        return np.zeros(len(cloud.xyz), np.float32)
    bright: NDArray[np.float32] = cloud.intensity / np.float32(_unit(cloud.intensity))
    return np.clip(bright, 0, 1)


def _unit(intensity: NDArray[np.float32]) -> float:
    """Full scale of a cloud's intensity: drivers use 0..1, 0..255 and 0..65535."""
    highest = float(intensity.max(initial=0.0))
    return 1.0 if highest <= 1 else 255.0 if highest <= 255 else 65535.0
