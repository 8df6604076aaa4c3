"""Whether one engine says what another says: pixel by pixel, for every subset of the sensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from robustseg_core.engines import Engine, LackingError
from robustseg_core.models.calibration import key
from robustseg_core.models.subsets import subsets
from robustseg_core.types import Bundle, Frame, ModelSpec


@dataclass
class Row:
    """How two engines agree on one subset."""

    frames: int = 0
    pixels: int = 0
    equal: int = 0
    levels: int = 0
    """Largest difference of confidence, of 255."""

    @property
    def share(self) -> float:
        """Of the labels, those that are equal."""
        return self.equal / self.pixels if self.pixels else 1.0


@dataclass
class Parity:
    """What two engines say of the same bundles; each subset of each bundle is asked for.

    Args:
        spec: of the network that both run.
        reference: PyTorch.
        tried: the other.
    """

    spec: ModelSpec
    reference: Engine
    tried: Engine
    rows: dict[str, Row] = field(default_factory=dict)

    def add(self, bundle: Bundle) -> None:
        """Compare them on what a bundle has."""
        for names in subsets([name for name in self.spec.modalities if name in bundle.frames]):
            part = Bundle(bundle.stamp_ns, {name: bundle.frames[name] for name in names})
            try:
                ids, confidence = self.reference(part)
            except LackingError:
                continue
            others, levels = self.tried(part)
            row = self.rows.setdefault(key(self.spec, names), Row())
            row.frames += 1
            row.pixels += ids.size
            row.equal += int(np.count_nonzero(ids == others))
            row.levels = max(row.levels, int(np.abs(confidence.astype(int) - levels).max()))

    @property
    def worst(self) -> tuple[str, Row]:
        """The subset on which they agree least."""
        return min(self.rows.items(), key=lambda item: item[1].share)

    def account(self) -> dict[str, Any]:
        """JSON."""
        return {
            name: {"frames": row.frames, "labels_equal": row.share, "levels": row.levels}
            for name, row in self.rows.items()
        }


def noise(spec: ModelSpec, count: int, *, seed: int = 0) -> Sequence[Bundle]:
    """Bundles of random numbers, all sensors in each, for who has no drive."""
    rng = np.random.default_rng(seed)
    return [
        Bundle(
            k,
            {
                name: Frame(
                    name,
                    k,
                    rng.normal(size=(spec.channels_of(name), *spec.size)).astype(np.float32),
                    float(rng.uniform(0.2, 1)),
                )
                for name in spec.modalities
            },
        )
        for k in range(count)
    ]
