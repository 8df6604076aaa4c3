"""Is this a picture of the world? Light, structure, sharpness, noise and color of camera images.

Everything is taken from two small samples: a coarse grid for what is large (light, cover), and a
few whole lines for what is fine (sharpness, noise). Darkness alone is never held against an image.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from robustseg_core.config import FIXED, LIVE, Strict
from robustseg_core.health.content import ContentCheck, RunningMedian, Statistic, below
from robustseg_core.health.coverage import soiled
from robustseg_core.health.stillness import stuck
from robustseg_core.modalities._rgb_creep import RARELY, Creep, Look, structure
from robustseg_core.modalities._rgb_steps import Steps
from robustseg_core.types import Fault

_ACROSS = 128
"""Pixels across the shorter side of the coarse sample."""
_ON_LINES = 40_000
"""Pixels on lines, roughly; never fewer than eight lines."""
_BLOCKS, _FINE_BLOCKS = 10, 20
_SPEAKING = 30
"""Blocks that have to have structure for a share of them to mean something."""
_FELL = 0.25
"""Of how much structure is left everywhere, a block that fell silent has less."""
_IMPULSE = 48
"""Gray levels by which an impulse stands out on both sides."""
_COVER = 0.5
"""Share of the limit from which a cover explains what else is lost."""
_COLORED = 0.05
"""Of the light; a loss of less color would not be seen."""
_LIT = 20.0
"""Mean level of the strongest color below which color says nothing."""
_SIGMA = 1 / (0.6745 * 6**0.5)
"""From the median of |a - 2 b + c| to the deviation of white noise."""
_SLOPES, _SOFTENS = 0.0095, 0.74
"""A picture of a street that is blurred by w pixels has a sharpness of about
_SLOPES / w ** (1 / _SOFTENS)."""
_SEEN_COLUMNS = 256
"""Columns of the pictures that training blurs ..."""
_BLURS = (1.0, 8.0)
"""... by so many pixels: as good as not at all, and all that there is."""


class ImageLimits(Strict):
    """When an image is no image (gray levels 0..255)."""

    model_config = ConfigDict(json_schema_extra=LIVE)

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
        2.0,
        ge=0,
        description="FLAT below this deviation in all colors; also of one of 10x10 "
        "blocks, which then says nothing.",
    )
    covered_share: float = Field(
        0.28,
        gt=0,
        le=1,
        description="COVERED when more than this share of the blocks with structure lost it, ...",
    )
    covered_always_share: float = Field(
        0.5,
        gt=0,
        le=1,
        description="... or more than this hold one color, whatever they used to hold (sky does).",
    )
    dead_share: float = Field(
        0.94, gt=0, le=1, description="Rejected when more of 20x20 blocks than this hold one color."
    )
    one_color_std: float = Field(1.0, ge=0, description="Deviation of a block of one color.")
    sharpness_ratio: float = Field(
        0.25, ge=0, lt=1, description="BLURRED below this share of the own median sharpness."
    )
    noise_gray: float = Field(
        11.0, gt=0, le=255, description="NOISY above this deviation between neighboring pixels, ..."
    )
    noise_ratio: float = Field(
        1.6, ge=1, description="... if also this many times the own median (nights are noisy)."
    )
    impulse_share: float = Field(
        0.015, gt=0, le=1, description="NOISY when more pixels than this stand out from both sides."
    )
    unrelated: float = Field(
        0.75, gt=0, description="Rejected as noise above 1 minus this correlation of neighbors ..."
    )
    unrelated_gray: float = Field(
        40.0, gt=0, le=255, description="... if the noise is also above this deviation."
    )
    color_shift: float = Field(
        1.0,
        gt=0,
        description="DISCOLORED when (R-G)/mean or (B-G)/mean leave their own median "
        "by more (sodium lamps make 0.8, a lost plane 1.5).",
    )
    gray_ratio: float = Field(
        0.15,
        ge=0,
        lt=1,
        description="DISCOLORED below this share of the own median color (|R-G| + |B-G|, of the "
        "light).",
    )
    exchange_ratio: float = Field(
        1.5,
        gt=1,
        description="DISCOLORED when the colors are this many times nearer to those of the last "
        "images with red and blue exchanged than as they are.",
    )
    still_share: float = Field(
        0.08,
        gt=0,
        le=1,
        description="STUCK in part when whole columns or rows of more than this share stand still "
        "to the last bit while the rest changes.",
    )
    dim_light: float = Field(
        0.5, gt=0, le=1, description="DIM when more of the light of the last minutes is lost, ..."
    )
    dim_contrast: float = Field(
        0.4, gt=0, le=1, description="... if more of their contrast is lost, too."
    )
    veil_gray: float = Field(
        22.0,
        gt=0,
        description="HAZY when what is dark is this much brighter than in the last minutes, ...",
    )
    veil_contrast: float = Field(
        0.18, gt=0, le=1, description="... if more of their contrast is lost."
    )
    blur_detail: float = Field(
        0.22,
        gt=0,
        le=1,
        description="BLURRED, too, when more of the structure of the last minutes is lost, ...",
    )
    blur_sharpness: float = Field(
        0.4, gt=0, le=1, description="... if more of their sharpness is lost, too."
    )
    soiled_share: float = Field(
        0.06,
        gt=0,
        le=1,
        description="COVERED, too, when more of the image than this stands while the rest "
        "moves, and used to move.",
    )
    usual_frames: int = Field(
        300, ge=10, description="Images that the own medians are taken of.", json_schema_extra=FIXED
    )


class ImageCheck(ContentCheck[NDArray[np.uint8]]):
    """Judges (H, W, 3) uint8 RGB images of one camera."""

    def __init__(self, limits: ImageLimits) -> None:
        self.limits = limits
        most = limits.usual_frames
        self._sharpness, self._noise, self._color = (
            RunningMedian(most, rarely=RARELY),
            RunningMedian(most),
            RunningMedian(most),
        )
        self._silent = RunningMedian(min(most, 100))
        self._chroma = RunningMedian(most, rarely=RARELY)
        self._steps = Steps()
        self._creep = Creep(most)
        self._shape: tuple[int, ...] = ()

    def reset(self) -> None:
        """Forget how the images used to be."""
        for usual in (self._sharpness, self._noise, self._color, self._silent, self._chroma):
            usual.clear()
        self._steps.reset()
        self._creep.reset()

    def measure(self, data: NDArray[np.uint8]) -> Iterator[Statistic]:
        """BLACK, SATURATED, FLAT, all COVERED and all NOISY are fatal; the others are doubts."""
        if data.shape != self._shape:  # other pixels have other statistics
            self.reset()
            self._shape = data.shape
        step = max(1, min(data.shape[:2]) // _ACROSS)
        # Of whole lines: gathering single pixels from the image itself takes twice as long.
        sample = data[::step].take(np.arange(0, data.shape[1], step), axis=1)
        mean, std = (np.ravel(moment) for moment in cv2.meanStdDev(sample))
        gray = np.ascontiguousarray(sample[..., 1])  # green carries most of the light
        yield from self._light(gray, mean, std)
        silent = structure(gray, _BLOCKS)
        yield from self._cover(gray, silent)
        lines = _Lines(data)
        yield from self._unrelated(lines)
        look = self._creep.look(gray, float(mean[1]), float(std[1]))
        dim = self._dim(look)
        lost = self._lost(silent, look)
        dulled = 1 - lines.sharpness / self._sharpness.value if self._sharpness.known else 0.0
        seen = max(lost.badness / _COVER, dim.badness) <= 1
        # A cover is smooth, of course, and so is the dark; out of focus, dark and bright mix.
        blur = self._blur(lines, look, dulled) if seen else ()
        sharp = dulled <= self.limits.blur_sharpness / 2
        chroma = _chroma(sample, mean)
        doubts = [
            *([dim] if lost.badness <= 1 else []),  # what covers the lens darkens it
            *([self._hazy(look)] if sharp else []),
            lost,
            self._soiled(look),
            *blur,
            *self._grain(lines),
            *self._tint(mean),
            *(self._gray(chroma) if seen else ()),
            *self._step(sample, silent),
        ]
        yield from doubts
        bad = any(doubt.badness > 1 for doubt in doubts)
        self._chroma.learn(chroma, bad=bad)
        self._learn(lines, silent, mean, bad=bad)

    def _learn(self, lines: _Lines, silent: Any, mean: NDArray[Any], *, bad: bool) -> None:
        self._sharpness.learn(lines.sharpness, bad=bad)
        self._noise.learn(lines.noise, bad=bad)
        self._silent.learn(silent, bad=bad)
        self._creep.learn(bad=bad)
        if mean.max() >= _LIT:
            self._color.learn(_tint(mean), bad=bad)

    def _light(
        self, gray: NDArray[np.uint8], means: NDArray[Any], stds: NDArray[Any]
    ) -> Iterator[Statistic]:
        limits, mean, std = self.limits, float(means[1]), float(stds[1])
        dark = min(below(mean, limits.black_mean), below(std, limits.black_std))
        text = partial(
            "mean {:.1f} of 255, limit {:g}; deviation {:.1f}, limit {:g}".format,
            mean,
            limits.black_mean,
            std,
            limits.black_std,
        )
        yield Statistic("black_std", Fault.BLACK, dark, text, fatal=True)
        bright = np.count_nonzero(gray >= limits.saturated_level) / gray.size
        text = partial("{:.1%} over-exposed, limit {:.0%}".format, bright, limits.saturated_share)
        badness = bright / limits.saturated_share
        yield Statistic("saturated_share", Fault.SATURATED, badness, text, fatal=True)
        flattest = float(stds.max())
        text = partial("deviation {:.2f} gray levels, limit {:g}".format, flattest, limits.flat_std)
        yield Statistic("flat_std", Fault.FLAT, below(flattest, limits.flat_std), text, fatal=True)

    def _cover(self, gray: NDArray[np.uint8], silent: NDArray[Any]) -> Iterator[Statistic]:
        """Blocks of one color, whatever was there before."""
        limits = self.limits
        share = np.count_nonzero(silent < limits.one_color_std) / silent.size
        if share > 0.8:  # large blocks miss the edge of a cover: look closer
            fine = float((structure(gray, _FINE_BLOCKS) < limits.one_color_std).mean())
            text = partial(
                "{:.0%} of the image holds one color, limit {:.0%}".format, fine, limits.dead_share
            )
            badness = fine / limits.dead_share
            yield Statistic("dead_share", Fault.COVERED, badness, text, fatal=True)
        text = partial(
            "{:.0%} of the image holds one color, limit {:.0%}".format,
            share,
            limits.covered_always_share,
        )
        badness = share / limits.covered_always_share
        yield Statistic("covered_always_share", Fault.COVERED, badness, text)

    def _lost(self, silent: NDArray[Any], look: Look) -> Statistic:
        """Blocks that usually have structure, and now have none, and far less than the others."""
        limits = self.limits
        share = 0.0
        if self._silent.known:
            usual = self._silent.values
            speaks = usual >= limits.flat_std
            fell = (silent < limits.flat_std) & speaks
            fell &= silent < _FELL * min(look.detail, 1.0) * usual
            share = float(fell.sum()) / max(int(speaks.sum()), _SPEAKING)
        text = partial(
            "{:.0%} of the image fell silent, limit {:.0%}".format, share, limits.covered_share
        )
        return Statistic("covered_share", Fault.COVERED, share / limits.covered_share, text)

    def _unrelated(self, lines: _Lines) -> Iterator[Statistic]:
        """Random bytes: neighbors differ as much as any two pixels, and by very much."""
        limits = self.limits
        unlike = lines.sharpness / 2  # 1 - correlation of neighbors
        badness = min(unlike / limits.unrelated, lines.noise / limits.unrelated_gray)
        text = partial(
            (
                "neighboring pixels correlate by {:.2f}, expected at least {:.2f}; noise {:.0f} "
                "gray levels"
            ).format,
            1 - unlike,
            1 - limits.unrelated,
            lines.noise,
        )
        yield Statistic("unrelated", Fault.NOISY, badness, text, fatal=True)

    def _dim(self, look: Look) -> Statistic:
        """The light goes out: an exposure, a lamp, a cover that lets some of it through."""
        limits = self.limits
        text = partial(
            "{:.0%} of the light and {:.0%} of the contrast of the last minutes are lost, limits "
            "{:.0%} and {:.0%}".format,
            1 - look.light,
            1 - look.contrast,
            limits.dim_light,
            limits.dim_contrast,
        )
        lost = (1 - look.light) / limits.dim_light, (1 - look.contrast) / limits.dim_contrast
        return Statistic("dim_light", Fault.DIM, min(lost), text)

    def _hazy(self, look: Look) -> Statistic:
        """What is dark is not dark any more: dust, fog, glare."""
        limits = self.limits
        text = partial(
            "what is dark is {:.0f} gray levels brighter than in the last minutes, and {:.0%} of "
            "their contrast is lost; limits {:g} and {:.0%}".format,
            look.veil,
            1 - look.contrast,
            limits.veil_gray,
            limits.veil_contrast,
        )
        veiled = look.veil / limits.veil_gray, (1 - look.contrast) / limits.veil_contrast
        return Statistic("veil_gray", Fault.HAZY, min(veiled), text)

    def _soiled(self, look: Look) -> Statistic:
        """Dirt stays where it is while the scene moves."""
        what = "the image stands while the rest moves"
        return soiled(look.soiled, self.limits.soiled_share, what, "lens")

    def _blur(self, lines: _Lines, look: Look, dulled: float) -> Iterator[Statistic]:
        if self._sharpness.known:
            limits, usual = self.limits, self._sharpness.value
            text = partial(
                "{:.0%} of the structure of the last minutes is lost, and {:.0%} of their "
                "sharpness; limits {:.0%} and {:.0%}".format,
                1 - look.detail,
                dulled,
                limits.blur_detail,
                limits.blur_sharpness,
            )
            badness = min((1 - look.detail) / limits.blur_detail, dulled / limits.blur_sharpness)
            left = _seen_through(lines)
            yield Statistic("blur_detail", Fault.BLURRED, badness, text, left=left)
            text = partial("sharpness {:.2g}, usually {:.2g}".format, lines.sharpness, usual)
            badness = below(lines.sharpness, self.limits.sharpness_ratio * usual)
            yield Statistic("sharpness_ratio", Fault.BLURRED, badness, text, left=left)

    def _grain(self, lines: _Lines) -> Iterator[Statistic]:
        limits = self.limits
        if self._noise.known:
            limit = max(limits.noise_gray, limits.noise_ratio * self._noise.value)
            text = partial("noise {:.1f} gray levels, limit {:.1f}".format, lines.noise, limit)
            yield Statistic("noise_gray", Fault.NOISY, lines.noise / limit, text)
        text = partial(
            "{:.1%} of the pixels stand out, limit {:.1%}".format,
            lines.impulses,
            limits.impulse_share,
        )
        yield Statistic("impulse_share", Fault.NOISY, lines.impulses / limits.impulse_share, text)

    def _tint(self, mean: NDArray[Any]) -> Iterator[Statistic]:
        if self._color.known and mean.max() >= _LIT:
            shift = float(np.abs(_tint(mean) - self._color.values).max())
            text = partial(
                "color moved by {:.2f}, limit {:g}".format, shift, self.limits.color_shift
            )
            yield Statistic("color_shift", Fault.DISCOLORED, shift / self.limits.color_shift, text)

    def _gray(self, chroma: float) -> Iterator[Statistic]:
        """A picture without colors: a camera in its night mode, a driver that sends mono8."""
        if not self._chroma.known or self._chroma.value < _COLORED:
            return
        usual = self._chroma.value
        text = partial(
            "color {:.1%} of the light, usually {:.1%}; is the picture gray?".format, chroma, usual
        )
        badness = below(chroma, self.limits.gray_ratio * usual)
        yield Statistic("gray_ratio", Fault.DISCOLORED, badness, text)

    def _step(self, sample: NDArray[np.uint8], silent: NDArray[Any]) -> Iterator[Statistic]:
        """What only the image before tells."""
        limits = self.limits
        if ratio := self._steps.exchanged(sample, limits.exchange_ratio):
            text = partial(
                "red and blue are exchanged: that is {:.1f} times nearer to the last images, limit "
                "{:g}; is it rgb8 or bgr8?".format,
                ratio,
                limits.exchange_ratio,
            )
            badness = ratio / limits.exchange_ratio
            yield Statistic("exchange_ratio", Fault.DISCOLORED, badness, text)
        if share := self._steps.still(sample, silent >= limits.one_color_std):
            yield stuck(share, limits.still_share, "image")


class _Lines:
    """What whole lines in full resolution tell: blur, noise and impulses are fine-scaled."""

    def __init__(self, data: NDArray[np.uint8]) -> None:
        count = max(8, _ON_LINES // max(1, data.shape[1]))
        lines = data[:: max(1, -(-len(data) // count)), :, 1].astype(np.int16)
        self.columns = lines.shape[1]
        self.sharpness = self.noise = self.impulses = 0.0
        if lines.shape[1] < 3:
            return
        slope = lines[:, 1:] - lines[:, :-1]
        # Whole numbers, few and small: nothing is lost, and `meanStdDev` takes ten times as long.
        mean = cv2.sumElems(lines)[0] / lines.size
        variance = cv2.norm(lines, cv2.NORM_L2SQR) / lines.size - mean * mean
        # Divided by the variance, darkness and dim light alone change nothing.
        self.sharpness = cv2.norm(slope, cv2.NORM_L2SQR) / slope.size / max(variance, 1.0)
        left, right = slope[:, :-1], slope[:, 1:]
        self.noise = _SIGMA * _median(np.abs(right - left))
        steep = np.minimum(np.abs(left), np.abs(right)) > _IMPULSE
        self.impulses = np.count_nonzero(steep & ((left ^ right) < 0)) / steep.size


def _seen_through(lines: _Lines) -> float:
    """Quality in [0, 1] that a blur leaves, as training has it: 1 where a picture of 256 columns is
    blurred by a pixel at most, which a network hardly sees, and 0 from 8 pixels on.

    How wide it is follows from the slopes that are left; within a factor of 1.5 on pictures of
    streets, simulated and real, blurred by 2 to 20 pixels.
    """
    # Standard deviation, in pixels
    width = float((_SLOPES / max(lines.sharpness, 1e-9)) ** _SOFTENS)
    shown = width * _SEEN_COLUMNS / max(lines.columns, 1)
    mild, worst = _BLURS
    return float(np.clip((worst - shown) / (worst - mild), 0, 1))


def _chroma(sample: NDArray[np.uint8], mean: NDArray[Any]) -> float:
    """Mean of |R - G| + |B - G|, of all light."""
    red, green, blue = cv2.split(sample)
    apart = cv2.norm(red, green, cv2.NORM_L1) + cv2.norm(blue, green, cv2.NORM_L1)
    return float(apart) / red.size / max(float(mean.mean()), 1.0)


def _tint(mean: NDArray[Any]) -> NDArray[np.float64]:
    """(2,) how far red and blue are from green, relative to all."""
    red, green, blue = mean
    return np.array([red - green, blue - green]) / max(float(mean.mean()), 1.0)


def _median(values: NDArray[np.int16]) -> float:
    """Median of whole numbers >= 0, by their histogram, and between two of them by its slope."""
    counts = np.cumsum(cv2.calcHist([values.astype(np.uint16)], [0], None, [1024], [0, 1024]))
    half = counts[-1] / 2
    place = int(np.searchsorted(counts, half))
    before = counts[place - 1] if place else 0.0
    return max(0.0, place - 0.5 + float((half - before) / max(counts[place] - before, 1)))
