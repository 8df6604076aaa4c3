"""Camera images: decoded to RGB, judged for light, structure and sharpness, normalized."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robustseg_core.codecs.fields import fingerprint
from robustseg_core.codecs.image import decode_compressed, decode_image
from robustseg_core.evidence.sight import Sight, mean_of_cells, step_of, steps
from robustseg_core.geometry.view import View
from robustseg_core.modalities import _arrays
from robustseg_core.modalities._base import Modality
from robustseg_core.modalities._corruptions import (
    Corruption,
    blurred,
    covered,
    dimmed,
    dirty,
    even,
    flat,
    gaussian_noise,
    low_light,
    noise_instead,
    salt_pepper,
    swapped,
    veiled,
    zoomed,
)
from robustseg_core.modalities._guess import Guess
from robustseg_core.modalities._rgb_checks import ImageCheck, ImageLimits
from robustseg_core.types import Fault, Finding, Frame, Reading

_DARK = 0.03
"""Brightness below which an event camera's logarithm is linear, about, in [0, 1]."""


class Rgb(Modality):
    """A color or gray camera."""

    rank: ClassVar = 1
    initial: ClassVar = "R"
    messages: ClassVar = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
    content: ClassVar = "picture"
    transports: ClassVar = ("raw", "compressed")
    guess: ClassVar = Guess(
        names=(
            (r"\b(colou?r|rgb)\b", 4),
            (r"\b(left|front|center|main)\b", 2),
            (r"\b(right|rear|back|side|fisheye)\b", -1),
            (r"\b(infra\w*|ir|mono|gr[ae]y|thermal|lwir|flir|theora|confidence)\b", -4),
        ),
        forms=((r"^(mono|8UC1|16UC1)", -4),),
    )
    corruptions: ClassVar = {
        "black": Corruption(even(0)),
        "saturated": Corruption(even(253)),
        "flat": Corruption(flat, 10, 240),
        "blurred": Corruption(blurred, 1, 8),
        "covered": Corruption(covered, 0.2, 0.8),
        "salt_pepper": Corruption(salt_pepper, 0.01, 0.2),
        "gaussian_noise": Corruption(gaussian_noise, 5, 60),
        "garbage": Corruption(noise_instead),
        "low_light": Corruption(low_light, 0.5, 0.03),
        "wrong_calibration": Corruption(zoomed, 1.02, 1.4),
        "swapped_channels": Corruption(swapped),
        "fouling": Corruption(dirty, 0.05, 0.6),
        "dust": Corruption(veiled, 0.05, 0.7),
        "fading": Corruption(dimmed, 0.3, 0.95),
    }
    scrambled: ClassVar = frozenset({Fault.NOISY, Fault.FORMAT})

    class Encoding(Modality.Encoding):
        """Mean and deviation that the network was trained with (ImageNet's)."""

        mean: tuple[float, float, float] = Field(
            (0.485, 0.456, 0.406), description="Subtracted per channel, of values in [0, 1]."
        )
        std: tuple[float, float, float] = Field(
            (0.229, 0.224, 0.225), description="Divided by per channel, of values in [0, 1]."
        )

    Limits: ClassVar = ImageLimits

    encoding: Encoding
    limits: ImageLimits
    checks: ImageCheck

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.checks = ImageCheck(self.limits)
        std = np.array(self.encoding.std, np.float32)
        self._scale = 1 / (255 * std)
        self._shift = np.array(self.encoding.mean, np.float32) / std
        self._contrast, self._brightness = float(std.mean()), float(np.mean(self.encoding.mean))

    def decode(self, message: Any, stamp_ns: int) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB in the camera's own size."""
        if hasattr(message, "format"):
            return decode_compressed(message)
        return decode_image(message)

    def from_array(self, value: Any, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """The same, of (H, W, 3) uint8 RGB."""
        return _arrays.image(self.name, value)

    def size(self, data: NDArray[np.uint8]) -> tuple[int, int]:
        """(H, W) of the image."""
        return data.shape[:2]

    def digest(self, message: Any) -> int:
        """crc32 of fixed parts of the payload."""
        return fingerprint(getattr(message, "data", None))

    def check(self, data: NDArray[np.uint8]) -> Iterable[Finding]:
        """Light, structure, sharpness, noise and color, as `ImageLimits` says."""
        return self.checks.check(data)

    def encode(self, readings: Sequence[Reading], view: View, stamp_ns: int) -> NDArray[np.float32]:
        """(3, H, W): the newest image, resized to the grid and normalized."""
        image = readings[-1].data
        height, width = view.size
        shrinks = image.shape[0] >= height and image.shape[1] >= width
        image = cv2.resize(
            np.ascontiguousarray(image),
            (width, height),
            interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR,
        )
        array = np.empty((3, height, width), np.float32)
        for channel in range(3):
            np.multiply(image[..., channel], self._scale[channel], out=array[channel])
            array[channel] -= self._shift[channel]
        return array

    def sight(self, frame: Frame, lengths: NDArray[np.float32]) -> Sight:
        """Where the picture steps."""
        gray = mean_of_cells(frame.array.mean(axis=0), step_of(frame.array.shape[1:]))
        level = gray * self._contrast + self._brightness
        return Sight.of(frame.stamp_ns, steps(gray), light=np.log(np.maximum(level, 0) + _DARK))

    def picture(self, array: NDArray[np.float32]) -> NDArray[np.uint8]:
        """The image as people know it."""
        levels = (array + self._shift[:, None, None]) / self._scale[:, None, None]
        levels = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
        return np.ascontiguousarray(levels.transpose(1, 2, 0))

    def reset(self) -> None:
        """Forget how the images used to be."""
        self.checks.reset()
