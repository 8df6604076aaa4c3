"""One city at one time, asked by rays: the single truth that all simulated sensors share.

What stands still is one ray-casting scene, built once (Embree, by Open3D). What moves is cast in
its own frame: rays that pass an actor's bounding sphere are turned into the frame of its shapes,
and the nearest answer wins.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustseg_core.errors import RobustsegError
from robustseg_core.sim import actors, furnish
from robustseg_core.sim.culling import Bundles
from robustseg_core.sim.layout import plan
from robustseg_core.sim.materials import CLASS, MATERIALS, Material
from robustseg_core.sim.meshes import Mesh, join
from robustseg_core.sim.motion import Motion
from robustseg_core.sim.textures import Skin
from robustseg_core.sim.weather import Weather, weather_from

__all__ = ["MATERIALS", "Hits", "Material", "World"]

SKY = CLASS["sky"]
FAR_M = 130.0
"""Actors farther than this from where rays start are not looked at."""


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


class _Shape:
    """Triangles that rays can be cast at, in the frame that they were built in."""

    def __init__(self, mesh: Mesh) -> None:
        self._o3d = _open3d()
        self.scene = self._o3d.t.geometry.RaycastingScene()
        tensor = self._o3d.core.Tensor
        vertices = np.ascontiguousarray(mesh.corners.reshape(-1, 3))
        numbers = np.arange(len(vertices), dtype=np.uint32).reshape(-1, 3)
        self.scene.add_triangles(tensor(vertices), tensor(numbers))
        self.skin = Skin(mesh)

    def cast(self, rays: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.uint32]]:
        answer = self.scene.cast_rays(self._o3d.core.Tensor(rays))
        return answer["t_hit"].numpy().copy(), answer["primitive_ids"].numpy().copy()

    def occluded(self, rays: NDArray[np.float32]) -> NDArray[np.bool_]:
        return self.scene.test_occlusions(self._o3d.core.Tensor(rays), tnear=0.02).numpy()


class World:
    """A procedural city, fixed by its seed; what it holds depends on nothing else.

    Args:
        seed: street plan, houses, colors, traffic and the sun's place.
        conditions: names from `weather.CONDITIONS`, combinable.
        length_m: way that the ego drives, at least 80.

    Raises:
        RobustsegError: unknown conditions, too short a drive, or open3d is not installed.
    """

    def __init__(
        self,
        seed: int,
        *,
        conditions: frozenset[str] = frozenset({"clear"}),
        length_m: float = 400.0,
    ) -> None:
        if not length_m >= 80:
            raise RobustsegError(f"length_m is {length_m}; a drive needs 80 m or more")
        self.seed = seed
        self.weather: Weather = weather_from(conditions, seed=seed)
        self.layout = plan(seed, length_m)
        self.motion = Motion(self.layout)
        city, self.lamps = furnish.build(self.layout)
        """`lamps`: (K, 3) places of street lamps."""
        self._static = _Shape(join([city, *actors.parked(self.layout)]))
        self._shapes = {name: _Shape(mesh) for name, mesh in actors.library().items()}
        self.actors = tuple(actors.traffic(self.layout, self.motion))

    @property
    def duration_s(self) -> float:
        """When the drive is over; the ego stands from then on."""
        return self.motion.duration_s

    def ego_pose(self, t_s: float) -> NDArray[np.float64]:
        """(4, 4) world_from_base: x forward, y left, z up (REP 103), on the road's surface."""
        return self.motion.pose(t_s)

    def cast(
        self, origins: NDArray[np.floating], directions: NDArray[np.floating], t_s: float
    ) -> Hits:
        """What rays meet at a time.

        Args:
            origins: (N, 3) or (3,) metres, world frame.
            directions: (N, 3) unit vectors, world frame.
            t_s: seconds since the start of the drive.
        """
        rays = _rays(origins, directions)
        distance, triangle = self._static.cast(rays)
        count = len(rays)
        owner = np.zeros(count, np.int16)
        places: list[tuple[_Shape, NDArray[np.float32], NDArray[np.float64]]] = []
        for tint, shape, matrix, index, local in self._near(rays, t_s, distance):
            there, number = shape.cast(local)
            closer = there < distance[index]
            if closer.any():
                places.append((shape, tint, matrix))
                chosen = index[closer]
                distance[chosen], triangle[chosen] = there[closer], number[closer]
                owner[chosen] = len(places)
        class_id = np.full(count, SKY, np.uint8)
        material = np.zeros(count, np.uint8)
        albedo, normal = np.zeros((count, 3), np.float32), np.zeros((count, 3), np.float32)
        places.insert(0, (self._static, actors.OWN, np.eye(4)))
        owner[~np.isfinite(distance)] = len(places)  # the sky's
        order = np.argsort(owner, kind="stable")  # one pass, however many actors are in sight
        ends = np.cumsum(np.bincount(owner, minlength=len(places) + 1))
        for number, (shape, tint, matrix) in enumerate(places):
            mine = order[ends[number - 1] if number else 0 : ends[number]]
            if not len(mine):
                continue
            point = rays[mine, :3] + distance[mine, None] * rays[mine, 3:]
            turn = matrix[:3, :3].astype(np.float32)
            if number:
                point = (point - matrix[:3, 3].astype(np.float32)) @ turn
            seen = shape.skin(triangle[mine], point, distance[mine], tint)
            class_id[mine], material[mine], albedo[mine] = seen
            facing = shape.skin.normal[triangle[mine]]
            normal[mine] = facing @ turn.T if number else facing
        away = np.einsum("ij,ij->i", normal, rays[:, 3:]) > 0
        normal[away] *= -1
        return Hits(distance, class_id, albedo, normal, material)

    def occluded(
        self, origins: NDArray[np.floating], direction: NDArray[np.floating], t_s: float
    ) -> NDArray[np.bool_]:
        """(N,) whether points (N, 3) see anything in one direction (3,): the sun's shadows."""
        rays = _rays(origins, np.broadcast_to(direction, np.shape(origins)))
        dark = self._static.occluded(rays)
        for _, shape, _, index, local in self._near(rays, t_s, np.where(dark, 0.0, np.inf)):
            dark[index] |= shape.occluded(local)
        return dark

    def _near(
        self, rays: NDArray[np.float32], t_s: float, limit: NDArray[np.floating]
    ) -> Iterator[tuple[Any, ...]]:
        """(tint, shape, world_from_shape, ray numbers, rays in its frame) where they may meet.

        `limit` (N,) may shrink while the caller goes on: farther actors are then skipped.
        """
        if not len(rays):
            return
        bundles, middle = Bundles(rays), rays[len(rays) // 2, :3]
        near = []
        for actor in self.actors:
            matrix = actor.pose(t_s, self.motion)
            center = matrix[:3, 3] + (0, 0, 1.2)
            gap = float(np.linalg.norm(center - middle))
            if gap < FAR_M:
                near.append((gap, len(near), actor, matrix, center))
        for _, _, actor, matrix, center in sorted(near, key=lambda row: row[:2]):
            index = bundles.through(center, actor.radius_m, limit)
            if not len(index):
                continue
            for name, world_from_shape in actor.placed(t_s, matrix):
                yield (actor.tint, self._shapes[name], world_from_shape, index,
                       _into(rays[index], world_from_shape))  # fmt: skip


def _into(rays: NDArray[np.float32], matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    """Rays in the frame whose pose `matrix` is."""
    turn = matrix[:3, :3].astype(np.float32)
    start = (rays[:, :3] - matrix[:3, 3].astype(np.float32)) @ turn
    return np.ascontiguousarray(np.concatenate([start, rays[:, 3:] @ turn], axis=1))


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
            raise RobustsegError("open3d is not installed; pip install robustseg[sim]") from None
    return open3d
