"""Which packed row is whose: tables over (sample, modality), and the modalities that dominate."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from robustseg_core.distill._base import Lesson
from robustseg_core.distill._pixels import mean_known, wide
from robustseg_core.types import Prediction

Rows = Tensor | slice
"""Row numbers to index with; `slice(None)` is all of them in their order, and copies nothing."""


def pairs(lesson: Lesson) -> tuple[Rows, Rows]:
    """`lesson.pairs`, with slices where a student or a teacher is wanted as it is.

    Rows are beside the features; nobody waits for a device that says who is whose
    (`Prediction.on_host`).
    """
    here, there = lesson.pairs
    return _lean(here, lesson.student), _lean(there, lesson.teacher)


def _lean(rows: Tensor, seen: Prediction) -> Rows:
    if torch.equal(rows, torch.arange(len(seen.sample))):
        return slice(None)
    return rows.to(seen.sample.device, non_blocking=True)


def table(seen: Prediction, lesson: Lesson) -> Tensor:
    """(B, M) int64: the packed row of each sensor of each sample, -1 where there is none."""
    rows = torch.full((lesson.batch * lesson.modalities,), -1, device=seen.sample.device)
    slot = seen.sample * lesson.modalities + seen.modality
    rows[slot] = torch.arange(len(slot), device=slot.device)
    return rows.view(lesson.batch, lesson.modalities)


def drawn(slots: Prediction, others: Prediction, lesson: Lesson, *, replacement: bool) -> Tensor:
    """For each row of one side a random row of the other side, of the same sample.

    Draws from `lesson.generator` once, whatever the order of the rows.

    Args:
        slots: (N,) rows, one partner for each.
        others: whose rows are the partners; at least one in each sample.
        lesson: both sides are of it.
        replacement: False: slots of a sample get different partners, as far as there are any.
    """
    rows = table(others, lesson)  # (B, M)
    draws = torch.rand(rows.shape, generator=lesson.generator).to(rows.device, non_blocking=True)
    has = rows >= 0
    if replacement:
        order = has.int().argsort(dim=1, descending=True, stable=True)  # present ones first
        place = (draws * has.sum(1, keepdim=True)).long()
    else:
        order = draws.masked_fill(~has, 2).argsort(1)  # the sample's own sensors, shuffled
        place = (table(slots, lesson) >= 0).cumsum(1) - 1
    chosen = order.gather(1, place.clamp(min=0))[slots.sample, slots.modality]
    return rows[slots.sample, chosen]


def sensors_of(sample: Tensor, batch: int) -> Tensor:
    """(B,) int64: how many rows each sample has; `torch.bincount` waits for the device."""
    return sample.new_zeros(batch).index_add(0, sample, torch.ones_like(sample))


def fused_mean(seen: Prediction, batch: int, stage: int) -> Tensor:
    """(B, C, h, w) mean of a sample's features over the sensors that it has; 0 where it has none.

    Args:
        seen: rows of (sample, sensor) pairs.
        batch: B.
        stage: 0 is the finest.
    """
    features = wide(seen.features[stage])  # (N, C, h, w)
    count = sensors_of(seen.sample, batch).clamp(min=1)
    total = features.new_zeros(batch, *features.shape[1:]).index_add(0, seen.sample, features)
    return total / count.view(-1, 1, 1, 1)


def dominant(seen: Prediction, lesson: Lesson, stage: int, known: Tensor | None) -> Tensor:
    """The rows that are worth imitating at a stage: those most like the fused feature.

    MAGIC's selection (arXiv 2407.11344) as RobustSeg's 2026 form uses it: per sample and stage,
    modalities are ranked by the pixel-mean cosine between their feature and the mean of all
    features, and the best ceil(M_b / 2) of the M_b that the sample has are kept. The granularity
    is reconstructed.

    Args:
        seen: who is asked; one side of the lesson.
        lesson: for its sizes.
        stage: 0 is the finest.
        known: (B, h, w) bool, pixels that count; None: all.

    Returns:
        (N,) bool, one per packed row of `seen`.
    """
    features = wide(seen.features[stage].detach())  # (N_t, C, h, w)
    present = table(seen, lesson) >= 0  # (B, M)
    count = present.sum(1, keepdim=True)  # (B, 1)
    fused = fused_mean(seen, lesson.batch, stage).detach()
    likeness = F.cosine_similarity(features, fused[seen.sample], dim=1)  # (N_t, h, w)
    score = mean_known(likeness, None if known is None else known[seen.sample])
    scores = score.new_full(present.shape, -torch.inf)
    scores[seen.sample, seen.modality] = score
    rank = scores.argsort(dim=1, descending=True, stable=True).argsort(1)  # (B, M)
    chosen = rank < (count + 1) // 2
    return chosen[seen.sample, seen.modality]
