"""From what a ray hit to the light that comes back along it: sun, sky, lamps, mirrors and fog.

Luminance is linear and relative: 1 is white paper in full sun. One pass over all pixels, compiled.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from robustseg_core.sim.materials import MATERIAL, MATERIALS, SPECULAR
from robustseg_core.sim.textures import jit, noise
from robustseg_core.sim.world import Hits, World

_EMISSION = np.array([row.emission for row in MATERIALS], np.float32)
_WINDOW, _LAMP, _RETRO = MATERIAL["lit window"], MATERIAL["lamp"], MATERIAL["retroreflector"]
_MARKING, _SIGNAL, _TAIL = MATERIAL["marking"], MATERIAL["signal"], MATERIAL["tail light"]
FOG_LAYER_M = 60.0
"""Height of the air that weather fills; rays to the sky leave it."""
_LAMP_STRENGTH, _LAMP_REACH_M, _BEAM_STRENGTH = 3.5, 32.0, 7.0


class _Light(NamedTuple):
    """What shines on a scene, and what the air keeps of it; see `Weather`."""

    sun: NDArray[np.float64]
    """(3,) unit vector to the sun."""
    sun_color: NDArray[np.float64]
    zenith: NDArray[np.float64]
    horizon: NDArray[np.float64]
    extinction: float
    """Per metre."""
    wetness: float
    clouds: float
    night: bool
    lamps: NDArray[np.float64]
    """(L, 3) places of the street lamps that are near."""
    beams: NDArray[np.float64]
    """(2, 3) places of the ego's headlights."""
    ahead: NDArray[np.float64]
    """(3,) unit vector along the beams."""


@jit
def _sky(
    x: float, y: float, z: float, light: _Light, clouds: float, out: NDArray[np.float64]
) -> None:
    """Luminance of the sky in a direction, into `out` (3,)."""
    sun, sun_color, zenith, horizon = light.sun, light.sun_color, light.zenith, light.horizon
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
def _lamplight(
    px: float, py: float, pz: float, nx: float, ny: float, nz: float, light: _Light
) -> float:
    """What the street lamps give to a surface at `p` with normal `n`; they shine down."""
    total = 0.0
    for m in range(len(light.lamps)):
        a, b, c = light.lamps[m, 0] - px, light.lamps[m, 1] - py, light.lamps[m, 2] - pz
        square = a * a + b * b + c * c + 0.5
        if square < _LAMP_REACH_M**2 and c > -6:
            hood = min(1.0, max(0.02, (c + 1.0) / 2.5))
            facing = (a * nx + b * ny + c * nz) / np.sqrt(square)
            total += _LAMP_STRENGTH * hood * max(facing, 0.06) / square
    return total


@jit
def _headlight(
    px: float, py: float, pz: float, nx: float, ny: float, nz: float, light: _Light, matter: int
) -> float:
    """What the ego's headlights give to a surface, low beams; some matter throws it back."""
    total = 0.0
    back = 12.0 if matter == _RETRO else (2.5 if matter == _MARKING else 1.0)
    for m in range(len(light.beams)):
        a, b, c = px - light.beams[m, 0], py - light.beams[m, 1], pz - light.beams[m, 2]
        length = np.sqrt(a * a + b * b + c * c) + 0.3
        axis = (a * light.ahead[0] + b * light.ahead[1] + c * light.ahead[2]) / length
        if axis > 0.6:
            cut = 1.0 if c < 0.012 * length else 0.12
            facing = max(0.02, -(a * nx + b * ny + c * nz) / length)
            strength = _BEAM_STRENGTH * cut * axis**18 * np.exp(-light.extinction * length)
            total += strength * max(facing, 0.3 * (back > 2)) * back / (length * length)
    return total


@jit
def _mirrored(
    x: float, y: float, z: float, light: _Light, clouds: float, out: NDArray[np.float64]
) -> None:
    """What is seen in a mirror that looks along a direction, into `out` (3,): sky, or ground."""
    if z > 0:
        _sky(x, y, z, light, clouds, out)
    else:
        for k in range(3):
            out[k] = 0.25 * light.horizon[k]


@jit
def _glow(matter: int, emission: NDArray[np.float32], light: _Light) -> float:
    """What a material shines by itself: lamps and tail lights little by day, signals always."""
    glow: float = emission[matter]
    if not light.night and matter != _SIGNAL:
        glow *= 0.25 if matter == _LAMP else (0.3 if matter == _TAIL else 0.0)
    return glow


@jit
def _shade(
    origin: NDArray[np.float64],
    ray: NDArray[np.float32],
    distance: NDArray[np.float32],
    albedo: NDArray[np.float32],
    normal: NDArray[np.float32],
    material: NDArray[np.uint8],
    shadow: NDArray[np.float32],
    hidden: NDArray[np.float32],
    light: _Light,
    specular: NDArray[np.float32],
    emission: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Luminance along N rays, into `out` (N, 3); the sky's where `distance` is infinite."""
    sun, sun_color, zenith, horizon = light.sun, light.sun_color, light.zenith, light.horizon
    extinction, night = light.extinction, light.night
    mirror, air = np.zeros(3), np.zeros(3)
    for n in range(len(ray)):
        x, y, z = float(ray[n, 0]), float(ray[n, 1]), float(ray[n, 2])
        if not np.isfinite(distance[n]):
            _sky(x, y, z, light, light.clouds, air)
            keep = np.exp(-extinction * FOG_LAYER_M / max(z, 0.01))
            for k in range(3):
                veil = horizon[k] + (0.8 * extinction if night else 0.0)
                out[n, k] = air[k] * keep + veil * (1 - keep)
            continue
        d = float(distance[n])
        nx, ny, nz = float(normal[n, 0]), float(normal[n, 1]), float(normal[n, 2])
        px, py, pz = origin[0] + d * x, origin[1] + d * y, origin[2] + d * z
        matter = material[n]
        # Light that reaches the surface: from the sun, the sky above, lamps and headlights.
        direct = max(0.0, nx * sun[0] + ny * sun[1] + nz * sun[2]) * (1 - shadow[n])
        above = 0.5 + 0.5 * nz
        lamp, head = 0.0, 0.0
        if night:
            lamp = _lamplight(px, py, pz, nx, ny, nz, light)
            head = _headlight(px, py, pz, nx, ny, nz, light, matter)
        # What it mirrors, more at grazing angles and where it is wet.
        ground = light.wetness if nz > 0.7 else 0.25 * light.wetness
        facing = -(x * nx + y * ny + z * nz)
        shine = (specular[matter] + 0.30 * ground * (nz > 0.7)) * (
            0.06 + 0.94 * (1 - abs(facing)) ** 4
        )
        if shine > 0.01:
            rx, ry, rz = x + 2 * facing * nx, y + 2 * facing * ny, z + 2 * facing * nz
            _mirrored(rx, ry, rz, light, light.clouds * (nz < 0.7), mirror)
        glow = _glow(matter, emission, light)
        # Through the air to the eye.
        keep = np.exp(-extinction * d)
        for k in range(3):
            color = albedo[n, k] * (1 - 0.45 * ground)
            warm = 1.0 if k == 0 else (0.78 if k == 1 else 0.5)
            sky = 0.55 * (zenith[k] + horizon[k]) / 2 * (0.25 + 0.75 * above)
            lit = sun_color[k] * direct + sky * (1 - hidden[n])
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
def finer(coarse: NDArray[np.float32], distance: NDArray[np.float32]) -> NDArray[np.float32]:
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
    hidden: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """(N, 3) linear luminance along rays from one origin (3,).

    Args:
        shadow: (N,) share of the sun that is blocked at each hit; none when absent.
        hidden: (N,) share of the sky's light that things nearby keep away; none when absent.
    """
    weather = world.weather
    eye = np.asarray(origin, np.float64)
    base = world.ego_pose(t_s)
    beams = np.array([[2.1, side, 0.68, 1.0] for side in (-0.6, 0.6)]) @ base.T
    ahead = base[:3, :3] @ np.array([0.9994, 0.0, -0.035])
    reach = np.linalg.norm(world.lamps - eye, axis=1) if len(world.lamps) else np.zeros(0)
    lamps = world.lamps[np.argsort(reach, kind="stable")[:14]]
    out = np.empty((len(directions), 3), np.float32)
    if shadow is None:
        shadow = np.zeros(len(directions), np.float32)
    if hidden is None:
        hidden = np.zeros(len(directions), np.float32)
    light = _Light(
        weather.sun_direction,
        weather.sun_color,
        weather.sky_color,
        weather.horizon_color,
        weather.fog_extinction_per_m,
        weather.wetness,
        weather.clouds,
        weather.night,
        lamps,
        np.ascontiguousarray(beams[:, :3]),
        ahead,
    )
    _shade(
        eye,
        directions,
        hits.distance_m,
        hits.albedo,
        hits.normal,
        hits.material,
        shadow,
        hidden,
        light,
        SPECULAR,
        _EMISSION,
        out,
    )
    return out
