"""CMNeXt: a full branch for the camera, one light branch for all other sensors (Hub2Fuse).

Zhang et al., CVPR 2023, arXiv 2303.01480. In each stage the hub picks the loudest of the other
sensors, the two branches rectify each other, and their fusion goes to the head; the rectified maps
go on. Sensors meet inside the encoder, so every subset is a forward of its own.

The paper knows no missing sensor. What is done about one here is RECONSTRUCTED: another sensor that
is missing is left out of the hub's maximum; a missing camera is a zero image; a branch without any
sensor gives the other one nothing in the rectification.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from robustseg_core.errors import RobustsegError
from robustseg_core.models.architectures._exchange import Fusion, Rectification
from robustseg_core.models.architectures._hub import HubStage, loudest
from robustseg_core.models.head import HEADS
from robustseg_core.models.mit import MiT, backbone_of, initialize
from robustseg_core.models.modules import Modules
from robustseg_core.models.network import Network, packed_order
from robustseg_core.types import ModelSpec, Prediction

_SETTLED = {"fusion": "mean", "stem": "shared", "norm": "shared"}
"""Fields of a spec that CMNeXt leaves no choice in, at their defaults."""


class CMNeXt(Network):
    """The network of arXiv 2303.01480: MiT, Self-Query Hub, PPX, FRM, FFM, all-MLP head.

    The spec's first modality has the full branch (RGB in the paper). Without others there is no
    second branch, and the network is SegFormer's.

    Features for distillers (RECONSTRUCTED): of the first sensor, the stage's map before it is
    rectified; of the others, their maps after embedding and norm, before they are scored.

    Args:
        spec: sizes and names; kept as `.spec`.
        head: as `Network`.
        drop_path: as `Network`.
        dropout: as `Network`.

    Raises:
        RobustsegError: no such backbone or head, or a spec that asks for another fusion, or for
            stems or norms of each modality.
    """

    class Options(Network.Options):
        """What of CMNeXt can be chosen."""

        legacy_scramble: bool = Field(
            default=False,
            description="With two or more others, read their maps on the way to the next stage as "
            "if channels came last, as released: all published weights contain it.",
        )
        without_first: Literal["refuse", "zero"] = Field(
            "refuse",
            description="What a robot does while the first sensor is dead: no mask, or one with a "
            "zero image in its place.",
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
        for field, value in _SETTLED.items():
            if getattr(spec, field) != value:
                raise RobustsegError(
                    f"{field} is {getattr(spec, field)!r}, but cmnext has its own way of fusing "
                    f"and embedding; leave it at {value!r}, or use architecture m_segformer"
                )
        shape = backbone_of(spec.backbone)
        first, *others = spec.modalities
        entering = spec.channels_of(first)
        self.rgb = MiT(spec.backbone, entering=[entering], drop_path=drop_path, eps=1e-5)
        self.hub: Modules[HubStage] = Modules()
        self.rectifications: Modules[Rectification] = Modules()
        self.fusions: Modules[Fusion] = Modules()
        for s, (width, heads) in enumerate(zip(shape.channels, shape.heads, strict=True)):
            if not others:
                break
            rates = [block.drop_path for block in self.rgb.stages[s].blocks]
            self.hub.append(HubStage(entering, width, len(others), s, rates))
            self.rectifications.append(Rectification(width))
            self.fusions.append(Fusion(width, heads))
            entering = width
        for part in (self.hub, self.rectifications, self.fusions):
            part.apply(initialize)
        self.head = HEADS[head](shape.channels, spec.head_width, len(spec.classes), dropout)

    @classmethod
    def needs_of(cls, spec: ModelSpec) -> tuple[str, ...]:
        """The first modality, unless the options let a zero image take its place."""
        options = cls.options_of(spec)
        assert isinstance(options, cls.Options)
        return spec.modalities[:1] if options.without_first == "refuse" else ()

    @property
    def trunk(self) -> MiT:
        """The first sensor's branch: the only one that published training begins with ImageNet."""
        return self.rgb

    def public_rows(self) -> list[tuple[str, str]]:
        """As `cmnext_rows`."""
        return cmnext_rows(self)

    def forward(
        self, images: Mapping[str, Tensor], alive: Tensor, quality: Tensor | None = None
    ) -> Prediction:
        """As `Network.forward`; health scores do not matter here."""
        self.check(images, alive, quality)
        others = self.spec.modalities[1:]
        samples, columns = packed_order(alive)
        device = next(images[name].device for name in self.spec.modalities if name in images)
        there = torch.stack((alive[:, 0], alive[:, 1:].any(1)), 1)  # (B, 2)
        whose = [samples[columns == m] for m in range(len(self.spec.modalities))]
        on_host = samples, columns
        samples, columns, there, own, *after = (
            x.to(device, non_blocking=True) for x in (samples, columns, there, *whose)
        )
        rows = {m: some for m, some in enumerate(after) if len(some)}
        maps = {m: images[others[m]][some] for m, some in rows.items()}
        x = self._first(images, alive)

        features: list[Tensor] = []
        fused: list[Tensor] = []
        for s, stage in enumerate(self.rgb.stages):
            x = stage(x, None)  # (B, C, h, w)
            hub = self.hub[s] if others else None
            if hub is None:
                features.append(x)
                fused.append(x)
                continue
            maps = {m: hub.embed(y, m) for m, y in maps.items()}
            features.append(torch.cat([x[own], *maps.values()]))
            maps = {m: hub.score(y, m) for m, y in maps.items()}
            other = hub.refine(loudest(maps, rows, x))
            x, other = self.rectifications[s](x, other, there)
            fused.append(self.fusions[s](x, other))
            maps = {m: self._carried(y, other[rows[m]]) for m, y in maps.items()}
        return Prediction(self.head(fused), features, samples, columns, fused, on_host)

    def _first(self, images: Mapping[str, Tensor], alive: Tensor) -> Tensor:
        """(B, C, H, W): the first sensor's images, zeros where there is none."""
        name = self.spec.modalities[0]
        if name in images:
            image, here = images[name], alive[:, 0]
            if here.all():
                return image
            here = here[:, None, None, None].to(image.device, non_blocking=True)
            return torch.where(here, image, 0.0)
        like = next(image for other, image in images.items() if other in self.spec.modalities)
        return like.new_zeros(len(alive), self.spec.channels_of(name), *like.shape[2:])

    def _carried(self, x: Tensor, other: Tensor) -> Tensor:
        """What a sensor takes to the next stage: (n, C, h, w), and what the hub made of all."""
        if len(self.spec.modalities) == 2:
            return other
        if self.options.legacy_scramble:
            n, C, h, w = x.shape
            x = x.reshape(n, h, w, C).permute(0, 3, 1, 2)
        return x + other


# {s} counts stages from 0, {S} from 1, {b} blocks and {m} the other sensors from 0.
_STAGE = (
    # ours                            official
    ("hub.{s}.embed.proj", "extra_downsample_layers.{s}.proj.module"),
    ("hub.{s}.embed.norms.{m}", "extra_downsample_layers.{s}.norm.ln_{m}"),
    ("hub.{s}.scores.{m}.depthwise", "extra_score_predictor.{s}.score_nets.{m}.0"),
    ("hub.{s}.scores.{m}.project", "extra_score_predictor.{s}.score_nets.{m}.1"),
    ("hub.{s}.mixers.{b}.norm1", "extra_block{S}.{b}.norm1"),
    ("hub.{s}.mixers.{b}.attention.local", "extra_block{S}.{b}.attn.conv0"),
    ("hub.{s}.mixers.{b}.attention.mix", "extra_block{S}.{b}.attn.conv4"),
    ("hub.{s}.mixers.{b}.scale1", "extra_block{S}.{b}.layer_scale_1"),
    ("hub.{s}.mixers.{b}.channel", "extra_block{S}.{b}.c_nets.0"),
    ("hub.{s}.mixers.{b}.norm2", "extra_block{S}.{b}.norm2"),
    ("hub.{s}.mixers.{b}.mlp.expand", "extra_block{S}.{b}.mlp.fc1"),
    ("hub.{s}.mixers.{b}.mlp.depthwise", "extra_block{S}.{b}.mlp.dwconv.dwconv"),
    ("hub.{s}.mixers.{b}.mlp.contract", "extra_block{S}.{b}.mlp.fc2"),
    ("hub.{s}.mixers.{b}.scale2", "extra_block{S}.{b}.layer_scale_2"),
    ("hub.{s}.norm", "extra_norm{S}"),
    ("rectifications.{s}.channel", "FRMs.{s}.channel_weights.mlp"),
    ("rectifications.{s}.position", "FRMs.{s}.spatial_weights.mlp"),
    ("fusions.{s}.project1", "FFMs.{s}.cross.channel_proj1"),
    ("fusions.{s}.project2", "FFMs.{s}.cross.channel_proj2"),
    ("fusions.{s}.attention.key_value1", "FFMs.{s}.cross.cross_attn.kv1"),
    ("fusions.{s}.attention.key_value2", "FFMs.{s}.cross.cross_attn.kv2"),
    ("fusions.{s}.end1", "FFMs.{s}.cross.end_proj1"),
    ("fusions.{s}.end2", "FFMs.{s}.cross.end_proj2"),
    ("fusions.{s}.norm1", "FFMs.{s}.cross.norm1"),
    ("fusions.{s}.norm2", "FFMs.{s}.cross.norm2"),
    ("fusions.{s}.residual", "FFMs.{s}.channel_emb.residual"),
    ("fusions.{s}.embed", "FFMs.{s}.channel_emb.channel_embed"),
    ("fusions.{s}.norm", "FFMs.{s}.channel_emb.norm"),
)


def cmnext_rows(model: CMNeXt) -> list[tuple[str, str]]:
    """Our tensor's name and the official one (jamycheung/DELIVER), of all beside trunk and head.

    Those two have SegFormer's names. Official names are without the `backbone.` before them.
    """
    rows = []
    for name in model.state_dict():
        for ours, theirs in _STAGE:
            pattern = re.sub(r"\\\{([smb])\\\}", r"(?P<\1>\\d+)", re.escape(ours))
            if found := re.match(pattern + r"(?![^.])", name):
                places = {key: int(place) for key, place in found.groupdict().items()}
                rest = name[found.end() :]
                rows.append((name, theirs.format(S=places["s"] + 1, **places) + rest))
    return rows
