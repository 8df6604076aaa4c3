"""How true the network's confidence was, of the sums that an evaluation keeps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustseg_core.evaluation.protocols import Trial
from robustseg_core.evaluation.results import Results
from robustseg_core.metrics import calibration_error, mean_iou
from robustseg_core.models.subsets import short


@dataclass(frozen=True, slots=True)
class Sureness:
    """One trial, over all samples or some."""

    trial: Trial
    pixels: float
    right: float
    """Share of the pixels."""
    mean: float
    """Mean confidence."""
    error: float
    """Expected calibration error."""
    kept: tuple[float, ...]
    """Share of the pixels that keep their label, by alpha; none of a network that promises
    nothing."""
    kept_right: tuple[float, ...]
    """Share of these that is right; NaN of none."""

    @property
    def name(self) -> str:
        """`RDE`; or the protocol, where it has no subsets."""
        return short(self.trial.subset) if self.trial.protocol == "subsets" else self.trial.protocol

    def plain(self) -> dict[str, Any]:
        """For `results.json`."""
        return {
            "protocol": self.trial.protocol,
            "subset": short(self.trial.subset),
            "right": round(self.right, 6),
            "mean_confidence": round(self.mean, 6),
            "ece": round(self.error, 6),
            "kept": [round(share, 6) for share in self.kept],
            "kept_right": [round(s, 6) if np.isfinite(s) else None for s in self.kept_right],
        }


def sureness(results: Results, attribute: str = "", value: str = "") -> list[Sureness]:
    """Every trial whose confidence was counted; of one scene, condition or case, if said."""
    if results.bins is None or results.kept is None:
        return []
    own = results.places(attribute, value)
    return list(_of(results, results.bins[:, own].sum(1), results.kept[:, own].sum((1, 3))))


def _of(results: Results, bins: NDArray[np.float64], kept: NDArray[np.int64]) -> Iterator[Sureness]:
    """From (T, BINS, 3) and (T, A, 2) sums."""
    errors = calibration_error(bins)
    for t, trial in enumerate(results.trials):
        pixels, right, sure = bins[t].sum(0)
        if not pixels:
            continue
        with np.errstate(invalid="ignore", divide="ignore"):
            good = kept[t, :, 1] / kept[t, :, 0].astype(np.float64)
        yield Sureness(
            trial,
            float(pixels),
            float(right / pixels),
            float(sure / pixels),
            float(errors[t]),
            tuple((kept[t, :, 0] / pixels).tolist()),
            tuple(good.tolist()),
        )


def of_subsets(rows: list[Sureness]) -> list[Sureness]:
    """Those of the protocol `subsets`."""
    return [row for row in rows if row.trial.protocol == "subsets"]


def rank_correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Spearman's, with mean ranks of ties; NaN where one does not vary."""
    ranks = [
        (values[:, None] > values).sum(1) + (values[:, None] == values).sum(1) / 2
        for values in (first, second)
    ]
    if min(len(first), *(np.ptp(rank) for rank in ranks)) == 0:
        return float("nan")
    return float(np.corrcoef(ranks)[0, 1])


def agreement(rows: list[Sureness]) -> float:
    """Rank correlation of mean confidence with the share that is right, over the subsets."""
    own = of_subsets(rows)
    if len(own) < 2:
        return float("nan")
    return rank_correlation(np.array([r.mean for r in own]), np.array([r.right for r in own]))


def prior_miou(results: Results, attribute: str = "", value: str = "") -> float:
    """mIoU of the position prior (`metrics.PositionPrior`); NaN where it was not counted."""
    if results.prior is None:
        return float("nan")
    own = results.places(attribute, value)
    return mean_iou(results.prior[own].sum(0), absent=results.about.absent)
