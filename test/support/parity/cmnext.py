"""CMNeXt, with up to three sensors beside the camera."""

from __future__ import annotations

from collections.abc import Iterator

from support import golden_networks
from support.parity import Row

TITLE = "CMNeXt"
NOTE = """\
B0 with a head of 256 and B2 with one of 512, RGB and none to three others, weights by formula under
their official names, read by `import_weights`, with `legacy_scramble`; pictures of 96x128. Ours in
float64, so that the difference is the rounding of the recorded figures. The numbers are the largest
of the first array, the difference is the greatest of all; numbers of parameters, norms and labels
agree, too."""
ALLOWED = {"logits": 2e-5, "maps of the head": 6e-5}


def rows() -> Iterator[Row]:
    """Two for each backbone and number of others."""
    for backbone, width in (("b0", 256), ("b2", 512)):
        for others in range(4):
            found = golden_networks.cmnext(backbone, width, others)
            what = f"{backbone.upper()}, {others} other{'s' * (others != 1)}"
            yield from golden_networks.gathered(what, found, ALLOWED)
