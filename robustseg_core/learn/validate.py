"""By what the best weights are chosen: mIoU on a split that is never reported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from robustseg_core.datasets import Dataset, Sample
from robustseg_core.evaluation.figures import trial_scores
from robustseg_core.evaluation.run import evaluate
from robustseg_core.learn.recipe import ValidationRecipe
from robustseg_core.models.network import Network
from robustseg_core.models.subsets import short


class Picked(Dataset):
    """Some samples of a data set, evenly spread over it.

    Args:
        whole: the data set.
        count: how many; 0, or more than there are: all.
    """

    def __init__(self, whole: Dataset, count: int) -> None:
        total = len(whole)
        self._whole = whole
        self._index = np.linspace(0, total - 1, min(count or total, total)).round().astype(int)
        self.name, self.split, self.size = whole.name, whole.split, whole.size
        self.classes, self.modalities = whole.classes, whole.modalities
        self.encodings = whole.encodings

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: int) -> Sample:
        return self._whole[int(self._index[index])]

    def tags(self, index: int) -> Mapping[str, str]:
        """As the whole's."""
        return self._whole.tags(int(self._index[index]))

    @property
    def shape(self) -> tuple[int, int]:
        """As the whole's."""
        return self._whole.shape


def score(
    model: Network, data: Dataset, rule: ValidationRecipe, device: torch.device
) -> dict[str, float]:
    """mIoU as fractions: `val` by the recipe's rule, and `val/RDE` per subset.

    Missing sensors are skipped; classes that do not occur are left out of the mean.
    """
    was_training = model.training
    results = evaluate(
        model,
        Picked(data, rule.samples),
        protocols=("subsets",),
        missing=("skip",),
        worst=0,
        absent="skip",
        device=str(device),
    )
    model.train(was_training)
    values = trial_scores(results.counts.sum(1), absent="skip")
    subsets = [trial.subset for trial in results.trials]
    table: dict[tuple[str, ...], Any] = dict(zip(subsets, map(float, values), strict=True))
    names = results.about.modalities
    if rule.rule == "mean":
        best = float(np.mean(list(table.values())))
    elif rule.rule == "four":
        best = float(np.mean([table[s] for s in (names[:1], names[:2], names[-2:], names)]))
    else:
        best = table[names]
    return {"val": best} | {f"val/{short(s)}": value for s, value in table.items()}
