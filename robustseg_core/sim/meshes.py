"""Triangles with a look: the few primitives that everything in the street is built from.

A mesh is a soup of triangles; each carries its own look, so that meshes join by concatenation and a
hit needs only the triangle's number. Windings do not matter: normals are turned to the ray.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustseg_core.sim.materials import LOOK, Kind

Look = NDArray[np.void]


@dataclass(frozen=True)
class Mesh:
    """T triangles: `corners` (T, 3, 3) float32 in metres, `look` (T,) LOOK."""

    corners: NDArray[np.float32]
    look: Look

    def moved(self, matrix: NDArray[np.float64]) -> Mesh:
        """The mesh after a rigid (4, 4) motion; textures travel along."""
        rotation, shift = matrix[:3, :3], matrix[:3, 3]
        look = self.look.copy()
        axes = self.look["uv"][:, :, :3].astype(np.float64) @ rotation.T
        look["uv"][:, :, :3] = axes
        look["uv"][:, :, 3] = self.look["uv"][:, :, 3] - axes @ shift
        return Mesh((self.corners @ rotation.T + shift).astype(np.float32), look)

    def stretched(self, factors: ArrayLike) -> Mesh:
        """The mesh made longer, wider and higher by (3,) factors; textures stretch along."""
        by = np.asarray(factors, np.float32)
        look = self.look.copy()
        look["uv"][:, :, :3] /= by
        return Mesh(self.corners * by, look)

    def painted(self, tint: NDArray[np.floating]) -> Mesh:
        """The mesh with its two paint slots filled from `tint` (2, 3)."""
        look = self.look.copy()
        for slot, kind in enumerate((Kind.PAINT_A, Kind.PAINT_B)):
            look["color"][look["kind"] == kind] = tint[slot]
        look["color"][look["kind"] == Kind.BAND] = tint[0]
        return Mesh(self.corners, look)


def join(meshes: Iterable[Mesh]) -> Mesh:
    """All triangles in one mesh, in the order given."""
    parts = list(meshes)
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return Mesh(np.zeros((0, 3, 3), np.float32), np.zeros(0, LOOK))
    corners = np.concatenate([part.corners for part in parts])
    return Mesh(corners, np.concatenate([part.look for part in parts]))


def pose(x: float, y: float, z: float = 0.0, heading: float = 0.0) -> NDArray[np.float64]:
    """(4, 4) of a thing that stands upright at a place and faces `heading` radians."""
    c, s = np.cos(heading), np.sin(heading)
    return np.array([[c, -s, 0, x], [s, c, 0, y], [0, 0, 1, z], [0, 0, 0, 1]], np.float64)


def triangles(corners: ArrayLike, look: Look) -> Mesh:
    """(T, 3, 3) triangles that wear one look; texture u runs along a wall and v up (or x, y)."""
    corners = np.asarray(corners, np.float64).reshape(-1, 3, 3)
    normal = normals(corners)
    flat = np.hypot(normal[:, 0], normal[:, 1]) < 0.7
    # Opposite walls share the tangent's sign, which keeps patterns on one grid.
    tangent = np.stack([-normal[:, 1], normal[:, 0]], 1)
    tangent /= np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-9)
    worn = np.repeat(look, len(corners))
    worn["uv"] = 0
    worn["uv"][:, 0, :2] = np.where(flat[:, None], (1.0, 0.0), tangent)
    worn["uv"][:, 1, 1] = flat
    worn["uv"][:, 1, 2] = ~flat
    return Mesh(corners.astype(np.float32), worn)


def normals(corners: NDArray[np.floating]) -> NDArray[np.float64]:
    """(T, 3) unit normals, in the sense of each triangle's winding."""
    a, b = corners[:, 1].astype(np.float64) - corners[:, 0], corners[:, 2] - corners[:, 0]
    across = np.empty(a.shape)  # np.cross, without its overhead on a few rows
    for k, (i, j) in enumerate(((1, 2), (2, 0), (0, 1))):
        across[:, k] = a[:, i] * b[:, j] - a[:, j] * b[:, i]
    length = np.sqrt((across * across).sum(1, keepdims=True))
    unit: NDArray[np.float64] = across / np.maximum(length, 1e-12)
    return unit


def quads(a: ArrayLike, b: ArrayLike, c: ArrayLike, d: ArrayLike, look: Look) -> Mesh:
    """(Q, 3) corners each, around; two triangles per quadrilateral."""
    return triangles(_halves(*(np.asarray(corner, np.float64) for corner in (a, b, c, d))), look)


def _halves(*around: NDArray[np.float64]) -> NDArray[np.float64]:
    """(Q, 2, 3, 3): the two triangles of each quadrilateral of four times (Q, 3) corners."""
    a, b, c, d = (np.atleast_2d(corner) for corner in around)
    return np.stack([np.stack([a, b, c], 1), np.stack([a, c, d], 1)], 1)


def box(
    size: tuple[float, float, float],
    look: Look,
    *,
    center: ArrayLike = (0.0, 0.0, 0.0),
    taper: tuple[float, float] = (1.0, 1.0),
) -> Mesh:
    """A cuboid of `size` metres about each `center` (3,) or (N, 3); `taper` shrinks its top."""
    sign = np.array(
        [
            (-1, -1, -1),
            (1, -1, -1),
            (1, 1, -1),
            (-1, 1, -1),
            (-1, -1, 1),
            (1, -1, 1),
            (1, 1, 1),
            (-1, 1, 1),
        ],
        np.float64,
    )
    corner = sign * np.asarray(size) / 2
    corner[4:, :2] *= taper
    corner = corner + np.asarray(center, np.float64).reshape(-1, 1, 3)
    around = [(0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7), (4, 5, 6, 7), (0, 1, 2, 3)]
    a, b, c, d = (corner[:, [face[k] for face in around]].reshape(-1, 3) for k in range(4))
    return quads(a, b, c, d, look)


def extrude(
    outline: Sequence[tuple[float, float, float]], rim: Look, side: Look | None = None
) -> Mesh:
    """A body from its side view: points (x, z, half width) around a star-shaped outline.

    `rim` is worn by what runs across (bonnet, screens, roof), `side` by the two flanks.
    """
    x, z, half = np.asarray(outline, np.float64).T
    meshes = []
    left, right = np.stack([x, half, z], 1), np.stack([x, -half, z], 1)
    meshes.append(quads(left, right, np.roll(right, -1, 0), np.roll(left, -1, 0), rim))
    for flank in (left, right):
        middle = np.broadcast_to(flank.mean(0), flank.shape)
        fan = np.stack([flank, np.roll(flank, -1, 0), middle], 1)
        meshes.append(triangles(fan, rim if side is None else side))
    return join(meshes)


def tube(
    start: ArrayLike,
    end: ArrayLike,
    radius: float,
    look: Look,
    *,
    end_radius: float | None = None,
    sides: int = 8,
    caps: Look | None = None,
) -> Mesh:
    """A (tapered) cylinder between two points; `caps` closes its ends with another look."""
    start, end = np.asarray(start, np.float64), np.asarray(end, np.float64)
    axis = (end - start) / np.linalg.norm(end - start)
    other = np.eye(3)[np.argmin(np.abs(axis))]
    e1 = np.cross(axis, other)
    e1 /= np.linalg.norm(e1)
    e2 = np.cross(axis, e1)
    angle = np.arange(sides) * (2 * np.pi / sides)
    ring = np.cos(angle)[:, None] * e1 + np.sin(angle)[:, None] * e2
    low = start + radius * ring
    high = end + (radius if end_radius is None else end_radius) * ring
    next_low, next_high = np.roll(low, -1, 0), np.roll(high, -1, 0)
    side = _halves(low, next_low, next_high, high).reshape(-1, 3, 3)
    ends = [
        np.stack([circle, following, np.broadcast_to(middle, circle.shape)], 1)
        for circle, following, middle in ((low, next_low, start), (high, next_high, end))
    ]
    if caps is None:  # most are of one look, and a street has thousands
        return triangles(np.concatenate([side, *ends]), look)
    return join([triangles(side, look), triangles(np.concatenate(ends), caps)])


def blob(
    center: ArrayLike,
    radii: ArrayLike,
    look: Look,
    rng: np.random.Generator,
    *,
    rough: float = 0.12,
    slices: int = 8,
) -> Mesh:
    """A lumpy ellipsoid: heads, bushes and the masses of tree crowns."""
    rings = slices // 2 + 1
    polar = np.linspace(0, np.pi, rings)[:, None]
    around = np.arange(slices)[None] * (2 * np.pi / slices)
    unit = np.stack(
        np.broadcast_arrays(
            np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around), np.cos(polar)
        ),
        -1,
    )
    unit = unit * (1 + rough * rng.uniform(-1, 1, (rings, slices, 1)))
    unit[0], unit[-1] = unit[0].mean(0), unit[-1].mean(0)
    grid = np.asarray(center) + unit * np.asarray(radii)
    turned = np.roll(grid, -1, 1)
    corner = (grid[:-1], turned[:-1], turned[1:], grid[1:])
    a, b, c, d = (part.reshape(-1, 3) for part in corner)
    return quads(a, b, c, d, look)


def ribbon(
    left: NDArray[np.floating],
    right: NDArray[np.floating],
    look: Look,
    *,
    along_m: NDArray[np.floating],
    lateral_m: tuple[float, float],
) -> Mesh:
    """A strip between two polylines (K, 3) whose texture is (way along, lateral) in metres."""
    mesh = quads(left[:-1], left[1:], right[1:], right[:-1], look)
    ahead = (left[1:] + right[1:] - left[:-1] - right[:-1])[:, :2] / 2
    stretch = np.linalg.norm(ahead, axis=1)
    ahead = ahead / stretch[:, None]
    side = np.stack([-ahead[:, 1], ahead[:, 0]], 1)
    middle = (left[:-1] + right[:-1])[:, :2] / 2
    uv = np.zeros((len(ahead), 2, 4), np.float64)
    uv[:, 0, :2] = ahead * (np.diff(along_m) / stretch)[:, None]
    uv[:, 0, 3] = along_m[:-1] - (uv[:, 0, :2] * middle).sum(1)
    uv[:, 1, :2] = side
    uv[:, 1, 3] = sum(lateral_m) / 2 - (side * middle).sum(1)
    mesh.look["uv"] = np.repeat(uv, 2, axis=0)
    return mesh
