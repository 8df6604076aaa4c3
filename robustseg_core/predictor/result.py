"""What a prediction gives: classes, confidence, who made them, and pictures of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from robustseg_core.output import draw
from robustseg_core.types import IGNORE, Bundle, Color, Finding, ModelSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NAMED = 12
"""Classes in the legend of a plot, largest first."""


@dataclass(frozen=True, eq=False)
class Result:
    """One class per pixel, and who made it."""

    ids: NDArray[np.uint8] = field(repr=False)
    """(H, W) class ids in the camera's own size; 255: unlabelled."""
    confidence: NDArray[np.uint8] = field(repr=False)
    """(H, W) probability of the winning class, 0 to 255."""
    used: tuple[str, ...]
    """The sensors that made it, in the network's order; one that says nothing is not among them."""
    findings: Mapping[str, tuple[Finding, ...]]
    """modality -> what the content checks object to, or that nothing of it lands in the view."""
    novelty: Mapping[str, float]
    """modality -> how new its picture is to the network (`models/novelty.py`): 1 is as near to what
    it learned from as that is to itself; above 1.4 masks may be worse than their confidence."""
    spec: ModelSpec = field(repr=False)
    bundle: Bundle = field(repr=False)
    """What the network saw."""
    picture: NDArray[np.uint8] | None = field(default=None, repr=False)
    """(H', W', 3) RGB, the camera's image; None: it was not used."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Name of each class; its id is its place."""
        return self.spec.classes

    @property
    def palette(self) -> tuple[Color, ...]:
        """RGB of each class."""
        return self.spec.palette

    def shares(self) -> dict[str, float]:
        """Class -> share of all pixels, of the classes that occur, largest first."""
        counts = np.bincount(self.ids.ravel(), minlength=IGNORE + 1)
        order = np.argsort(-counts[: len(self.classes)], kind="stable")
        return {self.classes[i]: float(counts[i]) / self.ids.size for i in order if counts[i]}

    def overlay(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB: the classes' colors over the camera's image, or what else is there.

        Weights that were never trained are named in it.
        """
        seen = draw.background(self.bundle, self.spec) if self.picture is None else self.picture
        return draw.blend(seen, self.ids, self.spec)

    def plot(self) -> Figure:
        """Inputs, overlay with a legend, and confidence; `.savefig(path)` writes it."""
        from matplotlib.figure import Figure  # half a second that only its users pay
        from matplotlib.patches import Patch

        height, width = self.ids.shape
        columns = max(2, len(self.used))
        tile = 12 / columns
        figure = Figure(figsize=(12, (tile + 6) * height / width + 1.2), layout="constrained")
        tiles = figure.add_gridspec(2, 2 * columns, height_ratios=(tile, 6))
        for column, name in enumerate(self.used):
            axes = figure.add_subplot(tiles[0, 2 * column : 2 * column + 2])
            picture = draw.seen_by(self.bundle.frames[name], self.spec)
            axes.imshow(picture, extent=(0, width, height, 0))
            axes.set_title(name)
            axes.set_axis_off()
        left = figure.add_subplot(tiles[1, :columns])
        left.imshow(self.overlay())
        left.set_title("classes")
        left.set_axis_off()
        right = figure.add_subplot(tiles[1, columns:])
        shown = right.imshow(self.confidence / 255, vmin=0, vmax=1, cmap="viridis")
        right.set_title("confidence")
        right.set_axis_off()
        figure.colorbar(shown, ax=right, shrink=0.8)
        colors = dict(zip(self.classes, self.palette, strict=True))
        named = [
            Patch(color=_hex(colors[name]), label=f"{name} {share:.1%}")
            for name, share in list(self.shares().items())[:_NAMED]
        ]
        figure.legend(handles=named, loc="outside lower center", ncols=6, frameon=False)
        return figure


def _hex(color: Color) -> str:
    return "#" + bytes(color).hex()
