"""Which rays may meet which moving parts, found quickly: bundles of rays are asked first.

Neighbors in a picture or in a sweep point almost the same way, so that a bundle of them is a narrow
cone; one test of a part's sphere against it spares all of them. Bundles of 4096 are asked before
bundles of 64. What is left is tested against the part's box, and brought into the lot where its
shape stands (see `crowd`). All loops are compiled.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from robustseg_core.sim.crowd import Crowd, Moment
from robustseg_core.sim.textures import jit

_FEW, _MANY = 64, 4096
_MARGIN_M = 0.01
"""Rays start this much before a box, for rounding; the lot's gaps are far wider."""
FAR_M = 130.0
"""Actors farther than this from where rays start are not looked at."""


class Meetings(NamedTuple):
    """K pairs of a ray and a part whose box it enters."""

    ray: NDArray[np.int32]
    """(K,) number of the ray."""
    part: NDArray[np.int32]
    """(K,) number of the part."""
    local: NDArray[np.float32]
    """(K, 6) the ray in the lot, started at the part's box."""
    start_m: NDArray[np.float32]
    """(K,) way along the ray at which `local` starts."""
    span_m: NDArray[np.float32]
    """(K,) way through the box: what `local` meets beyond is the shape of another part."""


def neighborly(height: int, width: int) -> NDArray[np.int64]:
    """(H*W,) numbers of a grid's cells, row by row, in Morton's order: bundles become squares."""
    row, column = np.mgrid[:height, :width]
    key = np.zeros((height, width), np.int64)
    for bit in range(12):
        key |= (column >> bit & 1) << 2 * bit | (row >> bit & 1) << 2 * bit + 1
    return np.argsort(key.ravel(), kind="stable")


def meetings(
    rays: NDArray[np.float32],
    order: NDArray[np.int64] | None,
    limit_m: NDArray[np.float32],
    crowd: Crowd,
    moment: Moment,
    *,
    nearest_m: float = 0.0,
) -> Meetings:
    """Rays (N, 6) that enter parts' boxes between `nearest_m` and their own limits (N,).

    `order` is a permutation of the rays that puts neighbors together; it changes the speed only.
    """
    if order is None:
        order = np.arange(len(rays))
    return Meetings(
        *_meetings(
            rays,
            order,
            limit_m,
            nearest_m,
            _bundle(rays, order, _MANY),
            _bundle(rays, order, _FEW),
            moment.center,
            crowd.radius_m,
            moment.turn,
            moment.shift,
            crowd.low,
            crowd.high,
        )
    )


@jit
def nearer(
    there: NDArray[np.float32],
    lot_triangle: NDArray[np.uint32],
    first: int,
    ray: NDArray[np.int32],
    part: NDArray[np.int32],
    start: NDArray[np.float32],
    span: NDArray[np.float32],
    distance: NDArray[np.float32],
    triangle: NDArray[np.uint32],
    owner: NDArray[np.int32],
) -> None:
    """Enter what K rays met in the lot into (N,) distance, triangle and owner, if it is nearer.

    `there` is measured from `start`; lot triangles are counted on from `first`.
    """
    for k in range(len(ray)):
        n = ray[k]
        if there[k] <= span[k] and start[k] + there[k] < distance[n]:
            distance[n] = start[k] + there[k]
            triangle[n] = first + lot_triangle[k]
            owner[n] = part[k]


@jit
def _bundle(rays: NDArray[np.float32], order: NDArray[np.int64], size: int) -> NDArray[np.float64]:
    """(B, 8) cones around `size` rays each: origin, its spread, axis, cosine of the half angle."""
    count = (len(rays) + size - 1) // size
    cones = np.empty((count, 8))
    for b in range(count):
        first, last = b * size, min(len(rays), (b + 1) * size)
        middle = order[(first + last) // 2]
        total = np.zeros(3)
        for n in order[first:last]:
            for k in range(3):
                total[k] += rays[n, 3 + k]
        total /= max(1e-9, np.sqrt((total * total).sum()))
        cosine, spread = 1.0, 0.0
        for n in order[first:last]:
            dot, away = 0.0, 0.0
            for k in range(3):
                dot += rays[n, 3 + k] * total[k]
                away += (rays[n, k] - rays[middle, k]) ** 2
            cosine, spread = min(cosine, dot), max(spread, away)
        cones[b, :3], cones[b, 3] = rays[middle, :3], np.sqrt(spread)
        cones[b, 4:7], cones[b, 7] = total, cosine - 1e-6
    return cones


@jit
def _outside(
    cones: NDArray[np.float64],
    b: int,
    center: NDArray[np.float64],
    radius: NDArray[np.float64],
    p: int,
) -> bool:
    """Whether no ray of bundle `b` passes the sphere `p`."""
    x, y, z = center[p, 0] - cones[b, 0], center[p, 1] - cones[b, 1], center[p, 2] - cones[b, 2]
    far = np.sqrt(x * x + y * y + z * z)
    wide = radius[p] + cones[b, 3]
    if far <= wide:
        return False
    if far - wide > FAR_M:
        return True
    # cos(half angle of the cone + half angle of the sphere), where both stay below 180.
    inside, sine = cones[b, 7], wide / far
    cosine = inside * np.sqrt(1 - sine * sine) - np.sqrt(max(0.0, 1 - inside * inside)) * sine
    ahead = x * cones[b, 4] + y * cones[b, 5] + z * cones[b, 6]
    return bool(inside > 0 and ahead < cosine * far)


@jit
def _ahead(
    cones: NDArray[np.float64],
    b: int,
    center: NDArray[np.float64],
    radius: NDArray[np.float64],
    near: NDArray[np.int32],
) -> int:
    """Fill `near` with the parts that rays of bundle `b` may meet; how many they are."""
    found = 0
    for p in range(len(center)):
        if not _outside(cones, b, center, radius, p):
            near[found] = p
            found += 1
    return found


@jit
def _enter(
    rays: NDArray[np.float32],
    n: int,
    p: int,
    turn: NDArray[np.float64],
    shift: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    local: NDArray[np.float64],
) -> tuple[float, float]:
    """Fill `local` (6,) with a ray in the lot; return where it enters and leaves a part's box."""
    enter, leave = -np.inf, np.inf
    for k in range(3):
        a, b, c = turn[p, k, 0], turn[p, k, 1], turn[p, k, 2]
        place = a * rays[n, 0] + b * rays[n, 1] + c * rays[n, 2] + shift[p, k]
        slope = a * rays[n, 3] + b * rays[n, 4] + c * rays[n, 5]
        inverse = 1 / slope if abs(slope) > 1e-12 else 1e12
        one, two = (low[p, k] - place) * inverse, (high[p, k] - place) * inverse
        enter, leave = max(enter, min(one, two)), min(leave, max(one, two))
        local[k], local[3 + k] = place, slope
    return enter - _MARGIN_M, leave + _MARGIN_M


@jit
def _meetings(
    rays: NDArray[np.float32],
    order: NDArray[np.int64],
    limit: NDArray[np.float32],
    nearest: float,
    large: NDArray[np.float64],
    small: NDArray[np.float64],
    center: NDArray[np.float64],
    radius: NDArray[np.float64],
    turn: NDArray[np.float64],
    shift: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
) -> tuple[
    NDArray[np.int32],
    NDArray[np.int32],
    NDArray[np.float32],
    NDArray[np.float32],
    NDArray[np.float32],
]:
    """The columns of `Meetings`, in the order in which they are found."""
    room, count = 1024, 0
    numbers, lengths = np.empty((room, 2), np.int32), np.empty((room, 2), np.float32)
    started, local = np.empty((room, 6), np.float32), np.empty(6)
    near = np.empty(len(center), np.int32)
    for b in range(len(small)):
        if b % (_MANY // _FEW) == 0:  # the next large bundle: the parts that it may meet
            found = _ahead(large, b // (_MANY // _FEW), center, radius, near)
        for p in near[:found]:
            if _outside(small, b, center, radius, p):
                continue
            for n in order[b * _FEW : (b + 1) * _FEW]:
                enter, leave = _enter(rays, n, p, turn, shift, low, high, local)
                enter = max(enter, nearest)
                if enter >= leave or enter > limit[n]:
                    continue
                if count == room:
                    numbers = np.concatenate((numbers, np.empty_like(numbers)))
                    lengths = np.concatenate((lengths, np.empty_like(lengths)))
                    started = np.concatenate((started, np.empty_like(started)))
                    room *= 2
                numbers[count, 0], numbers[count, 1] = n, p
                lengths[count, 0], lengths[count, 1] = enter, leave - enter
                for k in range(3):
                    started[count, k] = local[k] + enter * local[3 + k]
                    started[count, 3 + k] = local[3 + k]
                count += 1
    ray, part = numbers[:count, 0].copy(), numbers[:count, 1].copy()
    return ray, part, started[:count], lengths[:count, 0].copy(), lengths[:count, 1].copy()
