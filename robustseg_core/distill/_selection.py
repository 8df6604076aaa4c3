"""Of two frozen networks, take at each place what one of them has the better score for.

RMMSS (arXiv 2505.12861v2), second stage: what a module selects from a teacher and from a robust
student is what the final student learns from.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robustseg_core.distill._pixels import wide
from robustseg_core.models.modules import Modules
from robustseg_core.types import Prediction


class Score(nn.Module):
    """How much a candidate is worth at each position, by what it says itself.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.project = nn.Conv2d(channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to (B, 1, h, w) in (0, 1)."""
        return torch.sigmoid(wide(self.project(self.depthwise(x))))


class Selector(nn.Module):
    """One map out of several candidates of one shape; each is scored by a net of its own.

    Args:
        channels: C.
        candidates: J.
        temperature: T of the soft form; 0.2 as released.
        legacy_argmax: the hard form.
    """

    def __init__(
        self,
        channels: int,
        candidates: int = 2,
        *,
        temperature: float,
        legacy_argmax: bool,
    ) -> None:
        super().__init__()
        self.scores = Modules(Score(channels) for _ in range(candidates))
        self.temperature = temperature
        self.legacy_argmax = legacy_argmax

    def forward(self, candidates: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """J maps of (B, C, h, w) to one, and to (J,) shares of what was selected from each.

        Soft: sum_j softmax_j(score / T) x_j at each pixel; a pixel belongs to its best score.
        Hard: at each *element* the x_j whose (1 + score_j) x_j is the greatest, as it is, which
        leaves the scores without a gradient. Of equal ones the first wins.
        """
        maps = torch.stack([wide(x) for x in candidates])  # (J, B, C, h, w)
        scores = torch.stack([net(x) for net, x in zip(self.scores, candidates, strict=True)])
        if self.legacy_argmax:
            pick = ((1 + scores.detach()) * maps.detach()).argmax(0, keepdim=True)
            selected = maps.gather(0, pick)[0]
        else:
            pick = scores.detach().argmax(0, keepdim=True)  # (1, B, 1, h, w)
            selected = ((scores / self.temperature).softmax(0) * maps).sum(0)
        each = torch.arange(len(candidates), device=pick.device)
        shares = (pick[None] == each.view(-1, 1, 1, 1, 1, 1)).flatten(1).float().mean(1)
        return selected, shares


class FeatureSelection(nn.Module):
    """RMMSS' Feature Selection Module (FSM) over a teacher's and a robust model's predictions.

    A selector for each fused map of the encoder is what was released: 11,272 parameters for B0 and
    22,536 for B1 and B2. As released it is the hard form (`legacy_argmax`), which cannot learn; the
    soft one stands in a comment there. The selector of the logits (22 K + 2 parameters) is
    RECONSTRUCTED from the abstract. Nothing of it is there at inference.

    Args:
        channels: C_s of the fused maps.
        classes: K.
        temperature: as `Selector`.
        legacy_argmax: as `Selector`.
    """

    def __init__(
        self,
        channels: Sequence[int],
        classes: int,
        *,
        temperature: float,
        legacy_argmax: bool,
    ) -> None:
        super().__init__()

        def selector(width: int) -> Selector:
            return Selector(width, temperature=temperature, legacy_argmax=legacy_argmax)

        self.stages = Modules(selector(width) for width in channels)
        self.logits = selector(classes)

    def forward(self, teacher: Prediction, robust: Prediction) -> tuple[Prediction, Tensor]:
        """What is selected, as a prediction whose one sensor is the scene, and from whom.

        Returns:
            Logits z* and maps F*, both with a graph to the scores; and (S + 1, 2) shares of the
            teacher and of the robust model, stage by stage and of the logits.
        """
        logits, last = self.logits((teacher.logits, robust.logits))
        maps, shares = [], []
        for select, pair in zip(
            self.stages, zip(teacher.fused, robust.fused, strict=True), strict=True
        ):
            chosen, share = select(pair)
            maps.append(chosen)
            shares.append(share)
        return scene(logits, maps), torch.stack([*shares, last])


def scene(logits: Tensor, fused: Sequence[Tensor]) -> Prediction:
    """A prediction whose packed rows are the fused maps: one row per sample, of one sensor."""
    sample = torch.arange(len(logits), device=logits.device)
    return Prediction(logits, list(fused), sample, torch.zeros_like(sample), list(fused))
