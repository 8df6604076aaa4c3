"""One geometry for every sensor and the label; light and sharpness for the camera alone.

A crop of a flipped, scaled scene is the same scene for all: whatever moves, moves everywhere. Where
0 means "nothing here" (depth, events, returns) pixels are picked, never blended with their
neighbors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from robustseg_core.config import Strict, parse
from robustseg_core.datasets._base import Sample
from robustseg_core.errors import RobustsegError
from robustseg_core.modalities.rgb import Rgb
from robustseg_core.types import IGNORE, LONGEST_SIDE

_GRAY = np.array([0.299, 0.587, 0.114], np.float32)[:, None, None]
"""ITU-R BT.601."""
_BLUR_SIGMA = 0.8
"""What a Gaussian of 3x3 pixels has by convention: 0.3 ((3 - 1) / 2 - 1) + 0.8."""


_LARGEST = 100
"""Times as large, or as bright, as it was."""


class AugmentConfig(Strict):
    """How samples are varied; the defaults are DELIVER's (docs/specs/network.md)."""

    crop: tuple[int, int] | None = Field(
        None, description="(H, W) that is cut out; null: the sample's own size."
    )
    flip: float = Field(0.5, ge=0, le=1, description="Probability of exchanging left and right.")
    scale: tuple[float, float] = Field(
        (0.5, 2.0),
        description="Size of the scaled scene, drawn evenly; 1: it just fits into the crop.",
    )
    balanced: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Probability that the crop lies around a pixel of a class that is drawn evenly "
        "from those that the label shows, so that small classes are seen more often; for scales "
        "above 1.",
    )
    smooth: tuple[str, ...] = Field(
        ("rgb", "nir", "aolp", "dolp"),
        description="Modalities that are interpolated; of all others the nearest pixel is taken.",
    )
    sparse: tuple[str, ...] = Field(
        (),
        description="Modalities of few readings, which a scene that shrinks keeps, as `extract` at "
        "the smaller size does; of all others the nearest pixel is taken.",
    )
    jitter: float = Field(0.2, ge=0, le=1, description="Probability of other light (rgb only):")
    jitter_range: tuple[float, float] = Field(
        (0.5, 1.5), description="factors of brightness, contrast and saturation, drawn evenly."
    )
    blur: float = Field(
        0.2, ge=0, le=1, description="Probability of a 3x3 Gaussian blur (rgb only)."
    )

    @field_validator("crop")
    @classmethod
    def _has_pixels(cls, crop: tuple[int, int] | None) -> tuple[int, int] | None:
        if crop is not None and not all(0 < side <= LONGEST_SIDE for side in crop):
            raise ValueError(
                f"crop is {crop[0]}x{crop[1]}; give a height and a width of 1 to {LONGEST_SIDE} "
                "pixels"
            )
        return crop

    @field_validator("scale", "jitter_range")
    @classmethod
    def _ascends(cls, pair: tuple[float, float]) -> tuple[float, float]:
        if not 0 < pair[0] <= pair[1]:
            raise ValueError(f"{pair[0]:g} to {pair[1]:g} is no range; give two ascending factors")
        if pair[1] > _LARGEST:
            raise ValueError(f"{pair[1]:g} is no factor of a picture; give {_LARGEST} at most")
        return pair


STILL = AugmentConfig(flip=0, scale=(1, 1), jitter=0, blur=0)
"""Nothing is varied: for validation, and for what must be repeated exactly."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where each pixel of the crop comes from: scale, then cut, then flip."""

    source: tuple[int, int]
    """(H, W) of the sample."""
    scaled: tuple[int, int]
    """(H, W) of the whole scene after scaling."""
    crop: tuple[int, int]
    """(H, W) that is cut out of it."""
    corner: tuple[int, int]
    """Row and column of the crop's corner in the scaled scene; negative: the scene is smaller."""
    flip: bool = False

    def pick(self, array: NDArray[Any], fill: Any) -> NDArray[Any]:
        """(..., H, W) of the crop, each pixel the nearest of the source; `fill` beyond it."""
        (top, bottom), (left, right) = self._part(0), self._part(1)
        rows = (2 * np.arange(top, bottom) + 1) * self.source[0] // (2 * self.scaled[0])
        columns = (2 * np.arange(left, right) + 1) * self.source[1] // (2 * self.scaled[1])
        return self._place(array.take(rows, axis=-2).take(columns, axis=-1), fill)

    def keep(self, array: NDArray[np.float32], fill: Any) -> NDArray[np.float32]:
        """(C, H, W) of the crop: where the scene shrinks, one of the readings (not 0 in each
        channel) that fall into a pixel, and `fill` where none does; else as `pick`."""
        if self.scaled[0] >= self.source[0]:
            return self.pick(array, fill)
        rows, columns = np.nonzero(array.any(0))
        (top, bottom), (left, right) = self._part(0), self._part(1)
        down = (2 * rows + 1) * self.scaled[0] // (2 * self.source[0]) - top
        across = (2 * columns + 1) * self.scaled[1] // (2 * self.source[1]) - left
        part = np.empty((len(array), bottom - top, right - left), array.dtype)
        part[...] = fill
        height, width = part.shape[1:]
        inside = (down >= 0) & (down < height) & (across >= 0) & (across < width)
        part[:, down[inside], across[inside]] = array[:, rows[inside], columns[inside]]
        return self._place(part, fill)

    def blend(self, array: NDArray[np.float32], fill: Any) -> NDArray[np.float32]:
        """(C, H, W) of the crop: bilinear where it grows, averaged where it shrinks (as `encode`
        of the camera does on the robot)."""
        shrinks = self.scaled[0] < self.source[0]
        how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        (top, bottom), (left, right) = self._part(0), self._part(1)
        if self.scaled != self.source:
            size = self.scaled[::-1]
            planes = [cv2.resize(np.ascontiguousarray(p), size, interpolation=how) for p in array]
        else:
            planes = list(array)
        return self._place(np.stack([p[top:bottom, left:right] for p in planes]), fill)

    def _part(self, axis: int) -> tuple[int, int]:
        """Begin and end, along an axis of the scaled scene, of what the crop shows of it."""
        corner = self.corner[axis]
        return max(0, corner), min(self.scaled[axis], corner + self.crop[axis])

    def _place(self, part: NDArray[Any], fill: Any) -> NDArray[Any]:
        if part.shape[-2:] != self.crop:
            whole = np.empty((*part.shape[:-2], *self.crop), part.dtype)
            whole[...] = fill
            top, left = (max(0, -corner) for corner in self.corner)
            whole[..., top : top + part.shape[-2], left : left + part.shape[-1]] = part
            part = whole
        return np.ascontiguousarray(part[..., ::-1] if self.flip else part)


def draw(source: tuple[int, int], rng: np.random.Generator, config: AugmentConfig) -> Geometry:
    """A random geometry for samples of (H, W) `source`.

    As published, scale counts from the crop: at 1 the whole scene just fits into it, so a small
    crop shows a scene at low resolution, not a corner of it. A smaller scene lies anywhere in it.
    """
    crop = config.crop or source
    factor = rng.uniform(*config.scale) * min(c / s for c, s in zip(crop, source, strict=True))
    height, width = (max(1, round(n * factor)) for n in source)
    rooms = (height - crop[0], width - crop[1])
    top, left = (int(np.sign(r)) * int(rng.integers(abs(r) + 1)) for r in rooms)
    flip = bool(rng.random() < config.flip)
    return Geometry(source, (height, width), crop, (top, left), flip)


def around(geometry: Geometry, label: NDArray[np.uint8], rng: np.random.Generator) -> Geometry:
    """The same with the crop around a pixel of a class of the label, each class being as likely.

    As far as the scene goes: a crop never leaves it for this, and one that is as large as the scene
    stays where it was.
    """
    classes = np.unique(label)
    classes = classes[classes != IGNORE]
    if not len(classes):
        return geometry
    rows, columns = np.nonzero(label == classes[int(rng.integers(len(classes)))])
    place = int(rng.integers(len(rows)))
    corner = []
    for axis, pixel in enumerate((int(rows[place]), int(columns[place]))):
        scaled, crop = geometry.scaled[axis], geometry.crop[axis]
        middle = (2 * pixel + 1) * scaled // (2 * geometry.source[axis])
        room = scaled - crop
        # anywhere in the middle half of the crop, so that the class is not always in its center
        wanted = middle - crop // 2 + int(rng.integers(-(crop // 4), crop // 4 + 1))
        corner.append(min(max(wanted, 0), room) if room > 0 else geometry.corner[axis])
    return replace(geometry, corner=(corner[0], corner[1]))


def augment(
    sample: Sample,
    rng: np.random.Generator,
    config: AugmentConfig,
    *,
    encodings: Mapping[str, Mapping[str, Any]] | None = None,
) -> Sample:
    """A variation of `sample`, which stays as it is.

    Args:
        sample: encoded images and label, all (H, W).
        rng: of everything; the same state makes the same variation.
        config: what is varied, and how much.
        encodings: modality -> options; the camera's mean and deviation are taken from it.

    Returns:
        The sample with images and label of `config.crop`; beyond the scene, images are 0 (the
        camera's black) and the label is `IGNORE`.

    Raises:
        RobustsegError: images or label differ in size.
    """
    sizes = {name: image.shape[-2:] for name, image in sample.images.items()}
    if sample.label is not None:
        sizes["label"] = sample.label.shape
    if len(set(sizes.values())) != 1:
        listed = ", ".join(f"{name} {h}x{w}" for name, (h, w) in sizes.items())
        raise RobustsegError(
            f"sample {sample.id!r} has {listed or 'nothing in it'}; expected images and label of "
            "one size; set the data set's size"
        )
    geometry = draw(next(iter(sizes.values())), rng, config)
    if config.balanced and sample.label is not None and rng.random() < config.balanced:
        geometry = around(geometry, sample.label, rng)
    light = _light((encodings or {}).get("rgb", {}))
    images = {}
    for name, seen in sample.images.items():
        image, fill = seen, np.zeros(1, np.float32)
        if name == "rgb":
            image = _photometric(image, rng, config, light)
            mean, std = _columns(light)
            fill = -mean / std
        how = geometry.keep if name in config.sparse else geometry.pick
        images[name] = (geometry.blend if name in config.smooth else how)(image, fill)
    label = None if sample.label is None else geometry.pick(sample.label, IGNORE)
    return replace(sample, images=images, label=label)


def _light(options: Mapping[str, Any]) -> Rgb.Encoding:
    """Mean and deviation of the camera, whatever else a data set says of its images."""
    known = {key: value for key, value in options.items() if key in Rgb.Encoding.model_fields}
    return parse(Rgb.Encoding, known, where="encodings.rgb")


def _columns(light: Rgb.Encoding) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and deviation as (3, 1, 1)."""
    mean, std = (np.array(v, np.float32)[:, None, None] for v in (light.mean, light.std))
    return mean, std


def _photometric(
    image: NDArray[np.float32], rng: np.random.Generator, config: AugmentConfig, light: Rgb.Encoding
) -> NDArray[np.float32]:
    """Other light, then blur, of the picture as it was before normalization."""
    jitter, blur = rng.random() < config.jitter, rng.random() < config.blur
    factors = rng.uniform(*config.jitter_range, 3).astype(np.float32)
    if not (jitter or blur):
        return image
    mean, std = _columns(light)
    picture = image * std + mean  # [0, 1]
    if jitter:
        brightness, contrast, saturation = factors
        picture = np.clip(picture * brightness, 0, 1)
        even = (picture * _GRAY).sum(0).mean()
        picture = np.clip(even + (picture - even) * contrast, 0, 1)
        gray = (picture * _GRAY).sum(0)
        picture = np.clip(gray + (picture - gray) * saturation, 0, 1)
    if blur:
        picture = np.stack([cv2.GaussianBlur(plane, (3, 3), _BLUR_SIGMA) for plane in picture])
    return (picture - mean) / std
