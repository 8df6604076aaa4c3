"""Fusion by health alone: weight 0 at health 0, and never more for being worse."""

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

LOUDEST = 8.0
"""Bound of a score, so that no exponential overflows in half precision either."""


class TrustFusion(Fusion):
    """Ours: as `gated`, with a share that falls to nothing with the health score.

    Of each stage, at each position, over the sensors m of a sample with health q_m in [0, 1]:

        w_m = (q_m / max q)^g_m,  g_m > 0, learned for each sensor
        f   = sum_m (a w_m exp(s_m) / sum w exp(s) + (1 - a) w_m / sum w) f_m

    with a score s_m = <v_m, f_m> + b_m, bounded, and a share a in (0, 1), all learned. So a sensor
    of health 0 gives exactly what a missing one gives, and its share never rises while its health
    falls. Where all of a sample's sensors have health 0, all count alike. Untrained, with all of
    them well, it is the mean.
    """

    def __init__(self, channels: int, modalities: int) -> None:
        super().__init__(channels, modalities)
        self.score = nn.Parameter(torch.zeros(modalities, channels))
        self.bias = nn.Parameter(torch.zeros(modalities))
        self.log_exponent = nn.Parameter(torch.zeros(modalities))
        self.mix = nn.Parameter(torch.zeros(()))

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
        x = features.permute(0, 2, 3, 1)  # (N, h, w, C), as channels-last maps lie in memory
        health = relative_health(quality, sample, batch, like=x)
        weight = health.pow(self.log_exponent.exp()[modality]).view(-1, 1, 1, 1)
        even = weight / sum_per_sample(weight, sample, batch)[sample]
        score = self._scores(x.flatten(1, 2), modality, batch)  # (N, h * w)
        score = score.view(*x.shape[:3], 1) + self.bias[modality].view(-1, 1, 1, 1)
        loud = (LOUDEST * torch.tanh(score / LOUDEST)).exp() * weight  # (N, h, w, 1)
        loud = loud / sum_per_sample(loud, sample, batch)[sample]
        share = torch.sigmoid(self.mix)
        fused = mix_per_sample(x, share * loud + (1 - share) * even, sample, batch)
        return fused.permute(0, 3, 1, 2)

    def _scores(self, pixels: Tensor, modality: Tensor, batch: int) -> Tensor:
        """(N, P, C) to (N, P), <v_m, f_m>; a scene's few rows are faster one by one."""
        own = self.score[modality]  # (N, C)
        if batch > 1:
            return (pixels @ own.unsqueeze(2)).squeeze(2)
        return torch.stack([pixels[row] @ own[row] for row in range(len(pixels))])
