"""What goes wrong with a camera: light, lens and dirt, painted into raw and compressed images.

An image is decoded to RGB, changed, and encoded again as it was: encoding, padding, endianness and
kind of compression stay.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robustseg_core.codecs.fields import as_bytes, stamp_of
from robustseg_core.codecs.image import decode_compressed, decode_image
from robustseg_core.faults._base import NOTABLE_SHARE, FaultModel, FaultState, with_payload
from robustseg_core.types import SECOND, Fault, Rejection

_FROM_RGB = {
    "rgb": None,
    "bgr": cv2.COLOR_RGB2BGR,
    "rgba": cv2.COLOR_RGB2RGBA,
    "bgra": cv2.COLOR_RGB2BGRA,
    "mono": cv2.COLOR_RGB2GRAY,
}
_UNTYPED = {"8UC1": "mono8", "8UC3": "bgr8", "8UC4": "bgra8", "16UC1": "mono16"}
_LUMA_AT = {"uyvy": 1, "yuv422": 1, "yuyv": 0, "yuv422_yuy2": 0}
"""Channel of the luma in YUV 4:2:2."""
_BT601 = np.array(
    [
        [65.481, 128.553, 24.966, 16 * 255],
        [-37.797, -74.203, 112.0, 128 * 255],
        [112.0, -93.786, -18.214, 128 * 255],
    ],
    np.float32,
) / np.float32(255)
"""(3, 4), RGB 0..255 to Y, U, V in studio range (ITU-R BT.601)."""
_CONTAINERS = {b"\xff\xd8": ".jpg", b"\x89P": ".png", b"RI": ".webp"}
_JPEG_QUALITY = 95


def edited(message: Any, edit: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]) -> Any:
    """A copy of an Image or CompressedImage whose (H, W, 3) RGB went through `edit`.

    Raises:
        Rejection: the message does not decode, or holds what cannot be encoded again.
    """
    rgb = np.ascontiguousarray(edit(decoded(message)))
    make = _compress if hasattr(message, "format") else _rows
    return with_payload(message, make(rgb, message))


def decoded(message: Any) -> NDArray[np.uint8]:
    """(H, W, 3) RGB of an Image or CompressedImage, to be written to.

    Raises:
        Rejection: the message does not decode.
    """
    if hasattr(message, "format"):
        return decode_compressed(message)
    return decode_image(message).copy()


def _compress(rgb: NDArray[np.uint8], message: Any) -> bytes:
    start = as_bytes(message.data)[:2].tobytes()
    if start not in _CONTAINERS:
        text = f"{message.format!r} cannot be encoded again; jpeg, png and webp can"
        raise Rejection(Fault.FORMAT, text)
    exchanged = "compressed rgb" in message.format
    picture = rgb if exchanged else cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    if message.format.startswith("mono"):
        picture = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY] if start == b"\xff\xd8" else []
    return cv2.imencode(_CONTAINERS[start], picture, quality)[1].tobytes()


def _rows(rgb: NDArray[np.uint8], message: Any) -> NDArray[np.uint8] | bytes:
    """The payload: what `decode_image` would turn into `rgb`, row padding as it was."""
    encoding = _UNTYPED.get(message.encoding, message.encoding)
    base, deep = encoding.rstrip("0123456789"), encoding.endswith("16")
    array: NDArray[Any]
    if encoding in _LUMA_AT:
        array = _yuv422(rgb, _LUMA_AT[encoding])
    elif encoding in ("nv12", "nv21"):
        array = _semi_planar(rgb, exchanged=encoding == "nv21")
    elif base.startswith("bayer_"):
        array = _mosaic(rgb, base.removeprefix("bayer_"))
    else:
        code = _FROM_RGB[base]
        array = rgb if code is None else cv2.cvtColor(rgb, code)
    if deep:
        array = array.astype(">u2" if message.is_bigendian else "<u2") * 257
        array = array.astype(">u2" if message.is_bigendian else "<u2")
    lines = np.ascontiguousarray(array).view(np.uint8).reshape(array.shape[0], -1)
    data = np.frombuffer(bytes(message.data), np.uint8).copy()
    if data.size == lines.size:
        return lines
    rows = data.reshape(lines.shape[0], -1)
    rows[:, : lines.shape[1]] = lines
    return rows


def _mosaic(rgb: NDArray[np.uint8], pattern: str) -> NDArray[np.uint8]:
    """(H, W) of which each pixel has the one color that its filter lets through."""
    raw = np.empty(rgb.shape[:2], np.uint8)
    for place, color in enumerate(pattern):
        row, column = divmod(place, 2)
        raw[row::2, column::2] = rgb[row::2, column::2, "rgb".index(color)]
    return raw


def _yuv422(rgb: NDArray[np.uint8], luma_at: int) -> NDArray[np.uint8]:
    """(H, W, 2), U and V in turns beside the luma; OpenCV has it from 4.9 on only."""
    yuv = cv2.transform(rgb.astype(np.float32), _BT601)
    pairs = yuv.reshape(*yuv.shape[:1], -1, 2, 3)
    packed = np.empty((*yuv.shape[:2], 2), np.float32)
    packed[..., luma_at] = yuv[..., 0]
    packed[..., 1 - luma_at] = pairs[..., 1:].mean(2).reshape(yuv.shape[:2])
    return np.rint(packed).clip(0, 255).astype(np.uint8)


def _semi_planar(rgb: NDArray[np.uint8], *, exchanged: bool) -> NDArray[np.uint8]:
    """NV12: luma, then interleaved chroma; NV21 exchanges the two."""
    height, width = rgb.shape[:2]
    planes = cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420).reshape(-1)
    chroma = planes[height * width :].reshape(2, -1)[:: -1 if exchanged else 1]
    return np.concatenate([planes[: height * width], chroma.T.ravel()]).reshape(-1, width)


class _Painted(FaultModel):
    """A fault that is painted into the picture."""

    contents: ClassVar = ("picture",)

    def change(self, message: Any, state: FaultState) -> Any:
        """The message with the painted picture."""
        elapsed_s = (stamp_of(message) - stamp_of(state.last)) / SECOND
        return edited(message, lambda rgb: self.paint(rgb, state.rng, elapsed_s))

    def paint(
        self, rgb: NDArray[np.uint8], rng: np.random.Generator, elapsed_s: float
    ) -> NDArray[np.uint8]:
        """The (H, W, 3) picture with the fault in it; `rgb` may be overwritten."""
        raise NotImplementedError


class _Even(_Painted):
    """One gray level everywhere, but for the noise that tells a live sensor from a dead one."""

    def _level(self, shape: tuple[int, ...], rng: np.random.Generator, low: int) -> Any:
        return rng.integers(low, low + 3, shape, dtype=np.uint8)


class Black(_Even):
    """The lens is capped, or the exposure failed: darkness with a little noise."""

    finds: ClassVar = frozenset({Fault.BLACK})

    def paint(self, rgb: NDArray[np.uint8], rng: np.random.Generator, elapsed_s: float) -> Any:
        """Darkness."""
        return self._level(rgb.shape, rng, 0)


class Saturated(_Even):
    """The sun shines into the lens: white, with a little noise."""

    finds: ClassVar = frozenset({Fault.SATURATED})

    def paint(self, rgb: NDArray[np.uint8], rng: np.random.Generator, elapsed_s: float) -> Any:
        """White."""
        return self._level(rgb.shape, rng, 253)


class Flat(_Even):
    """A gray wall, fog or a lost signal: one gray level, with a little noise."""

    finds: ClassVar = frozenset({Fault.FLAT})
    level: int = Field(128, ge=10, le=240, description="Gray level.")

    def paint(self, rgb: NDArray[np.uint8], rng: np.random.Generator, elapsed_s: float) -> Any:
        """Gray."""
        return self._level(rgb.shape, rng, self.level)


class Blurred(_Painted):
    """Out of focus, rain or grease on the lens."""

    finds: ClassVar = frozenset({Fault.BLURRED})
    may: ClassVar = frozenset({Fault.COVERED, Fault.FLAT})
    sigma: float = Field(4.0, gt=0, le=200, description="Width of the blur in pixels.")
    ramp_s: float = Field(0.0, ge=0, description="Seconds until the blur is that wide.")

    def paint(self, rgb: NDArray[np.uint8], rng: np.random.Generator, elapsed_s: float) -> Any:
        """The blurred picture."""
        sigma = self.sigma * min(1.0, max(0.02, elapsed_s / self.ramp_s if self.ramp_s else 1.0))
        return cv2.GaussianBlur(rgb, (0, 0), sigma)


class Covered(_Painted):
    """Dirt, tape or a leaf: part of the picture, from its left edge, has one color."""

    finds: ClassVar = frozenset({Fault.COVERED})
    share: float = Field(0.6, gt=0, le=1, description="Share of the width that is covered.")
    level: int = Field(20, ge=0, le=255, description="Gray level of the cover.")

    def expects(self, modality: str) -> frozenset[Fault]:
        """A cover of less than `NOTABLE_SHARE` is no fault (yet)."""
        return self.finds if self.share >= NOTABLE_SHARE else frozenset()

    def paint(self, rgb: NDArray[np.uint8], rng: np.random.Generator, elapsed_s: float) -> Any:
        """The covered picture."""
        rgb[:, : round(self.share * rgb.shape[1])] = self.level
        return rgb


class SaltPepper(_Painted):
    """Pixels that are all black or all white, at random (a bad cable)."""

    finds: ClassVar = frozenset({Fault.NOISY})
    share: float = Field(0.05, gt=0, le=1, description="Share of the pixels.")

    def expects(self, modality: str) -> frozenset[Fault]:
        """One pixel in a hundred may glitter in any scene."""
        return self.finds if self.share >= 0.02 else frozenset()

    def paint(self, rgb: NDArray[np.uint8], rng: np.random.Generator, elapsed_s: float) -> Any:
        """The speckled picture."""
        chance = rng.random(rgb.shape[:2])
        rgb[chance < self.share] = 255
        rgb[chance < self.share / 2] = 0
        return rgb


class GaussianNoise(_Painted):
    """Noise on every pixel (high gain at night)."""

    finds: ClassVar = frozenset({Fault.NOISY})
    sigma: float = Field(20.0, gt=0, le=255, description="Deviation in gray levels.")

    def expects(self, modality: str) -> frozenset[Fault]:
        """Nights have half of that, and are legal."""
        return self.finds if self.sigma >= 20 else frozenset()

    def paint(self, rgb: NDArray[np.uint8], rng: np.random.Generator, elapsed_s: float) -> Any:
        """The noisy picture."""
        noise = rng.standard_normal(rgb.shape, np.float32) * np.float32(self.sigma)
        return np.clip(np.rint(rgb + noise), 0, 255).astype(np.uint8)
