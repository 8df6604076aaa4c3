"""A light decoder: context at stride 32, then one finer map at a time is added and smoothed.

A feature pyramid (Lin et al., CVPR 2017, arXiv 1612.03144) of depthwise separable convolutions,
with a gate from the whole picture at its top (LR-ASPP, Howard et al., ICCV 2019, arXiv 1905.02244).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from robustseg_core.models.head import Head
from robustseg_core.models.lite0 import ConvNorm
from robustseg_core.models.mit import initialize
from robustseg_core.models.modules import Modules
from robustseg_core.models.resize import resize

WIDTHS = (128, 96, 64, 48, 32)
"""Of the decoder's maps, at strides 32, 16, 8, 4 and 2."""


class LightDecoder(Head):
    """Maps at strides 2 (or 4) to 32 to logits at the finest of them.

    Args:
        channels: of the maps, finest first.
        classes: K.
        dropout: in training, chance that a channel before the classifier is left out.
        folded: as `ConvNorm`.
    """

    def __init__(
        self, channels: Sequence[int], classes: int, *, dropout: float, folded: bool = False
    ) -> None:
        super().__init__()
        self.channels = list(channels)
        *finer, coarsest = channels
        self.top = ConvNorm(coarsest, WIDTHS[0], folded=folded)
        self.gate = nn.Conv2d(coarsest, WIDTHS[0], 1)
        self.context = _separable(WIDTHS[0], WIDTHS[0], 5, folded=folded)
        self.down: Modules[ConvNorm] = Modules()
        self.across: Modules[ConvNorm] = Modules()
        self.smooth: Modules[nn.Sequential] = Modules()
        width = WIDTHS[0]
        for narrower, entering in zip(WIDTHS[1:], reversed(finer), strict=False):
            self.down.append(ConvNorm(width, narrower, active=False, folded=folded))
            self.across.append(ConvNorm(entering, narrower, active=False, folded=folded))
            self.smooth.append(_separable(narrower, narrower, 3, folded=folded))
            width = narrower
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(width, classes, 1)
        self.apply(initialize)
        nn.init.normal_(self.classifier.weight, std=0.01)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """S maps (B, C_s, h_s, w_s), finest first, to logits (B, K, h_0, w_0)."""
        *finer, coarsest = features
        whole = F.hardsigmoid(self.gate(coarsest.mean((2, 3), keepdim=True)))  # (B, C, 1, 1)
        x = self.context(self.top(coarsest) * whole)
        for place, skipped in enumerate(reversed(finer)):
            x = resize(self.down[place](x), skipped.shape[2:])
            x = self.smooth[place](F.relu6(x + self.across[place](skipped)))
        logits: Tensor = self.classifier(self.dropout(x))
        return logits

    def fold(self) -> LightDecoder:
        """A copy whose BatchNorms are in the convolutions."""
        twin = copy.deepcopy(self)
        for part in twin.modules():
            if isinstance(part, ConvNorm):
                part.fold()
        return twin


def _separable(entering: int, leaving: int, kernel: int, *, folded: bool) -> nn.Sequential:
    """Each channel by itself, then all of a position."""
    return nn.Sequential(
        ConvNorm(entering, entering, kernel, depthwise=True, folded=folded),
        ConvNorm(entering, leaving, folded=folded),
    )
