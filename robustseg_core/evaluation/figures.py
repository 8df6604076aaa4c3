"""The handful of numbers that a system is judged by, from one score per trial.

The same lines serve one evaluation and ten thousand resamplings of it: scores may have leading
dimensions, and every figure keeps them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from robustseg_core.evaluation.protocols import Trial
from robustseg_core.evaluation.results import Results
from robustseg_core.metrics import hits_and_unions, mean_over_classes
from robustseg_core.models.subsets import expectation, short, subsets

FAILURES = {"E(.2)": 0.2, "E(.1)": 0.1, "E(.05)": 0.05}
"""Chances that a sensor fails, independently of the others (arXiv 2503.18445)."""

KEY = (
    "subsets mean",
    "subsets full",
    "subsets worst",
    "subsets E(.1)",
    "emm mean",
    "rmm mean",
    "nm mean",
    "robustness mean",
)
"""The figures that summaries and comparisons show, where they were evaluated."""


def trial_scores(counts: NDArray[np.int64], *, absent: str) -> NDArray[np.float64]:
    """(T,) mIoU of (T, K, K + 1) counts."""
    return mean_over_classes(*hits_and_unions(counts), absent=absent)


def headline(
    scores: NDArray[np.float64], trials: Sequence[Trial], modalities: Sequence[str]
) -> dict[str, NDArray[np.float64]]:
    """Every figure by its name, in the order of the tables.

    Args:
        scores: (..., T) mIoU per trial.
        trials: T of them.
        modalities: M names; protocols with subsets have all 2^M - 1.

    Returns:
        For each of `subsets`, `emm` and `rmm <rate>`: its `mean`, `full`, `worst` (lowest subset)
        and `E(p)`; `rmm mean` (of the means over all rates) and `rmm E(p)`; `nm <level>` and
        `nm mean` (over the levels); `robustness mean`, of those of EMM, RMM and NM, where all were
        evaluated. Each is (...).
    """
    found: dict[str, NDArray[np.float64]] = {}
    for protocol in dict.fromkeys(trial.protocol for trial in trials):
        own = {t.subset: scores[..., i] for i, t in enumerate(trials) if t.protocol == protocol}
        if protocol.startswith("nm"):
            found[protocol] = own[tuple(modalities)]
            continue
        stack = np.stack([own[s] for s in subsets(modalities)])  # (2^M - 1, ...)
        found[f"{protocol} mean"] = stack.mean(0)
        found[f"{protocol} full"] = own[tuple(modalities)]
        found[f"{protocol} worst"] = stack.min(0)
        for name, p in FAILURES.items():
            found[f"{protocol} {name}"] = expectation(own, modalities, p)
    for name in ("mean", *FAILURES):
        rates = [v for k, v in found.items() if k.startswith("rmm ") and k.endswith(f" {name}")]
        if rates:
            found[f"rmm {name}"] = np.mean(rates, axis=0)
    levels = [value for name, value in found.items() if name.startswith("nm ")]
    if levels:
        found["nm mean"] = np.mean(levels, axis=0)
    parts = [found[name] for name in ("emm mean", "rmm mean", "nm mean") if name in found]
    if len(parts) == 3:
        found["robustness mean"] = np.mean(parts, axis=0)
    return found


def figures(results: Results, counts: NDArray[np.int64] | None = None) -> dict[str, float]:
    """`headline` of an evaluation, as fractions; NaN where no class occurs.

    Args:
        results: the evaluation.
        counts: (T, K, K + 1) of a part of it, as `Results.pick` returns; None: all of it.
    """
    counts = results.counts.sum(1) if counts is None else counts
    scores = trial_scores(counts, absent=results.about.absent)
    table = headline(scores, results.trials, results.about.modalities)
    return {name: float(value) for name, value in table.items()}


def worst_subset(results: Results, protocol: str) -> str:
    """The column head of the subset with the lowest mIoU."""
    scores = trial_scores(results.counts.sum(1), absent=results.about.absent)
    own = [(scores[i], t.subset) for i, t in enumerate(results.trials) if t.protocol == protocol]
    return short(min(own, key=lambda pair: pair[0])[1])
