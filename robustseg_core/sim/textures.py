"""Colors computed from where a ray hits: grain, markings, bricks, windows and leaves, no images.

Details smaller than a pixel's footprint fade to their mean, as a lens would have it; without that,
distant walls would flicker and the event camera would see storms.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, ParamSpec, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

from robustseg_core.sim.materials import LOOK, MATERIAL, Kind
from robustseg_core.sim.meshes import Mesh

PIXEL_RAD = 0.0016
"""Angle of a typical pixel, which sets how much detail survives at a distance."""

_PLAIN, _ROAD, _STRIPES, _PAVERS, _FACADE, _BRICK, _FOLIAGE, _GRASS = map(int, list(Kind)[:8])
_PAINT_A, _PAINT_B, _BAND, _SIGN, _TILES = map(int, list(Kind)[8:])
_GLASS, _LIT, _MARKING = MATERIAL["glass"], MATERIAL["lit window"], MATERIAL["marking"]
_PAINT = MATERIAL["paint"]


P = ParamSpec("P")
R = TypeVar("R")


def jit(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a loop at its first call, and keep the result where a folder allows it."""
    compiled: Callable[P, R]
    try:
        compiled = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # no folder to keep the result in
        compiled = numba.njit(nogil=True, error_model="numpy")(function)
    return compiled


@jit
def _hash(a: int, b: int, c: int, seed: int) -> float:
    """A fixed random number 0..1 for one lattice point (multiply-and-shift mixing)."""
    h = np.uint32(a & 0xFFFFFFFF) * np.uint32(0x9E3779B1)
    h = np.uint32(h ^ np.uint32((b & 0xFFFFFFFF) * 0x85EBCA77 & 0xFFFFFFFF))
    h = np.uint32(h ^ np.uint32((c & 0xFFFFFFFF) * 0xC2B2AE3D & 0xFFFFFFFF))
    h = np.uint32(h ^ np.uint32((seed & 0xFFFFFFFF) * 0x27D4EB2F & 0xFFFFFFFF))
    h = np.uint32((h ^ (h >> np.uint32(15))) * np.uint32(0x2C1B3C6D))
    h = np.uint32((h ^ (h >> np.uint32(12))) * np.uint32(0x297A2D39))
    return float(np.uint32(h ^ (h >> np.uint32(15)))) / 4294967296.0


@jit
def noise(x: float, y: float, z: float, seed: int) -> float:
    """Smooth value noise in -1..1 with a lattice of 1."""
    fx, fy, fz = np.floor(x), np.floor(y), np.floor(z)
    i, j, k = int(fx), int(fy), int(fz)
    u, v, w = x - fx, y - fy, z - fz
    u, v, w = u * u * (3 - 2 * u), v * v * (3 - 2 * v), w * w * (3 - 2 * w)
    total = 0.0
    for corner in range(8):
        a, b, c = corner & 1, (corner >> 1) & 1, (corner >> 2) & 1
        weight = (u if a else 1 - u) * (v if b else 1 - v) * (w if c else 1 - w)
        total += weight * _hash(i + a, j + b, k + c, seed)
    return 2 * total - 1


@jit
def _keep(foot: float, detail: float) -> float:
    """How much of a detail of that size survives a pixel's footprint (both metres)."""
    return max(0.0, min(1.0, 1.5 - foot / detail))


@jit
def _line(offset: float, half: float, foot: float) -> float:
    """Coverage of a line about 0, its edge as soft as the footprint."""
    soft = max(foot, 0.004)
    return max(0.0, min(1.0, (half - abs(offset)) / soft + 0.5))


@jit
def _road(
    u: float,
    v: float,
    x: float,
    y: float,
    foot: float,
    seed: int,
    params: NDArray[np.float32],
) -> tuple[float, float]:
    """(grey level, marking coverage) of asphalt at (way along, lateral) metres."""
    grey = 1 + 0.10 * noise(x * 0.4, y * 0.4, 0.5, seed)
    grey += 0.22 * _keep(foot, 0.03) * (_hash(int(x * 60), int(y * 60), 7, seed) - 0.5)
    grey += 0.10 * _keep(foot, 0.3) * noise(x * 4, y * 4, 1.5, seed)
    patch = noise(u * 0.11, v * 0.35, 3.5, seed)
    if patch > 0.55:
        grey *= 0.72
    crack = abs(noise(x * 0.35, y * 0.35, 9.5, seed + 5))
    if crack < 0.006 and noise(x * 0.15, y * 0.15, 4.5, seed) > 0.3:
        grey *= 1 - 0.25 * _keep(foot, 0.05)
    wheel = abs(abs(abs(v) - 1.75) - 0.8)
    grey *= 1 - 0.08 * max(0.0, 1 - wheel / 0.4)
    paint = 0.0
    if params[0] > 0:
        if params[1] < 0.5:
            if u - 9 * np.floor(u / 9) < 4.5:
                paint = _line(v, 0.07, foot)
        else:
            paint = max(_line(v - 0.14, 0.06, foot), _line(v + 0.14, 0.06, foot))
        if params[2] > 0 and u - 3 * np.floor(u / 3) < 1.5:
            paint = max(paint, _line(abs(v) - params[2], 0.06, foot))
        if params[3] > 0:
            paint = max(paint, _line(abs(v) - params[3], 0.07, foot))
    return grey, paint * (0.75 + 0.25 * (0.5 + 0.5 * noise(x * 3, y * 3, 0.5, seed)))


@jit
def _facade(
    u: float, v: float, foot: float, seed: int, params: NDArray[np.float32]
) -> tuple[float, int]:
    """(grey level, kind) of a wall: 0 plaster, 1 frame, 2 dark glass, 3 lit glass, 4 door."""
    width, floor, base = params[0], params[1], params[3]
    shade = 1 + 0.10 * noise(u * 0.3, v * 0.3, 0.5, seed) - 0.10 * np.exp(-v / 0.8)
    if params[2] > 0.5:
        row = np.floor(v / 0.16)
        along = u / 0.42 + 0.5 * (int(row) & 1)
        gap = min(abs(v / 0.16 - np.round(v / 0.16)) * 0.16, abs(along - np.round(along)) * 0.42)
        keep = _keep(foot, 0.06)
        shade *= 1 - keep * (0.28 if gap < 0.012 else 0.0)
        shade *= 1 + keep * 0.22 * (_hash(int(np.floor(along)), int(row), 3, seed) - 0.5)
    level = np.floor((v - base) / floor)
    if level < 0 and v < base:
        column = np.floor(u / (2.4 * width))
        across, up = u - column * 2.4 * width, v
        if up < 2.3 and 0.25 < across < 1.25:
            return 0.5 + _hash(int(column), 1, 1, seed), 4
        if 0.5 < up < 2.6 and 1.5 < across < 2.4 * width - 0.3:
            edge = min(up - 0.5, 2.6 - up, across - 1.5, 2.4 * width - 0.3 - across)
            lit = _hash(int(column), 2, 5, seed) < 0.5
            return 1.0, 1 if edge < 0.08 else (3 if lit else 2)
        return shade * 0.85, 0
    if abs(v - base) < 0.12:
        return 1.15, 1
    column = np.floor(u / width)
    across, up = u - (column + 0.5) * width, v - base - level * floor - 0.52 * floor
    half_w, half_h = 0.26 * width + 0.12, 0.27 * floor
    inside = min(half_w - abs(across), half_h - abs(up))
    if inside > 0:
        if inside < 0.07 or (abs(across) < 0.03 and params[2] < 1.5):
            return 1.1, 1
        return 1.0, 3 if _hash(int(column), int(level), 11, seed) < 0.3 else 2
    if -half_h - 0.12 < up < -half_h and abs(across) < half_w + 0.1:
        return 1.2, 1
    return shade, 0


@jit
def _masonry(
    part: int, red: float, green: float, blue: float, material: int
) -> tuple[float, float, float, int]:
    """(red, green, blue, material) of a `_facade`'s part; the wall keeps its own."""
    if part == 1:
        red, green, blue = 0.62, 0.60, 0.56
    elif part == 4:
        red, green, blue = 0.16, 0.09, 0.05
    elif part == 2:
        red, green, blue, material = 0.035, 0.045, 0.06, _GLASS
    elif part == 3:  # a curtain's color, which shows at night
        red, green, blue, material = 0.055, 0.042, 0.026, _LIT
    return red, green, blue, material


@jit
def _pavers(u: float, v: float, x: float, y: float, foot: float, seed: int) -> float:
    """Gray level of slabs of half a metre."""
    i, j = np.floor(u / 0.5), np.floor(v / 0.5)
    gap = min(abs(u / 0.5 - np.round(u / 0.5)), abs(v / 0.5 - np.round(v / 0.5)))
    keep = _keep(foot, 0.12)
    gain: float = 1 + 0.18 * keep * (_hash(int(i), int(j), 1, seed) - 0.5)
    gain *= 1 - keep * (0.3 if gap < 0.03 else 0.0)
    gain += 0.10 * noise(x * 0.5, y * 0.5, 0.5, seed)
    return gain


@jit
def _courses(kind: int, u: float, v: float, foot: float, seed: int) -> float:
    """Gray level of bricks or roof tiles, every other course shifted by half of one."""
    high, long = (0.12, 0.30) if kind == _BRICK else (0.30, 0.25)
    level = np.floor(v / high)
    along = u / long + 0.5 * (int(level) & 1)
    gap = min(abs(v / high - np.round(v / high)), abs(along - np.round(along)))
    keep = _keep(foot, 0.10)
    gain: float = 1 + 0.35 * keep * (_hash(int(np.floor(along)), int(level), 2, seed) - 0.5)
    gain *= 1 + keep * (0.35 if gap < 0.07 and kind == _BRICK else 0.0)
    gain += 0.12 * noise(u * 0.4, v * 0.4, 0.5, seed)
    return gain


@jit
def _grain(
    kind: int,
    u: float,
    v: float,
    x: float,
    y: float,
    z: float,
    foot: float,
    seed: int,
    params: NDArray[np.float32],
) -> tuple[float, float, float]:
    """(gray level, marking coverage, factor of red) of what keeps its own color."""
    gain, white, warmth = 1.0, 0.0, 1.0
    if kind in (_ROAD, _STRIPES):
        gain, white = _road(u, v, x, y, foot, seed, params)
        if kind == _STRIPES:
            white = 0.85 * _line(v - np.round(v), 0.25, foot)
    elif kind == _PAVERS:
        gain = _pavers(u, v, x, y, foot, seed)
    elif kind in (_BRICK, _TILES):
        gain = _courses(kind, u, v, foot, seed)
    elif kind == _FOLIAGE:
        leaf = noise(x * 9, y * 9, z * 9, seed) * _keep(foot, 0.15)
        mass = noise(x * 1.7, y * 1.7, z * 1.7, seed)
        gain = max(0.25, 1 + 0.55 * leaf + 0.4 * mass)
        warmth = 1 + 0.25 * mass
    elif kind == _GRASS:
        blade = (_hash(int(x * 40), int(y * 40), 3, seed) - 0.5) * _keep(foot, 0.04)
        mass = noise(x * 0.3, y * 0.3, 0.5, seed) + 0.5 * noise(x * 1.3, y * 1.3, 0.5, seed)
        gain = 1 + 0.6 * blade + 0.25 * mass
        warmth = 1 + 0.35 * mass
    else:
        gain = 1 + 0.06 * noise(x * 2, y * 2, z * 2, seed)
    return gain, white, warmth


@jit
def _window_band(u: float, v: float, params: NDArray[np.float32]) -> bool:
    """Whether a vehicle's flank is glass here, between two pillars."""
    pillar = u + 0.35 - params[2] * np.floor((u + 0.35) / max(params[2], 0.01))
    return bool(params[0] < v < params[1] and pillar > params[3])


@jit
def _sign(
    u: float,
    v: float,
    seed: int,
    params: NDArray[np.float32],
    red: float,
    green: float,
    blue: float,
) -> tuple[float, float, float]:
    """(red, green, blue) of a traffic sign: a warning, a ring or a bar on its own color."""
    radius = max(abs(u), abs(v)) if params[1] > 0.5 else np.hypot(u, v)
    radius /= params[0]
    if seed % 3 == 0 and radius < 0.75:
        red, green, blue = 0.75, 0.75, 0.75
        if (abs(v) < 0.06 and abs(u) < 0.18) or (abs(u) < 0.05 and v < 0.15):
            red, green, blue = 0.02, 0.02, 0.02
    ring = seed % 3 == 1 and (radius > 0.88 or abs(u) + abs(v - 0.05) < 0.16)
    bar = seed % 3 == 2 and abs(v) < 0.08 and abs(u) < 0.6 * params[0]
    if ring or bar:
        red, green, blue = 0.8, 0.8, 0.8
    return red, green, blue


class Looks(NamedTuple):
    """The looks of T triangles, a column each."""

    class_id: NDArray[np.uint8]
    material: NDArray[np.uint8]
    kind: NDArray[np.uint8]
    seed: NDArray[np.uint32]
    color: NDArray[np.float32]
    """(T, 3)."""
    uv: NDArray[np.float32]
    """(T, 2, 4)."""
    params: NDArray[np.float32]
    """(T, 4)."""


@jit
def paint(
    triangle: NDArray[np.uint32],
    point: NDArray[np.float32],
    distance: NDArray[np.float32],
    owner: NDArray[np.int32],
    tints: NDArray[np.float32],
    looks: Looks,
    out_class: NDArray[np.uint8],
    out_material: NDArray[np.uint8],
    albedo: NDArray[np.float32],
) -> None:
    """Fill class (N,), material (N,) and albedo (N, 3) of hits at `point` (N, 3) metres.

    Triangles and points are in one frame. A hit with an owner gets its tint (2, 3) in the paint
    slots; others, with owner -1, keep the triangle's own color. Rays without a hit are left out.
    """
    for n in range(len(triangle)):
        if distance[n] == np.inf:
            continue
        t = triangle[n]
        kind, seed, params = looks.kind[t], int(looks.seed[t]), looks.params[t]
        x, y, z = float(point[n, 0]), float(point[n, 1]), float(point[n, 2])
        row = looks.uv[t]
        u = row[0, 0] * x + row[0, 1] * y + row[0, 2] * z + row[0, 3]
        v = row[1, 0] * x + row[1, 1] * y + row[1, 2] * z + row[1, 3]
        foot = distance[n] * PIXEL_RAD
        red, green, blue = looks.color[t, 0], looks.color[t, 1], looks.color[t, 2]
        material, gain, white, glass = looks.material[t], 1.0, 0.0, False
        if kind == _FACADE:
            gain, part = _facade(u, v, foot, seed, params)
            red, green, blue, material = _masonry(part, red, green, blue, material)
            glass = part == 2 or part == 3
        elif kind in (_PAINT_A, _PAINT_B, _BAND):
            if owner[n] >= 0:
                tint = tints[owner[n], 1 if kind == _PAINT_B else 0]
                red, green, blue = tint[0], tint[1], tint[2]
            if kind == _BAND and _window_band(u, v, params):
                red, green, blue, material, glass = 0.02, 0.025, 0.03, _GLASS, True
        elif kind == _SIGN:
            red, green, blue = _sign(u, v, seed, params, red, green, blue)
        else:
            gain, white, warmth = _grain(kind, u, v, x, y, z, foot, seed, params)
            red *= warmth
        if glass:
            gain = 0.8 + 0.4 * _hash(int(np.floor(u * 0.5)), int(np.floor(v * 0.4)), 4, seed)
        if white > 0.5:
            material = _MARKING
        keep = 1 - white
        albedo[n, 0] = min(1.0, max(0.0, red * gain * keep + 0.72 * white))
        albedo[n, 1] = min(1.0, max(0.0, green * gain * keep + 0.72 * white))
        albedo[n, 2] = min(1.0, max(0.0, blue * gain * keep + 0.70 * white))
        out_class[n] = looks.class_id[t]
        out_material[n] = material


class Skin:
    """The looks of a mesh, laid out for `paint`."""

    def __init__(self, mesh: Mesh) -> None:
        columns = {name: np.ascontiguousarray(mesh.look[name]) for name in LOOK.names or ()}
        self._looks = Looks(**columns)

    def __call__(
        self,
        triangle: NDArray[np.uint32],
        point: NDArray[np.float32],
        distance: NDArray[np.float32],
        owner: NDArray[np.int32],
        tints: NDArray[np.float32],
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32]]:
        """(class, material, albedo) of N hits; all 0 where `distance` is infinite.

        Args:
            triangle: (N,) what was hit.
            point: (N, 3) where, in the mesh's frame.
            distance: (N,) from how far it is looked at.
            owner: (N,) row of `tints` that fills the paint slots; -1 keeps the triangle's colors.
            tints: (P, 2, 3).
        """
        count = len(triangle)
        out = np.zeros(count, np.uint8), np.zeros(count, np.uint8), np.zeros((count, 3), np.float32)
        paint(triangle, point, distance, owner, tints, self._looks, *out)
        return out
