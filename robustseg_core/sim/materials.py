"""What surfaces are made of, as light and laser see them.

Reflectivities at 905 nm are of the order given by the ASTER/ECOSTRESS spectral library for each
family (asphalt dark, foliage and retroreflectors bright, glass and rubber nearly black).
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from robustseg_core.models.classes import CITYSCAPES


class Material(NamedTuple):
    """One kind of matter."""

    name: str
    reflectivity: float
    """Share of 905 nm light that returns diffusely, 0..1; retroreflectors near 1."""
    specular: float
    """Share of light that a mirror of this matter takes away, 0..1."""
    emission: float
    """Luminance given off by itself, where 1 is white paper in full sun."""


MATERIALS: tuple[Material, ...] = (
    Material("air", 0.0, 0.0, 0.0),
    Material("asphalt", 0.17, 0.04, 0.0),
    Material("marking", 0.75, 0.05, 0.0),
    Material("concrete", 0.35, 0.03, 0.0),
    Material("brick", 0.40, 0.02, 0.0),
    Material("plaster", 0.55, 0.02, 0.0),
    Material("glass", 0.06, 0.90, 0.0),
    Material("lit window", 0.06, 0.60, 0.08),
    Material("foliage", 0.55, 0.02, 0.0),
    Material("grass", 0.45, 0.01, 0.0),
    Material("bark", 0.30, 0.01, 0.0),
    Material("paint", 0.40, 0.45, 0.0),
    Material("rubber", 0.04, 0.02, 0.0),
    Material("metal", 0.45, 0.35, 0.0),
    Material("retroreflector", 0.95, 0.10, 0.0),
    Material("cloth", 0.40, 0.0, 0.0),
    Material("skin", 0.50, 0.02, 0.0),
    Material("lamp", 0.40, 0.10, 3.0),
    Material("tail light", 0.60, 0.20, 0.50),
    Material("signal", 0.30, 0.10, 0.90),
    Material("roof tile", 0.30, 0.02, 0.0),
    Material("soil", 0.28, 0.0, 0.0),
)
"""All matter there is; `Hits.material` counts its rows."""

MATERIAL: dict[str, int] = {row.name: number for number, row in enumerate(MATERIALS)}
SPECULAR = np.array([row.specular for row in MATERIALS], np.float32)
"""(materials,) as `Material.specular`."""
CLASS: dict[str, int] = {name: number for number, name in enumerate(CITYSCAPES.names)}


class Kind(IntEnum):
    """Which procedural texture a triangle wears."""

    PLAIN = 0
    ROAD = 1
    STRIPES = 2
    PAVERS = 3
    FACADE = 4
    BRICK = 5
    FOLIAGE = 6
    GRASS = 7
    PAINT_A = 8
    PAINT_B = 9
    BAND = 10
    SIGN = 11
    TILES = 12


LOOK = np.dtype(
    [
        ("class_id", np.uint8),
        ("material", np.uint8),
        ("kind", np.uint8),
        ("seed", np.uint32),
        ("color", np.float32, (3,)),
        ("uv", np.float32, (2, 4)),
        ("params", np.float32, (4,)),
    ]
)
"""How one triangle looks; `uv` maps a point (x, y, z, 1) to texture coordinates in metres."""


def surface(
    class_name: str,
    material: str,
    color: tuple[float, float, float] | NDArray[np.floating] = (0.5, 0.5, 0.5),
    *,
    kind: Kind = Kind.PLAIN,
    seed: int = 0,
    params: tuple[float, ...] = (),
) -> NDArray[np.void]:
    """A (1,) LOOK row, to be worn by a primitive; linear colors 0..1."""
    row = np.zeros(1, LOOK)
    row["class_id"], row["material"] = CLASS[class_name], MATERIAL[material]
    row["kind"], row["seed"], row["color"] = kind, seed & 0xFFFFFFFF, color
    row["params"][0, : len(params)] = params
    return row
