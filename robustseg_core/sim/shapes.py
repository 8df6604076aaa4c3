"""Cars, people and plants, each built once at the origin, facing +x, standing on z = 0."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from robustseg_core.sim.materials import Kind, surface
from robustseg_core.sim.meshes import Look, Mesh, blob, box, extrude, join, quads, triangles, tube

TIRE = (0.015, 0.015, 0.017)
STEEL = (0.25, 0.26, 0.27)


def _wheels(class_name: str, places: list[tuple[float, float]], radius: float) -> list[Mesh]:
    rubber = surface(class_name, "rubber", TIRE)
    hub = surface(class_name, "metal", (0.30, 0.30, 0.32))
    meshes = []
    for x, y in places:
        out = np.sign(y)
        inner, outer = (x, y - 0.22 * out, radius), (x, y, radius)
        meshes.append(tube(inner, outer, radius, rubber, sides=14))
        meshes.append(
            tube((x, y, radius), (x, y + 0.015 * out, radius), radius * 0.6, hub, sides=10)
        )
    return meshes


def _lights(class_name: str, front: float, rear: float, side: float, z: float) -> list[Mesh]:
    lamp = surface(class_name, "lamp", (0.8, 0.8, 0.75))
    tail = surface(class_name, "tail light", (0.5, 0.01, 0.01))
    plate = surface(class_name, "retroreflector", (0.7, 0.7, 0.65))
    meshes = [box((0.08, 0.34, 0.14), lamp, center=(front, y, z)) for y in (-side, side)]
    meshes += [box((0.08, 0.30, 0.16), tail, center=(rear, y, z + 0.08)) for y in (-side, side)]
    meshes.append(box((0.05, 0.5, 0.11), plate, center=(rear - 0.02, 0, z - 0.22)))
    return meshes


def car(style: int) -> Mesh:
    """A hatchback (0), saloon (1) or van (2): body, glass cabin, wheels, lights; paint slot A."""
    roof, tail, nose = ((1.46, -1.95, 0.62), (1.42, -1.35, 0.62), (1.95, -2.2, 1.25))[style]
    long = (1.95, 2.25, 2.35)[style]
    body = surface("car", "paint", kind=Kind.PAINT_A)
    glass = surface("car", "glass", (0.02, 0.025, 0.03))
    dark = surface("car", "rubber", (0.02, 0.02, 0.02))
    band = surface("car", "paint", kind=Kind.BAND, params=(0.98, roof - 0.10, 1.15, 0.10))
    belt = 0.95
    lower = [
        (-long, 0.32, 0.82),
        (long, 0.30, 0.80),
        (long + 0.06, 0.52, 0.80),
        (long - 0.05, 0.72, 0.82),
        (nose + 0.25, belt - 0.02, 0.86),
        (-long + 0.1, belt, 0.86),
        (-long - 0.04, 0.70, 0.86),
    ]
    cabin = [
        (nose + 0.35, belt - 0.03, 0.80),
        (nose - 0.35, roof - 0.04, 0.64),
        (nose - 0.75, roof, 0.62),
        (tail + 0.45, roof - 0.02, 0.62),
        (tail + 0.25, roof - 0.10, 0.64),
        (tail - 0.1, belt - 0.03, 0.80),
    ]
    top = quads(
        [(nose - 0.38, 0.64, roof)],
        [(nose - 0.38, -0.64, roof)],
        [(tail + 0.42, -0.63, roof)],
        [(tail + 0.42, 0.63, roof)],
        body,
    )
    top = Mesh(top.corners + np.array([0, 0, 0.015], np.float32), top.look)
    parts = [extrude(lower, body), extrude(cabin, glass, band), top]
    parts.append(box((2 * long - 0.1, 1.5, 0.2), dark, center=(0, 0, 0.28)))
    places = [(x, y) for x in (-long * 0.62, long * 0.64) for y in (-0.87, 0.87)]
    parts += _wheels("car", places, 0.32)
    parts += _lights("car", long, -long + 0.02, 0.58, 0.66)
    parts += [box((0.14, 0.18, 0.12), body, center=(nose + 0.05, y, 1.0)) for y in (-0.93, 0.93)]
    return join(parts)


def truck() -> Mesh:
    """A 7.5 t lorry: cab with glass, cargo box (slot B), six wheels; paint slot A."""
    cab = surface("truck", "paint", kind=Kind.BAND, params=(1.6, 2.4, 1.9, 0.25))
    cargo = surface("truck", "plaster", kind=Kind.PAINT_B)
    dark = surface("truck", "rubber", (0.03, 0.03, 0.03))
    glass = surface("truck", "glass", (0.02, 0.025, 0.03))
    parts = [
        box((1.7, 2.2, 2.0), cab, center=(2.75, 0, 1.65), taper=(0.9, 0.95)),
        box((0.06, 1.9, 0.8), glass, center=(3.58, 0, 2.05)),
        box((5.2, 2.4, 2.5), cargo, center=(-0.85, 0, 2.25)),
        box((6.6, 1.1, 0.3), dark, center=(0, 0, 0.7)),
    ]
    places = [(x, y) for x in (-2.4, -1.4, 2.6) for y in (-1.1, 1.1)]
    return join(parts + _wheels("truck", places, 0.46) + _lights("truck", 3.6, -3.44, 0.85, 0.85))


def coach(class_name: str, long_m: float) -> Mesh:
    """A bus, or a tram when longer: window band, doors, wheels; paint slot A."""
    band = surface(class_name, "paint", kind=Kind.BAND, params=(1.35, 2.5, 1.45, 0.12))
    dark = surface(class_name, "rubber", (0.03, 0.03, 0.03))
    glass = surface(class_name, "glass", (0.02, 0.025, 0.03))
    roof = surface(class_name, "plaster", (0.6, 0.6, 0.6))
    amber = surface(class_name, "signal", (0.8, 0.45, 0.05))
    half = long_m / 2
    parts = [
        box((long_m, 2.5, 2.65), band, center=(0, 0, 1.65), taper=(0.985, 0.96)),
        box((long_m * 0.8, 1.8, 0.25), roof, center=(0, 0, 3.08)),
        box((0.06, 2.1, 1.35), glass, center=(half, 0, 1.85)),
        box((0.07, 1.5, 0.25), amber, center=(half - 0.02, 0, 2.72)),
        box((long_m - 0.3, 2.2, 0.3), dark, center=(0, 0, 0.3)),
    ]
    parts += [box((1.1, 0.05, 2.1), glass, center=(x * half, -1.25, 1.45)) for x in (-0.1, 0.75)]
    places = [(x * half, y) for x in (-0.55, 0.55) for y in (-1.12, 1.12)]
    wheels = _wheels(class_name, places, 0.46)
    return join(parts + wheels + _lights(class_name, half, -half, 0.9, 0.8))


def _ring(class_name: str, x: float, radius: float, thick: float) -> Mesh:
    """A spoked wheel, seen through."""
    tire, spoke = surface(class_name, "rubber", TIRE), surface(class_name, "metal", STEEL)
    angle = np.arange(13) * (2 * np.pi / 12)
    rim = np.stack([x + radius * np.cos(angle), 0 * angle, radius * (1 + np.sin(angle))], 1)
    parts = [tube(a, b, thick, tire, sides=4) for a, b in pairwise(rim)]
    for a, b in zip(rim[:6:2], rim[6:12:2], strict=True):
        parts.append(tube(a, b, 0.006, spoke, sides=3))
    return join(parts)


def bicycle() -> Mesh:
    """A diamond frame on two rings; paint slot A."""
    frame = surface("bicycle", "paint", kind=Kind.PAINT_A)
    dark = surface("bicycle", "rubber", TIRE)
    crank, seat, head = (-0.05, 0, 0.30), (-0.22, 0, 0.85), (0.38, 0, 0.82)
    bars = [
        (crank, seat),
        (seat, head),
        (crank, head),
        (crank, (-0.5, 0, 0.34)),
        (seat, (-0.5, 0, 0.34)),
        (head, (0.52, 0, 0.34)),
        (head, (0.35, 0, 1.0)),
    ]
    parts = [tube(a, b, 0.022, frame, sides=5) for a, b in bars]
    parts.append(tube((0.33, -0.27, 1.02), (0.33, 0.27, 1.02), 0.018, dark, sides=5))
    parts.append(box((0.26, 0.14, 0.06), dark, center=(-0.24, 0, 0.92)))
    return join([*parts, _ring("bicycle", -0.5, 0.34, 0.025), _ring("bicycle", 0.52, 0.34, 0.025)])


def motorcycle() -> Mesh:
    """Tank, seat, engine, fork and two fat wheels; paint slot A."""
    paint = surface("motorcycle", "paint", kind=Kind.PAINT_A)
    dark = surface("motorcycle", "rubber", (0.02, 0.02, 0.02))
    metal = surface("motorcycle", "metal", STEEL)
    lamp = surface("motorcycle", "lamp", (0.8, 0.8, 0.75))
    tail = surface("motorcycle", "tail light", (0.5, 0.01, 0.01))
    parts = [tube((x, -0.08, 0.31), (x, 0.08, 0.31), 0.31, dark, sides=14) for x in (-0.7, 0.75)]
    parts += [
        box((0.55, 0.30, 0.26), paint, center=(0.18, 0, 0.88), taper=(0.7, 0.7)),
        box((0.75, 0.28, 0.12), dark, center=(-0.45, 0, 0.80)),
        box((0.50, 0.34, 0.34), metal, center=(0.0, 0, 0.48)),
        tube((0.75, 0, 0.31), (0.48, 0, 1.0), 0.05, metal, sides=5),
        tube((0.45, -0.36, 1.05), (0.45, 0.36, 1.05), 0.02, dark, sides=5),
        box((0.12, 0.2, 0.18), lamp, center=(0.66, 0, 0.88)),
        box((0.06, 0.16, 0.08), tail, center=(-0.86, 0, 0.82)),
    ]
    return join(parts)


def _body(class_name: str, lean: float, hip: float, rng: np.random.Generator) -> list[Mesh]:
    """Torso and head above the hip, leaning forward by `lean` metres at the neck."""
    top = surface(class_name, "cloth", kind=Kind.PAINT_A)
    skin = surface(class_name, "skin", (0.42, 0.26, 0.18))
    hair = surface(class_name, "cloth", (0.05, 0.03, 0.02))
    neck = hip + 0.56
    chest = np.array([(0, 0, hip), (lean / 2, 0, (hip + neck) / 2 + 0.1), (lean, 0, neck)])
    return [
        tube(chest[0], chest[1], 0.15, top, end_radius=0.20, sides=9),
        tube(chest[1], chest[2], 0.20, top, end_radius=0.09, sides=9),
        blob((lean + 0.03, 0, neck + 0.14), (0.10, 0.09, 0.13), skin, rng, rough=0.03),
        blob((lean + 0.01, 0, neck + 0.18), (0.11, 0.10, 0.12), hair, rng, rough=0.05),
    ]


def rider(lean: float = 0.25) -> Mesh:
    """Someone who sits on a two-wheeler: bent arms and legs; slots A (top) and B (trousers)."""
    rng = np.random.default_rng(1)
    top = surface("rider", "cloth", kind=Kind.PAINT_A)
    trousers = surface("rider", "cloth", kind=Kind.PAINT_B)
    parts = [
        Mesh(part.corners + np.array([-0.25, 0, 0], np.float32), part.look)
        for part in _body("rider", lean, 0.9, rng)
    ]
    for y in (-0.13, 0.13):
        parts.append(tube((-0.2, y, 0.92), (0.12, y, 0.68), 0.085, trousers, sides=6))
        parts.append(tube((0.12, y, 0.68), (-0.02, y, 0.25), 0.065, trousers, sides=6))
        shoulder = (lean - 0.27, 1.6 * y, 1.38)
        parts.append(tube(shoulder, (0.33, 1.8 * y, 1.05), 0.05, top, sides=5))
    return join(parts)


def pedestrian() -> Mesh:
    """Torso and head; legs and arms are parts of their own, so that they can swing."""
    return join(_body("person", 0.0, 0.88, np.random.default_rng(2)))


def limb(part: str) -> Mesh:
    """A "leg" or an "arm", hanging from its pivot at the origin."""
    trousers = surface("person", "cloth", kind=Kind.PAINT_B)
    top = surface("person", "cloth", kind=Kind.PAINT_A)
    skin = surface("person", "skin", (0.42, 0.26, 0.18))
    shoe = surface("person", "rubber", (0.03, 0.025, 0.02))
    if part == "arm":
        down = tube((0, 0, 0.02), (0, 0, -0.52), 0.055, top, end_radius=0.04, sides=6)
        return join([down, box((0.07, 0.06, 0.14), skin, center=(0, 0, -0.58))])
    down = tube((0, 0, 0.06), (0, 0, -0.82), 0.095, trousers, end_radius=0.06, sides=7)
    return join([down, box((0.26, 0.09, 0.09), shoe, center=(0.05, 0, -0.84))])


def tree(rng: np.random.Generator, high_m: float) -> Mesh:
    """A trunk, limbs, a crown of lumps, and loose leaves that break its outline."""
    green = np.array([0.07, 0.13, 0.03]) * rng.uniform(0.7, 1.4) * rng.uniform(0.85, 1.15, 3)
    seed = int(rng.integers(1 << 31))
    bark = surface("vegetation", "bark", (0.10, 0.075, 0.055))
    leaves = surface("vegetation", "foliage", green, kind=Kind.FOLIAGE, seed=seed)
    fork, wide = 0.36 * high_m, 0.24 * high_m
    parts = [tube((0, 0, 0), (0, 0, fork + 0.6), 0.03 * high_m, bark, end_radius=0.02 * high_m)]
    for angle in rng.uniform(0, 2 * np.pi, 4) + np.arange(4) * 1.6:
        reach = np.array([np.cos(angle), np.sin(angle), 0]) * wide * rng.uniform(0.35, 0.7)
        reach[2] = rng.uniform(0.52, 0.80) * high_m
        heart = reach
        parts.append(tube((0, 0, fork), heart, 0.014 * high_m, bark, sides=5))
        radii = np.array([1, 1, 0.85]) * wide * rng.uniform(0.55, 0.8)
        parts.append(blob(heart, radii, leaves, rng, rough=0.22, slices=10))
        parts.append(_leaves(heart, radii * 1.08, 70, leaves, rng))
    return join(parts)


def _leaves(
    heart: np.ndarray, radii: np.ndarray, count: int, look: Look, rng: np.random.Generator
) -> Mesh:
    way = rng.normal(size=(count, 3))
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    place = (heart + way * radii)[:, None]
    return triangles(place + rng.normal(scale=0.20, size=(count, 3, 3)), look)


def bare_tree(rng: np.random.Generator, high_m: float) -> Mesh:
    """A tree in winter: branches that fork three times, and a haze of twigs."""
    bark = surface("vegetation", "bark", np.array([0.11, 0.085, 0.065]) * rng.uniform(0.6, 1.6))
    root, fork = np.zeros(3), np.array([0, 0, 0.3 * high_m])
    parts = [tube(root, fork, 0.028 * high_m, bark, end_radius=0.02 * high_m)]
    ends = [(fork, np.array([0.0, 0.0, 1.0]))]
    for level, count in enumerate((5, 4, 3)):
        forked = []
        for place, way in ends:
            for _ in range(count):
                ahead = way + rng.normal(scale=0.55, size=3) + (0, 0, 0.15)
                ahead /= np.linalg.norm(ahead)
                end = place + ahead * high_m * (0.30, 0.20, 0.14)[level] * rng.uniform(0.7, 1.2)
                thick = high_m * (0.013, 0.007, 0.003)[level]
                parts.append(tube(place, end, thick, bark, sides=3, end_radius=thick * 0.6))
                forked.append((end, ahead))
        ends = forked
    tips = np.array([end for end, _ in ends])
    starts = np.repeat(tips, 8, 0)
    reach = rng.normal(scale=0.055 * high_m, size=starts.shape)
    width = rng.normal(scale=0.003 * high_m, size=starts.shape)
    twigs = np.stack([starts - reach * 0.3, starts + reach, starts + width], 1)
    return join([*parts, triangles(twigs, bark)])


def leafy_tree(rng: np.random.Generator, high_m: float, *, slim: float, pointed: float) -> Mesh:
    """A crown of loose leaves that the sky shows through.

    Args:
        slim: its width over its height: 0.15 is a poplar, 0.6 a plane tree.
        pointed: 0 is round, 1 a cone as conifers have it.
    """
    green = np.array([0.07, 0.13, 0.03]) * rng.uniform(0.5, 1.5) * rng.uniform(0.8, 1.2, 3)
    if rng.random() < 0.25:  # autumn
        green = np.array([0.20, 0.11, 0.03]) * rng.uniform(0.7, 1.4) * rng.uniform(0.8, 1.2, 3)
    seed = int(rng.integers(1 << 31))
    bark = surface("vegetation", "bark", np.array([0.10, 0.075, 0.055]) * rng.uniform(0.6, 2.0))
    leaves = surface("vegetation", "foliage", green, kind=Kind.FOLIAGE, seed=seed)
    low = (0.12 if pointed > 0.5 else 0.32) * high_m
    parts = [tube((0, 0, 0), (0, 0, 0.8 * high_m), 0.026 * high_m, bark, end_radius=0.02)]
    share = rng.uniform(0, 1, 520)  # of the way up the crown
    round_ = np.sqrt(np.maximum(1 - (2 * share - 1) ** 2, 0.02))
    wide = slim * high_m / 2 * ((1 - pointed) * round_ + pointed * (1.02 - share))
    lumps = 1 + 0.3 * np.sin(share * 19 + rng.uniform(0, 6))
    angle, out = rng.uniform(0, 2 * np.pi, 520), np.sqrt(rng.uniform(0.15, 1, 520)) * lumps
    place = np.stack([np.cos(angle) * wide * out, np.sin(angle) * wide * out,
                      low + share * (high_m - low)], 1)  # fmt: skip
    size = rng.normal(scale=0.035 * high_m, size=(520, 3, 3))
    parts.append(triangles(place[:, None] + size, leaves))
    return join(parts)


def bush(rng: np.random.Generator, size: tuple[float, float, float]) -> Mesh:
    """A low lump of leaves, or a hedge when long."""
    green = np.array([0.06, 0.12, 0.03]) * rng.uniform(0.7, 1.4)
    look = surface(
        "vegetation", "foliage", green, kind=Kind.FOLIAGE, seed=int(rng.integers(1 << 31))
    )
    half = np.asarray(size) / 2
    heart = np.array([0, 0, half[2] * 0.8])
    lump = blob(heart, half, look, rng, rough=0.15, slices=10)
    return join([lump, _leaves(heart, half * 1.03, 40, look, rng)])
