"""A spinning LiDAR: every column fires from where the robot is by then; light does the rest.

An echo's power decides everything: whether it is heard, how bright it is, and whether fog in front
of the wall was louder. So thin air, glass, grazing ground and rain need no rules of their own.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from robustseg_core.codecs.message_types import CLOUD
from robustseg_core.errors import RobustsegError
from robustseg_core.output.messages import header, to_rosbags
from robustseg_core.sim import generator
from robustseg_core.sim.culling import neighborly
from robustseg_core.sim.materials import MATERIALS

POINT = np.dtype(
    [
        ("x", "<f4"),
        ("y", "<f4"),
        ("z", "<f4"),
        ("intensity", "<f4"),
        ("ring", "<u2"),
        ("time", "<f4"),
    ]
)
"""One return, 22 bytes, in the layout of velodyne_pointcloud's `PointXYZIRT`."""

ELEVATIONS_DEG = {
    16: np.linspace(-15.0, 15.0, 16),  # Velodyne VLP-16 user manual: 2 degrees apart
    32: np.linspace(-30.67, 10.67, 32),  # Velodyne HDL-32E user manual: 1.33 degrees apart
    64: np.linspace(-16.6, 16.6, 64),  # Ouster OS1-64 (Gen 1); RELLIS-3D's spans -16.4 to 17.0
}
"""Number of rings -> elevation of each one; ring 0 looks lowest, as Velodyne's driver counts."""

_PULSE_M = 3.0
"""Half the length of a 20 ns pulse: the depth of fog that echoes at once (Hahner et al. 2021)."""
_FOG_ECHO = 0.046 / np.log(20)
"""Backscatter per extinction, 1/sr: 0.046 / MOR with MOR = ln 20 / extinction (Rasshofer 2011)."""
_DROP_SHARE = 1 / 30
"""Share of pulses that meet a big rain drop; such a pulse holds the echo of all the others."""
_CALIBRATED_M = 20.0
"""Up to here the sensor corrects intensity for range; beyond, it falls with the square."""
_LOBE = 60
"""Exponent of a mirror-like surface's lobe: 9 degrees off, half of it misses the receiver."""
_LOBE_GAIN = 10.0
"""A mirror seen straight on is this much brighter than a diffuse surface."""


class _Rays(NamedTuple):
    """What was cast and hit in one sweep, N = columns * rings, in the order of firing."""

    origins: NDArray[np.float64]
    directions: NDArray[np.float64]
    distance_m: NDArray[np.float64]
    facing: NDArray[np.float64]
    """Cosine of the angle of incidence; 0 for sky."""
    material: NDArray[np.uint8]


class Lidar:
    """A LiDAR of 16 (VLP-16), 32 (HDL-32E) or 64 (OS1-64) rings; from above, it turns clockwise.

    The frame is REP 103's: x ahead, y left, z up. A sweep starts and ends behind the robot.

    Args:
        rings: 16, 32 or 64.
        columns: firings per turn.
        rate_hz: turns per second.
        seed: of the noise; a sweep depends on it and on its own stamp, not on earlier sweeps.
        slices: batches per sweep, one `world.cast` each; moving things stand still during one.
        min_range_m: what is closer is not reported, and what is beyond `max_range_m`.
        range_noise_m: standard deviation of a range.
        reach_m: a wall of 10 % reflectivity, seen straight on in clear air, is heard half of the
            time at this distance.
        dropout: share of returns lost for no reason at all.

    Raises:
        RobustsegError: a number that no such sensor has.
    """

    def __init__(
        self,
        *,
        rings: int = 32,
        columns: int = 1024,
        rate_hz: float = 10.0,
        seed: int = 0,
        slices: int = 24,
        min_range_m: float = 0.9,
        max_range_m: float = 100.0,
        range_noise_m: float = 0.02,
        reach_m: float = 100.0,
        dropout: float = 0.002,
    ) -> None:
        if rings not in ELEVATIONS_DEG:
            raise RobustsegError(f"rings is {rings}; there are LiDARs of {sorted(ELEVATIONS_DEG)}")
        if not 1 <= slices <= columns:
            raise RobustsegError(
                f"slices is {slices} of {columns} columns; give 1 to {columns} of them"
            )
        if not (rate_hz > 0 and 0 < min_range_m < max_range_m and reach_m > 0):
            raise RobustsegError(
                f"rate_hz {rate_hz}, range {min_range_m} to {max_range_m} m, reach_m {reach_m}: "
                "give positive numbers, the nearer range first"
            )
        self.rings, self.columns, self.rate_hz, self.seed = rings, columns, rate_hz, seed
        self.slices, self.dropout, self.reach_m = slices, dropout, reach_m
        self.min_range_m, self.max_range_m = min_range_m, max_range_m
        self.range_noise_m = range_noise_m
        self._reflectivity = np.array([row.reflectivity for row in MATERIALS], np.float64)
        self._specular = np.array([row.specular for row in MATERIALS], np.float64)
        azimuth = np.pi - 2 * np.pi * (np.arange(columns) + 0.5) / columns
        elevation = np.radians(ELEVATIONS_DEG[rings])
        level = np.cos(elevation)
        self._beams = np.empty((columns, rings, 3))
        self._beams[..., 0] = np.cos(azimuth)[:, None] * level
        self._beams[..., 1] = np.sin(azimuth)[:, None] * level
        self._beams[..., 2] = np.sin(elevation)

    @property
    def period_s(self) -> float:
        """Duration of a sweep."""
        return 1 / self.rate_hz

    def sweep(
        self,
        world: Any,
        base_from_lidar: NDArray[np.floating[Any]],
        t_s: float,
        *,
        motion_compensated: bool = True,
    ) -> NDArray[Any]:
        """(N,) of `POINT`: the returns of the sweep that starts at `t_s`, in the order of firing.

        The stamp of a sweep is its START, and `time` (seconds, 0 to `period_s`) counts from there,
        as ouster-ros does (header stamp: first column; `t`: offset from it) and velodyne_driver
        with `timestamp_first_packet` (by default, it stamps the end, and its `time` is negative).

        Args:
            world: has `cast(origins, directions, t_s, order)`, `ego_pose(t_s)`, and `weather` with
                `fog_extinction_per_m` (of all that is in the air) and `rain_mm_h`.
            base_from_lidar: (4, 4) pose of the sensor on the robot.
            t_s: when the first column is fired.
            motion_compensated: points lie in the LiDAR's frame at the stamp (deskewed). False: each
                in the frame at its own firing, as drivers publish them; skewed while the robot
                moves.
        """
        stamp_from_world = np.linalg.inv(world.ego_pose(t_s) @ base_from_lidar)
        rays = self._cast(world, base_from_lidar, t_s)
        rng = generator(self.seed, "lidar", t_s)
        range_m, intensity, heard = self._listen(rays, world.weather, rng)
        index = np.flatnonzero(heard)
        reach = range_m[index, None]
        if motion_compensated:
            there = rays.origins[index] + rays.directions[index] * reach
            xyz = there @ stamp_from_world[:3, :3].T + stamp_from_world[:3, 3]
        else:
            xyz = self._beams.reshape(-1, 3)[index] * reach
        points = np.empty(len(index), POINT)
        points["x"], points["y"], points["z"] = xyz.T
        points["intensity"] = intensity[index]
        points["ring"] = index % self.rings
        points["time"] = index // self.rings * (self.period_s / self.columns)
        return points

    def _cast(self, world: Any, base_from_lidar: NDArray[Any], t_s: float) -> _Rays:
        edges = np.linspace(0, self.columns, self.slices + 1).round().astype(int)
        times = t_s + edges * (self.period_s / self.columns)
        poses = [world.ego_pose(float(t)) @ base_from_lidar for t in times]
        parts = []
        for k, (first, last) in enumerate(pairwise(edges)):
            # Matrices are mixed directly: in 4 ms a robot turns by too little to notice (1e-5 rad).
            share = (np.arange(last - first) / (last - first))[:, None, None]
            pose = poses[k] * (1 - share) + poses[k + 1] * share  # world from lidar, per column
            turned = self._beams[first:last] @ pose[:, :3, :3].transpose(0, 2, 1)
            directions = turned.reshape(-1, 3)
            origins = np.repeat(pose[:, :3, 3], self.rings, axis=0)
            middle_s = float(times[k] + times[k + 1]) / 2
            order = neighborly(last - first, self.rings)
            hits = world.cast(origins.astype("f4"), directions.astype("f4"), middle_s, order=order)
            facing = np.clip(-np.einsum("ni,ni->n", hits.normal, directions), 0, 1)
            distance_m = np.asarray(hits.distance_m, np.float64)
            parts.append(_Rays(origins, directions, distance_m, facing, hits.material))
        return _Rays(*map(np.concatenate, zip(*parts, strict=True)))

    def _listen(
        self, rays: _Rays, weather: Any, rng: np.random.Generator
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
        """(N,) range, intensity 0..255, and whether there is a return: the strongest echo wins."""
        rain = _rain_extinction(weather.rain_mm_h)
        air = max(weather.fog_extinction_per_m, rain)  # a world's extinction counts its rain, too
        count = len(rays.distance_m)
        solid = np.isfinite(rays.distance_m)
        range_m = np.where(solid, rays.distance_m, np.inf)
        near = np.where(solid, np.maximum(rays.distance_m, 1e-3), 1.0)  # a finite stand-in
        specular = self._specular[rays.material]
        lobes = (1 - specular) * rays.facing + specular * _LOBE_GAIN * rays.facing**_LOBE
        power = self._reflectivity[rays.material] * lobes * np.exp(-2 * air * near)
        power = np.where(solid, power / near**2, 0)
        for extinction, share in ((air - rain, 1.0), (rain, _DROP_SHARE)):
            if extinction <= 0:
                continue
            # The densest spot of the way, where the pulse is most likely to be scattered back.
            spot_m = self.min_range_m + rng.exponential(0.5 / extinction, count)
            luck = rng.exponential(1, count) * (rng.random(count) < share) / share  # speckle
            echo = np.pi * _FOG_ECHO * extinction * _PULSE_M * luck / spot_m**2
            echo *= np.exp(-2 * air * spot_m)
            louder = (echo > power) & (spot_m < rays.distance_m)
            range_m, power = np.where(louder, spot_m, range_m), np.where(louder, echo, power)
        # Half heard at `reach_m`; the cube makes the transition as soft as in data sheets.
        signal = (power * self.reach_m**2 / 0.1) ** 3
        heard = rng.random(count) < (1 - self.dropout) * signal / (1 + signal)
        intensity = 255 * power * np.minimum(range_m, _CALIBRATED_M) ** 2
        intensity *= 1 + 0.05 * rng.standard_normal(count)
        range_m = range_m + self.range_noise_m * rng.standard_normal(count)
        heard &= (range_m >= self.min_range_m) & (range_m <= self.max_range_m)
        return range_m, np.clip(np.rint(intensity), 0, 255), heard


def _rain_extinction(rain_mm_h: float) -> float:
    """Extinction per meter: 1.076 R^0.67 dB/km (ITU-R P.1814, Carbonneau)."""
    extinction: float = 1.076 * max(0.0, rain_mm_h) ** 0.67 / 1000 * math.log(10) / 10
    return extinction


def to_message(points: NDArray[Any], stamp_ns: int, frame_id: str) -> Any:
    """sensor_msgs/PointCloud2 (rosbags' class), unorganized, of a sweep and its stamp.

    Raises:
        RobustsegError: `points` has another dtype.
    """
    if points.dtype != POINT or points.ndim != 1:
        raise RobustsegError(
            f"points are {points.dtype} of shape {points.shape}; expected (N,) of {POINT}"
        )
    kinds = {"<f4": 7, "<u2": 4}  # PointField.FLOAT32, UINT16
    fields = [
        {"name": name, "offset": place[1], "datatype": kinds[place[0].str], "count": 1}
        for name, place in (POINT.fields or {}).items()
    ]
    cloud = {
        "header": header(stamp_ns, frame_id),
        "height": 1,
        "width": len(points),
        "fields": fields,
        "is_bigendian": False,
        "point_step": POINT.itemsize,
        "row_step": len(points) * POINT.itemsize,
        "data": np.frombuffer(points.tobytes(), np.uint8),
        "is_dense": True,
    }
    return to_rosbags(CLOUD, cloud)
