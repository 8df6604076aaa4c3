"""What engines, training, evaluation and validation need of a network, whatever it is built of.

`Network` is the contract. `PackedNetwork` is one that encodes each sensor by itself, so that a
sensor's features are the same whoever else is there: evaluation encodes it once for all subsets.
That is a capability which a network declares by its base class, and nobody assumes.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustseg_core.config import Strict, parse
from robustseg_core.errors import RobustsegError, did_you_mean
from robustseg_core.models.fusion._base import Fusion
from robustseg_core.models.head import HEADS, Head
from robustseg_core.models.mit import MiT, backbone_of
from robustseg_core.models.modules import Modules
from robustseg_core.types import ModelSpec, Prediction, network_size

N = TypeVar("N", bound="Network")


class Network(nn.Module, ABC):
    """A segmenter that takes any non-empty subset of its modalities.

    A new architecture is a file in `models/architectures/` with one public subclass, which builds
    itself from (`spec`, `head`, `drop_path`, `dropout`) and sets `head`.

    Args:
        spec: sizes and names; kept as `.spec`.
        head: "published" (linear, concat, 1x1 conv, BatchNorm) or "folded" (`models/head.py`).
        drop_path: in training, chance that a row skips the last block; grows linearly from 0.
        dropout: in training, chance that a channel of the head is left out.

    Raises:
        RobustsegError: no such backbone or head, or options that the architecture does not have.
    """

    class Options(Strict):
        """`ModelSpec.options`: what an architecture can be told beside the spec's own fields."""

    head: Head

    def __init__(
        self,
        spec: ModelSpec,
        *,
        head: str = "published",
        drop_path: float = 0.1,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if head not in HEADS:
            raise RobustsegError(f"no head called {head!r}; {did_you_mean(head, HEADS)}")
        self.spec = spec
        self.options = self.options_of(spec)

    @abstractmethod
    def forward(
        self, images: Mapping[str, Tensor], alive: Tensor, quality: Tensor | None = None
    ) -> Prediction:
        """Segment each sample with the sensors that it has.

        Args:
            images: modality -> (B, C, H, W), encoded as the spec says; H and W divide by 32. Rows
                that are not alive are never read, and a modality alive nowhere may be absent.
            alive: (B, M) bool, columns in the order of `spec.modalities`; best on the processor,
                as it decides shapes: of one on a device, the host waits for the device.
            quality: (B, M) health scores in [0, 1], or None: all are good.

        Returns:
            Logits (B, K, H/s, W/s), s being the `stride`; per stage the features of each sensor
            before they meet, packed by modality first and by sample within a modality; and per
            stage what they became together, which `decode` takes.

        Raises:
            RobustsegError: names, shapes or types do not fit, or a sample has no sensor at all.
        """

    @classmethod
    def options_of(cls, spec: ModelSpec) -> Options:
        """The spec's options, as this architecture has them.

        Raises:
            RobustsegError: it does not have them.
        """
        return parse(cls.Options, spec.options, where="options")

    @classmethod
    def needs_of(cls, spec: ModelSpec) -> tuple[str, ...]:
        """Modalities without which a network of `spec` should make no mask.

        `forward` takes any subset all the same, since evaluation and training ask for all of them.
        """
        return ()

    @property
    def needs(self) -> tuple[str, ...]:
        """As `needs_of` this network's spec."""
        return self.needs_of(self.spec)

    @classmethod
    def widths_of(cls, spec: ModelSpec) -> tuple[int, ...]:
        """Channels of the maps of features, finest first, of a network of `spec`.

        Raises:
            RobustsegError: there is no such network.
        """
        return backbone_of(spec.backbone).channels

    @property
    def widths(self) -> tuple[int, ...]:
        """As `widths_of` this network's spec."""
        return self.widths_of(self.spec)

    @property
    def stride(self) -> int:
        """Pixels of the input along a side of a pixel of the logits."""
        return 4

    def decode(self, fused: Sequence[Tensor]) -> Tensor:
        """S maps of (B, C_s, H_s, W_s), as in `Prediction.fused`, to logits."""
        logits: Tensor = self.head(fused)
        return logits

    def begin_public(self, name: str) -> tuple[Path, str] | None:
        """Begin with public weights that this architecture alone knows, by their name.

        Returns:
            Their file, and what was taken of it; None: it knows none of that name, and stays as it
            is.

        Raises:
            RobustsegError: they cannot be had.
        """
        return None

    @property
    def trunk(self) -> MiT | None:
        """The Mix Transformer that takes public ImageNet weights; None: there is none."""
        return None

    def public_rows(self) -> list[tuple[str, str]]:
        """Our name and a public file's of each tensor beside trunk and head; mostly none."""
        return []

    def folded(self: N) -> N:
        """A copy in eval mode with the folded head: same outputs, made for inference."""
        twin = copy.deepcopy(self)
        twin.head = twin.head.fold()
        return twin.eval()

    @property
    def head_form(self) -> str:
        """Form of the head: "published" or "folded"."""
        return next(form for form, kind in HEADS.items() if type(self.head) is kind)

    def check(
        self, images: Mapping[str, Tensor], alive: Tensor, quality: Tensor | None = None
    ) -> None:
        """Nothing, if these are inputs of `forward`.

        Raises:
            RobustsegError: names, shapes or types do not fit, or a sample has no sensor at all.
        """
        names = self.spec.modalities
        for name in images:
            if name not in names:
                raise RobustsegError(
                    f"images have a modality {name!r} that this network does not know; "
                    f"{did_you_mean(name, names)}"
                )
        if alive.dtype != torch.bool or alive.dim() != 2 or alive.shape[1] != len(names):
            raise RobustsegError(
                f"alive is {_shape(alive)} {alive.dtype}; it must be (B, {len(names)}) bool, "
                f"with columns {', '.join(names)}"
            )
        if quality is not None and quality.shape != alive.shape:
            raise RobustsegError(
                f"quality is {_shape(quality)}; it must be {_shape(alive)}, as alive is"
            )
        used = [name for name, some in zip(names, alive.any(0).tolist(), strict=True) if some]
        blind = (~alive.any(1)).nonzero().flatten().tolist()
        if blind or not used:
            raise RobustsegError(
                f"samples {blind} of a batch of {len(alive)} have no modality alive; "
                "every sample needs at least one; leave blind samples out of the batch"
            )
        for name in used:
            if name not in images:
                raise RobustsegError(
                    f"alive says that {name!r} is there, but images hold {sorted(images)}; "
                    "give its images or clear its column of alive"
                )
        first = images[used[0]]
        for name in used:
            self._check_image(name, images[name], len(alive), used[0], first)

    def _check_image(self, name: str, image: Tensor, batch: int, peer: str, first: Tensor) -> None:
        form = (batch, self.spec.channels_of(name))
        if image.dim() != 4 or image.shape[:2] != form or not image.is_floating_point():
            raise RobustsegError(
                f"images of {name!r} are {_shape(image)} {image.dtype}; they must be "
                f"({form[0]}, {form[1]}, H, W) float32, as the modality's `encode` returns"
            )
        height, width = image.shape[2:]
        if (up := network_size(height, width)) != (height, width):
            raise RobustsegError(
                f"images of {name!r} are {height}x{width}; both must divide by 32; "
                f"resize or pad to {up[0]}x{up[1]}"
            )
        if image.shape[2:] != first.shape[2:]:
            raise RobustsegError(
                f"images of {name!r} are {height}x{width} and those of {peer!r} "
                f"{first.shape[2]}x{first.shape[3]}; all must share one pixel grid; resize one"
            )


class PackedNetwork(Network):
    """A network that encodes each sensor by itself: pack what is alive, encode once, fuse, decode.

    No row of `encode` sees another, so a sensor's features serve every subset that holds it.
    """

    fusions: Modules[Fusion]
    """One of each map that `encode` gives, as the spec wants it."""

    @abstractmethod
    def encode(self, rows: Tensor, modality: Tensor) -> list[Tensor]:
        """Packed images to features: no row sees another.

        Args:
            rows: (N, C, H, W), in any order; where channels differ in number, C is the largest, and
                the others' last channels are never read.
            modality: (N,) int64 in [0, M), on the processor or on the device of the rows: whoever
                needs numbers of it does not wait for a device then.

        Returns:
            S maps of (N, C_s, H_s, W_s), finest first.
        """

    def encode_one(self, rows: Tensor, column: int) -> list[Tensor]:
        """As `encode`, of rows of one sensor, which a graph has a fixed place for."""
        return self.encode(rows, torch.full((len(rows),), column, device=rows.device))

    def fuse(
        self,
        features: Sequence[Tensor],
        sample: Tensor,
        modality: Tensor,
        *,
        batch: int,
        quality: Tensor | None = None,
    ) -> list[Tensor]:
        """Features of sensors to features of scenes, map by map: S of (B, C_s, H_s, W_s).

        Args:
            features: S maps of (N, C_s, H_s, W_s), as `encode` returns.
            sample: (N,) int64 in [0, B).
            modality: (N,) int64 in [0, M).
            batch: B.
            quality: (N,) health scores in [0, 1], or None: all are good.
        """
        return [
            fuse(x, sample, modality, batch, quality)  # (B, C_s, H_s, W_s)
            for fuse, x in zip(self.fusions, features, strict=True)
        ]

    @property
    def alike(self) -> bool:
        """Whether all sensors are encoded by the same weights."""
        return False

    @property
    def averages(self) -> bool:
        """Whether `fuse` is the mean of a sample's rows, and `decode` the head alone."""
        return False

    def forward(
        self, images: Mapping[str, Tensor], alive: Tensor, quality: Tensor | None = None
    ) -> Prediction:
        """As `Network.forward`."""
        self.check(images, alive, quality)
        rows, samples, columns = self._packed(images, alive)
        sample, modality = _beside(rows, samples), _beside(rows, columns)
        if quality is not None:
            quality = _beside(rows, quality)[sample, modality]  # (N,)
        features = self.encode(rows, columns)
        said = self._met(features, sample, modality, batch=len(alive), quality=quality)
        said.on_host = samples, columns
        return said

    def forward_views(
        self,
        images: Mapping[str, Tensor],
        views: Sequence[Tensor],
        quality: Tensor | None = None,
    ) -> list[Prediction]:
        """What `forward` says of several choices of the sensors, as one batch.

        A sensor is encoded once for all of them, and every norm sees all of them together. In eval
        mode the answers are those of `forward`.

        Args:
            images: as `forward`.
            views: (B, M) bool each, as `alive` of `forward`.
            quality: as `forward`.
        """
        every = torch.stack([view.cpu() for view in views])  # (V, B, M)
        for alive in views:
            self.check(images, alive, quality)
        rows, samples, columns = self._packed(images, every.any(0))
        features = self.encode(rows, columns)
        seen = every[:, samples, columns]  # (V, N)
        view, row = seen.nonzero(as_tuple=True)  # views ascend
        places = _beside(rows, view * every.shape[1] + samples[row])
        counts = seen.sum(1).tolist()
        on_host = [(samples[part], columns[part]) for part in torch.split(row, counts)]
        sample, modality, row = (_beside(rows, x) for x in (samples, columns, row))
        if quality is not None:
            quality = _beside(rows, quality)[sample, modality][row]
        chosen = [x[row] for x in features]
        batch = every.shape[0] * every.shape[1]
        fused = self.fuse(chosen, places, modality[row], batch=batch, quality=quality)
        logits = self.decode(fused)
        return [
            Prediction(own, list(maps), sample[part], modality[part], list(met), known)
            for own, part, maps, met, known in zip(
                logits.chunk(len(views)),
                torch.split(row, counts),
                zip(*(torch.split(x, counts) for x in chosen), strict=True),
                zip(*(x.chunk(len(views)) for x in fused), strict=True),
                on_host,
                strict=True,
            )
        ]

    def forward_packed(
        self,
        rows: Tensor,
        sample: Tensor,
        modality: Tensor,
        *,
        batch: int,
        quality: Tensor | None = None,
    ) -> Prediction:
        """`forward` after packing: fixed shapes for a fixed subset, as engines want them.

        Arguments as those of `encode` and `fuse`.
        """
        features = self.encode(rows, modality)
        return self._met(features, sample, modality, batch=batch, quality=quality)

    def _met(
        self,
        features: list[Tensor],
        sample: Tensor,
        modality: Tensor,
        *,
        batch: int,
        quality: Tensor | None,
    ) -> Prediction:
        """What scenes are made of features of sensors."""
        fused = self.fuse(features, sample, modality, batch=batch, quality=quality)
        return Prediction(self.decode(fused), features, sample, modality, fused)

    def forward_subset(
        self, images: Sequence[Tensor], columns: Sequence[int], quality: Tensor | None = None
    ) -> Tensor:
        """One scene through one subset of the sensors: a graph of fixed shapes, to be exported.

        Args:
            images: (1, C, H, W) of each sensor.
            columns: which those are, ascending.
            quality: (n,) health scores in [0, 1], or None: all are good.

        Returns:
            (1, K, H/s, W/s) logits.
        """
        each = [self.encode_one(x, m) for x, m in zip(images, columns, strict=True)]
        features = each[0] if len(each) == 1 else [torch.cat(x) for x in zip(*each, strict=True)]
        modality = torch.tensor(columns, device=images[0].device)
        sample = torch.zeros_like(modality)
        return self.decode(self.fuse(features, sample, modality, batch=1, quality=quality))

    def pack(self, images: Mapping[str, Tensor], alive: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The alive images, side by side.

        Rows are ordered by modality first (the order of `spec.modalities`) and by sample within a
        modality, so that each modality is copied in one piece.

        Returns:
            rows (N, C, H, W), sample (N,) int64, modality (N,) int64, on the images' device.
        """
        rows, samples, columns = self._packed(images, alive)
        return rows, _beside(rows, samples), _beside(rows, columns)

    def _packed(self, images: Mapping[str, Tensor], alive: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`pack`, with sample and modality on the processor."""
        samples, columns = packed_order(alive)
        parts = []
        for column, name in enumerate(self.spec.modalities):
            own = samples[columns == column]
            if len(own) == len(alive):
                parts.append(images[name])
            elif len(own):
                parts.append(images[name][_beside(images[name], own)])
        most = max(part.shape[1] for part in parts)
        parts = [
            F.pad(p, (0, 0, 0, 0, 0, most - p.shape[1])) if p.shape[1] < most else p for p in parts
        ]
        rows = parts[0] if len(parts) == 1 else torch.cat(parts)
        return rows, samples, columns


def packed_order(alive: Tensor) -> tuple[Tensor, Tensor]:
    """(N,) samples and (N,) columns of the packed rows of (B, M) `alive`, on the processor."""
    columns, samples = alive.detach().cpu().T.nonzero(as_tuple=True)  # columns ascend
    return samples, columns


def _beside(rows: Tensor, numbers: Tensor) -> Tensor:
    """A small table on the device of the rows; the host does not wait until it is there."""
    return numbers.to(rows.device, non_blocking=True)


def _shape(tensor: Tensor) -> str:
    return f"({', '.join(map(str, tensor.shape))})"
