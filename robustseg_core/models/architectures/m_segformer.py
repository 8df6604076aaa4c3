"""Pack, encode once, fuse: one network for every subset of the sensors, at the price of the subset.

All alive (sample, modality) images become one batch, pass the encoder in one call, and are reduced
per sample and stage by the fusion. A dead sensor has no row: it costs nothing, and its content
cannot matter. The same lines serve training with per-sample subsets and live inference on the
survivors. (AnySeg, arXiv 2411.17141, runs samples in a loop; no row sees another, so the result is
the same.)
"""

from __future__ import annotations

from torch import Tensor

from robustseg_core.models import fusion
from robustseg_core.models.head import HEADS
from robustseg_core.models.mit import MiT
from robustseg_core.models.modules import Modules
from robustseg_core.models.network import PackedNetwork
from robustseg_core.types import ModelSpec


class AnyModalSegmenter(PackedNetwork):
    """M-SegFormer, student and teacher: MiT encoder, one fusion per stage, all-MLP head.

    Args:
        spec: sizes and names; kept as `.spec`.
        head: as `Network`.
        drop_path: as `Network`.
        dropout: as `Network`.

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
        super().__init__(spec, head=head, drop_path=drop_path, dropout=dropout)
        modalities = len(spec.modalities)
        entering = [spec.channels_of(name) for name in spec.modalities]
        self.encoder = MiT(
            spec.backbone,
            entering=entering if spec.stem == "per_modality" else entering[:1],
            norms=modalities if spec.norm == "per_modality" else 1,
            drop_path=drop_path,
        )
        channels = self.encoder.channels
        kind = fusion.load(spec.fusion)
        self.fusions = Modules(kind(c, modalities) for c in channels)
        self.head = HEADS[head](channels, spec.head_width, len(spec.classes), dropout)

    def encode(self, rows: Tensor, modality: Tensor) -> list[Tensor]:
        """As `PackedNetwork.encode`: the stages' maps after their norms."""
        features: list[Tensor] = self.encoder(rows, modality)
        return features

    @property
    def alike(self) -> bool:
        """As the spec says."""
        return self.spec.stem == self.spec.norm == "shared"

    @property
    def averages(self) -> bool:
        """As the fusion."""
        return all(fuse.averages for fuse in self.fusions)

    @property
    def trunk(self) -> MiT:
        """The encoder."""
        return self.encoder
