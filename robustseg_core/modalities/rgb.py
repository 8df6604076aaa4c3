"""Camera images: decoded to RGB, judged for light, structure and sharpness, normalized."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robustseg_core.config import Strict
from robustseg_core.decode import fingerprint
from robustseg_core.decode.image import decode_compressed, decode_image
from robustseg_core.modalities._base import Modality, doubt, fatal
from robustseg_core.types import Fault, Finding, Reading
from robustseg_core.view import View

_BLOCKS = 5
_SAMPLES = 160
"""Pixels across that a content check looks at, and lines that sharpness is measured on."""


class Rgb(Modality):
    """A color or gray camera."""

    messages: ClassVar = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")

    class Encoding(Strict):
        """Mean and deviation that the network was trained with (ImageNet's)."""

        mean: tuple[float, float, float] = Field(
            (0.485, 0.456, 0.406), description="Subtracted per channel, of values in [0, 1]."
        )
        std: tuple[float, float, float] = Field(
            (0.229, 0.224, 0.225), description="Divided by per channel, of values in [0, 1]."
        )

    class Limits(Strict):
        """When an image is no image (gray levels 0..255)."""

        black_mean: float = Field(
            8.0, ge=0, le=255, description="BLACK below this mean gray level, ..."
        )
        black_std: float = Field(
            4.0, ge=0, description="... if also below this deviation (a night scene has more)."
        )
        saturated_share: float = Field(
            0.98, gt=0, le=1, description="SATURATED when more pixels than this are over-exposed."
        )
        saturated_level: float = Field(
            250.0, ge=0, le=255, description="Gray level from which a pixel is over-exposed."
        )
        flat_std: float = Field(
            2.0, ge=0, description="FLAT below this deviation; also of one of 5x5 blocks."
        )
        block_dark: float = Field(
            10.0, ge=0, le=255, description="A block darker than this says nothing,"
        )
        block_bright: float = Field(
            230.0, ge=0, le=255, description="nor does one brighter than this,"
        )
        covered_share: float = Field(
            0.3, gt=0, le=1, description="and COVERED is when more blocks than this say nothing."
        )
        dead_share: float = Field(
            0.95, gt=0, le=1, description="Rejected when at least this share of blocks is flat."
        )
        sharpness_ratio: float = Field(
            0.25, ge=0, lt=1, description="BLURRED below this share of the own median sharpness."
        )
        sharpness_frames: int = Field(
            300, ge=10, description="Images that the median sharpness is taken of."
        )

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._sharpness: deque[float] = deque(maxlen=self.limits.sharpness_frames)
        std = np.array(self.encoding.std, np.float32)
        self._scale = 1 / (255 * std)
        self._shift = np.array(self.encoding.mean, np.float32) / std

    def decode(self, message: Any, stamp_ns: int) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB in the camera's own size."""
        if hasattr(message, "format"):
            return decode_compressed(message)
        return decode_image(message)

    def size(self, data: NDArray[np.uint8]) -> tuple[int, int]:
        """(H, W) of the image."""
        return data.shape[:2]

    def digest(self, message: Any) -> int:
        """crc32 of fixed parts of the payload."""
        return fingerprint(getattr(message, "data", None))

    def judge(self, data: NDArray[np.uint8]) -> Iterable[Finding]:
        """BLACK, SATURATED, FLAT and fully COVERED are fatal; COVERED and BLURRED degrade."""
        limits = self.limits
        step = max(1, min(data.shape[:2]) // _SAMPLES)
        gray = data[::step, ::step, 1].astype(np.float32)  # green carries most of the light
        mean, std = float(gray.mean()), float(gray.std())
        if mean < limits.black_mean and std < limits.black_std:
            return [
                fatal(
                    Fault.BLACK,
                    f"mean {mean:.1f} of 255, limit {limits.black_mean:g}; "
                    f"deviation {std:.1f}, limit {limits.black_std:g}",
                )
            ]
        bright = float((gray >= limits.saturated_level).mean())
        if bright > limits.saturated_share:
            text = f"{bright:.1%} over-exposed, limit {limits.saturated_share:.0%}"
            return [fatal(Fault.SATURATED, text)]
        if std < limits.flat_std and _same(data, step, limits.flat_std):
            text = f"deviation {std:.2f} gray levels, limit {limits.flat_std:g}"
            return [fatal(Fault.FLAT, text)]
        return [*self._covered(gray), *self._blurred(data)]

    def _covered(self, gray: NDArray[np.float32]) -> Iterable[Finding]:
        limits = self.limits
        h, w = (n // _BLOCKS for n in gray.shape)
        if not h or not w:
            return
        blocks = gray[: h * _BLOCKS, : w * _BLOCKS].reshape(_BLOCKS, h, _BLOCKS, w)
        mean, std = blocks.mean((1, 3)), blocks.std((1, 3))
        flat = std < limits.flat_std
        mute = flat | (mean < limits.block_dark) | (mean > limits.block_bright)
        share = float(mute.mean())
        if flat.mean() >= limits.dead_share:
            text = f"{flat.mean():.0%} of the image is flat, limit {limits.dead_share:.0%}"
            yield fatal(Fault.COVERED, text)
        elif share > limits.covered_share:
            text = f"{share:.0%} of the image says nothing, limit {limits.covered_share:.0%}"
            yield doubt(Fault.COVERED, text, good=(1 - share) / (1 - limits.covered_share))

    def _blurred(self, data: NDArray[np.uint8]) -> Iterable[Finding]:
        """Gradient energy over variance, on a few lines in full resolution (blur is fine-scaled).

        Divided by the variance, darkness and dim light alone change nothing.
        """
        lines = data[:: max(1, len(data) // _SAMPLES * 2), :, 1].astype(np.float32)
        if lines.shape[1] < 2:
            return
        variance = float(lines.var())
        sharpness = float(np.square(np.diff(lines, axis=1)).mean()) / max(variance, 1.0)
        usual = float(np.median(self._sharpness)) if len(self._sharpness) >= 10 else 0.0
        self._sharpness.append(sharpness)
        floor = self.limits.sharpness_ratio * usual
        if sharpness < floor:
            text = f"sharpness {sharpness:.2g}, usually {usual:.2g}"
            yield doubt(Fault.BLURRED, text, good=sharpness / floor)

    def encode(self, readings: Sequence[Reading], view: View, stamp_ns: int) -> NDArray[np.float32]:
        """(3, H, W): the newest image, resized to the grid and normalized."""
        image = readings[-1].data
        height, width = view.size
        shrinks = image.shape[0] >= height and image.shape[1] >= width
        image = cv2.resize(
            np.ascontiguousarray(image), (width, height),
            interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR,
        )  # fmt: skip
        array = np.empty((3, height, width), np.float32)
        for channel in range(3):
            np.multiply(image[..., channel], self._scale[channel], out=array[channel])
            array[channel] -= self._shift[channel]
        return array

    def picture(self, array: NDArray[np.float32]) -> NDArray[np.uint8]:
        """The image as people know it."""
        levels = (array + self._shift[:, None, None]) / self._scale[:, None, None]
        levels = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
        return np.ascontiguousarray(levels.transpose(1, 2, 0))

    def reset(self) -> None:
        """Forget how sharp the images used to be."""
        self._sharpness.clear()


def _same(data: NDArray[np.uint8], step: int, limit: float) -> bool:
    """Whether red and blue are flat as well."""
    return all(float(data[::step, ::step, c].astype(np.float32).std()) < limit for c in (0, 2))
