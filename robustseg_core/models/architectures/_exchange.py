"""CMX's exchange of two branches: they rectify each other, and are fused for the head.

Feature Rectification and Feature Fusion Module of CMX (Zhang et al., arXiv 2203.04838, sections
3.2 and 3.3), which CMNeXt (arXiv 2303.01480) takes over.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SHARE = 0.5
"""Of each rectification, by channels and by positions."""


class Rectification(nn.Module):
    """FRM: each branch gets what the other knows, weighed per channel and per position."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.channel = nn.Sequential(
            nn.Linear(4 * width, 4 * width), nn.ReLU(), nn.Linear(4 * width, 2 * width)
        )
        self.position = nn.Sequential(
            nn.Conv2d(2 * width, width, 1), nn.ReLU(), nn.Conv2d(width, 2, 1)
        )

    def forward(self, a: Tensor, b: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
        """Both maps, rectified.

        Args:
            a: (B, C, h, w).
            b: (B, C, h, w).
            there: (B, 2) bool: whether a sample has the first, and the second branch at all. One
                that is not there gives nothing (RECONSTRUCTED: the released code knows no absence).
        """
        both = torch.cat((a, b), 1)  # (B, 2C, h, w)
        pooled = torch.cat((both.mean((2, 3)), both.amax((2, 3))), 1)  # (B, 4C)
        channel = torch.sigmoid(self.channel(pooled))[..., None, None].chunk(2, 1)  # (B, C, 1, 1)
        position = torch.sigmoid(self.position(both)).chunk(2, 1)  # (B, 1, h, w) each
        given = [
            there[:, i, None, None, None] * SHARE * (channel[i] + position[i]) * x
            for i, x in enumerate((a, b))
        ]
        return a + given[1], b + given[0]


class CrossAttention(nn.Module):
    """What the tokens of one branch find in the global context of the other."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.key_value1 = nn.Linear(width, 2 * width, bias=False)
        self.key_value2 = nn.Linear(width, 2 * width, bias=False)

    def forward(self, u1: Tensor, u2: Tensor) -> tuple[Tensor, Tensor]:
        """(B, P, C) of both branches to the same."""
        context1 = self._context(self.key_value1(u1))
        context2 = self._context(self.key_value2(u2))
        return self._asked(u1, context2), self._asked(u2, context1)

    def _context(self, key_value: Tensor) -> Tensor:
        """(B, heads, d, d), d = C / heads: a softmax over the channels of the keys."""
        B, P, width = key_value.shape
        d = width // (2 * self.heads)
        k, v = key_value.view(B, P, 2, self.heads, d).permute(2, 0, 3, 1, 4)  # (B, heads, P, d)
        context: Tensor = (k.transpose(2, 3) @ v * d**-0.5).softmax(2)
        return context

    def _asked(self, u: Tensor, context: Tensor) -> Tensor:
        B, P, C = u.shape
        split = u.view(B, P, self.heads, C // self.heads).transpose(1, 2)
        return (split @ context).transpose(1, 2).reshape(B, P, C)


class Fusion(nn.Module):
    """FFM: tokens of both branches ask each other, then channels are embedded into one map.

    Args:
        width: C.
        heads: of the attention.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.project1 = nn.Linear(width, 2 * width)
        self.project2 = nn.Linear(width, 2 * width)
        self.attention = CrossAttention(width, heads)
        self.end1 = nn.Linear(2 * width, width)
        self.end2 = nn.Linear(2 * width, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.residual = nn.Conv2d(2 * width, width, 1, bias=False)
        self.embed = nn.Sequential(
            nn.Conv2d(2 * width, width, 1),
            nn.Conv2d(width, width, 3, padding=1, groups=width),
            nn.ReLU(),
            nn.Conv2d(width, width, 1),
            nn.BatchNorm2d(width),
        )
        self.norm = nn.BatchNorm2d(width)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Two maps (B, C, h, w) to one."""
        x1, x2 = (x.flatten(2).transpose(1, 2) for x in (a, b))  # (B, P, C) each
        y1, u1 = F.relu(self.project1(x1)).chunk(2, 2)
        y2, u2 = F.relu(self.project2(x2)).chunk(2, 2)
        v1, v2 = self.attention(u1, u2)
        x1 = self.norm1(x1 + self.end1(torch.cat((y1, v1), 2)))
        x2 = self.norm2(x2 + self.end2(torch.cat((y2, v2), 2)))
        both = torch.cat((x1, x2), 2).transpose(1, 2).reshape(len(a), -1, *a.shape[2:])
        fused: Tensor = self.norm(self.residual(both) + self.embed(both))
        return fused
