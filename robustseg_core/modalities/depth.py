"""Depth images: metres, judged for validity and unit, brought onto the camera's grid, inverted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robustseg_core.codecs.compressed_depth import compile_rvl, decode_depth
from robustseg_core.codecs.fields import fingerprint
from robustseg_core.evidence.sight import Sight, jumps, most_of_cells, step_of
from robustseg_core.geometry._nearest import compile_nearest
from robustseg_core.geometry.camera import rays_of
from robustseg_core.geometry.scene import Placed
from robustseg_core.geometry.transforms import Moment
from robustseg_core.geometry.view import View
from robustseg_core.modalities import _arrays
from robustseg_core.modalities._base import Modality, moment
from robustseg_core.modalities._corruptions import (
    Corruption,
    depth_unit,
    dusty_depth,
    faded,
    holes,
    noise_depth,
    noisy,
    nothing,
    spotted,
    zoomed,
)
from robustseg_core.modalities._depth_checks import DepthCheck, DepthLimits
from robustseg_core.modalities._guess import Guess
from robustseg_core.types import Fault, Finding, Frame, Reading

_FORM = r"16UC1|32FC1|compressedDepth"
"""Encodings that only depth images have."""


_SKY_M = 125.0
"""Where no distance is known, nothing is near, as a rule."""


class Depth(Modality):
    """A depth camera or a stereo pair (REP 118)."""

    rank: ClassVar = 2
    initial: ClassVar = "D"
    messages: ClassVar = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
    content: ClassVar = "depth"
    ranges: ClassVar = True
    transports: ClassVar = ("raw", "compressedDepth", "compressed")
    guess: ClassVar = Guess(
        name=r"depth|\bdisparity\b|\btof\b",
        form=_FORM,
        not_name=r"\b(infra\w*|ir|thermal|lwir|flir|confidence|mono)\b",
        names=(
            (r"\b(aligned|registered)\b", 3),
            (r"\bdepth\b", 2),
            (r"\b(disparity|confidence)\b", -4),
        ),
        forms=((_FORM, 4),),
    )
    corruptions: ClassVar = {
        "holes": Corruption(holes, 0.1, 0.8),
        "invalid_depth": Corruption(nothing),
        "depth_unit": Corruption(depth_unit, 1000, 1000, native=True),
        "garbage": Corruption(noise_depth, native=True),
        "gaussian_noise": Corruption(noisy, 0.02, 0.5),
        "wrong_calibration": Corruption(zoomed, 1.02, 1.4),
        "fouling": Corruption(spotted, 0.05, 0.6),
        "dust": Corruption(dusty_depth, 0.05, 0.7, native=True),
        "fading": Corruption(faded, 0.3, 0.95),
    }
    scrambled: ClassVar = frozenset({Fault.NOISY, Fault.FORMAT})

    class Encoding(Modality.Encoding):
        """Inverse depth, near is bright: near_m / depth, in three equal channels; invalid is 0."""

        near_m: float = Field(0.5, gt=0, le=100, description="This and nearer is encoded as 1.")
        slope: bool = Field(
            default=False,
            description="The third channel is how far a pixel's ray falls per metre ahead instead; "
            "times the depth it is how far below the camera the point lies.",
        )
        grow: int = Field(
            2, ge=1, le=32, description="Pixels that a point paints when depth is registered."
        )

    Limits: ClassVar = DepthLimits

    encoding: Encoding
    limits: DepthLimits
    checks: DepthCheck

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.checks = DepthCheck(self.limits)

    def decode(self, message: Any, stamp_ns: int) -> NDArray[np.float32]:
        """(H, W) metres, NaN where invalid."""
        return decode_depth(message)

    def from_array(self, value: Any, size: tuple[int, int] | None = None) -> NDArray[np.float32]:
        """The same, of (H, W) metres; 0, NaN or infinity where unknown."""
        return _arrays.metres(self.name, value)

    def size(self, data: NDArray[np.float32]) -> tuple[int, int]:
        """(H, W) of the image."""
        return data.shape[:2]

    def digest(self, message: Any) -> int:
        """crc32 of fixed parts of the payload."""
        return fingerprint(getattr(message, "data", None))

    def check(self, data: NDArray[np.float32]) -> Iterable[Finding]:
        """Validity, unit, relief and holes, as `DepthLimits` says."""
        return self.checks.check(data)

    def encode(self, readings: Sequence[Reading], view: View, stamp_ns: int) -> NDArray[np.float32]:
        """(3, H, W): near_m / depth of the newest image, clipped to [0, 1]; 0 where invalid.

        A depth camera with its own lens or place is registered by projecting its pixels; without
        its CameraInfo and transform, the image is taken to be aligned already. Slopes (`slope`) are
        those of the view's rays, y / z; of a view without calibration, those of a pinhole with a
        focal length of its width.
        """
        reading = readings[-1]
        at = moment(reading, stamp_ns)
        if self._stands_apart(reading.frame_id, view, at):
            depth_m = self._register(reading, view, at)
        else:
            h, w = reading.data.shape
            height, width = view.size
            rows = (np.arange(height) * 2 + 1) * h // (2 * height)
            cols = (np.arange(width) * 2 + 1) * w // (2 * width)
            depth_m = reading.data[rows[:, None], cols]
        with np.errstate(all="ignore"):
            near = np.minimum(np.float32(self.encoding.near_m) / depth_m, 1)
        near = np.where(near > 0, near, np.float32(0))
        array = np.repeat(near[None].astype(np.float32, copy=False), 3, axis=0)
        if self.encoding.slope:
            array[2] = np.where(near > 0, _slopes(view), np.float32(0))
        return array

    def astray(self, reading: Reading, view: View, stamp_ns: int) -> str:
        """Of an image with valid pixels: none lands in the view, or none is looked at."""
        known = np.count_nonzero(reading.data > 0)
        if not known:
            return ""
        if self._stands_apart(reading.frame_id, view, moment(reading, stamp_ns)):
            return f"no pixel of {self.name} lands in the image; is T camera-from-{self.name}?"
        height, width = view.size
        return (
            f"none of the {known} valid pixels of {self.name} is among the {height}x{width} that "
            "are looked at; give an image with fewer holes"
        )

    def _stands_apart(self, frame_id: str, view: View, at: Moment) -> bool:
        own = view.camera_of(self.name)
        if own is None or view.calibration is None or not view.joined(self.name, frame_id):
            return False
        moved = not np.allclose(view.view_from(self.name, frame_id, at), np.eye(4), atol=1e-4)
        return moved or not own.same_pixels(view.calibration)

    def _register(self, reading: Reading, view: View, at: Moment) -> NDArray[np.float32]:
        """(H, W) metres along the view's axis, nearest wins, NaN where nothing lands."""
        found = view.nearest(
            self.name,
            reading.frame_id,
            view.rays(self.name, *reading.data.shape),
            grow=self.encoding.grow,
            lengths=reading.data.ravel(),
            at=at,
        )
        registered = np.where(found.index >= 0, found.depth_m, np.float32(np.nan))
        return registered.reshape(view.size)

    def placed(self, reading: Reading, view: View, stamp_ns: int | None = None) -> Placed | None:
        """Where the image's pixels look from: their own lens, or, aligned, the view's."""
        camera = view.calibration
        if camera is None:
            return None
        at = moment(reading, stamp_ns)
        if not self._stands_apart(reading.frame_id, view, at):
            return Placed(reading, camera, np.eye(4), camera)
        place = view.view_from(self.name, reading.frame_id, at)
        turned = view.turned(self.name, reading.frame_id, at)
        return Placed(reading, camera, place, view.camera_of(self.name), turned)

    @classmethod
    def points(cls, placed: Placed, most: int | None = None) -> NDArray[np.float32]:
        """The valid pixels; of too many, every n-th of every n-th row."""
        depth_m: NDArray[np.float32] = placed.reading.data
        height, width = depth_m.shape
        assert placed.lens is not None  # `placed` gave one
        rays = rays_of(placed.lens, height, width).reshape(height, width, 3)
        step = max(1, math.isqrt(height * width // most)) if most else 1
        while most and math.ceil(height / step) * math.ceil(width / step) > most:
            step += 1
        depth_m, rays = depth_m[::step, ::step], rays[::step, ::step]
        # NaN where nothing was measured; so is all of a ray that goes nowhere.
        known = np.flatnonzero(np.isfinite(depth_m) & np.isfinite(rays[..., 0]))
        return rays.reshape(-1, 3)[known] * depth_m.reshape(-1, 1)[known]

    def sight(self, frame: Frame, lengths: NDArray[np.float32]) -> Sight:
        """Where the distance jumps, and the distances; of a cell, the nearest."""
        near = most_of_cells(frame.array[0], step_of(frame.array.shape[1:]))
        known = (near > 0) & (near < 1)  # 1 is anything nearer than `near_m`
        with np.errstate(all="ignore"):
            range_m = np.where(known, self.encoding.near_m / near * lengths, np.float32(np.nan))
        return Sight.of(
            frame.stamp_ns,
            jumps(near, unknown=self.encoding.near_m / _SKY_M),
            range_m.astype(np.float32),
        )

    def picture(self, array: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Near is warm, far is cold, invalid is black."""
        level = np.sqrt(array[0])  # spreads the far half, where most of a scene is
        colors = cv2.applyColorMap((level * 255).astype(np.uint8), cv2.COLORMAP_TURBO)
        return np.where(array[0][..., None] > 0, colors[..., ::-1], np.uint8(0))

    def warm_up(self) -> None:
        """Compile the RVL decoder, and what registers."""
        compile_rvl()
        compile_nearest()

    def reset(self) -> None:
        """Forget how the images used to be."""
        self.checks.reset()


def _slopes(view: View) -> NDArray[np.float32]:
    """(H, W): how far the view's rays fall per metre ahead; 0 where there is none."""
    height, width = view.size
    if view.calibration is None:
        falls = (np.arange(height, dtype=np.float32) + np.float32(0.5 - height / 2)) / width
        return np.repeat(falls[:, None], width, axis=1)
    rays = rays_of(view.calibration, height, width)
    with np.errstate(all="ignore"):
        slopes = rays[:, 1] / rays[:, 2]
    return np.where(np.isfinite(slopes), slopes, np.float32(0)).reshape(height, width)
