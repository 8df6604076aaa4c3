"""The contract of a fusion: reduce the packed rows of each sample to one map, whoever is alive.

Rows are packed: N is the number of alive (sample, modality) pairs, and a dead sensor has no row. A
fusion must therefore give the same answer whatever the order of the rows, and must accept any
non-empty set of modalities.

There is one fusion module per stage of the encoder (a stage has its own width and its own weights),
so a fusion reads like the equation in its paper and never asks which stage it is at.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from robustseg_core.errors import RobustsegError
from robustseg_core.models.exporting import is_exporting


class Fusion(nn.Module, ABC):
    """One stage's fusion.

    A new fusion is a file in this folder with one public subclass; `ModelSpec.fusion` is its name.

    Args:
        channels: C, the width of the stage.
        modalities: M, how many modalities the network knows (alive or not).
    """

    averages: ClassVar[bool] = False
    """True: it is the arithmetic mean of a sample's rows, so that whatever is linear may come
    before it."""

    def __init__(self, channels: int, modalities: int) -> None:
        super().__init__()
        self.channels = channels
        self.modalities = modalities

    @abstractmethod
    def forward(
        self,
        features: Tensor,
        sample: Tensor,
        modality: Tensor,
        batch: int,
        quality: Tensor | None = None,
    ) -> Tensor:
        """One map per sample.

        Args:
            features: (N, C, h, w), one row per alive (sample, modality) pair, in any order.
            sample: (N,) int64 in [0, B): whose each row is.
            modality: (N,) int64 in [0, M): which sensor's each row is.
            batch: B.
            quality: (N,) health scores in [0, 1], or None: all are good.

        Returns:
            (B, C, h, w).

        Raises:
            RobustsegError: a sample has no row (see `rows_per_sample`).
        """


def sum_per_sample(rows: Tensor, sample: Tensor, batch: int) -> Tensor:
    """(N, ...) to (B, ...): the rows of each sample added up."""
    if batch == 1:
        total = rows[:1]
        for row in range(1, len(rows)):  # 5 times as fast as a sum over them
            total = total + rows[row : row + 1]
        return total
    return rows.new_zeros(batch, *rows.shape[1:]).index_add_(0, sample, rows)


def mix_per_sample(rows: Tensor, weights: Tensor, sample: Tensor, batch: int) -> Tensor:
    """(N, ...) rows, each times its weights, to (B, ...): those of each sample added up."""
    if batch > 1:
        return sum_per_sample(rows * weights, sample, batch)
    total = rows[:1] * weights[:1]
    for row in range(1, len(rows)):
        total = torch.addcmul(total, rows[row : row + 1], weights[row : row + 1])
    return total


def rows_per_sample(sample: Tensor, batch: int) -> Tensor:
    """(B,) int64: how many sensors each sample has.

    Raises:
        RobustsegError: a sample has none. Not asked while a graph is being exported or compiled,
            nor on a device, for which the host would wait; `Network.check` has asked before.
    """
    counts = sum_per_sample(torch.ones_like(sample), sample, batch)
    if not is_exporting() and sample.is_cpu and not counts.all():
        blind = (counts == 0).nonzero().flatten().tolist()
        raise RobustsegError(
            f"samples {blind} of a batch of {batch} have no modality alive; "
            "every sample needs at least one; leave blind samples out of the batch"
        )
    return counts


def relative_health(quality: Tensor | None, sample: Tensor, batch: int, *, like: Tensor) -> Tensor:
    """(N,) health over that of a sample's best sensor: 1 for the best, 0 for health 0.

    Where all of a sample's sensors have health 0, all are 1: somebody must speak.

    Args:
        quality: (N,) health scores in [0, 1], or None: all are good.
        sample: (N,) int64 in [0, B).
        batch: B.
        like: of the type and on the device that are wanted.
    """
    if quality is None:
        return like.new_ones(len(sample))
    health = quality.to(like.dtype).clamp(0, 1)
    if batch == 1:
        best = health.amax(0, keepdim=True).expand_as(health)
    else:
        lowest = health.new_zeros(batch)
        best = lowest.scatter_reduce(0, sample, health, "amax")[sample]
    return torch.where(best > 0, health / best.clamp(min=1e-12), 1.0)
