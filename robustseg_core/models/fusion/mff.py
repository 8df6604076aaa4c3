"""MFF: the sensor most like the weighted mean of all, at each position, averaged with that mean."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from robustseg_core.models.fusion._base import Fusion, rows_per_sample, sum_per_sample

TIE = 1e-5
"""Cosines that differ by less are equal but for rounding, in float32 and finer."""


class MffFusion(Fusion):
    """Modality-agnostic feature fusion of Any2Seg (Zheng et al., ECCV 2024, arXiv 2407.11351).

    Without parameters. Of each stage, at each position, over the sensors m that are there:

        r    = mean_m f_m
        f_mb = mean_m cos(f_m, r) f_m
        f_ms = the f_m of the greatest cos(f_m, f_mb)
        f    = (f_mb + f_ms) / 2

    No code is public; the steps follow the paper's figure, in one pass. RECONSTRUCTED: the
    reference r, which the paper takes from its "previous step", is the mean, and nothing is kept
    between batches. The half is ours: with it a sensor alone is its own fusion, and sensors that
    agree are theirs. Of cosines that are equal but for rounding (`TIE`) that of the first modality
    wins, by the order of `ModelSpec.modalities`: of two sensors whose features are as long, as at
    the start of a training, both always are. `mff_soft` replaces the choice by a softmax.
    """

    def forward(
        self,
        features: Tensor,
        sample: Tensor,
        modality: Tensor,
        batch: int,
        quality: Tensor | None = None,
    ) -> Tensor:
        """(N, C, h, w) to (B, C, h, w); health scores do not matter here."""
        counts = rows_per_sample(sample, batch).to(features.dtype).view(-1, 1, 1, 1)
        r = sum_per_sample(features, sample, batch) / counts  # (B, C, h, w)
        s = F.cosine_similarity(features, r[sample], dim=1).unsqueeze(1)  # (N, 1, h, w)
        f_mb = sum_per_sample(s * features, sample, batch) / counts
        c = F.cosine_similarity(features, f_mb[sample], dim=1).unsqueeze(1)
        f_ms = sum_per_sample(self.share(c, sample, modality, batch) * features, sample, batch)
        return (f_mb + f_ms) / 2

    def share(self, c: Tensor, sample: Tensor, modality: Tensor, batch: int) -> Tensor:
        """(N, 1, h, w): 1 where a row is its sample's choice, 0 elsewhere; as `c`, the cosines."""
        slot = sample * self.modalities + modality
        table = c.new_full((batch * self.modalities, *c.shape[1:]), -2)  # below any cosine
        table = table.index_copy(0, slot, c.detach()).view(batch, self.modalities, *c.shape[1:])
        tie = max(TIE, 4 * torch.finfo(c.dtype).eps)
        best = table >= table.amax(1, keepdim=True) - tie
        first = best & (best.cumsum(1) == 1)
        return first.flatten(0, 1)[slot].to(c.dtype)
