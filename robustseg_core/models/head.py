"""SegFormer's all-MLP head, in its published form and folded.

Between the encoder and the ReLU the published head is linear: a linear layer per stage, bilinear
resizing, concatenation, a 1x1 convolution and, at inference, a BatchNorm. A 1x1 convolution mixes
channels and resizing mixes pixels, so they commute, and bilinear weights add up to 1, so even the
bias passes. Hence all of it is one 1x1 convolution per stage at the stage's own resolution, resized
and added up: same outputs, and 36 times fewer operations for B0's four maps at width 768.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustseg_core.models._rows import logits_by_rows
from robustseg_core.models.exporting import is_exporting
from robustseg_core.models.modules import Modules
from robustseg_core.models.resize import resize


class Head(nn.Module, ABC):
    """Maps of a scene to logits."""

    @abstractmethod
    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """S maps (B, C_s, h_s, w_s), finest first, to logits (B, K, h, w)."""

    @abstractmethod
    def fold(self) -> Head:
        """The same function as `self` has in eval mode, made for inference; weights are copies."""


class AllMLPHead(Head):
    """The published head (Xie et al., arXiv 2105.15203, equation 4).

    Args:
        channels: C_s of the S stages, finest first.
        width: of the embedding; the published any-modality systems use 768 with every backbone.
        classes: K.
        dropout: chance of dropping a whole channel before the classifier, in training.
    """

    def __init__(
        self, channels: Sequence[int], width: int, classes: int, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.linears = Modules(nn.Linear(c, width) for c in channels)
        self.fuse = nn.Conv2d(len(channels) * width, width, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(width, classes, 1)

    @property
    def channels(self) -> list[int]:
        """C_s of the S stages, finest first."""
        return [linear.in_features for linear in self.linears]

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """S maps (B, C_s, h_s, w_s), finest first, to logits (B, K, h_0, w_0)."""
        size = features[0].shape[2:]
        embedded = [
            resize(linear(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), size)
            for linear, x in zip(self.linears, features, strict=True)
        ]
        fused = self.fuse(torch.cat(embedded[::-1], dim=1))  # published order: coarsest first
        logits: Tensor = self.classifier(self.dropout(F.relu(self.norm(fused))))
        return logits

    @torch.no_grad()
    def fold(self) -> FoldedHead:
        """The same function as `self` has in eval mode, in the cheap form; weights are copies."""
        channels = self.channels
        width, classes = self.fuse.out_channels, self.classifier.out_channels
        folded = FoldedHead(channels, width, classes, self.dropout.p)
        folded.to(self.fuse.weight).train(self.training)

        norm, first = self.norm, folded.projects[0]
        assert norm.running_mean is not None and norm.running_var is not None
        assert first.bias is not None
        scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        bias = norm.bias.double() - scale * norm.running_mean.double()
        blocks = self.fuse.weight.double().flatten(1).chunk(len(channels), dim=1)[::-1]
        for project, linear, block in zip(folded.projects, self.linears, blocks, strict=True):
            mix = scale[:, None] * block  # (width, width): what BN and fuse make of this stage
            project.weight.copy_((mix @ linear.weight.double())[:, :, None, None])
            bias += mix @ linear.bias.double()
        first.bias.copy_(bias)
        folded.classifier.load_state_dict(self.classifier.state_dict())
        return folded


class FoldedHead(Head):
    """The head at the price of its information: one 1x1 convolution per stage, resized and summed.

    Made by `AllMLPHead.fold` for inference, or trained directly (then without a BatchNorm).
    Arguments as `AllMLPHead`.
    """

    def __init__(
        self, channels: Sequence[int], width: int, classes: int, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.projects = Modules(nn.Conv2d(c, width, 1, bias=s == 0) for s, c in enumerate(channels))
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(width, classes, 1)

    @property
    def channels(self) -> list[int]:
        """C_s of the S stages, finest first."""
        return [project.in_channels for project in self.projects]

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """S maps (B, C_s, h_s, w_s), finest first, to logits (B, K, h_0, w_0)."""
        first = self.projects[0].bias
        assert self.classifier.bias is not None and first is not None
        if self._by_rows(features[0]):
            matrices = [project.weight[:, :, 0, 0] for project in self.projects]
            classifier = self.classifier.weight[:, :, 0, 0]
            return logits_by_rows(features, matrices, first, classifier, self.classifier.bias)
        logits = self.classifier.bias.view(1, -1, 1, 1)
        for block, total in self._embedded(features):
            hidden = self.dropout(F.relu_(total))
            logits = logits + F.conv2d(hidden, self.classifier.weight[:, block])
        return logits

    def _by_rows(self, finest: Tensor) -> bool:
        return (
            finest.is_cpu
            and finest.dtype == self.classifier.weight.dtype == torch.float32
            and not (self.training or torch.is_grad_enabled() or is_exporting())
        )

    def of_means(self, features: Sequence[Tensor], weights: Tensor) -> Tensor:
        """Logits of many weighted means of some maps, for inference.

        Before its ReLU the head is affine, so the embedding of a mean is the mean of embeddings:
        each map is embedded once, however many means are asked for.

        Args:
            features: S maps (N, C_s, h_s, w_s), finest first.
            weights: (T, N), each row with the sum 1.

        Returns:
            (T, K, h_0, w_0), channels last in memory: what `forward` gives of the means.
        """
        assert self.classifier.bias is not None
        height, width = features[0].shape[2:]
        logits = self.classifier.bias.expand(len(weights), height * width, -1).clone()  # (T, P, K)
        for block, total in self._embedded(features):
            flat = total.permute(0, 2, 3, 1).flatten(1, 2)  # (N, P, b)
            matrix = self.classifier.weight[:, block, 0, 0].T  # (b, K)
            most = _AT_ONCE if total.is_cpu else _AT_ONCE << 8
            step = max(1, most // (len(weights) * flat.shape[2]))
            for start in range(0, flat.shape[1], step):
                part = flat[:, start : start + step]
                hidden = F.relu_(weights @ part.flatten(1)).view(-1, *part.shape[1:])
                logits[:, start : start + step] += hidden @ matrix
        return logits.view(len(weights), height, width, -1).permute(0, 3, 1, 2)

    def _embedded(self, features: Sequence[Tensor]) -> Iterator[tuple[slice, Tensor]]:
        """Blocks of channels, and their part of the embedding: (B, block, h_0, w_0)."""
        finest, *coarser = [x.contiguous(memory_format=torch.channels_last) for x in features]
        first, *others = self.projects
        assert first.bias is not None
        width = self.classifier.in_channels
        step = _BLOCK if finest.is_cpu and not is_exporting() else width
        for start in range(0, width, step):
            block = slice(start, start + step)  # the sum over blocks is exact
            total = F.conv2d(finest, first.weight[block], first.bias[block])
            for project, x in zip(others, coarser, strict=True):
                total += resize(F.conv2d(x, project.weight[block]), finest.shape[2:])
            yield block, total

    def fold(self) -> FoldedHead:
        """Itself: folded already."""
        return self


_BLOCK = 64
"""Channels that a processor handles at once: the maps of a block stay in its cache (4 x faster)."""

_AT_ONCE = 1 << 18
"""Numbers of an embedding that a processor handles at once, for the same reason."""

HEADS: dict[str, type[AllMLPHead] | type[FoldedHead]] = {
    "published": AllMLPHead,
    "folded": FoldedHead,
}
"""Forms of the head, as checkpoints name them."""
