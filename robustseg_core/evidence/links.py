"""Cross-correlation of two sensors' sights: how they agree at each displacement of one of them.

Every surface is in standard deviations of chance, so that those of strong and of weak pairs can be
added: a pair that has nothing to say about a displacement is flat there.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy import fft
from numpy.typing import NDArray

from robustseg_core.codecs.fields import Compiled
from robustseg_core.evidence.sight import Sight, Spectrum
from robustseg_core.metrics import correlation

DOWN, ACROSS = 12, 22
"""Greatest displacement that is looked at, in cells, ..."""
NEAR = 2
"""... of a mirror image, ..."""
_MOVED = 3
"""... and from one look to the next."""
LEAST_TOLD = 0.02
"""Share of the cells in which something must have become brighter or darker."""
LEAST_CHANGE = 0.01
"""Mean change of the logarithm of the light below which a scene stands still."""
_MOST_POINTS = 400
_FEWEST_POINTS = 60
_SHARP, _SHARP_IN_PLACE = 24.0, 48.0
"""Standard deviations between two sensors that agree in no point of relief, and in all; in
place, more, because the same points are compared at every lag."""
_FLAT = 0.3
"""Relief below which a cell's distance is that of its middle, ..."""
_EVEN = 0.03
"""... and by how much the logarithms of ranges differ that are as far off as the others."""
_LOG_SCALES = np.linspace(-2.5, 2.5, 101, dtype=np.float32)
"""Factors between two ranges that are looked at, as logarithms: from a twelfth to twelve."""

Surface = NDArray[np.float32]
"""(2 DOWN + 1, 2 ACROSS + 1), no displacement in the middle."""


class Agreement(NamedTuple):
    """Of two sights, A and B: at displacement s, A's cell p and B's cell p + s are compared."""

    left: Surface
    """Of the left half of the view ..."""
    right: Surface
    """... and of the right one: they differ if one sensor leans."""
    mirrored: Surface
    """If one of them exchanged left and right; (2 NEAR + 1, 2 NEAR + 1)."""
    chance: float
    """One standard deviation of it, in the unit of what was compared."""


class Ratio(NamedTuple):
    """Of two sensors' distances."""

    share: float
    """Share of the points that agree as they are, ..."""
    factor: float
    """... B's ranges over A's, where most points agree, and ..."""
    scaled: float
    """... the share that agrees with that factor."""
    shift: float = 0.0
    """Middle of the logarithms of B's ranges over A's, where the view is even, and ..."""
    even: float = 0.0
    """... the share that is as far off, in metres or as a factor: else, they see different places.
    0: too little of the view is even.
    """


class Told(NamedTuple):
    """What one sensor says of a change of light that another one saw."""

    signs: float
    """Correlation, in [-1, 1], of what has become brighter with what it says of it."""
    response: float
    """Logarithm of how much it says, over how much the logarithm of the light changed there: where
    it says nothing, a dark picture has noise."""


def _window(plane: NDArray[np.floating[Any]], down: int, across: int) -> Surface:
    """Displacements of up to so many cells, of a circular correlation."""
    rows, columns = np.arange(-down, down + 1), np.arange(-across, across + 1)
    return np.asarray(plane[rows[:, None], columns], np.float32)


@lru_cache(maxsize=8)
def _basis(shape: tuple[int, int], reach: int) -> tuple[Spectrum, Spectrum]:
    """What turns the spectrum of a (h, w) plane into its displacements of up to `reach` cells."""
    steps = np.arange(-reach, reach + 1)
    height, width = shape
    down = np.exp(2j * np.pi * np.outer(steps, np.arange(height)) / height) / height
    columns = np.arange(width // 2 + 1)
    across = np.exp(2j * np.pi * np.outer(columns, steps) / width) / width
    across[(columns > 0) & (2 * columns != width)] *= 2  # and those of the other half
    return down.astype(np.complex64), across.astype(np.complex64)


def _near(product: Spectrum, shape: tuple[int, int], reach: int) -> Surface:
    """As `_window` of `irfft2`, of which most is not made."""
    down, across = _basis(shape, reach)
    return np.asarray((down @ product @ across).real, np.float32)


def middle(surface: Surface, reach: int) -> Surface:
    """Displacements of up to `reach` cells."""
    return surface[DOWN - reach : DOWN + reach + 1, ACROSS - reach : ACROSS + reach + 1]


def alike(before: Sight, after: Sight) -> float:
    """How much two sights of one sensor have in common, in standard deviations of chance."""
    if not (before.tells and after.tells):
        return 0.0
    product = before.spectrum.conj() * after.spectrum
    shape = before.outlines.shape
    power = np.square(np.abs(product)).sum(axis=0)  # of the plane, by Parseval, ...
    power[1 : (shape[1] + 1) // 2] *= 2
    varies = float(power.sum()) - float(np.square(np.abs(product[0, 0])))  # ... less its mean
    chance = math.sqrt(max(varies, 0.0)) / before.outlines.size
    return float(_near(product, shape, _MOVED).max()) / max(chance, 1e-6)


def outlines(a: Sight, b: Sight) -> Agreement | None:
    """Correlation of the outlines; None: one of them has too few."""
    if not (a.tells and b.tells):
        return None
    shape = a.outlines.shape
    left, right = a.spectra
    products = np.stack([left.conj() * b.spectrum, right.conj() * b.spectrum])
    both = fft.irfft2(products, s=shape)
    mirrored = _near(a.mirrored.conj() * b.spectrum, shape, NEAR)
    chance = max(float((both[0] + both[1]).std()), 1e-6)
    return Agreement(
        _window(both[0], DOWN, ACROSS) / chance,
        _window(both[1], DOWN, ACROSS) / chance,
        mirrored / chance,
        chance,
    )


def in_place(a: Sight, b: Sight, chance: float) -> float | None:
    """Agreement of two sights as they lie, from any level on; None: one of them says nothing.

    Args:
        a: of one sensor.
        b: of the other, perhaps of another moment.
        chance: as `Agreement` has it.
    """
    if a.range_m is None or b.range_m is None:
        return float(np.vdot(a.outlines, b.outlines)) / chance if a.tells and b.tells else None
    some = slice(None, None, max(1, len(b.points[0]) // _MOST_POINTS))
    rows, columns, values = (part[some] for part in b.points)
    weights = a.relief[rows, columns]
    if (total := float(weights.sum())) < _FEWEST_POINTS / 4:
        return None
    lowest, highest = (edge[rows, columns] for edge in a.expected)
    agreed = (lowest <= values) & (values <= highest)
    return _SHARP_IN_PLACE * float(weights[agreed].sum()) / total


def distances(dense: Sight, sparse: Sight) -> tuple[Agreement, Ratio] | None:
    """Share of the sparse sensor's points that the dense one confirms, where there is relief."""
    if dense.range_m is None or sparse.range_m is None:
        return None
    width = dense.range_m.shape[1]
    rows, columns, values = sparse.points
    if len(rows) < _FEWEST_POINTS:
        return None
    some = slice(None, None, max(1, len(rows) // _MOST_POINTS))
    there = rows[some], columns[some]
    least, greatest = dense.expected
    ratio = _ratio(least[there], greatest[there], values[some])
    flat = dense.relief[there] < _FLAT
    ratio = ratio._replace(**_shift(dense.log_range[there][flat], values[some][flat]))
    lowest, highest = (
        np.pad(edge, ((DOWN, DOWN), (ACROSS, ACROSS)), constant_values=nothing)
        for edge, nothing in zip(dense.expected, (np.inf, -np.inf), strict=True)
    )
    weights = dense.relief[rows, columns]
    best = np.sort(np.argsort(-weights, kind="stable")[:_MOST_POINTS])
    rows, columns, values, weights = rows[best], columns[best], values[best], weights[best]
    if (total := weights.sum()) < _FEWEST_POINTS / 4:
        return None
    weights = (weights / total).astype(np.float32)
    sides = (columns >= width / 2).astype(np.int64)
    whole, near = np.zeros((DOWN, ACROSS), np.bool_), np.zeros((NEAR, NEAR), np.bool_)
    plain = _agreed(whole, lowest, highest, rows, columns, sides, values, weights)
    flipped = _agreed(near, lowest, highest, rows, width - 1 - columns, sides, values, weights)
    floor = float(np.median(plain.sum(axis=0)))
    agreement = Agreement(
        _SHARP * (plain[0] - floor / 2),
        _SHARP * (plain[1] - floor / 2),
        _SHARP * (flipped.sum(axis=0) - floor),
        1.0,
    )
    return agreement, ratio


def compile_distances() -> None:
    """Compile the loop, so that no first comparison is late."""
    none, some = np.empty(0, np.int64), np.empty(0, np.float32)
    reach, edge = np.zeros((NEAR, NEAR), np.bool_), np.zeros((1, 1), np.float32)
    _agreed(reach, edge, edge, none, none, none, some, some)


@Compiled
def _agreed(
    reach: NDArray[np.bool_],
    lowest: NDArray[np.float32],
    highest: NDArray[np.float32],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    sides: NDArray[np.int64],
    values: NDArray[np.float32],
    weights: NDArray[np.float32],
) -> NDArray[np.float32]:
    """(2, displacements) share, by weight, of the points of each half that agree.

    B (sparse) displaced by s: its point at p + s is what A (dense) has at p. Displacements go up to
    the sides of `reach`; A is padded by `DOWN` and `ACROSS`.
    """
    down, across = reach.shape
    shares = np.zeros((2, 2 * down + 1, 2 * across + 1), np.float32)
    zero = np.float32(0)
    for n in range(len(rows)):
        value, weight, side = values[n], weights[n], sides[n]
        first = columns[n] + ACROSS - across
        for i in range(2 * down + 1):
            row = rows[n] + DOWN - down + i
            low, high, share = lowest[row], highest[row], shares[side, i]
            for j in range(2 * across + 1):
                fits = (low[first + j] <= value) & (high[first + j] >= value)
                share[j] += weight if fits else zero
    # A's cell at p - s has been looked at: the other way round.
    return shares[:, ::-1, ::-1].copy()


def _ratio(
    lowest: NDArray[np.float32], highest: NDArray[np.float32], values: NDArray[np.float32]
) -> Ratio:
    """Of the logarithms of B's ranges, and of what A would confirm at the same cells."""
    known = lowest <= highest
    total = int(known.sum())
    if total < _FEWEST_POINTS:
        return Ratio(0.0, 1.0, 0.0)
    lowest, highest, values = lowest[known], highest[known], values[known]
    shifted = values - _LOG_SCALES[:, None]
    shares = ((shifted >= lowest) & (shifted <= highest)).mean(axis=1)
    # Of the scales that agree as well as the best one, the middle: the range of agreement is broad.
    best = np.flatnonzero(shares >= shares.max() - 0.01)
    middle = int(best[len(best) // 2])
    plain = float(((values >= lowest) & (values <= highest)).mean())
    return Ratio(plain, float(np.exp(_LOG_SCALES[middle])), float(shares[middle]))


def _shift(dense: NDArray[np.float32], sparse: NDArray[np.float32]) -> dict[str, float]:
    """`shift` and `even` of a `Ratio`, by the logarithms of two ranges of the same cells."""
    known = np.isfinite(dense)
    if np.count_nonzero(known) < _FEWEST_POINTS / 2:
        return {}
    dense, sparse = dense[known], sparse[known]
    off = sparse - dense
    shift = float(np.median(off))
    metres = np.exp(dense)
    off_m = np.exp(sparse) - metres
    factor = np.mean(np.abs(off - shift) < _EVEN)
    distance = np.mean(np.abs(off_m - np.median(off_m)) < _EVEN * metres)
    return {"shift": shift, "even": float(max(factor, distance))}


def told_of_change(before: Sight, after: Sight, told: Sight) -> Told | None:
    """What another sensor says of how the light changed between two sights of one; None: too little
    did.

    Where another sensor says nothing, it is not asked for a sign: a threshold keeps events silent.
    """
    if before.light is None or after.light is None or told.brighter is None:
        return None
    step = after.light - before.light
    if step.shape != told.brighter.shape or float(np.abs(step).mean()) < LEAST_CHANGE:
        return None
    told_cells = told.brighter != 0
    if told_cells.mean() < LEAST_TOLD:
        return None
    a, b = step[told_cells], told.brighter[told_cells]
    response = math.log(float(np.abs(b).sum()) / max(float(np.abs(a).sum()), 1e-9))
    b = np.sign(b)
    a = np.clip(a, *np.quantile(a, (0.02, 0.98)))  # a lamp is no more than a wall
    return Told(correlation(a, b), response)
