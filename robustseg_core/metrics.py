"""Counts first, IoU after: confusion matrices add up over frames, scenes and conditions.

One rule for all that is scored here, by `run`, `eval`, `robustness` and training: the counts of all
labelled frames are added up before anything is divided; every labelled frame counts once; a frame
for which nothing was predicted is missed, with all its pixels; masks are compared at the truth's
size. What differs is said beside each number: what an absent class counts as (`ABSENT`).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustseg_core.errors import RobustsegError, did_you_mean
from robustseg_core.types import IGNORE

LEVELS = 256
"""Of confidence, as masks have it."""
BINS = 15
"""Of equal width that confidence falls into; 17 levels each, and 1 is in the last one."""
PRIOR_GRID = (24, 32)
"""Rows and columns of `PositionPrior`, at most."""

ABSENT = {
    "zero": "absent classes count as 0",
    "skip": "absent classes are left out of the mean",
}
"""What a class that is neither there nor predicted does to a mean: counts as 0 and is divided by,
as DELIVER's code has it, or is left out, as MCubeS's and most others do. The two differ by points,
so whoever prints a mean prints the rule, in these words. (Missing *sensors* are another matter:
skipped or zeroed, see `evaluation.protocols`.)"""


def confusion(
    truth: NDArray[np.uint8], labels: NDArray[np.uint8], classes: int
) -> NDArray[np.int64]:
    """(K, K + 1) counts: row the true class, column the predicted one; the last column is "none".

    Pixels whose truth is `IGNORE` do not count; a prediction of `IGNORE` is a miss.

    Args:
        truth: (H, W) class ids.
        labels: (H, W) class ids.
        classes: K.

    Raises:
        RobustsegError: the sizes differ, or an id is neither a class nor `IGNORE`.
    """
    if truth.shape != labels.shape:
        raise RobustsegError(
            f"labels are {labels.shape} and the truth is {truth.shape}; resize one (nearest)"
        )
    for name, ids in (("truth", truth), ("labels", labels)):
        strange = ids[(ids >= classes) & (ids != IGNORE)]
        if strange.size:
            raise RobustsegError(
                f"{name} have the id {strange.flat[0]}; expected 0 to {classes - 1} or {IGNORE}"
            )
    known = truth != IGNORE
    column = np.where(labels[known] == IGNORE, classes, labels[known]).astype(np.int64)
    cells = truth[known].astype(np.int64) * (classes + 1) + column
    return np.bincount(cells, minlength=classes * (classes + 1)).reshape(classes, classes + 1)


def missed(truth: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    """(K, K + 1) counts of a truth for which there is no prediction: every pixel is a miss."""
    return confusion(truth, np.full_like(truth, IGNORE), classes)


def at_size(labels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """(H, W) class ids of (h, w) ones; nearest, since labels cannot be mixed."""
    if labels.shape == size:
        return labels
    resized = cv2.resize(labels, size[::-1], interpolation=cv2.INTER_NEAREST)
    return resized.astype(np.uint8, copy=False)


def occurring(counts: NDArray[np.int64]) -> int:
    """How many classes of (K, K + 1) counts are in the truth or were predicted."""
    return int((hits_and_unions(counts)[1] > 0).sum())


def hits_and_unions(
    counts: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Two (..., K) arrays of pixels per class: in both, and in either of truth and prediction.

    Both add up like the counts themselves, so a resampled set of scenes is a weighted sum.

    Args:
        counts: (..., K, K + 1), as `confusion` returns them.
    """
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    return hits, counts.sum(-1) + counts[..., :-1].sum(-2) - hits


def iou(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """(..., K) intersection over union; NaN where a class is neither there nor predicted."""
    return _ratio(*hits_and_unions(counts))


def mean_iou(counts: NDArray[np.int64], *, absent: str = "skip") -> float:
    """Mean over the classes; NaN if none occurs at all.

    Args:
        counts: (K, K + 1).
        absent: what a class that does not occur counts as, see `ABSENT`.

    Raises:
        RobustsegError: no such rule.
    """
    return float(mean_over_classes(*hits_and_unions(counts), absent=absent))


def mean_over_classes(
    hits: NDArray[np.number], unions: NDArray[np.number], *, absent: str
) -> NDArray[np.float64]:
    """(...) mean IoU of (..., K) sums of `hits_and_unions`; NaN where no class occurs at all.

    Raises:
        RobustsegError: no such rule for absent classes, see `ABSENT`.
    """
    if absent not in ABSENT:
        raise RobustsegError(f"absent is {absent!r}; {did_you_mean(absent, ABSENT)}")
    occurs = (unions > 0).sum(-1)
    total = np.nan_to_num(_ratio(hits, unions)).sum(-1)
    classes = np.where(occurs > 0, unions.shape[-1], 0) if absent == "zero" else occurs
    return _ratio(total, classes)


def correlation(a: NDArray[Any], b: NDArray[Any], *, even: float = 0.0) -> float:
    """Pearson's, in [-1, 1], of two arrays of one shape.

    Args:
        a: floats.
        b: floats.
        even: what it is where one of them does not vary.
    """
    a, b = a - a.mean(), b - b.mean()
    length = float(np.sqrt(np.square(a).sum() * np.square(b).sum()))
    return float((a * b).sum()) / length if length > 0 else even


def _ratio(part: ArrayLike, whole: ArrayLike) -> NDArray[np.float64]:
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    ratio = np.full(whole.shape, np.nan)
    np.divide(part, whole, out=ratio, where=whole > 0)
    return ratio


def sureness(
    truth: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    confidence: NDArray[np.uint8],
    classes: int,
) -> NDArray[np.int64]:
    """(K, LEVELS, 2) pixels by predicted class, confidence, and whether they are wrong or right.

    Pixels whose truth is `IGNORE`, and those without a prediction, do not count.

    Args:
        truth: (H, W) class ids.
        labels: (H, W) class ids.
        confidence: (H, W) of the winning class, 0..255.
        classes: K.
    """
    known = (truth != IGNORE) & (labels < classes)
    cells = (labels[known].astype(np.int64) * LEVELS + confidence[known]) * 2
    cells += truth[known] == labels[known]
    return np.bincount(cells, minlength=classes * LEVELS * 2).reshape(classes, LEVELS, 2)


def reliability(table: NDArray[np.int64]) -> NDArray[np.float64]:
    """(BINS, 3) pixels, right ones among them, and the sum of their confidence in [0, 1].

    Args:
        table: (K, LEVELS, 2), as `sureness` counts.
    """
    levels = table.sum(0).astype(np.float64)  # (LEVELS, 2)
    pixels, right = levels.sum(1), levels[:, 1]
    place = np.minimum(np.arange(LEVELS) * BINS // (LEVELS - 1), BINS - 1)
    columns = (pixels, right, pixels * np.arange(LEVELS) / (LEVELS - 1))
    return np.stack([np.bincount(place, weights=c, minlength=BINS) for c in columns], axis=1)


def calibration_error(bins: NDArray[np.float64]) -> NDArray[np.float64]:
    """(...) expected calibration error of (..., BINS, 3) sums of `reliability`; NaN of no pixel.

    The mean over all pixels of |share that is right - mean confidence| of the bin that they are in
    (arXiv 1706.04599, equation 3).
    """
    return _ratio(np.abs(bins[..., 1] - bins[..., 2]).sum(-1), bins[..., 0].sum(-1))


def kept(table: NDArray[np.int64], least: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """(A, K, 2) pixels that are sure enough, and right ones among them, by predicted class.

    Args:
        table: (K, LEVELS, 2), as `sureness` counts.
        least: (A, K) least confidence, 0..`LEVELS`; nothing is as sure as the last.
    """
    classes = len(table)
    above = np.zeros((classes, LEVELS + 1, 2), np.int64)
    above[:, :LEVELS] = table[:, ::-1].cumsum(1)[:, ::-1]
    rows = [above[np.arange(classes), np.asarray(row, int)] for row in least]  # (K, 2) each
    found = np.stack(rows) if rows else np.zeros((0, classes, 2), np.int64)
    return np.stack([found.sum(-1), found[..., 1]], axis=-1)


class PositionPrior:
    """What a mask is worth that ignores all sensors and paints the commonest class of each place.

    Places are cells of a grid. What is painted on a part comes from the labels of all parts of
    other scenes; where there is but one scene, from its own, so that no mask without a sensor does
    better.

    Args:
        classes: K.
    """

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._cells: dict[tuple[Hashable, Hashable], NDArray[np.int64]] = {}

    def add(self, truth: NDArray[np.uint8], scene: Hashable = 0, part: Hashable = 0) -> None:
        """Count an (H, W) label of a scene, and of a part of it."""
        (height, width), classes = truth.shape, self._classes
        rows, columns = PRIOR_GRID
        row = np.arange(height) * rows // height
        column = np.arange(width) * columns // width
        known = truth < classes
        cells = ((row[:, None] * columns + column) * classes + truth)[known]
        counts = np.bincount(cells, minlength=rows * columns * classes)
        self.add_cells(counts.reshape(rows * columns, classes), scene, part)

    def add_cells(self, cells: NDArray[np.int64], scene: Hashable = 0, part: Hashable = 0) -> None:
        """Add (P, K) labels by place, as `cells` has them, to those of a part of a scene."""
        self._cells[scene, part] = self._cells.get((scene, part), 0) + cells

    @property
    def cells(self) -> dict[Hashable, NDArray[np.int64]]:
        """Part -> (P, K): how often each class is at each place; each part is of one scene."""
        return {part: cells for (_, part), cells in self._cells.items()}

    @property
    def own(self) -> bool:
        """Whether a scene is painted from its own labels, since there is no other."""
        return len({scene for scene, _ in self._cells}) < 2

    def counts(self) -> dict[Hashable, NDArray[np.int64]]:
        """Part -> (K, K + 1) as `confusion`, over all its labels."""
        total = sum(self._cells.values(), np.zeros(1, np.int64))
        scenes: dict[Hashable, NDArray[np.int64]] = {}
        for (scene, _), cells in self._cells.items():
            scenes[scene] = scenes.get(scene, 0) + cells
        found: dict[Hashable, NDArray[np.int64]] = {}
        for (scene, part), cells in self._cells.items():
            known = total if self.own else total - scenes[scene]
            painted = known.argmax(1)  # (cells,)
            table = np.zeros((self._classes + 1, self._classes), np.int64)
            np.add.at(table, painted, cells)
            found[part] = found.get(part, 0) + table.T
        return found
