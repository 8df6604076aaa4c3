"""Is this the depth of a scene? Validity, unit, relief and holes of depth images."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from robustseg_core.config import FIXED, LIVE, Strict
from robustseg_core.health.content import ContentCheck, RunningMedian, Statistic, above, below
from robustseg_core.health.coverage import Coverage, soiled
from robustseg_core.health.stillness import Stillness, stuck
from robustseg_core.types import Fault

_LINES = 60
"""Lines on which neighbors are compared."""
_APART = np.float32(0.25)
"""Neighbors whose depths differ by more than this share are unrelated."""
_GRID = 48, 36
"""Columns and rows of the directions."""
_TILES, _SPEAKS = (24, 18), 0.5
"""Columns and rows of tiles that may stand still, and share of one that must have depth to tell."""
_RARELY, _QUICK = 20, 1 / 8
"""Images of which one teaches how torn depth usually is, and weight of the newest one now."""
_RESTLESS = 0.12
"""Share of pixels that come and go in any scene: a robot that starts to move is no fault."""


class DepthLimits(Strict):
    """When a depth image says nothing, or not the truth."""

    model_config = ConfigDict(json_schema_extra=LIVE)

    valid_share: float = Field(
        0.01, ge=0, lt=1, description="INVALID_DEPTH below this share of valid pixels: rejected."
    )
    usual_ratio: float = Field(
        0.3, ge=0, lt=1, description="INVALID_DEPTH below this share of the own median validity."
    )
    holes_ratio: float = Field(
        2.5,
        gt=1,
        description="INVALID_DEPTH when pixels come and go this many times as much as "
        "usual; weighted by the square of what is lost.",
    )
    soiled_share: float = Field(
        0.03,
        gt=0,
        le=1,
        description="COVERED when more of the directions that used to have depth have none, and "
        "others above them have.",
    )
    stray_share: float = Field(
        0.08,
        gt=0,
        le=1,
        description="HAZY when more neighbors than this, and than in the last minutes, differ by "
        "over 25 % (dust, rain or snow before the lens).",
    )
    still_share: float = Field(
        0.08,
        gt=0,
        le=1,
        description="STUCK in part when whole columns or rows of more than this share stand still "
        "to the last bit while all others change.",
    )
    usual_frames: int = Field(
        100, ge=10, description="Images that the own medians are taken of.", json_schema_extra=FIXED
    )
    nearest_m: float = Field(
        0.01, ge=0, description="DEPTH_UNIT: a smaller median means metres read as mm."
    )
    farthest_m: float = Field(
        1000.0, gt=0, description="DEPTH_UNIT: a larger median means mm read as metres."
    )
    unit_ratio: float = Field(
        200.0, gt=1, description="DEPTH_UNIT: the median moved by this factor from its usual."
    )
    unrelated_share: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Rejected as noise when more neighbors than this share differ by over 25 %.",
    )


class DepthCheck(ContentCheck[NDArray[np.float32]]):
    """Judges (H, W) metres of one depth camera; what is not positive is invalid."""

    def __init__(self, limits: DepthLimits) -> None:
        self.limits = limits
        most = limits.usual_frames
        self._share, self._median, self._coming = (
            RunningMedian(most),
            RunningMedian(most),
            RunningMedian(most),
        )
        self._coverage = Coverage()
        self._stillness = Stillness()
        self._torn = RunningMedian(most, rarely=_RARELY)
        self._stray = 0.0
        self._before: NDArray[np.bool_] | None = None
        self._sample: NDArray[np.float32] | None = None
        self._shape: tuple[int, ...] = ()

    def reset(self) -> None:
        """Forget how the images used to be."""
        for usual in (self._share, self._median, self._coming, self._torn):
            usual.clear()
        self._coverage.clear()
        self._stillness.clear()
        self._stray = 0.0
        self._before = self._sample = None

    def measure(self, data: NDArray[np.float32]) -> Iterator[Statistic]:
        """All but two are fatal: far fewer valid pixels than usual, and holes that come and go.

        Looks at every fourth pixel of large images, each way.
        """
        if data.shape != self._shape:  # other pixels have other statistics
            self.reset()
            self._shape = data.shape
        limits = self.limits
        step = 4 if min(data.shape) >= 64 else 1
        sample = data[::step, ::step]
        valid = sample > 0
        known = sample[valid]
        share = known.size / sample.size
        text = partial(
            "{:.1%} of the pixels are valid, limit {:.0%}".format, share, limits.valid_share
        )
        badness = below(share, limits.valid_share) if known.size else float("inf")
        yield Statistic("valid_share", Fault.INVALID_DEPTH, badness, text, fatal=True)
        median = float(np.median(known))
        yield from self._unit(median)
        one = float("inf") if known.size > 1 and known.min() == known.max() else 0.0
        text = partial("every pixel is {:.4g} m; expected a scene".format, median)
        yield Statistic("", Fault.FLAT, one, text, fatal=True)
        unrelated = _unrelated(data)
        text = partial(
            "{:.0%} of the neighbors differ, limit {:.0%}".format, unrelated, limits.unrelated_share
        )
        badness = unrelated / limits.unrelated_share
        yield Statistic("unrelated_share", Fault.NOISY, badness, text, fatal=True)
        doubts = [
            *self._holes(valid, share),
            self._soiled(valid),
            *self._strays(unrelated),
            self._still(sample, valid),
        ]
        yield from doubts
        bad = any(doubt.badness > 1 for doubt in doubts)
        self._torn.learn(unrelated, bad=bad)
        self._share.learn(share, bad=bad)
        self._median.learn(median, bad=bad)

    def _unit(self, median: float) -> Iterator[Statistic]:
        limits = self.limits
        way_out = "32FC1 is metres, 16UC1 millimetres (REP 118)"
        badness = max(below(median, limits.nearest_m), above(median, limits.farthest_m))
        text = partial(
            "median depth {:.4g} m, expected {:g} to {:g}; {}".format,
            median,
            limits.nearest_m,
            limits.farthest_m,
            way_out,
        )
        yield Statistic("farthest_m", Fault.DEPTH_UNIT, badness, text, fatal=True)
        if self._median.known:
            usual = self._median.value
            badness = max(median / usual, usual / median) / limits.unit_ratio
            text = partial(
                "median depth {:.4g} m, usually {:.4g}; {}".format, median, usual, way_out
            )
            yield Statistic("unit_ratio", Fault.DEPTH_UNIT, badness, text, fatal=True)

    def _soiled(self, valid: NDArray[np.bool_]) -> Statistic:
        """Dirt on the lens stays where it is."""
        size = min(_GRID[0], valid.shape[1]), min(_GRID[1], valid.shape[0])
        answers = cv2.resize(valid.astype(np.float32), size, interpolation=cv2.INTER_AREA)
        share = self._coverage.lost(np.atleast_2d(answers))
        what = "the directions that used to have depth have none"
        return soiled(share, self.limits.soiled_share, what, "lens")

    def _strays(self, unrelated: float) -> Iterator[Statistic]:
        """What hangs in the air tears a surface; the mean of the latest images."""
        if not self._torn.known:
            return
        more, limit = unrelated - self._torn.value, self.limits.stray_share
        self._stray += _QUICK * (more - self._stray)
        text = partial(
            "{:.0%} more of the neighbors differ than in the last minutes, limit {:.0%}; dust, "
            "rain or snow?".format,
            self._stray,
            limit,
        )
        yield Statistic("stray_share", Fault.HAZY, self._stray / limit, text)

    def _still(self, sample: NDArray[np.float32], valid: NDArray[np.bool_]) -> Statistic:
        """A driver's buffer of which a part is not written any more."""
        before, self._sample = self._sample, sample
        share = 0.0
        size = min(_TILES[0], valid.shape[1]), min(_TILES[1], valid.shape[0])
        if before is not None:
            changed = (valid & (sample != before)).astype(np.float32)
            known = cv2.resize(valid.astype(np.float32), size, interpolation=cv2.INTER_AREA)
            moved = cv2.resize(changed, size, interpolation=cv2.INTER_AREA)
            share = self._stillness.share(np.atleast_2d(moved) > 0, np.atleast_2d(known) >= _SPEAKS)
        return stuck(share, self.limits.still_share, "image")

    def _holes(self, valid: NDArray[np.bool_], share: float) -> Iterator[Statistic]:
        limits, before = self.limits, self._before
        self._before = valid
        if self._share.known:
            usual = self._share.value
            text = partial("{:.1%} of the pixels are valid, usually {:.1%}".format, share, usual)
            badness = below(share, limits.usual_ratio * usual)
            yield Statistic("usual_ratio", Fault.INVALID_DEPTH, badness, text)
        if before is None:
            return
        coming = np.count_nonzero(valid != before) / valid.size
        if not (self._share.known and self._coming.known):
            self._coming.learn(coming)
            return
        restless = coming / max(self._coming.value, _RESTLESS)
        badness = restless * (usual / share) ** 2 / limits.holes_ratio
        text = partial(
            (
                "{:.0%} of the pixels came or went, and {:.0%} are valid, usually {:.0%} and {:.0%}"
            ).format,
            coming,
            share,
            self._coming.value,
            usual,
        )
        yield Statistic("holes_ratio", Fault.INVALID_DEPTH, badness, text)
        self._coming.learn(coming, bad=bool(badness > 1))


def _unrelated(data: NDArray[Any]) -> float:
    """Share of valid neighbors, along lines, of very different depth."""
    lines = data[:: max(1, len(data) // _LINES)]
    left, right = lines[:, :-1], lines[:, 1:]
    both = np.count_nonzero((left > 0) & (right > 0))
    apart = np.abs(left - right) > _APART * np.minimum(left, right)  # NaN is not more than anything
    return np.count_nonzero(apart) / both if both else 0.0
