"""Mix Transformer: four stages of overlapping patches, reduced attention and convolutional MLPs.

The encoder of SegFormer (Xie et al., NeurIPS 2021, arXiv 2105.15203, section 3.1). One set of
weights serves every modality; options give each modality its own stem or its own LayerNorms. No row
meets another, so N packed images in one call equal N calls.

Tensors stay (N, H, W, C) in memory: a linear layer and a LayerNorm see the channels last, and a
convolution sees the same bytes as a channels-last (N, C, H, W), so no stage ever copies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustseg_core.errors import RobustsegError, did_you_mean
from robustseg_core.models.modules import Modules

REDUCTIONS = (8, 4, 2, 1)
"""Side of the square of tokens that becomes one key and one value, per stage."""
EXPANSION = 4
"""Hidden width of the MLP, in widths of its stage."""


@dataclass(frozen=True, slots=True)
class Backbone:
    """The numbers in which one Mix Transformer differs from another."""

    channels: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]
    heads: tuple[int, int, int, int] = (1, 2, 5, 8)


_WIDE = (64, 128, 320, 512)

BACKBONES = {
    "tiny": Backbone((16, 32, 64, 96), (1, 1, 1, 1), (1, 2, 4, 6)),  # ours: tests and plumbing
    "b0": Backbone((32, 64, 160, 256), (2, 2, 2, 2)),
    "b1": Backbone(_WIDE, (2, 2, 2, 2)),
    "b2": Backbone(_WIDE, (3, 4, 6, 3)),
    "b3": Backbone(_WIDE, (3, 4, 18, 3)),
    "b4": Backbone(_WIDE, (3, 8, 27, 3)),
    "b5": Backbone(_WIDE, (3, 6, 40, 3)),
}


def backbone_of(name: str) -> Backbone:
    """The backbone called `name`.

    Raises:
        RobustsegError: there is none; the text lists those that there are.
    """
    if name not in BACKBONES:
        raise RobustsegError(f"no backbone called {name!r}; {did_you_mean(name, BACKBONES)}")
    return BACKBONES[name]


class MiT(nn.Module):
    """Images to four maps of features, at 1/4, 1/8, 1/16 and 1/32 of their size.

    Args:
        backbone: a key of `BACKBONES`.
        entering: channels of the images of each first patch embedding: one, or one per modality.
        norms: how many copies every LayerNorm has: 1, or one per modality.
        drop_path: chance that a training row skips the last block; grows linearly from 0.
        eps: of block and stage norms. The published networks use 1e-6 (and 1e-5, PyTorch's default,
            in patch embeddings and reductions); `transformers` runs them with 1e-5 throughout.

    Raises:
        RobustsegError: no such backbone.
    """

    def __init__(
        self,
        backbone: str,
        *,
        entering: Sequence[int] = (3,),
        norms: int = 1,
        drop_path: float = 0.1,
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        shape = backbone_of(backbone)
        self.channels: tuple[int, ...] = shape.channels
        last = max(sum(shape.depths) - 1, 1)
        rates = [drop_path * i / last for i in range(sum(shape.depths))]
        self.stages: Modules[Stage] = Modules()
        widths = tuple(entering)
        for s, (width, depth) in enumerate(zip(shape.channels, shape.depths, strict=True)):
            embed = PatchEmbed(widths, width, first=s == 0, norms=norms)
            blocks = [
                Block(width, shape.heads[s], REDUCTIONS[s], norms, rates.pop(0), eps)
                for _ in range(depth)
            ]
            self.stages.append(Stage(embed, blocks, ModalNorm(width, norms, eps)))
            widths = (width,)
        self.apply(initialize)
        self.stages[0].embed.spread_biases()

    def forward(self, images: Tensor, modality: Tensor | None = None) -> list[Tensor]:
        """Features after each stage's norm.

        Args:
            images: (N, C, H, W); H and W divide by 32. A stem reads as many channels as it takes.
            modality: (N,) int64 column of each row; only needed with several stems or norms.

        Returns:
            Four maps (N, C_s, H / 2^(s+2), W / 2^(s+2)), channels last in memory.
        """
        features = []
        for stage in self.stages:
            images = stage(images, modality)
            features.append(images)
        return features


class Stage(nn.Module):
    """Patch embedding, blocks, norm."""

    def __init__(self, embed: PatchEmbed, blocks: list[Block], norm: ModalNorm) -> None:
        super().__init__()
        self.embed = embed
        self.blocks = Modules(blocks)
        self.norm = norm

    def forward(self, images: Tensor, modality: Tensor | None) -> Tensor:
        """(N, C', H', W') to (N, C, H, W)."""
        x: Tensor = self.embed(images, modality)  # (N, H, W, C)
        for block in self.blocks:
            x = block(x, modality)
        x = self.norm(x, modality)
        return x.permute(0, 3, 1, 2)


class ModalNorm(Modules[nn.LayerNorm]):
    """LayerNorm over the channels: one for all rows, or each row by its modality's own."""

    def __init__(self, channels: int, copies: int, eps: float) -> None:
        super().__init__(nn.LayerNorm(channels, eps=eps) for _ in range(copies))

    def forward(self, x: Tensor, modality: Tensor | None) -> Tensor:
        """(N, ..., C) to the same."""
        first = self[0]
        if len(self) == 1:
            normed: Tensor = first(x)
            return normed
        rows = _needed(modality).to(x.device, non_blocking=True)
        shape = (len(rows), *[1] * (x.dim() - 2), x.shape[-1])
        weight = torch.stack([norm.weight for norm in self])[rows].view(shape)
        bias = torch.stack([norm.bias for norm in self])[rows].view(shape)
        return F.layer_norm(x, x.shape[-1:], eps=first.eps) * weight + bias


class PatchEmbed(nn.Module):
    """Overlapping patches: 7x7 stride 4 for the first stage, 3x3 stride 2 after it."""

    def __init__(self, entering: Sequence[int], width: int, *, first: bool, norms: int) -> None:
        super().__init__()
        kernel, stride = (7, 4) if first else (3, 2)
        self.proj = Modules(
            nn.Conv2d(channels, width, kernel, stride, kernel // 2) for channels in entering
        )
        self.norm = ModalNorm(width, max(len(entering), norms), eps=1e-5)

    @torch.no_grad()
    def spread_biases(self) -> None:
        """Tell the channels of an untrained embedding apart, by biases from -0.02 to 0.02.

        Else a zero image, which a missing sensor may be, is a zero map, of which every LayerNorm
        after it multiplies the gradient by 1/sqrt(eps): beyond float32 after a few.
        """
        for conv in self.proj:
            if conv.bias is not None and not conv.bias.is_meta:
                conv.bias.copy_(torch.linspace(-0.02, 0.02, len(conv.bias)))

    def forward(self, images: Tensor, modality: Tensor | None) -> Tensor:
        """(N, C', H', W') to (N, H, W, C)."""
        images = images.contiguous(memory_format=torch.channels_last)
        if len(self.proj) == 1:
            x = self.proj[0](images)
        else:
            rows = _needed(modality)
            order = [(rows == column).nonzero().flatten() for column in range(len(self.proj))]
            back = torch.cat(order).argsort()
            order = [own.to(images.device, non_blocking=True) for own in order]
            parts = [
                conv(images[own][:, : conv.in_channels])  # wider rows are other sensors'
                for conv, own in zip(self.proj, order, strict=True)
                if len(own)
            ]
            x = torch.cat(parts)[back.to(images.device, non_blocking=True)]
        embedded: Tensor = self.norm(x.permute(0, 2, 3, 1), modality)
        return embedded


class Block(nn.Module):
    """Attention, then the convolutional MLP, each on a norm and beside a shortcut."""

    def __init__(
        self, width: int, heads: int, reduction: int, norms: int, drop_path: float, eps: float
    ) -> None:
        super().__init__()
        self.norm1 = ModalNorm(width, norms, eps)
        self.attention = Attention(width, heads, reduction, norms)
        self.norm2 = ModalNorm(width, norms, eps)
        self.mlp = MixMLP(width)
        self.drop_path = drop_path

    def forward(self, x: Tensor, modality: Tensor | None) -> Tensor:
        """(N, H, W, C) to the same."""
        rate = self.drop_path if self.training else 0
        x = x + skip_rows(self.attention(self.norm1(x, modality), modality), rate)
        return x + skip_rows(self.mlp(self.norm2(x, modality)), rate)


class Attention(nn.Module):
    """Self-attention whose keys and values come from a coarser grid (equation 2)."""

    def __init__(self, width: int, heads: int, reduction: int, norms: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)
        self.reduce = nn.Conv2d(width, width, reduction, reduction) if reduction > 1 else None
        self.reduce_norm = ModalNorm(width, norms, eps=1e-5) if reduction > 1 else None

    def forward(self, x: Tensor, modality: Tensor | None) -> Tensor:
        """(N, H, W, C) to the same."""
        N, H, W, C = x.shape
        source = x
        if self.reduce is not None and self.reduce_norm is not None:
            source = self.reduce(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
            source = self.reduce_norm(source, modality)
        q = self.query(x).view(N, H * W, self.heads, C // self.heads).transpose(1, 2)
        kv = self.key_value(source).view(N, -1, 2, self.heads, C // self.heads)
        k, v = kv.permute(2, 0, 3, 1, 4)  # (N, heads, keys, C / heads) each
        mixed = F.scaled_dot_product_attention(q, k, v)
        attended: Tensor = self.output(mixed.transpose(1, 2).reshape(N, H, W, C))
        return attended


class MixMLP(nn.Module):
    """MLP with a depthwise 3x3 convolution, which also tells tokens where they are (equation 3)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = EXPANSION * width
        self.expand = nn.Linear(width, hidden)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.contract = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, C) to the same."""
        x = self.depthwise(self.expand(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        x = self.contract(F.gelu(x))
        return x


def _needed(modality: Tensor | None) -> Tensor:
    if modality is None:
        raise RobustsegError(
            "the modality of each row is None, and this encoder has weights per modality; "
            "pass the (N,) column indices"
        )
    return modality


def skip_rows(x: Tensor, rate: float) -> Tensor:
    """Stochastic depth: a row of (N, ...) is dropped whole, and the others grow to make up."""
    if rate == 0:
        return x
    keep = 1 - rate
    return x * (x.new_empty(len(x), *[1] * (x.dim() - 1)).bernoulli_(keep) / keep)


def initialize(module: nn.Module) -> None:
    """As published: truncated normal for linear layers, fan-out normal for convolutions."""
    if any(weight.is_meta for weight in module.parameters(recurse=False)):
        return  # shapes without memory: nothing to fill, and PyTorch would take 6 s to say so
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):
        fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
