"""A stereo depth camera in the simulated street: what it measures, and where it stays silent."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from robustseg_core.errors import RobustsegError
from robustseg_core.sim import generator
from robustseg_core.sim.camera_sensor import RgbCamera
from robustseg_core.sim.materials import SPECULAR
from robustseg_core.sim.shading import shade
from robustseg_core.sim.world import Hits, World


class DepthCamera:
    """Depth by matching two views: z = f b / disparity, so an error grows with z squared.

    Args:
        height, width, fx: image size and focal length in pixels.
        seed: of the noise.
        baseline_m: distance between the two eyes.
        disparity_px: standard deviation of a match.
        range_m: nearest and farthest depth that is reported.

    Raises:
        RobustsegError: the range is empty, or beyond what 16 bits of millimetres hold.
    """

    def __init__(
        self,
        height: int,
        width: int,
        fx: float,
        seed: int,
        *,
        baseline_m: float = 0.25,
        disparity_px: float = 0.12,
        range_m: tuple[float, float] = (0.3, 40.0),
    ) -> None:
        if not 0 < range_m[0] < range_m[1] <= 65.5:
            raise RobustsegError(f"range_m is {range_m}; expected 0 < nearest < farthest <= 65.5")
        self._eye = RgbCamera(height, width, fx, seed)
        self.camera = self._eye.camera
        self.seed, self.range_m = seed, range_m
        self._match_px_m = fx * baseline_m
        self.spread_per_m = disparity_px / self._match_px_m
        """Standard deviation of depth over depth squared, 1/m."""

    def ideal(
        self, world: World, world_from_camera: NDArray[np.floating], t_s: float
    ) -> NDArray[np.float32]:
        """(H, W) true depth along the optical axis in metres; inf on the sky."""
        return self._ideal(world, world_from_camera, t_s)[0]

    def render(
        self, world: World, world_from_camera: NDArray[np.floating], t_s: float
    ) -> NDArray[np.uint16]:
        """(H, W) measured depth in millimetres (16UC1, REP 118), 0 where there is none.

        Silent on sky, beyond its range, beside edges of depth (one eye sees past them), on glass
        and wet ground seen flat, where it is too dark or too even to match, and behind fog.
        """
        depth, hits, light = self._ideal(world, world_from_camera, t_s)
        rng = generator(self.seed, "depth", t_s)
        shape, weather = depth.shape, world.weather
        solid = np.where(np.isfinite(depth), depth, 1e3).astype(np.float32)
        # Errors of neighbors go together: a match is made over a window.
        noise = rng.standard_normal(shape, np.float32)
        noise = 0.6 * noise + 0.8 * 3.4 * cv2.GaussianBlur(noise, (0, 0), 1.0)
        spread = self.spread_per_m * solid * solid
        seen: NDArray[np.floating] = solid + noise * spread
        # Disparities come in sixteenths of a pixel, as matchers report them.
        step = self.spread_per_m * 0.5
        seen = 1.0 / (np.round(1.0 / np.maximum(seen, 0.05) / step).clip(1) * step)
        chance = np.zeros(shape, np.float32)
        # Planes change disparity by little from pixel to pixel, however flat they are seen.
        disparity = self._match_px_m / solid
        jump = cv2.dilate(disparity, np.ones((3, 3))) - cv2.erode(disparity, np.ones((3, 3)))
        chance[jump > 0.8] = 0.75
        # Left of something near, the other eye sees that thing instead.
        wide = 2 * max(2, shape[1] // 160) + 1
        beside = cv2.dilate(disparity, np.ones((1, wide)), anchor=(0, 0))
        chance[beside - disparity > 1.0] = 0.9
        mirror = SPECULAR[hits.material].reshape(shape)
        facing = np.abs(np.einsum("ij,ij->i", hits.normal, self._directions)).reshape(shape)
        mirror = mirror + weather.wetness * 0.5 * (facing < 0.15)
        chance = np.maximum(chance, 0.85 * mirror * mirror)
        chance = np.maximum(chance, np.clip(1 - light / 0.004, 0, 1) * 0.9)
        chance = np.maximum(
            chance,
            1 - weather.transmission(solid) ** 2
            if "fog" in weather.conditions
            else np.float32(0.01),
        )
        # Holes come in patches too.
        patches = cv2.GaussianBlur(rng.random(shape, np.float32), (0, 0), 1.2)
        rank = 1 / (
            1 + np.exp(-1.702 * (patches - patches.mean()) / patches.std())
        )  # uniform again
        bad = (rank < chance) | ~np.isfinite(depth)
        bad |= (seen < self.range_m[0]) | (seen > self.range_m[1])
        return np.where(bad, 0, np.round(seen * 1000)).astype(np.uint16)

    def _ideal(
        self, world: World, world_from_camera: NDArray[np.floating], t_s: float
    ) -> tuple[NDArray[np.float32], Hits, NDArray[np.float32]]:
        hits, directions, origin = self._eye.cast(world, world_from_camera, t_s)
        self._directions = directions
        light = shade(world, origin, directions, hits, t_s).mean(1)
        axis = np.asarray(world_from_camera[:3, 2], np.float32)
        shape = self.camera.image_size
        return (hits.distance_m * (directions @ axis)).reshape(shape), hits, light.reshape(shape)
