"""From what a ray hit to the light that comes back along it: sun, sky, lamps, mirrors and fog.

Luminance is linear and relative: 1 is white paper in full sun. One pass over all pixels, compiled.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robustseg_core.sim.materials import MATERIAL, MATERIALS
from robustseg_core.sim.textures import jit, noise
from robustseg_core.sim.world import Hits, World

_SPECULAR = np.array([row.specular for row in MATERIALS], np.float32)
_EMISSION = np.array([row.emission for row in MATERIALS], np.float32)
_WINDOW, _LAMP, _RETRO = MATERIAL["lit window"], MATERIAL["lamp"], MATERIAL["retroreflector"]
_MARKING, _SIGNAL, _TAIL = MATERIAL["marking"], MATERIAL["signal"], MATERIAL["tail light"]
FOG_LAYER_M = 60.0
"""Height of the air that weather fills; rays to the sky leave it."""
_LAMP_STRENGTH, _LAMP_REACH_M, _BEAM_STRENGTH = 3.5, 32.0, 7.0


@jit
def _sky(x, y, z, sun, sun_color, zenith, horizon, clouds, out):
    """Luminance of the sky in a direction, into `out` (3,)."""
    up = max(z, 0.0)
    share = up**0.45
    cover = 0.0
    if clouds > 0 and z > 0.01:
        far = 1.6 / (z + 0.12)
        puff = 0.6 * noise(x * far, y * far, 0.5, 91) + 0.3 * noise(
            x * far * 2.3, y * far * 2.3, 1.5, 92
        )
        puff += 0.15 * noise(x * far * 5, y * far * 5, 2.5, 93)
        cover = min(1.0, max(0.0, (puff + 1.1 * clouds - 0.45) * 2.2)) * min(1.0, z * 8)
    toward = x * sun[0] + y * sun[1] + z * sun[2]
    glow = 0.35 * max(toward, 0.0) ** 24 + (8.0 if toward > 0.9996 else 0.0)
    glow *= (1 - cover) * (1 - 0.8 * clouds)
    for k in range(3):
        base = horizon[k] * (1 - share) + zenith[k] * share
        cloud = horizon[k] * (1.15 if clouds < 0.9 else 0.9 + 0.1 * share)
        out[k] = base * (1 - 0.85 * cover) + cloud * 0.85 * cover + glow * sun_color[k]


@jit
def _shade(origin, ray, distance, albedo, normal, material, class_sky, shadow, lamps, beams, ahead,
           sun, sun_color, zenith, horizon, extinction, wetness, clouds, night, specular, emission,
           out):  # fmt: skip
    mirror, air = np.zeros(3), np.zeros(3)
    for n in range(len(ray)):
        x, y, z = float(ray[n, 0]), float(ray[n, 1]), float(ray[n, 2])
        if class_sky[n]:
            _sky(x, y, z, sun, sun_color, zenith, horizon, clouds, air)
            keep = np.exp(-extinction * FOG_LAYER_M / max(z, 0.01))
            for k in range(3):
                veil = horizon[k] + (0.8 * extinction if night else 0.0)
                out[n, k] = air[k] * keep + veil * (1 - keep)
            continue
        d = float(distance[n])
        nx, ny, nz = float(normal[n, 0]), float(normal[n, 1]), float(normal[n, 2])
        px, py, pz = origin[0] + d * x, origin[1] + d * y, origin[2] + d * z
        matter = material[n]
        direct = max(0.0, nx * sun[0] + ny * sun[1] + nz * sun[2]) * (1 - shadow[n])
        above = 0.5 + 0.5 * nz
        lamp, head = 0.0, 0.0
        if night:
            for m in range(len(lamps)):
                a, b, c = lamps[m, 0] - px, lamps[m, 1] - py, lamps[m, 2] - pz
                square = a * a + b * b + c * c + 0.5
                if square < _LAMP_REACH_M**2 and c > -6:
                    hood = min(1.0, max(0.02, (c + 1.0) / 2.5))  # lamps shine down
                    facing = (a * nx + b * ny + c * nz) / np.sqrt(square)
                    lamp += _LAMP_STRENGTH * hood * max(facing, 0.06) / square
            for m in range(len(beams)):
                a, b, c = px - beams[m, 0], py - beams[m, 1], pz - beams[m, 2]
                length = np.sqrt(a * a + b * b + c * c) + 0.3
                axis = (a * ahead[0] + b * ahead[1] + c * ahead[2]) / length
                if axis > 0.6:
                    cut = 1.0 if c < 0.012 * length else 0.12
                    facing = max(0.02, -(a * nx + b * ny + c * nz) / length)
                    back = 12.0 if matter == _RETRO else (2.5 if matter == _MARKING else 1.0)
                    strength = _BEAM_STRENGTH * cut * axis**18 * np.exp(-extinction * length)
                    head += strength * max(facing, 0.3 * (back > 2)) * back / (length * length)
        ground = wetness if nz > 0.7 else 0.25 * wetness
        facing = -(x * nx + y * ny + z * nz)
        shine = (specular[matter] + 0.30 * ground * (nz > 0.7)) * (
            0.06 + 0.94 * (1 - abs(facing)) ** 4
        )
        rx, ry, rz = x + 2 * facing * nx, y + 2 * facing * ny, z + 2 * facing * nz
        if shine > 0.01:
            if rz > 0:
                _sky(rx, ry, rz, sun, sun_color, zenith, horizon, clouds * (nz < 0.7), mirror)
            else:
                for k in range(3):
                    mirror[k] = 0.25 * horizon[k]
        keep = np.exp(-extinction * d)
        glow = emission[matter]
        if not night and matter != _SIGNAL:
            glow *= 0.25 if matter == _LAMP else (0.3 if matter == _TAIL else 0.0)
        for k in range(3):
            color = albedo[n, k] * (1 - 0.45 * ground)
            warm = 1.0 if k == 0 else (0.78 if k == 1 else 0.5)
            lit = sun_color[k] * direct + 0.55 * (zenith[k] + horizon[k]) / 2 * (
                0.25 + 0.75 * above
            )
            lit += 0.12 * (1 - above) * (sun_color[k] * sun[2] + horizon[k])
            lit += lamp * warm + head * (1.0 if k < 2 else 0.88)
            value = color * lit * (1 - 0.5 * shine)
            if shine > 0.01:
                value += shine * min(mirror[k], 2.0)
            if glow > 0:
                warm = albedo[n, k] * 20 if matter == _WINDOW else warm
                value += glow * (warm if matter in (_WINDOW, _LAMP) else albedo[n, k])
            veil = horizon[k]
            if night:
                veil += 0.8 * extinction * (1.0 if k < 2 else 0.85)  # own beams, scattered back
            out[n, k] = value * keep + veil * (1 - keep)


@jit
def finer(coarse, distance):
    """(H, W) shadow from every other pixel (H/2, W/2), never blended across an edge of depth."""
    height, width = distance.shape
    out = np.zeros((height, width), np.float32)
    for y in range(height):
        for x in range(width):
            total, weights = 0.0, 0.0
            for j in range(y // 2, min(y // 2 + 1 + y % 2, coarse.shape[0])):
                for i in range(x // 2, min(x // 2 + 1 + x % 2, coarse.shape[1])):
                    here, there = distance[y, x], distance[2 * j, 2 * i]
                    weight = 1.0 if abs(here - there) < 0.06 * here + 0.1 else 1e-4
                    total += weight * coarse[j, i]
                    weights += weight
            out[y, x] = total / weights
    return out


def shade(
    world: World,
    origin: NDArray[np.floating],
    directions: NDArray[np.float32],
    hits: Hits,
    t_s: float,
    *,
    shadow: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """(N, 3) linear luminance along rays from one origin (3,).

    Args:
        shadow: (N,) share of the sun that is blocked at each hit; none when absent.
    """
    weather = world.weather
    origin = np.asarray(origin, np.float64)
    base = world.ego_pose(t_s)
    beams = np.array([[2.1, side, 0.68, 1.0] for side in (-0.6, 0.6)]) @ base.T
    ahead = base[:3, :3] @ np.array([0.9994, 0.0, -0.035])
    reach = np.linalg.norm(world.lamps - origin, axis=1) if len(world.lamps) else np.zeros(0)
    lamps = world.lamps[np.argsort(reach, kind="stable")[:14]]
    out = np.empty((len(directions), 3), np.float32)
    if shadow is None:
        shadow = np.zeros(len(directions), np.float32)
    _shade(
        origin, directions, hits.distance_m, hits.albedo, hits.normal, hits.material,
        ~np.isfinite(hits.distance_m), shadow, lamps, np.ascontiguousarray(beams[:, :3]), ahead,
        weather.sun_direction, weather.sun_color, weather.sky_color, weather.horizon_color,
        weather.fog_extinction_per_m, weather.wetness, weather.clouds, weather.night,
        _SPECULAR, _EMISSION, out,
    )  # fmt: skip
    return out
