"""Counts first, IoU after: confusion matrices add up over frames, scenes and conditions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robustseg_core.errors import RobustsegError
from robustseg_core.types import IGNORE


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


def iou(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """(K,) intersection over union per class; NaN where a class is neither there nor predicted."""
    hits = np.diagonal(counts).astype(np.float64)
    union = counts.sum(1) + counts[:, :-1].sum(0) - hits
    return np.divide(hits, union, out=np.full(len(hits), np.nan), where=union > 0)


def mean_iou(counts: NDArray[np.int64]) -> float:
    """Mean over the classes that occur in truth or prediction; NaN if none does."""
    values = iou(counts)
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
