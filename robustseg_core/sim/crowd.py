"""Everyone who moves, as arrays: where all their parts are at a time, in one pass over all.

The shapes that actors are made of stand side by side in a lot, once; nothing is rebuilt while time
goes on. A ray that may meet an actor's part is brought into the lot instead, to that part's shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from robustseg_core.sim.actors import Actor
from robustseg_core.sim.furnish import CURB_M
from robustseg_core.sim.layout import Street
from robustseg_core.sim.meshes import Mesh, join, pose
from robustseg_core.sim.motion import Motion

LOT_GAP_M = 1.0
"""Free space between shapes in the lot."""


class Moment(NamedTuple):
    """Where P parts of actors are at one time."""

    center: NDArray[np.float64]
    """(P, 3) middles of the boxes around the parts' shapes, world frame."""
    turn: NDArray[np.float64]
    """(P, 3, 3) rotation lot_from_world of each part."""
    shift: NDArray[np.float64]
    """(P, 3) translation lot_from_world."""


class Crowd:
    """All actors of a city.

    Args:
        actors: who moves; their parts are numbered in this order.
        street: that they move along.
        motion: of the ego, whom some of them follow or lead.
        shapes: name -> mesh, of all shapes that parts have.
    """

    def __init__(
        self, actors: Sequence[Actor], street: Street, motion: Motion, shapes: Mapping[str, Mesh]
    ) -> None:
        self._street, self._motion = street, motion
        self.lot, places = _park(shapes)
        """All shapes in one mesh, in the lot's frame."""
        parts = [part for actor in actors for part in actor.parts]
        self._actor = np.repeat(np.arange(len(actors)), [len(actor.parts) for actor in actors])
        self.tint = np.array([actor.tint for actor in actors])[self._actor]
        """(P, 2, 3) paint of each part."""
        self._shift = np.array([places[part.shape] for part in parts])
        self._place = np.array([part.place for part in parts])
        self._swing = np.array([part.swing_rad for part in parts])
        corners = [shapes[part.shape].corners.reshape(-1, 3) for part in parts]
        self.low = np.array([c.min(0) for c in corners]) + self._shift
        """(P, 3) corner of the box around a part's shape, in the lot."""
        self.high = np.array([c.max(0) for c in corners]) + self._shift
        """(P, 3) the opposite corner."""
        self.radius_m = np.linalg.norm(self.high - self.low, axis=1) / 2
        """(P,) of the spheres around those boxes."""
        self._way = np.array([actor.way_m for actor in actors])
        self._lateral = np.array([actor.lateral_m for actor in actors])
        self._speed = np.array([actor.speed_mps for actor in actors])
        self._z = np.array([actor.z_m for actor in actors])
        self._stride = np.array([actor.stride_m for actor in actors])
        self._leads = np.array([np.nan if a.leads_s is None else a.leads_s for a in actors])
        self._starts = np.array([np.nan if a.crosses_s is None else a.crosses_s for a in actors])
        self._look = np.array([actor.turn_rad for actor in actors])
        self._now: tuple[float, Moment] | None = None

    def at(self, t_s: float) -> Moment:
        """Everyone's place at a time; the last answer is kept, as several sensors ask for it."""
        if self._now is None or self._now[0] != t_s:
            self._now = t_s, self._moment(t_s)
        return self._now[1]

    def _moment(self, t_s: float) -> Moment:
        street, way, lateral = self._street, self._way, self._lateral.copy()
        # Most go round: who leaves the street at its end comes back at its start.
        begin, span = street.start_m, street.end_m - street.start_m
        gone = np.abs(self._speed) * t_s
        heading = np.where(self._speed < 0, np.pi, 0.0)
        along = begin + (way - begin + self._speed * t_s) % span
        leads = np.isfinite(self._leads)
        along[leads] = way[leads] + self._motion.way_m(t_s + self._leads[leads])
        high = self._z.copy()
        crosses = np.isfinite(self._starts)
        side = np.sign(lateral[crosses])
        walked = np.maximum(t_s - self._starts[crosses], 0) * self._speed[crosses]
        gone[crosses] = np.minimum(walked, 2 * np.abs(lateral[crosses]))
        lateral[crosses] -= side * gone[crosses]
        along[crosses], heading[crosses] = way[crosses], -side * np.pi / 2
        high[crosses] = np.where(np.abs(lateral[crosses]) > street.half_width_m, CURB_M, 0.0)
        place, ahead = street.at(along, lateral)
        foot = np.column_stack([place, high])
        turn = _upright(heading + ahead + self._look)
        swing = self._swing * np.sin(2 * np.pi * (way + gone) / self._stride)[self._actor]
        world_from_part = turn[self._actor] @ _swung(swing)
        origin = foot[self._actor] + (turn[self._actor] @ self._place[..., None])[..., 0]
        lot_from_world = np.ascontiguousarray(world_from_part.transpose(0, 2, 1))
        shift = self._shift - (lot_from_world @ origin[..., None])[..., 0]
        middle = (self.low + self.high) / 2 - self._shift
        center = origin + (world_from_part @ middle[..., None])[..., 0]
        return Moment(center, lot_from_world, shift)


def _park(shapes: Mapping[str, Mesh]) -> tuple[Mesh, dict[str, tuple[float, float, float]]]:
    """All shapes side by side along y, and how far each was moved for that."""
    parked, places, y = [], {}, 0.0
    for name, mesh in shapes.items():
        low, high = (float(pick(mesh.corners[..., 1])) for pick in (np.min, np.max))
        places[name] = (0.0, y - low, 0.0)
        parked.append(mesh.moved(pose(*places[name])))
        y += high - low + LOT_GAP_M
    return join(parked), places


def _upright(heading: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 3, 3) rotations about z."""
    turn = np.zeros((len(heading), 3, 3))
    turn[:, 0, 0] = turn[:, 1, 1] = np.cos(heading)
    turn[:, 1, 0] = np.sin(heading)
    turn[:, 0, 1] = -turn[:, 1, 0]
    turn[:, 2, 2] = 1
    return turn


def _swung(angle: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 3, 3) rotations about y."""
    turn = np.zeros((len(angle), 3, 3))
    turn[:, 0, 0] = turn[:, 2, 2] = np.cos(angle)
    turn[:, 0, 2] = np.sin(angle)
    turn[:, 2, 0] = -turn[:, 0, 2]
    turn[:, 1, 1] = 1
    return turn
