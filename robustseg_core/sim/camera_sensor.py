"""A color camera in the simulated street: exposure, noise, rain on the lens, and true labels."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from robustseg_core.geometry.camera import Camera
from robustseg_core.sim import generator
from robustseg_core.sim.culling import neighborly
from robustseg_core.sim.shading import finer, shade
from robustseg_core.sim.textures import jit
from robustseg_core.sim.world import Hits, World

_KEY = 0.20
"""Where auto exposure puts the picture's log-mean luminance."""
_LONGEST = 15.0
"""Most exposure times gain: nights stay dark, as on real cameras."""
_LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)  # ITU-R BT.709


_MIDDLE = np.float32(0.42)
"""The gray that contrast turns about; black and white stay."""
_OPEN_M, _MOST_HIDDEN = 4.0, 0.85
"""How far contact shadows look for what hides the sky, and how dark they get."""
_SKYWARD = np.array(
    [
        (0.0, 0.0, 1.0),
        *((0.77 * np.cos(a), 0.77 * np.sin(a), 0.64) for a in 0.4 + np.arange(5) * 2 * np.pi / 5),
    ]
)


@dataclass(frozen=True)
class Photometry:
    """What one make of camera does to light and another does not; the defaults do nothing."""

    balance: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Gains of red, green and blue: the color temperature that it takes for white."""
    key: float = _KEY
    """Where auto exposure puts the picture's log-mean luminance."""
    clipping: float = 0.0
    """From a soft shoulder (0) to a hard limit of bright light (1)."""
    contrast: float = 1.0
    saturation: float = 1.0
    gamma: float = 1.0
    noise: float = 1.0
    """Times the plain camera's."""
    blur_px: float = 0.55
    sharpening: float = 0.0
    dirt: int = 0
    """Spots on the lens."""


PLAIN = Photometry()


def drawn_photometry(rng: np.random.Generator) -> Photometry:
    """Any camera's."""
    warm, tint = rng.normal(0, 0.09), rng.normal(0, 0.03)
    return Photometry(
        balance=(float(np.exp(warm)), float(np.exp(tint)), float(np.exp(-warm))),
        key=_KEY * float(np.exp(rng.normal(0, 0.22))),
        clipping=float(rng.uniform(0, 1)),
        contrast=float(rng.uniform(0.8, 1.5)),
        saturation=float(rng.uniform(0.45, 1.5)),
        gamma=float(np.exp(rng.normal(-0.03, 0.12))),
        noise=float(np.exp(rng.normal(0, 0.5))),
        blur_px=float(rng.uniform(0.4, 1.0)),
        sharpening=float(rng.choice([0.0, 0.0, 0.6, 1.2])),
        dirt=int(rng.choice([0, 0, 0, 6, 20])),
    )


class RgbCamera:
    """A pinhole camera with auto exposure that follows over frames.

    Args:
        height, width, fx: image size in pixels, focal length in pixels (square pixels).
        seed: of the sensor's own noise.
        subframes: renders averaged over the exposure; above 1 moving things blur.
        exposure_s: how long the shutter is open, for that blur.
        photometry: what it makes of the light.
    """

    def __init__(
        self,
        height: int,
        width: int,
        fx: float,
        seed: int,
        *,
        subframes: int = 1,
        exposure_s: float = 0.012,
        photometry: Photometry = PLAIN,
    ) -> None:
        self.photometry = photometry
        self.camera = Camera(height, width, fx, fx, (width - 1) / 2, (height - 1) / 2)
        self.seed, self.subframes, self.exposure_s = seed, subframes, exposure_s
        rays = self.camera.rays(height, width)
        self._rays = (rays / np.linalg.norm(rays, axis=1, keepdims=True)).astype(np.float32)
        self._order = neighborly(height, width)
        every = np.arange(height * width).reshape(height, width)[::2, ::2]
        self._every_other = every.ravel()[neighborly(*every.shape)]
        y, x = np.mgrid[:height, :width]
        square = ((x - self.camera.cx) ** 2 + (y - self.camera.cy) ** 2) / fx**2
        self._falloff = (1 / (1 + 0.5 * square))[..., None].astype(np.float32)  # softened cos^4
        self._gain: float | None = None

    def reset(self) -> None:
        """Forget the exposure, as after a power cycle."""
        self._gain = None

    def cast(
        self, world: World, world_from_camera: NDArray[np.floating], t_s: float
    ) -> tuple[Hits, NDArray[np.float32], NDArray[np.float64]]:
        """(hits, directions (H*W, 3), origin (3,)) of this camera's pixels, row by row."""
        directions = _turned(self._rays, np.asarray(world_from_camera[:3, :3], np.float32))
        origin = np.asarray(world_from_camera[:3, 3], np.float64)
        return world.cast(origin, directions, t_s, order=self._order), directions, origin

    def render(
        self,
        world: World,
        world_from_camera: NDArray[np.floating],
        t_s: float,
        *,
        exposure: float | None = None,
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Take a picture.

        Args:
            world_from_camera: (4, 4), optical axes (REP 103: z forward, x right, y down).
            t_s: middle of the exposure.
            exposure: factor from luminance to full scale; None lets the camera adapt, which makes
                pictures depend on those taken before (`reset`).

        Returns:
            (rgb (H, W, 3), Cityscapes train ids (H, W)), pixel-aligned. Drops on the lens blur the
            picture only: the label says what is there.
        """
        height, width = self.camera.image_size
        light = np.zeros((height, width, 3), np.float32)
        label = np.zeros((height, width), np.uint8)
        offsets = (np.arange(self.subframes) - (self.subframes - 1) / 2) / max(self.subframes, 1)
        here = np.linalg.inv(world.ego_pose(t_s))
        for number, offset in enumerate(offsets * self.exposure_s):
            now = t_s + float(offset)
            pose = world.ego_pose(now) @ here @ world_from_camera if offset else world_from_camera
            hits, directions, origin = self.cast(world, pose, now)
            shadow = self._shadow(world, hits, directions, origin, now)
            hidden = self._hidden(world, hits, directions, origin, now)
            seen = shade(world, origin, directions, hits, now, shadow=shadow, hidden=hidden)
            light += seen.reshape(light.shape)
            if number == self.subframes // 2:
                label = hits.class_id.reshape(height, width)
        light /= self.subframes
        rng = generator(self.seed, "rgb", t_s)
        if world.weather.rain_mm_h:
            light = _rain(light, world.weather.rain_mm_h, self.camera.fx, rng, self.seed)
        if self.photometry.dirt:
            light = _dirty(light, self.photometry.dirt, self.seed)
        light = cv2.GaussianBlur(light, (3, 3), self.photometry.blur_px) * self._falloff
        gain = self._expose(light, exposure)
        return _develop(light * np.float32(gain), gain, rng, self.photometry), label

    def radiance(
        self, world: World, world_from_camera: NDArray[np.floating], t_s: float
    ) -> NDArray[np.float32]:
        """(H, W) linear luminance without noise, exposure or shadows; 1 is white paper in sun."""
        hits, directions, origin = self.cast(world, world_from_camera, t_s)
        light = shade(world, origin, directions, hits, t_s) @ _LUMA
        return light.reshape(self.camera.image_size)

    def _expose(self, light: NDArray[np.float32], exposure: float | None) -> float:
        if exposure is not None:
            return exposure
        mean = float(np.exp(np.log(light[::4, ::4] @ _LUMA + 1e-4).mean()))
        wanted = min(self.photometry.key / mean, _LONGEST)
        # Half of the way per frame, in stops: tunnels dazzle, then the camera recovers.
        self._gain = wanted if self._gain is None else self._gain * (wanted / self._gain) ** 0.5
        return self._gain

    def _shadow(
        self,
        world: World,
        hits: Hits,
        directions: NDArray[np.float32],
        origin: NDArray[np.float64],
        t_s: float,
    ) -> NDArray[np.float32] | None:
        """(N,) of the sun's shadow, asked at every other pixel of every other row."""
        if float(world.weather.sun_color.max()) < 0.2:
            return None
        every = self._every_other
        lit = hits.normal[every] @ world.weather.sun_direction.astype(np.float32)
        chosen = every[(lit > 0) & (hits.distance_m[every] < 90)]
        shadow = np.zeros(len(directions), np.float32)
        shadow[every] = lit <= 0  # what faces away is dark by itself
        start = _above(origin, directions, hits, chosen)
        shadow[chosen] = world.occluded(start, world.weather.sun_direction, t_s)
        return self._finer(shadow, hits)

    def _hidden(
        self,
        world: World,
        hits: Hits,
        directions: NDArray[np.float32],
        origin: NDArray[np.float64],
        t_s: float,
    ) -> NDArray[np.float32] | None:
        """(N,) share of the sky that is hidden by what is near, asked like `_shadow`."""
        if not world.style.contact or world.weather.night:
            return None
        every = self._every_other
        chosen = every[hits.distance_m[every] < 45]
        start, normal = _above(origin, directions, hits, chosen), hits.normal[chosen]
        dark, asked = np.zeros(len(chosen), np.float32), np.zeros(len(chosen), np.float32)
        for way in _SKYWARD:
            weight = np.maximum(normal @ way.astype(np.float32), 0)
            facing = weight > 0
            met = world.occluded(start[facing], way, t_s, reach_m=_OPEN_M)
            dark[facing] += weight[facing] * met
            asked += weight
        hidden = np.zeros(len(directions), np.float32)
        hidden[chosen] = _MOST_HIDDEN * dark / np.maximum(asked, 1e-3)
        return self._finer(hidden, hits)

    def _finer(self, values: NDArray[np.float32], hits: Hits) -> NDArray[np.float32]:
        """(N,) of all pixels, from every other pixel of every other row."""
        height, width = self.camera.image_size
        coarse = values.reshape(height, width)[::2, ::2]
        return finer(coarse, hits.distance_m.reshape(height, width)).ravel()


def _above(
    origin: NDArray[np.float64],
    directions: NDArray[np.float32],
    hits: Hits,
    chosen: NDArray[np.int64],
) -> NDArray[np.float32]:
    """(K, 3) places a little above the surfaces that the chosen rays met."""
    start: NDArray[np.float32] = (
        origin.astype(np.float32) + hits.distance_m[chosen, None] * directions[chosen]
    )
    start += 0.03 * hits.normal[chosen]
    return start


@jit
def _turned(rays: NDArray[np.float32], turn: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, 3) rays after a rotation; not by BLAS, whose threads get in the way of Embree's."""
    out = np.empty_like(rays)
    for n in range(len(rays)):
        for k in range(3):
            out[n, k] = turn[k, 0] * rays[n, 0] + turn[k, 1] * rays[n, 1] + turn[k, 2] * rays[n, 2]
    return out


def _rain(
    light: NDArray[np.float32], rain_mm_h: float, fx: float, rng: np.random.Generator, seed: int
) -> NDArray[np.float32]:
    """Streaks of falling drops, and drops that stay on the lens for a whole drive."""
    height, width = light.shape[:2]
    streaks = np.zeros((height, width), np.float32)
    scale = fx / 400
    for x, y, way in rng.uniform(0, 1, (int(9 * rain_mm_h * width / 640), 3)):
        near = 0.25 + way**3
        start = (int(x * width * 8), int(y * height * 8))
        stop = (int(start[0] + 14 * near * scale), int(start[1] + 8 * 34 * near * scale))
        cv2.line(streaks, start, stop, 0.06 + 0.16 * near, 1, cv2.LINE_AA, 3)
    mean: NDArray[np.float32] = light.mean((0, 1))
    light = light * (1 - streaks[..., None]) + streaks[..., None] * mean * 1.4
    spots = np.zeros((height, width), np.float32)
    lens = generator(seed, "lens")
    for x, y, size in lens.uniform(0, 1, (int(2.2 * rain_mm_h), 3)):
        radius = max(2, int((4 + 10 * size**2) * width / 640))
        cv2.circle(spots, (int(x * width), int(y * height)), radius, 1.0, -1)
    soft = cv2.GaussianBlur(spots, (0, 0), max(0.6, 1.5 * width / 640))
    drops = np.asarray(soft, np.float32)[..., None]
    # A drop is a tiny fish-eye: it shows the neighborhood upside down and smeared.
    smeared = np.asarray(cv2.GaussianBlur(light, (0, 0), 9 * width / 640), np.float32)
    shifted = np.roll(smeared, -max(1, height // 16), 0)
    wet = light * (1 - drops) + (0.9 * shifted + 0.1 * mean) * drops
    return np.asarray(wet, np.float32)


def _dirty(light: NDArray[np.float32], spots: int, seed: int) -> NDArray[np.float32]:
    """Dust and dried drops on the lens: soft veils out of focus, the same in all of a drive."""
    height, width = light.shape[:2]
    veil = np.zeros((height, width), np.float32)
    lens = generator(seed, "dirt")
    for x, y, size, dense in lens.uniform(0, 1, (spots, 4)):
        radius = max(2, int((4 + 26 * size**3) * width / 640))
        cv2.circle(veil, (int(x * width), int(y * height)), radius, 0.1 + 0.5 * dense, -1)
    veil = np.asarray(cv2.GaussianBlur(veil, (0, 0), 5 * width / 640), np.float32)[..., None]
    smeared = np.asarray(cv2.GaussianBlur(light, (0, 0), 12 * width / 640), np.float32)
    return np.asarray(light * (1 - veil) + (0.55 * smeared + 0.2 * light.mean()) * veil, np.float32)


def _develop(
    light: NDArray[np.float32], gain: float, rng: np.random.Generator, made: Photometry = PLAIN
) -> NDArray[np.uint8]:
    """Noise, tone curve, eight bits: (H, W, 3)."""
    # Photons at full scale shrink as gain grows: 12000 at gain 1; read noise grows with it.
    photons = np.float32(12000 / max(gain, 0.2) / made.noise**2)
    read = np.float32((6e-4 * max(gain, 1) * made.noise) ** 2)
    deviation = np.sqrt(np.maximum(light, 0) / photons + read)
    light = light + rng.standard_normal(light.shape, np.float32) * deviation
    light = np.maximum(light, 0)
    if made is not PLAIN:
        light = light * np.asarray(made.balance, np.float32)
    # Straight in the shadows, a soft shoulder above: Reinhard's curve with white at 4.
    toned = light * (1 + light / 16) / (1 + 0.6 * light)
    if made is not PLAIN:
        toned += np.float32(made.clipping) * (np.minimum(0.9 * light, 1) - toned)
    srgb = np.where(
        toned < 0.0031308, 12.92 * toned, 1.055 * np.maximum(toned, 1e-6) ** (1 / 2.4) - 0.055
    )
    if made is not PLAIN:
        srgb = _styled(srgb.astype(np.float32), made)
    return (np.clip(srgb, 0, 1) * 255 + 0.5).astype(np.uint8)


def _styled(srgb: NDArray[np.float32], made: Photometry) -> NDArray[np.float32]:
    """Sharpening, contrast about a middle gray, saturation and gamma, as cameras apply them."""
    if made.sharpening:
        soft = np.asarray(cv2.GaussianBlur(srgb, (0, 0), 1.0), np.float32)
        srgb = srgb + np.float32(made.sharpening) * (srgb - soft)
    luma = (srgb @ _LUMA)[..., None]
    vivid = luma + np.float32(made.saturation) * (srgb - luma)
    srgb, by = np.asarray(np.clip(vivid, 0, 1), np.float32), np.float32(made.contrast)
    dark, bright = (srgb / _MIDDLE) ** by * _MIDDLE, ((1 - srgb) / (1 - _MIDDLE)) ** by
    turned = np.where(srgb < _MIDDLE, dark, 1 - (1 - _MIDDLE) * bright)
    return np.asarray(turned ** np.float32(made.gamma), np.float32)
