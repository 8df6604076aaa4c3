"""What stands on a lot, in the lot's frame: x along the street, y away from it, front at y = 0."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from robustseg_core.sim.materials import Kind, surface
from robustseg_core.sim.meshes import Mesh, box, join, pose, quads, triangles, tube
from robustseg_core.sim.style import Style

_WALLS = (
    (0.62, 0.55, 0.42),
    (0.55, 0.30, 0.20),
    (0.66, 0.63, 0.58),
    (0.40, 0.42, 0.44),
    (0.60, 0.42, 0.26),
    (0.45, 0.50, 0.42),
    (0.38, 0.17, 0.12),
    (0.70, 0.60, 0.46),
)


def block(size: tuple[float, float, float], rng: np.random.Generator, style: Style) -> Mesh:
    """A house of about `size` (x, y, z) metres about the origin, with windows on all sides."""
    wide, deep, high = size
    floor = rng.uniform(2.8, 3.4)
    base = float(rng.choice([3.2, 3.8, 0.4]))
    high = base + max(1, round((high - base) / floor)) * floor + 0.3
    pattern = int(rng.integers(3))
    colors = np.array(_WALLS) if style.walls is None else style.walls
    color = colors[rng.integers(len(colors))] * rng.uniform(0.7, 1.05)
    if pattern == 1:
        color = np.array([0.32, 0.13, 0.08]) * rng.uniform(0.7, 1.3)
    columns = max(2, round(wide / rng.uniform(1.9, 2.9)))
    look = surface(
        "building",
        "brick" if pattern == 1 else "plaster",
        color,
        kind=Kind.FACADE,
        seed=int(rng.integers(1 << 31)),
        params=(wide / columns, floor, pattern, base),
    )
    # Half a column of shift keeps even numbers of windows off the corners.
    look_shift = 0.0 if columns % 2 else wide / columns / 2
    walls = box((wide, deep, high), look, center=(0, 0, high / 2))
    walls.look["uv"][:, 0, 3] += (wide / columns) / 2 + look_shift
    trim = surface("building", "plaster", color * 0.75)
    tile = surface(
        "building",
        "roof tile",
        np.array([0.26, 0.09, 0.055]) * rng.uniform(0.5, 1.4),
        kind=Kind.TILES,
        seed=int(rng.integers(1 << 31)),
    )
    parts = [walls, box((wide + 0.5, deep + 0.5, 0.3), trim, center=(0, 0, high - 0.05))]
    if rng.random() < 0.55 and high < 17:
        ridge, over = high + deep * rng.uniform(0.25, 0.42), 0.45
        x, y = wide / 2 + 0.2, deep / 2 + over
        for side in (-1, 1):
            eaves = [(-x, side * y, high), (x, side * y, high)]
            parts.append(quads([eaves[0]], [eaves[1]], [(x, 0, ridge)], [(-x, 0, ridge)], tile))
            gable = [(side * wide / 2, -deep / 2, high), (side * wide / 2, deep / 2, high)]
            parts.append(triangles([*gable, (side * wide / 2, 0, ridge)], trim))
        chimney = surface("building", "brick", (0.25, 0.10, 0.07), kind=Kind.BRICK)
        parts.append(box((0.7, 0.7, 1.6), chimney, center=(wide * 0.28, deep * 0.1, ridge)))
    else:
        parts.append(box((wide * 0.3, deep * 0.4, 1.8), trim, center=(wide * 0.2, 0, high + 0.9)))
    return join(parts)


def _building(wide: float, rng: np.random.Generator, style: Style) -> Mesh:
    deep = rng.uniform(9, 12)
    gap = rng.choice([0.05, 0.05, 1.5])
    house = block((wide - gap, deep, rng.uniform(*style.stories_m)), rng, style)
    setback = rng.uniform(0.15, 0.5)
    parts = [house.moved(pose(0, deep / 2 + setback))]
    if rng.random() < 0.4:
        cloth = surface("building", "cloth", rng.uniform(0.05, 0.5, 3))
        half, out = rng.uniform(1.2, 2.2), 1.1
        parts.append(
            quads(
                [(-half, setback, 2.95)],
                [(half, setback, 2.95)],
                [(half, -out, 2.45)],
                [(-half, -out, 2.45)],
                cloth,
            )
        )
    return join(parts)


def _garden(wide: float, rng: np.random.Generator, style: Style) -> Mesh:
    """A small house behind a fence of bars or planks, with a tree and bushes."""
    deep, back = 7.0, rng.uniform(5, 6.5)
    parts = [
        block((wide * 0.7, deep, rng.uniform(4, 8)), rng, style).moved(pose(0, back + deep / 2))
    ]
    wooden = rng.random() < 0.5
    tone = np.array([0.30, 0.19, 0.10]) if wooden else np.full(3, 0.05)
    bars = surface("fence", "bark" if wooden else "metal", tone * rng.uniform(0.6, 2.2))
    high, gap, thick = (1.25, 0.17, 0.10) if wooden else (1.5, 0.16, 0.035)
    centers = [(x, 0.25, high / 2 + 0.05) for x in np.arange(-wide / 2 + 0.2, wide / 2 - 0.1, gap)]
    parts.append(box((thick, 0.03, high), bars, center=centers))
    for z in (0.3, high - 0.15):
        parts.append(box((wide - 0.3, 0.05, 0.07), bars, center=(0, 0.29, z)))
    centers = [(x, 0.29, high / 2) for x in np.arange(-wide / 2 + 0.2, wide / 2, 2.4)]
    parts.append(box((0.10, 0.10, high + 0.15), bars, center=centers))
    tree = style.stock.tree(rng, rng.uniform(4, 6.5))
    parts.append(tree.moved(pose(rng.uniform(-0.3, 0.3) * wide, 2.6)))
    for x in rng.uniform(-0.42, 0.42, 3) * wide:
        parts.append(style.stock.bush(rng, (1.4, 1.2, 1.3)).moved(pose(x, rng.uniform(1.1, 3.5))))
    return join(parts)


def _wall(wide: float, rng: np.random.Generator, style: Style) -> Mesh:
    """A yard behind a wall of brick or concrete, trees looking over it."""
    high = rng.uniform(1.7, 2.6)
    if rng.random() < 0.6:
        look = surface(
            "wall",
            "brick",
            np.array([0.30, 0.13, 0.09]) * rng.uniform(0.7, 1.4),
            kind=Kind.BRICK,
            seed=int(rng.integers(1 << 31)),
        )
    else:
        look = surface("wall", "concrete", np.full(3, 0.36) * rng.uniform(0.7, 1.3))
    cap = surface("wall", "concrete", (0.42, 0.41, 0.39))
    parts = [
        box((wide - 0.1, 0.3, high), look, center=(0, 0.35, high / 2)),
        box((wide - 0.1, 0.42, 0.1), cap, center=(0, 0.35, high + 0.05)),
    ]
    for x in np.arange(-wide / 2 + 1.5, wide / 2 - 1, 4.2):
        parts.append(style.stock.tree(rng, rng.uniform(6, 10)).moved(pose(x, rng.uniform(3, 9))))
    return join(parts)


def _park(wide: float, rng: np.random.Generator, style: Style) -> Mesh:
    """Lawn with trees, bushes, a hedge and a bench."""
    parts = []
    for x in np.arange(-wide / 2 + 1.5, wide / 2 - 1, 3.8):
        tree = style.stock.tree(rng, rng.uniform(5, 11))
        parts.append(tree.moved(pose(x, rng.uniform(4.5, 12))))
        parts.append(style.stock.bush(rng, (1.5, 1.5, 1.2)).moved(pose(x + 1, rng.uniform(3, 9))))
    hedge = style.stock.bush(rng, (wide * 0.5, 1.1, rng.uniform(0.9, 1.5)))
    parts.append(hedge.moved(pose(wide * 0.22, 11.5)))
    wood = surface("fence", "bark", (0.20, 0.11, 0.05))
    parts.append(box((1.7, 0.45, 0.06), wood, center=(-wide * 0.2, 1.0, 0.45)))
    parts.append(box((1.7, 0.06, 0.4), wood, center=(-wide * 0.2, 1.25, 0.75)))
    for x in (-0.7, 0.7):
        leg = x - wide * 0.2
        parts.append(tube((leg, 1.0, 0), (leg, 1.0, 0.45), 0.04, wood, sides=5))
    return join(parts)


LOTS: dict[str, Callable[[float, np.random.Generator, Style], Mesh]] = {
    "building": _building,
    "garden": _garden,
    "wall": _wall,
    "park": _park,
}
"""Builders by `Lot.kind`: (width_m, rng, style) -> mesh."""
