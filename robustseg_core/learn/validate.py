"""Validation while training: mIoU on a split of its own, by which the best weights are chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from robustseg_core.datasets import Dataset, Sample
from robustseg_core.errors import RobustsegError
from robustseg_core.evaluation.figures import trial_scores
from robustseg_core.evaluation.frames import Gallery
from robustseg_core.evaluation.matching import expect_encodings, shared_modalities
from robustseg_core.evaluation.protocols import ZERO, Trial
from robustseg_core.evaluation.run import count
from robustseg_core.learn.recipe import ValidationRecipe
from robustseg_core.models.network import Network
from robustseg_core.models.subsets import short, subsets

if TYPE_CHECKING:
    from lightning.fabric import Fabric


class Picked(Dataset):
    """Some samples of a data set, evenly spread over it, and of these a process's share.

    Args:
        whole: the data set.
        count: how many; 0, or more than there are: all.
        rank: which of `world` processes this is.
        world: how many share them.
    """

    def __init__(self, whole: Dataset, count: int, rank: int = 0, world: int = 1) -> None:
        total = len(whole)
        self._whole = whole
        index = np.linspace(0, total - 1, min(count or total, total)).round().astype(int)
        self._index = index[rank::world]
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


KEPT = 3
"""Frames of each kind that are kept for looking at."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What a validation found."""

    figures: dict[str, float]
    """mIoU as fractions: `val` by the recipe's rule, and `val/RDE` per subset."""
    counts: NDArray[np.int64]
    """(K, K + 1) with all sensors, of all processes."""
    gallery: Gallery
    """Of this process's samples."""


def judge(
    model: Network,
    data: Dataset,
    rule: ValidationRecipe,
    fabric: Fabric,
    workers: int = 0,
    *,
    missing: str = "skip",
) -> Judged:
    """Score the sensors' subsets, and keep what explains the scores.

    The processes share the samples, and all of them get the same figures, which do not depend on
    how many they are; all must ask. Subsets are those of `robustseg eval`: its `subsets` where
    missing sensors are skipped, its `emm` where they are zero. Classes that do not occur are left
    out of the mean.

    Args:
        model: the same in all processes; left as it is.
        data: the whole split.
        rule: which subsets, and how many samples.
        fabric: where, and with whom.
        workers: processes that read samples ahead, beside each of these.
        missing: how the network was taught that a sensor is missing (`student.missing`).

    Raises:
        RobustsegError: data that does not fit the network, or without any label.
    """
    spec = model.spec
    names = shared_modalities(spec, data, allow_missing=False)
    expect_encodings(spec, data, names)
    judged = subsets_of(rule.rule, names)
    protocol, others = ("emm", ZERO) if missing == "zero" else ("subsets", None)
    trials = [Trial(protocol, subset, others=others) for subset in judged]
    fewer = [subset for subset in (names[:1], names[-2:]) if subset != names]
    gallery = Gallery(KEPT, spec.encodings or data.encodings, fewer)
    counter = count(
        model,
        Picked(data, rule.samples, fabric.global_rank, fabric.world_size),
        trials,
        names,
        gallery,
        device=fabric.device,
        batch=rule.batch,
        workers=workers,
    )
    classes = len(spec.classes)
    confusion = torch.zeros(len(trials), classes, classes + 1, dtype=torch.int64)
    for counts in counter.counts.values():
        confusion += torch.from_numpy(counts)
    confusion = confusion.to(fabric.device)
    fabric.all_reduce(confusion, reduce_op="sum")  # in place
    if not confusion.any():
        raise RobustsegError(f"none of the samples of {data.name} {data.split} has a label")
    values = trial_scores(confusion.cpu().numpy(), absent="skip")
    table: dict[tuple[str, ...], Any] = dict(zip(judged, map(float, values), strict=True))
    if rule.rule == "full":
        best = table[names]
    elif rule.rule == "four":
        best = float(np.mean([table[subset] for subset in four(names)]))
    else:
        best = float(np.mean(list(table.values())))
    figures = {"val": best} | {f"val/{short(s)}": value for s, value in table.items()}
    return Judged(figures, confusion[judged.index(names)].cpu().numpy(), gallery)


def subsets_of(rule: str, names: Sequence[str]) -> list[tuple[str, ...]]:
    """The subsets that a rule looks at, in the papers' order."""
    every = subsets(names)
    return every if rule == "mean" else [subset for subset in every if subset in four(names)]


def four(names: Sequence[str]) -> list[tuple[str, ...]]:
    """First alone, first two, last two, all: what RobustSeg's code chooses the best weights by."""
    every = tuple(names)
    return [every[:1], every[:2], every[-2:], every]
