"""Mean fusion: every sensor of a sample counts the same."""

from __future__ import annotations

from torch import Tensor

from robustseg_core.models.fusion._base import Fusion, rows_per_sample, sum_per_sample


class MeanFusion(Fusion):
    """Arithmetic mean over the present modalities (AnySeg, arXiv 2411.17141): no parameters."""

    averages = True

    def forward(
        self,
        features: Tensor,
        sample: Tensor,
        modality: Tensor,
        batch: int,
        quality: Tensor | None = None,
    ) -> Tensor:
        """(N, C, h, w) to (B, C, h, w); health scores do not matter here."""
        counts = rows_per_sample(sample, batch).to(features.dtype)
        return sum_per_sample(features, sample, batch) / counts.view(-1, 1, 1, 1)
