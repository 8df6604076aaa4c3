"""Where trees, bushes and houses come from: each built by itself, or copied from a small library.

A copy is turned, stretched and tinted, which makes it another plant for a hundredth of the work.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Protocol

import numpy as np

from robustseg_core.sim import generator, shapes
from robustseg_core.sim.materials import Kind
from robustseg_core.sim.meshes import Mesh

_TREES, _BUSHES = 32, 12
_HIGH_M = 8.0
"""Height of the library's trees, before they are stretched."""


class Stock(Protocol):
    """What a street is furnished from."""

    def tree(self, rng: np.random.Generator, high_m: float) -> Mesh:
        """A tree of about this height, at the origin."""
        ...

    def bush(self, rng: np.random.Generator, size: tuple[float, float, float]) -> Mesh:
        """A bush or a hedge of this size."""
        ...


class _Built:
    """Everything is built by itself: no two plants are alike."""

    tree = staticmethod(shapes.tree)
    bush = staticmethod(shapes.bush)


BUILT: Stock = _Built()


@dataclass(frozen=True)
class _Library:
    """Copies of prototypes."""

    trees: tuple[Mesh, ...]
    bushes: tuple[Mesh, ...]
    season: str = "mixed"
    """mixed, or winter: most trees are bare."""

    @property
    def seasons(self) -> tuple[tuple[Mesh, ...], ...]:
        """Lists to choose from, each as likely as the others."""
        bare = tuple(mesh for k, mesh in enumerate(self.trees) if k % 8 in (3, 4))
        if self.season == "winter":
            return (bare, bare, bare, self.trees)
        return (self.trees,)

    def tree(self, rng: np.random.Generator, high_m: float) -> Mesh:
        """A tree of this height: stretched, turned and in a green of its own."""
        wide = rng.uniform(0.8, 1.25)
        season = self.seasons[rng.integers(len(self.seasons))]
        return _copy(rng, season, np.array([wide, wide, 1.0]) * high_m / _HIGH_M)

    def bush(self, rng: np.random.Generator, size: tuple[float, float, float]) -> Mesh:
        """A bush of this size; one that is nearly square may be turned."""
        along = size[0] > 1.5 * size[1]
        return _copy(rng, self.bushes, np.asarray(size), turned=not along)


def _copy(
    rng: np.random.Generator, stock: tuple[Mesh, ...], stretch: np.ndarray, *, turned: bool = True
) -> Mesh:
    mesh = stock[rng.integers(len(stock))]
    angle = rng.uniform(0, 2 * np.pi) * turned
    c, s = np.cos(angle), np.sin(angle)
    matrix = (np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) * stretch).astype(np.float32)
    look = mesh.look.copy()
    leaves = look["kind"] == Kind.FOLIAGE
    tint = rng.uniform(0.75, 1.3) * rng.uniform(0.85, 1.15, 3)
    look["color"][leaves] *= tint.astype(np.float32)
    look["seed"][leaves] += np.uint32(rng.integers(1 << 16))
    return Mesh(mesh.corners @ matrix.T, look)


def _tree(rng: np.random.Generator, number: int) -> Mesh:
    """Of every eight: three of lumps, two bare, and a round, a slim and a pointed one."""
    kind = number % 8
    if kind < 3:
        return shapes.tree(rng, _HIGH_M)
    if kind < 5:
        return shapes.bare_tree(rng, _HIGH_M)
    slim = (rng.uniform(0.5, 0.8), rng.uniform(0.2, 0.35), rng.uniform(0.35, 0.6))[kind - 5]
    return shapes.leafy_tree(rng, _HIGH_M, slim=slim, pointed=float(kind == 7))


@cache
def library(season: str = "mixed") -> Stock:
    """The prototypes, built once in a process; they depend on no drive's seed."""
    rng = generator(0, "stock")
    return _Library(
        tuple(_tree(rng, number) for number in range(_TREES)),
        tuple(shapes.bush(rng, (1.0, 1.0, 1.0)) for _ in range(_BUSHES)),
        season,
    )
