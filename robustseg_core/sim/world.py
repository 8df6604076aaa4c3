"""One city at one time, asked by rays: the single truth that all simulated sensors share.

What stands still is one ray-casting scene, built once. The shapes of what moves are another one,
the lot: rays that may meet an actor are brought into it, to where its shapes stand, and the nearest
answer wins. So an image takes two casts, however many are in sight.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustseg_core.errors import RobustsegError, not_installed
from robustseg_core.sim import actors, furnish
from robustseg_core.sim.crowd import Crowd
from robustseg_core.sim.culling import meetings, nearer
from robustseg_core.sim.layout import plan
from robustseg_core.sim.materials import CLASS, MATERIALS, Material
from robustseg_core.sim.meshes import Mesh, join, normals
from robustseg_core.sim.motion import LANE_M, Motion
from robustseg_core.sim.style import PLAIN, Style
from robustseg_core.sim.textures import Skin, jit
from robustseg_core.sim.weather import Weather, weather_from

__all__ = ["MATERIALS", "Hits", "Material", "World"]

SKY = CLASS["sky"]
_NEAREST_M = 0.02
"""Shadow rays meet nothing before this: they start on a surface."""


@dataclass(frozen=True)
class Hits:
    """What N rays met."""

    distance_m: NDArray[np.float32]
    """(N,) along the ray; inf where nothing."""
    class_id: NDArray[np.uint8]
    """(N,) Cityscapes train id; sky where nothing is hit."""
    albedo: NDArray[np.float32]
    """(N, 3) diffuse color 0..1, linear."""
    normal: NDArray[np.float32]
    """(N, 3) unit, facing the ray's origin; zero for sky."""
    material: NDArray[np.uint8]
    """(N,) index into MATERIALS."""


class _Scene:
    """Triangles that rays can be cast at (Embree, by Open3D)."""

    def __init__(self, mesh: Mesh) -> None:
        self._o3d = _open3d()
        self._scene = self._o3d.t.geometry.RaycastingScene()
        tensor = self._o3d.core.Tensor
        vertices = np.ascontiguousarray(mesh.corners.reshape(-1, 3))
        numbers = np.arange(len(vertices), dtype=np.uint32).reshape(-1, 3)
        self._scene.add_triangles(tensor(vertices), tensor(numbers))

    def cast(self, rays: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.uint32]]:
        """(distance, triangle) of N rays; inf where nothing is met."""
        answer = self._scene.cast_rays(self._o3d.core.Tensor(rays))
        return answer["t_hit"].numpy().copy(), answer["primitive_ids"].numpy().copy()

    def occluded(self, rays: NDArray[np.float32], reach_m: float) -> NDArray[np.bool_]:
        """Whether N rays meet anything beyond `_NEAREST_M` and within `reach_m`."""
        tensor = self._o3d.core.Tensor(rays)
        answer = self._scene.test_occlusions(tensor, tnear=_NEAREST_M, tfar=reach_m)
        dark: NDArray[np.bool_] = answer.numpy().copy()
        return dark


class World:
    """A procedural city, fixed by its seed; what it holds depends on nothing else.

    Args:
        seed: street plan, houses, colors, traffic and the sun's place.
        conditions: names from `weather.CONDITIONS`, combinable.
        length_m: way that the ego drives, at least 80.
        lane_m: how far to the left of the street's middle the ego drives.
        style: of the town.

    Raises:
        RobustsegError: unknown conditions, too short a drive, or open3d is not installed.
    """

    def __init__(
        self,
        seed: int,
        *,
        conditions: frozenset[str] = frozenset({"clear"}),
        length_m: float = 400.0,
        lane_m: float = LANE_M,
        style: Style = PLAIN,
    ) -> None:
        if not length_m >= 80:
            raise RobustsegError(f"length_m is {length_m}; a drive needs 80 m or more")
        self.seed = seed
        self.style = style
        self.weather: Weather = style.weather(weather_from(conditions, seed=seed), seed)
        self.layout = plan(seed, length_m, style)
        self.motion = Motion(self.layout, lane_m)
        city, self.lamps = furnish.build(self.layout, style)
        """`lamps`: (K, 3) places of street lamps."""
        still = join([city, *actors.parked(self.layout, style)])
        movers = actors.traffic(self.layout, self.motion, style)
        shapes = actors.library(varied=style.varied)
        self.crowd = Crowd(movers, self.layout.streets[0], self.motion, shapes)
        self._still, self._lot = _Scene(still), _Scene(self.crowd.lot)
        self._lot_first = len(still.corners)
        everything = join([still, self.crowd.lot])
        self._normals = normals(everything.corners).astype(np.float32)
        self._skin = Skin(everything)

    @property
    def duration_s(self) -> float:
        """When the drive is over; the ego stands from then on."""
        return self.motion.duration_s

    def ego_pose(self, t_s: float) -> NDArray[np.float64]:
        """(4, 4) world_from_base: x forward, y left, z up (REP 103), on the road's surface."""
        return self.motion.pose(t_s)

    def cast(
        self,
        origins: NDArray[np.floating],
        directions: NDArray[np.floating],
        t_s: float,
        *,
        order: NDArray[np.int64] | None = None,
    ) -> Hits:
        """What rays meet at a time.

        Args:
            origins: (N, 3) or (3,) metres, world frame.
            directions: (N, 3) unit vectors, world frame.
            t_s: seconds since the start of the drive.
            order: (N,) numbers of the rays, neighbors together (`culling.neighborly`); for speed.
        """
        rays = _rays(origins, directions)
        moment = self.crowd.at(t_s)
        distance, triangle = self._still.cast(rays)
        owner = np.full(len(rays), -1, np.int32)  # the part that was hit, if one was
        met = meetings(rays, order, distance, self.crowd, moment)
        if len(met.ray):
            there, number = self._lot.cast(met.local)
            nearer(
                there,
                number,
                self._lot_first,
                met.ray,
                met.part,
                met.start_m,
                met.span_m,
                distance,
                triangle,
                owner,
            )
        point, normal = _surface(
            rays, distance, triangle, owner, moment.turn, moment.shift, self._normals
        )
        class_id, material, albedo = self._skin(triangle, point, distance, owner, self.crowd.tint)
        class_id[np.isinf(distance)] = SKY
        return Hits(distance, class_id, albedo, normal, material)

    def occluded(
        self,
        origins: NDArray[np.floating],
        direction: NDArray[np.floating],
        t_s: float,
        *,
        reach_m: float = np.inf,
    ) -> NDArray[np.bool_]:
        """(N,) whether points (N, 3) see anything near in one direction (3,): the sun's shadows.

        It is fastest where neighbors among the points follow one another.
        """
        rays = _rays(origins, np.broadcast_to(direction, np.shape(origins)))
        dark = self._still.occluded(rays, reach_m)
        limit = np.where(dark, np.float32(-1), np.float32(reach_m))
        met = meetings(rays, None, limit, self.crowd, self.crowd.at(t_s), nearest_m=_NEAREST_M)
        if len(met.ray):
            dark[met.ray[self._lot.cast(met.local)[0] <= met.span_m]] = True
        return dark


@jit
def _surface(
    rays: NDArray[np.float32],
    distance: NDArray[np.float32],
    triangle: NDArray[np.uint32],
    owner: NDArray[np.int32],
    turn: NDArray[np.float64],
    shift: NDArray[np.float64],
    normals: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """((N, 3) point in its mesh's frame, (N, 3) normal in the world, facing the ray's origin)."""
    point, normal = np.zeros((len(rays), 3), np.float32), np.zeros((len(rays), 3), np.float32)
    for n in range(len(rays)):
        if distance[n] == np.inf:
            continue
        x, y, z = (
            rays[n, 0] + distance[n] * rays[n, 3],
            rays[n, 1] + distance[n] * rays[n, 4],
            rays[n, 2] + distance[n] * rays[n, 5],
        )
        a, b, c = normals[triangle[n], 0], normals[triangle[n], 1], normals[triangle[n], 2]
        p = owner[n]
        if p < 0:
            point[n, 0], point[n, 1], point[n, 2] = x, y, z
            normal[n, 0], normal[n, 1], normal[n, 2] = a, b, c
        else:
            for k in range(3):
                at = turn[p, k, 0] * x + turn[p, k, 1] * y + turn[p, k, 2] * z + shift[p, k]
                point[n, k] = at
                normal[n, k] = turn[p, 0, k] * a + turn[p, 1, k] * b + turn[p, 2, k] * c
        facing = normal[n, 0] * rays[n, 3] + normal[n, 1] * rays[n, 4] + normal[n, 2] * rays[n, 5]
        if facing > 0:
            for k in range(3):
                normal[n, k] = -normal[n, k]
    return point, normal


def _rays(origins: NDArray[np.floating], directions: NDArray[np.floating]) -> NDArray[np.float32]:
    directions = np.asarray(directions, np.float32)
    rays = np.empty((len(directions), 6), np.float32)
    rays[:, :3], rays[:, 3:] = origins, directions
    return rays


def _open3d() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no graphics card is not worth a word
        try:
            import open3d
        except ImportError:
            raise RobustsegError(not_installed("open3d")) from None
    return open3d
