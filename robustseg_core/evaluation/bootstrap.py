"""How sure a number is: scenes drawn again, with replacement, many times.

Frames of one scene resemble each other, so the scene is the unit. Two systems are compared on the
same draws: what makes a scene hard for both cancels out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robustseg_core.errors import RobustsegError
from robustseg_core.evaluation.figures import headline
from robustseg_core.evaluation.results import Results
from robustseg_core.metrics import hits_and_unions, mean_over_classes

RESAMPLES = 10_000
SHARE = 95.0
"""Percent of the draws that an interval holds."""
FEW = 10
"""Scenes below which a percentile interval is known to be too narrow to be believed."""
_CHUNK = 500


def draws(
    results: Results, *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, NDArray[np.float64]]:
    """Every figure of `headline`, (resamples,) values each; empty with fewer than two scenes.

    The draws depend only on the seed and on the number of scenes, so those of two evaluations of
    the same data are paired.

    Raises:
        RobustsegError: not a positive number of resamples.
    """
    if resamples < 1:
        raise RobustsegError(f"resamples is {resamples}; expected at least 1, e.g. {RESAMPLES}")
    scenes = sorted({group.scene for group in results.groups})
    if len(scenes) < 2:
        return {}
    counts = np.stack([results.pick("scene", scene)[0] for scene in scenes])  # (S, T, K, K + 1)
    hits, unions = (part.astype(np.float64) for part in hits_and_unions(counts))  # (S, T, K)
    shape = hits.shape[1:]
    weights = np.random.default_rng(seed).multinomial(
        len(scenes), np.full(len(scenes), 1 / len(scenes)), size=resamples
    )  # (R, S): how often each scene was drawn
    scores = np.empty((resamples, shape[0]))
    for start in range(0, resamples, _CHUNK):
        chunk = weights[start : start + _CHUNK].astype(np.float64)
        sums = [
            (chunk @ part.reshape(len(scenes), -1)).reshape(-1, *shape) for part in (hits, unions)
        ]
        scores[start : start + _CHUNK] = mean_over_classes(*sums, absent=results.about.absent)
    return headline(scores, results.trials, results.about.modalities)


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """The middle `SHARE` percent of the draws."""
    tail = (100 - SHARE) / 2
    low, high = np.nanpercentile(values, [tail, 100 - tail])
    return float(low), float(high)


def intervals(
    results: Results, *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """95 % percentile interval of every figure; empty with fewer than two scenes."""
    table = draws(results, resamples=resamples, seed=seed)
    return {k: interval(v) for k, v in table.items() if np.isfinite(v).any()}
