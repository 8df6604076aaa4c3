"""As `mff`, but sensors are weighted by their likeness to the mean instead of chosen."""

from __future__ import annotations

from torch import Tensor

from robustseg_core.models.fusion._base import sum_per_sample
from robustseg_core.models.fusion.mff import MffFusion

TEMPERATURE = 0.1


class SoftMffFusion(MffFusion):
    """Any2Seg's fusion with softmax_m(cos(f_m, f_mb) / 0.1) in place of its choice.

    RECONSTRUCTED: ours, for a choice that has a gradient. Everything else is `mff`'s.
    """

    def share(self, c: Tensor, sample: Tensor, modality: Tensor, batch: int) -> Tensor:
        """(N, 1, h, w), 1 in sum over the sensors of a sample."""
        loud = ((c - 1) / TEMPERATURE).exp()  # a cosine is 1 at most: no overflow
        return loud / sum_per_sample(loud, sample, batch)[sample]
