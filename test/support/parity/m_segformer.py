"""M-SegFormer, the network of AnySeg, RobustSeg and RMMSS."""

from __future__ import annotations

from collections.abc import Iterator

from support import golden_networks
from support.parity import Row

TITLE = "M-SegFormer"
NOTE = """\
`Seg` with MiT-B0 and B2, head 768, 25 classes, weights by formula under their official names, read
by `import_weights`; four pictures of 128x128, each of the 15 subsets with the other sensors left
out (*skip*) or zero. The numbers are the largest of the first array, the difference is the greatest
of all; norms agree, too, and labels wherever the two best logits are 1e-4 apart."""
KINDS = ("logits, skip", "logits, zero", "features", "logits, two of 64x96")
ALLOWED = dict.fromkeys(KINDS, 1e-5)


def rows() -> Iterator[Row]:
    """Four for each backbone."""
    for backbone in ("b0", "b2"):
        found = golden_networks.m_segformer(backbone)
        yield from golden_networks.gathered(backbone.upper(), found, ALLOWED)
