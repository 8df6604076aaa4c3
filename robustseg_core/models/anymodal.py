"""Pack, encode once, fuse: one network for every subset of the sensors, at the price of the subset.

All alive (sample, modality) images become one batch, pass the encoder in one call, and are reduced
per sample and stage by the fusion. A dead sensor has no row: it costs nothing, and its content
cannot matter. The same lines serve training with per-sample subsets and live inference on the
survivors. (AnySeg, arXiv 2411.17141, runs samples in a loop; no row sees another, so the result is
the same.)
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustseg_core.errors import RobustsegError, did_you_mean
from robustseg_core.models import fusion
from robustseg_core.models.head import HEADS, AllMLPHead, FoldedHead
from robustseg_core.models.mit import MiT
from robustseg_core.models.modules import Modules
from robustseg_core.types import ModelSpec, Prediction


class AnyModalSegmenter(nn.Module):
    """The student, and the teacher: MiT encoder, one fusion per stage, all-MLP head.

    Args:
        spec: sizes and names; kept as `.spec`.
        head: "published" (linear, concat, 1x1 conv, BatchNorm) or "folded" (`models/head.py`).
        drop_path: in training, chance that a row skips the last block; grows linearly from 0.
        dropout: in training, chance that a channel of the head is left out.

    Raises:
        RobustsegError: no such backbone, fusion or head.
    """

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
        modalities = len(spec.modalities)
        entering = [spec.channels_of(name) for name in spec.modalities]
        self.spec = spec
        self.encoder = MiT(
            spec.backbone,
            entering=entering if spec.stem == "per_modality" else entering[:1],
            norms=modalities if spec.norm == "per_modality" else 1,
            drop_path=drop_path,
        )
        channels = self.encoder.channels
        fuse = fusion.load(spec.fusion)
        self.fusions = Modules(fuse(c, modalities) for c in channels)
        self.head: AllMLPHead | FoldedHead = HEADS[head](
            channels, spec.head_width, len(spec.classes), dropout
        )

    def forward(
        self, images: Mapping[str, Tensor], alive: Tensor, quality: Tensor | None = None
    ) -> Prediction:
        """Segment each sample with the sensors that it has.

        Args:
            images: modality -> (B, C, H, W), encoded as the spec says; H and W divide by 32. Rows
                that are not alive are never read, and a modality alive nowhere may be absent.
            alive: (B, M) bool, columns in the order of `spec.modalities`.
            quality: (B, M) health scores in [0, 1], or None: all are good.

        Returns:
            Logits (B, K, H/4, W/4), and the packed features before fusion, in the order of `pack`.

        Raises:
            RobustsegError: names, shapes or types do not fit, or a sample has no sensor at all.
        """
        rows, sample, modality = self.pack(images, alive)
        if quality is not None:
            if quality.shape != alive.shape:
                raise RobustsegError(
                    f"quality is {_shape(quality)}; it must be {_shape(alive)}, as alive is"
                )
            quality = quality.to(rows.device)[sample, modality]  # (N,)
        return self.forward_packed(rows, sample, modality, batch=len(alive), quality=quality)

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

        Args:
            rows: (N, C, H, W), in any order; where channels differ in number, C is the largest, and
                the others' last channels are never read.
            sample: (N,) int64 in [0, B).
            modality: (N,) int64 in [0, M).
            batch: B.
            quality: (N,) or None.
        """
        features = self.encoder(rows, modality)  # S maps of (N, C_s, H_s, W_s)
        fused = [
            fuse(x, sample, modality, batch, quality)  # (B, C_s, H_s, W_s)
            for fuse, x in zip(self.fusions, features, strict=True)
        ]
        return Prediction(self.head(fused), features, sample, modality)

    def pack(self, images: Mapping[str, Tensor], alive: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The alive images, side by side.

        Rows are ordered by modality first (the order of `spec.modalities`) and by sample within a
        modality, so that each modality is copied in one piece.

        Returns:
            rows (N, C, H, W), sample (N,) int64, modality (N,) int64, on the images' device.

        Raises:
            RobustsegError: as `forward`.
        """
        self._check(images, alive)
        columns, samples = alive.detach().cpu().T.nonzero(as_tuple=True)  # columns ascend
        parts = []
        for column, name in enumerate(self.spec.modalities):
            own = samples[columns == column]
            if len(own) == len(alive):
                parts.append(images[name])
            elif len(own):
                parts.append(images[name][own.to(images[name].device)])
        most = max(part.shape[1] for part in parts)
        parts = [
            F.pad(p, (0, 0, 0, 0, 0, most - p.shape[1])) if p.shape[1] < most else p for p in parts
        ]
        rows = parts[0] if len(parts) == 1 else torch.cat(parts)
        return rows, samples.to(rows.device), columns.to(rows.device)

    def folded(self) -> AnyModalSegmenter:
        """A copy in eval mode with the folded head: same outputs, made for inference."""
        twin = copy.deepcopy(self)
        twin.head = twin.head.fold()
        return twin.eval()

    @property
    def head_form(self) -> str:
        """Form of the head: "published" or "folded"."""
        return next(form for form, kind in HEADS.items() if type(self.head) is kind)

    def _check(self, images: Mapping[str, Tensor], alive: Tensor) -> None:
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
        if height % 32 or width % 32 or not height or not width:
            up = tuple(max(32, -(-n // 32) * 32) for n in (height, width))
            raise RobustsegError(
                f"images of {name!r} are {height}x{width}; both must divide by 32; "
                f"resize or pad to {up[0]}x{up[1]}"
            )
        if image.shape[2:] != first.shape[2:]:
            raise RobustsegError(
                f"images of {name!r} are {height}x{width} and those of {peer!r} "
                f"{first.shape[2]}x{first.shape[3]}; all must share one pixel grid; resize one"
            )


def _shape(tensor: Tensor) -> str:
    return f"({', '.join(map(str, tensor.shape))})"
