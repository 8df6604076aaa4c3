"""Which rays may meet a sphere, found quickly: rays are bundled, and bundles are asked first.

Neighbors in a picture or in a sweep point almost the same way, so that a bundle of 64 rays is a
narrow cone; one test then spares 64. All loops are compiled.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robustseg_core.sim.textures import jit

_BUNDLE = 64


class Bundles:
    """(N, 6) rays in bundles of neighbors, ready to be asked about spheres."""

    def __init__(self, rays: NDArray[np.float32]) -> None:
        self.rays = rays
        self._cones = _bundle(rays)

    def through(
        self, center: NDArray[np.floating], radius_m: float, limit_m: NDArray[np.floating]
    ) -> NDArray[np.int64]:
        """Numbers of the rays that enter a sphere before their own limit (N,) metres."""
        return _through(self.rays, self._cones, *map(float, center), radius_m, limit_m)


@jit
def _bundle(rays):
    """(B, 8) cones: origin, its spread, axis, cosine of the half angle."""
    count = (len(rays) + _BUNDLE - 1) // _BUNDLE
    cones = np.empty((count, 8))
    for b in range(count):
        first, last = b * _BUNDLE, min(len(rays), (b + 1) * _BUNDLE)
        middle = (first + last) // 2
        total = np.zeros(3)
        for n in range(first, last):
            for k in range(3):
                total[k] += rays[n, 3 + k]
        total /= max(1e-9, np.sqrt((total * total).sum()))
        cosine, spread = 1.0, 0.0
        for n in range(first, last):
            dot, away = 0.0, 0.0
            for k in range(3):
                dot += rays[n, 3 + k] * total[k]
                away += (rays[n, k] - rays[middle, k]) ** 2
            cosine, spread = min(cosine, dot), max(spread, away)
        cones[b, :3], cones[b, 3] = rays[middle, :3], np.sqrt(spread)
        cones[b, 4:7], cones[b, 7] = total, cosine - 1e-6
    return cones


@jit
def _through(rays, cones, x, y, z, radius, limit):
    found = np.empty(len(rays), np.int64)
    count = 0
    for q in range(len(cones)):
        a, b, c = x - cones[q, 0], y - cones[q, 1], z - cones[q, 2]
        far = np.sqrt(a * a + b * b + c * c)
        wide = radius + cones[q, 3]
        if far > wide:
            # cos(half angle of the cone + half angle of the sphere), where both stay below 180.
            sine = wide / far
            cosine = cones[q, 7] * np.sqrt(1 - sine * sine)
            cosine -= np.sqrt(max(0.0, 1 - cones[q, 7] ** 2)) * sine
            toward = a * cones[q, 4] + b * cones[q, 5] + c * cones[q, 6]
            if cones[q, 7] > 0 and toward < cosine * far:
                continue
        for n in range(q * _BUNDLE, min(len(rays), (q + 1) * _BUNDLE)):
            a, b, c = x - rays[n, 0], y - rays[n, 1], z - rays[n, 2]
            along = a * rays[n, 3] + b * rays[n, 4] + c * rays[n, 5]
            if along < -radius or along - radius > limit[n]:
                continue
            if a * a + b * b + c * c - along * along < radius * radius:
                found[count] = n
                count += 1
    return found[:count]
