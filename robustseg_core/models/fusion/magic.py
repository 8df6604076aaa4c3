"""MAGIC's fusion: a gate on each sensor's features, of surroundings at several scales."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustseg_core.models.fusion._base import Fusion, rows_per_sample, sum_per_sample

_POOLS = (3, 7, 11)
_SHRINK = 4
"""Width of a stage over that of its sensors' MLPs."""


class MagicFusion(Fusion):
    """Multi-modal aggregation of MAGIC (Zheng et al., ECCV 2024, arXiv 2407.11344).

    Per stage, over the sensors m that are there, with weights W and D of all sensors in common:

        a_m  = D f_m                                          (7x7, depthwise)
        g_m  = sigmoid(W (a_m + avg3 a_m + avg7 a_m + avg11 a_m))          (1x1)
        f_se = mean_m ( g_m f_m + MLP_m(f_m) ) + mean_m f_m

    RECONSTRUCTED from descriptions: no code and no weights are public, so this reproduces no
    published figure. Ours are that the gate is each sensor's own, that an MLP has a quarter of the
    stage's width with a GELU and begins at 0, and that padding does not count in the pools. The
    selection of dominant sensors with its two losses is not here.
    """

    def __init__(self, channels: int, modalities: int) -> None:
        super().__init__(channels, modalities)
        hidden = max(1, channels // _SHRINK)
        self.around = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.gate = nn.Conv2d(channels, channels, 1)
        self.narrow = nn.Parameter(torch.empty(modalities, hidden, channels))
        self.narrow_bias = nn.Parameter(torch.zeros(modalities, hidden))
        self.widen = nn.Parameter(torch.zeros(modalities, channels, hidden))
        self.widen_bias = nn.Parameter(torch.zeros(modalities, channels))
        nn.init.trunc_normal_(self.narrow, std=0.02)

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
        a = self.around(features)
        near = a
        for side in _POOLS:
            near = near + F.avg_pool2d(a, side, 1, side // 2, count_include_pad=False)
        gated = torch.sigmoid(self.gate(near)) * features
        said = gated + self._mlp(features, modality) + features
        return sum_per_sample(said, sample, batch) / counts

    def _mlp(self, features: Tensor, modality: Tensor) -> Tensor:
        """(N, C, h, w) to the same: each row by its own sensor's weights."""
        rows = features.flatten(2)  # (N, C, h*w)
        hidden = self.narrow[modality] @ rows + self.narrow_bias[modality].unsqueeze(2)
        made = self.widen[modality] @ F.gelu(hidden) + self.widen_bias[modality].unsqueeze(2)
        return made.view_as(features)
