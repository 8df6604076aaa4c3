"""Gated fusion: a weight for each sensor at each position, of its health and of its features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustseg_core.models.fusion._base import (
    Fusion,
    mix_per_sample,
    relative_health,
    rows_per_sample,
    sum_per_sample,
)


class GatedFusion(Fusion):
    """Ours: per pixel, a softmax over the alive sensors, mixed with their mean; both weighed by
    health (docs/specs/network.md: a temperature and a residual mean keep a learned router from
    collapsing to constants).

    Untrained and with all sensors healthy it is exactly the mean. A sensor of health 0 counts for
    nothing, unless all of a sample have it.
    """

    def __init__(self, channels: int, modalities: int) -> None:
        super().__init__(channels, modalities)
        self.score = nn.Conv2d(channels, 1, 1, bias=False)
        self.bias = nn.Parameter(torch.zeros(modalities))
        self.log_temperature = nn.Parameter(torch.zeros(()))
        self.mix = nn.Parameter(torch.zeros(()))
        nn.init.zeros_(self.score.weight)

    def forward(
        self,
        features: Tensor,
        sample: Tensor,
        modality: Tensor,
        batch: int,
        quality: Tensor | None = None,
    ) -> Tensor:
        """(N, C, h, w) to (B, C, h, w)."""
        rows_per_sample(sample, batch)
        health = relative_health(quality, sample, batch, like=features).view(-1, 1, 1, 1)
        even = health / sum_per_sample(health, sample, batch)[sample]
        score = self.score(features) + self.bias[modality].view(-1, 1, 1, 1)  # (N, 1, h, w)
        score = score * (-self.log_temperature).exp()
        # The largest score of the batch is no sample's own, but any constant keeps a softmax.
        loud = (score - score.detach().amax(0, keepdim=True)).exp() * health
        loud = loud / sum_per_sample(loud, sample, batch).clamp(min=1e-20)[sample]
        share = torch.sigmoid(self.mix)
        return mix_per_sample(features, share * loud + (1 - share) * even, sample, batch)
