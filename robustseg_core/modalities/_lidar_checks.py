"""Is this a scan of the world? What comes back, from where, from which laser, and how smoothly."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from robustseg_core.codecs.points import Cloud
from robustseg_core.config import FIXED, LIVE, Strict
from robustseg_core.health.content import ContentCheck, RunningMedian, Statistic, below
from robustseg_core.health.coverage import Coverage, soiled
from robustseg_core.health.stillness import PURE, Stillness, stuck
from robustseg_core.types import Fault

_SAMPLE = 12_000
"""Points that the checks of a whole scan look at."""
_SECTORS = 24
_SEEN = 10
"""Returns in the sample from which a sector or a laser counts as one that usually answers."""
_TILTS = 360
"""Bins of elevation, by its sine, that stand for lasers where the cloud does not number them."""
_LASERS, _RUN = 4, 4000
"""Busiest lasers whose ranges are followed from point to point; points of each."""
_ROUGH_EVERY = 3
"""Scans from one look at the noise to the next: half of the check's time is spent on it."""
_GRID, _STEEP = (24, 60), 0.5
"""Rows and columns of the directions, and the sine of the steepest elevation that has its own."""
_RARELY, _QUICK = 20, 1 / 8
"""Scans of which one teaches what the intensity usually is, and weight of the newest one now."""
_BEFORE = 0.7
"""A return is a stray one if its range is less than this share of both its neighbors'."""
_TURN, _HASHED, _FEW = 60, 7, 5
"""Columns of the turn that may stand still; bits of a hash that are 0 for the points (the same of
any scan) that are looked for in the last one; and so many of them tell."""
_EDGES = 4
"""Columns in which a part that stands still may begin or end."""
_SIGMA = 1 / (0.3186 * 6**0.5)
"""From the lower quartile of |a - 2 b + c| to the deviation of white noise; fog answers with so
many stray points that the median is theirs."""


class LidarLimits(Strict):
    """When a scan is no scan."""

    model_config = ConfigDict(json_schema_extra=LIVE)

    empty_ratio: float = Field(
        0.01, ge=0, lt=1, description="EMPTY_CLOUD below this share of the own median returns."
    )
    impossible_share: float = Field(
        0.1, gt=0, le=1, description="UNDECODABLE when more points than this are impossible: "
    )
    farthest_m: float = Field(1000.0, gt=0, description="farther than this, or within 1 mm.")
    sparse_ratio: float = Field(
        0.5, ge=0, lt=1, description="SPARSE_CLOUD below this share of the own median returns."
    )
    ring_share: float = Field(
        0.25, gt=0, le=1, description="SPARSE_CLOUD when more lasers than this fell silent."
    )
    sector_ratio: float = Field(
        0.05,
        ge=0,
        lt=1,
        description="COVERED: 15 degrees have less than this share of their own median returns ...",
    )
    sector_pair_ratio: float = Field(
        0.3, ge=0, lt=1, description="... and the 30 degrees around them less than this."
    )
    near_m: float = Field(1.0, ge=0, description="NEAR_RETURNS are nearer than this, ...")
    near_share: float = Field(
        0.3, gt=0, le=1, description="... and too many above this share (dust, spray, a cover)."
    )
    noise_m: float = Field(
        0.06, gt=0, description="NOISY above this deviation between neighboring ranges, ..."
    )
    noise_ratio: float = Field(
        2.0, ge=1, description="... if also this many times the own median (foliage is rough)."
    )
    soiled_share: float = Field(
        0.03,
        gt=0,
        le=1,
        description="COVERED, too, when more of the directions that used to answer are silent, "
        "and others above them are not.",
    )
    dim_intensity: float = Field(
        0.3,
        gt=0,
        le=1,
        description="DIM when more of the intensity of the last minutes is lost (dew, dirt, a "
        "laser that grows weak).",
    )
    stray_share: float = Field(
        0.1,
        gt=0,
        le=1,
        description="HAZY when more of the returns than this, and than in the last minutes, come "
        "from before all that is around them (dust, rain, snow, fog).",
    )
    still_share: float = Field(
        0.08,
        gt=0,
        le=1,
        description="STUCK in part when more of the turn than this stands still to the last bit "
        "while all the rest changes.",
    )
    usual_scans: int = Field(
        30, ge=5, description="Scans that the own medians are taken of.", json_schema_extra=FIXED
    )


class LidarCheck(ContentCheck[Cloud]):
    """Judges the clouds of one LiDAR, in its own frame."""

    def __init__(self, limits: LidarLimits) -> None:
        self.limits = limits
        self._count, self._sectors, self._lasers, self._noise = (
            RunningMedian(limits.usual_scans, least=5) for _ in range(4)
        )
        self._intensity = RunningMedian(limits.usual_scans, rarely=_RARELY)
        self._strays = RunningMedian(limits.usual_scans, rarely=_RARELY)
        self._dimmed = 0.0
        self._stray = 0.0
        self._coverage = Coverage()
        self._stillness = Stillness(edges=_EDGES)
        self._before: NDArray[np.int64] | None = None
        self._scans = 0
        self._newest_noise: float | None = None
        self._newest_stray: float | None = None

    def reset(self) -> None:
        """Forget how the scans used to be."""
        usual = self._count, self._sectors, self._lasers, self._noise, self._intensity, self._strays
        for one in usual:
            one.clear()
        self._coverage.clear()
        self._stillness.clear()
        self._before = None
        self._dimmed = self._stray = 0.0
        self._scans = 0

    def measure(self, data: Cloud) -> Iterator[Statistic]:
        """EMPTY_CLOUD and UNDECODABLE are fatal; the others are doubts."""
        limits, count = self.limits, len(data.xyz)
        usual = self._count.value if self._count.known else 0.0
        empty = below(count, limits.empty_ratio * usual) if count else float("inf")
        told = "{} of {} points returned, usually {:.0f}" if usual else "{} of {} points returned"
        text = partial(told.format, count, data.total, usual)
        yield Statistic("empty_ratio", Fault.EMPTY_CLOUD, empty, text, fatal=True)
        step = -(-count // _SAMPLE)
        x, y, z = data.xyz[::step].T
        with np.errstate(over="ignore"):
            range_m = np.sqrt(x * x + y * y + z * z)
        impossible = (range_m > limits.farthest_m) | (range_m < 1e-3)
        strange = np.count_nonzero(impossible) / range_m.size
        text = partial(
            "{:.0%} of the points are impossible, limit {:.0%}".format,
            strange,
            limits.impossible_share,
        )
        badness = strange / limits.impossible_share
        yield Statistic("impossible_share", Fault.UNDECODABLE, badness, text, fatal=True)
        turn, sine = np.arctan2(y, x), z / range_m
        sectors = _histogram((turn / (2 * np.pi) + 0.5) * _SECTORS, _SECTORS, step)
        lasers = self._count_lasers(data, sine, step)
        if self._scans % _ROUGH_EVERY == 0:
            self._newest_noise, self._newest_stray = _texture(data)
        self._scans += 1
        noise = self._newest_noise
        whole = count >= 0.7 * usual  # what is thinned has no neighbors any more
        intensity = None if data.intensity is None else float(np.median(data.intensity[::step]))
        doubts = [
            *self._dim(intensity),
            self._soiled(turn, sine),
            self._sparse(count, usual),
            *self._blocked(sectors, step),
            *self._dead(lasers, step),
            self._near(range_m),
            self._still(data.xyz),
            *self._hazy(self._newest_stray),
            *(self._rough(noise) if whole and not self._in_haze else ()),
        ]
        yield from doubts
        bad = any(doubt.badness > 1 for doubt in doubts)
        self._count.learn(count, bad=bad)
        self._sectors.learn(sectors, bad=bad)
        self._lasers.learn(lasers, bad=bad)
        if noise is not None:
            self._noise.learn(noise, bad=bad)
        if intensity is not None:
            self._intensity.learn(intensity, bad=bad)
        if self._newest_stray is not None:
            self._strays.learn(self._newest_stray, bad=bad)

    def _dim(self, intensity: float | None) -> Iterator[Statistic]:
        """What returns returns weakly; the mean of the latest scans."""
        if intensity is None or not self._intensity.known or self._intensity.value <= 0:
            return
        lost = 1 - intensity / self._intensity.value
        self._dimmed += _QUICK * (lost - self._dimmed)
        limit = self.limits.dim_intensity
        text = partial(
            "{:.0%} of the intensity of the last minutes is lost, limit {:.0%}; is the window "
            "clean?".format,
            self._dimmed,
            limit,
        )
        yield Statistic("dim_intensity", Fault.DIM, self._dimmed / limit, text)

    def _soiled(self, turn: NDArray[np.float32], sine: NDArray[np.float32]) -> Statistic:
        """Dirt on the window stays where it is."""
        above, across = _GRID
        rows = np.clip((_STEEP - sine) * (above / (2 * _STEEP)), 0, above - 1).astype(np.intp)
        columns = turn * (across / (2 * np.pi)) + across / 2
        columns = np.clip(columns, 0, across - 1).astype(np.intp)
        seen = np.bincount(rows * across + columns, minlength=above * across) > 0
        share = self._coverage.lost(seen.reshape(above, across).astype(np.float32))
        what = "the directions that used to answer are silent"
        return soiled(share, self.limits.soiled_share, what, "window")

    def _sparse(self, count: int, usual: float) -> Statistic:
        badness = below(count, self.limits.sparse_ratio * usual)
        text = partial("{} returns, usually {:.0f}".format, count, usual)
        return Statistic("sparse_ratio", Fault.SPARSE_CLOUD, badness, text)

    def _blocked(self, sectors: NDArray[np.float64], step: int) -> Iterator[Statistic]:
        """Part of the field of view, 30 degrees or more, that used to answer and is silent."""
        if not self._sectors.known:
            return
        limits, usual = self.limits, self._sectors.values
        used = usual >= _SEEN * step
        used &= np.roll(used, -1)  # now of pairs: a sector and the next
        floor = np.maximum(sectors, 1e-3)
        one = limits.sector_ratio * usual / floor
        both = limits.sector_pair_ratio * _pairs(usual) / _pairs(floor)
        badness = np.where(used, np.minimum(np.maximum(one, np.roll(one, -1)), both), 0)
        silent = badness > 1
        share = float(silent.sum() / max(1, used.sum()))
        start = [int(i * 360 / _SECTORS - 180) for i in np.flatnonzero(silent)]
        text = partial(
            "no returns in the 30 degrees from {}".format, ", ".join(map(str, start)) or "anywhere"
        )
        worst = min(float(badness.max()), 2 + 2 * share)  # a sector is not the whole scan
        yield Statistic("sector_ratio", Fault.COVERED, worst, text)

    def _count_lasers(
        self, data: Cloud, sine: NDArray[np.float32], step: int
    ) -> NDArray[np.float64]:
        """Returns per laser (of the first 360), or per elevation where none is numbered."""
        if data.ring is None:
            return _histogram((sine + 1) * (_TILTS / 2), _TILTS, step)
        return _histogram(data.ring[::step], _TILTS, step)

    def _dead(self, lasers: NDArray[np.float64], step: int) -> Iterator[Statistic]:
        if not self._lasers.known:
            return
        usual = self._lasers.values
        used = usual >= _SEEN * step
        silent = float((used & (lasers < 0.05 * usual)).sum() / max(1, used.sum()))
        text = partial(
            "{:.0%} of the lasers fell silent, limit {:.0%}".format, silent, self.limits.ring_share
        )
        badness = silent / self.limits.ring_share
        yield Statistic("ring_share", Fault.SPARSE_CLOUD, badness, text)

    def _near(self, range_m: NDArray[np.float32]) -> Statistic:
        limits = self.limits
        share = np.count_nonzero(range_m < limits.near_m) / range_m.size
        text = partial(
            "{:.0%} of the returns are within {:g} m, limit {:.0%}".format,
            share,
            limits.near_m,
            limits.near_share,
        )
        return Statistic("near_share", Fault.NEAR_RETURNS, share / limits.near_share, text)

    def _hazy(self, stray: float | None) -> Iterator[Statistic]:
        """What hangs in the air answers before what is behind it; the mean of the latest scans."""
        if stray is None or not self._strays.known:
            return
        self._stray += _QUICK * (stray - self._strays.value - self._stray)
        limit = self.limits.stray_share
        text = partial(
            "{:.0%} more of the returns than in the last minutes come from before all around "
            "them, limit {:.0%}; dust, rain or snow?".format,
            self._stray,
            limit,
        )
        yield Statistic("stray_share", Fault.HAZY, self._stray / limit, text)

    @property
    def _in_haze(self) -> bool:
        """Whether what trembles may be what hangs in the air."""
        return bool(self._stray > self.limits.stray_share / 2)

    def _still(self, xyz: NDArray[np.float32]) -> Statistic:
        """Returns that the scan before had to the last bit, by direction."""
        words = np.ascontiguousarray(xyz, np.float32).view(np.int32)
        chosen = np.flatnonzero((words[:, 0] * np.int32(73856093) >> 16) & _HASHED == 0)
        hashed = words[chosen].astype(np.int64) @ np.array([73856093, 19349663, 83492791])
        before, self._before = self._before, hashed
        share = 0.0
        if before is not None and hashed.size:
            turn = np.arctan2(xyz[chosen, 1], xyz[chosen, 0]) / (2 * np.pi) + 0.5
            column = np.minimum((turn * _TURN).astype(np.intp), _TURN - 1)
            known = np.bincount(column, minlength=_TURN)
            same = np.bincount(column[np.isin(hashed, before)], minlength=_TURN)
            speaks, stands = known >= _FEW, same >= PURE * known
            between = speaks & ~stands & (same > (1 - PURE) * known)
            if np.count_nonzero(between) <= _EDGES:  # a scene in which something moves has more
                share = self._stillness.share(~stands[None], (speaks & ~between)[None])
        return stuck(share, self.limits.still_share, "turn")

    def _rough(self, noise: float | None) -> Iterator[Statistic]:
        if noise is None or not self._noise.known:
            return
        limit = max(self.limits.noise_m, self.limits.noise_ratio * self._noise.value)
        text = partial("ranges tremble by {:.3f} m, limit {:.3f} m".format, noise, limit)
        yield Statistic("noise_m", Fault.NOISY, noise / limit, text)


def _pairs(sectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return sectors + np.roll(sectors, -1)


def _histogram(place: NDArray[np.generic], bins: int, step: int) -> NDArray[np.float64]:
    """(bins,) estimated returns per bin."""
    index = np.clip(place.astype(np.intp), 0, bins - 1)
    return np.bincount(index, minlength=bins).astype(np.float64) * step


def _texture(data: Cloud) -> tuple[float | None, float | None]:
    """Deviation of ranges along the scan in metres, and share of the returns that come from before
    both their neighbors; None: too few points follow each other."""
    runs: list[NDArray[np.float32]] = []
    if data.ring is None:
        starts = np.linspace(0, max(0, len(data.xyz) - _RUN), _LASERS).astype(int)
        runs = [data.xyz[start : start + _RUN] for start in np.unique(starts)]
    else:
        counts = np.bincount(np.clip(data.ring, 0, 255), minlength=1)
        for laser in np.argsort(counts)[-_LASERS:]:
            runs.append(data.xyz[np.flatnonzero(data.ring == laser)[:_RUN]])
    bends, strays = [], 0
    for run in runs:
        x, y, z = run.T
        range_m = np.sqrt(x * x + y * y + z * z)
        before, here, after = range_m[:-2], range_m[1:-1], range_m[2:]
        bends.append(np.abs(after - 2 * here + before))
        strays += int(np.count_nonzero(here < _BEFORE * np.minimum(before, after)))
    every = np.concatenate(bends)
    if every.size < 50:
        return None, None
    return _SIGMA * float(np.quantile(every, 0.25)), strays / every.size
