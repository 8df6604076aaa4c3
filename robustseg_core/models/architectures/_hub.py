"""CMNeXt's light branch: one stage of one encoder for all sensors beside the first.

Section 3 of arXiv 2303.01480 (Zhang et al., CVPR 2023): a Self-Query Hub scores the sensors and
keeps the loudest of each channel and position; Parallel Pooling Mixer blocks refine what it kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustseg_core.models.mit import skip_rows
from robustseg_core.models.modules import Modules

POOLS = (3, 7, 11)
"""Sides of the windows over which a mixer averages, beside the position itself."""
RATIOS = (8, 8, 4, 4)
"""Hidden width of a mixer's MLP, in widths of its stage."""
SCALE = 1e-2
"""What each branch of a mixer is multiplied by at first."""


class MapNorm(nn.LayerNorm):
    """LayerNorm over the channels of a map, eps 1e-6."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) to the same."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class SharedEmbed(nn.Module):
    """One patch embedding for all sensors, and a norm for each.

    Args:
        entering: channels of the maps that come in.
        width: C.
        sensors: how many.
        first: 7x7 with stride 4 instead of 3x3 with stride 2.
    """

    def __init__(self, entering: int, width: int, sensors: int, *, first: bool) -> None:
        super().__init__()
        kernel, stride = (7, 4) if first else (3, 2)
        self.proj = nn.Conv2d(entering, width, kernel, stride, kernel // 2)
        self.norms = Modules(MapNorm(width) for _ in range(sensors))

    def forward(self, x: Tensor, sensor: int) -> Tensor:
        """(n, C', h', w') of one sensor to (n, C, h, w)."""
        embedded: Tensor = self.norms[sensor](self.proj(x))
        return embedded


class SensorScore(nn.Module):
    """How much a sensor has to say at each position, from what it says itself."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.project = nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, h, w) to x + s x, with scores s of (n, 1, h, w) in (0, 1)."""
        score = torch.sigmoid(self.project(self.depthwise(x)))
        return x + score * x


def loudest(maps: Mapping[int, Tensor], rows: Mapping[int, Tensor], like: Tensor) -> Tensor:
    """The largest value over the sensors that a sample has; 0 where it has none.

    Args:
        maps: sensor -> (n, C, h, w).
        rows: sensor -> (n,) int64, the samples in [0, B) that have it, ascending.
        like: (B, C, h, w), for shape and device.
    """
    top = None
    for sensor, x in maps.items():
        if top is None:
            top = x.new_full(like.shape, -torch.inf)
        own = rows[sensor]
        whole = len(own) == len(top)
        top = torch.maximum(top, x) if whole else top.index_copy(0, own, torch.maximum(top[own], x))
    if top is None:
        return torch.zeros_like(like)
    return torch.where(top == -torch.inf, 0.0, top)


class PoolAttention(nn.Module):
    """A gate from averages over several windows (parallel pooling)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.local = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.mix = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) to the same."""
        near: Tensor = self.local(x)
        total = near
        for side in POOLS:
            total = total + F.avg_pool2d(near, side, 1, side // 2, count_include_pad=False)
        gate = torch.sigmoid(self.mix(total))
        return gate * x + x


class MapMLP(nn.Module):
    """1x1, depthwise 3x3, GELU, 1x1."""

    def __init__(self, width: int, ratio: int) -> None:
        super().__init__()
        hidden = ratio * width
        self.expand = nn.Conv2d(width, hidden, 1)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.contract = nn.Conv2d(hidden, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) to the same."""
        x = self.contract(F.gelu(self.depthwise(self.expand(x))))
        return x


class PoolMixer(nn.Module):
    """Parallel Pooling Mixer (PPX): a pooled gate, then channels weighed and mixed.

    Args:
        width: C.
        ratio: hidden width of the MLP, in C.
        drop_path: in training, chance that a row skips either branch.
    """

    def __init__(self, width: int, ratio: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(width)
        self.attention = PoolAttention(width)
        self.scale1 = nn.Parameter(torch.full((width,), SCALE))
        self.channel = nn.Conv1d(1, 1, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.mlp = MapMLP(width, ratio)
        self.scale2 = nn.Parameter(torch.full((width,), SCALE))
        self.drop_path = drop_path

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) to the same; the weights of the channels scale the shortcut, as released."""
        rate = self.drop_path if self.training else 0
        x = x + skip_rows(self.scale1[:, None, None] * self.attention(self.norm1(x)), rate)
        means = x.mean((2, 3))[:, None]  # (N, 1, C)
        weights = torch.sigmoid(self.channel(means)).transpose(1, 2)[..., None]  # (N, C, 1, 1)
        return weights * x + skip_rows(self.scale2[:, None, None] * self.mlp(self.norm2(x)), rate)


class HubStage(nn.Module):
    """One stage of the light branch.

    Args:
        entering: channels of the maps that come in.
        width: C.
        sensors: M', the sensors beside the first; a single one is not scored.
        stage: from 0.
        drop_paths: of each mixer.
    """

    def __init__(
        self, entering: int, width: int, sensors: int, stage: int, drop_paths: Sequence[float]
    ) -> None:
        super().__init__()
        self.embed = SharedEmbed(entering, width, sensors, first=stage == 0)
        self.scores = Modules(SensorScore(width) for _ in range(sensors if sensors > 1 else 0))
        self.mixers = Modules(PoolMixer(width, RATIOS[stage], rate) for rate in drop_paths)
        self.norm = MapNorm(width)

    def score(self, x: Tensor, sensor: int) -> Tensor:
        """(n, C, h, w) of one sensor to the same: louder where it has something to say."""
        scored: Tensor = self.scores[sensor](x) if len(self.scores) else x
        return scored

    def refine(self, x: Tensor) -> Tensor:
        """(B, C, h, w), the loudest of the sensors, to the same."""
        for mixer in self.mixers:
            x = mixer(x)
        x = self.norm(x)
        return x
