"""Who uses the street: parked and moving vehicles, riders, and people who walk.

An actor says what it is made of and how it moves; where it is at a time, `crowd` works out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray

from robustseg_core.sim import generator, shapes
from robustseg_core.sim.furnish import CURB_M, car_paint
from robustseg_core.sim.layout import Layout, Street
from robustseg_core.sim.meshes import Mesh, pose
from robustseg_core.sim.motion import Motion

OWN = np.full((2, 3), -1.0, np.float32)
_EXTENT = {"car": 5.0, "truck": 8.0, "bus": 12.0, "train": 20.0, "motorcycle": 3.0, "bicycle": 3.0}


@cache
def library() -> dict[str, Mesh]:
    """All shapes that move, by name."""
    return {
        "car0": shapes.car(0),
        "car1": shapes.car(1),
        "car2": shapes.car(2),
        "truck": shapes.truck(),
        "bus": shapes.coach("bus", 11.5),
        "train": shapes.coach("train", 19.0),
        "motorcycle": shapes.motorcycle(),
        "bicycle": shapes.bicycle(),
        "rider": shapes.rider(),
        "person": shapes.pedestrian(),
        "leg": shapes.limb("leg"),
        "arm": shapes.limb("arm"),
    }


@dataclass(frozen=True)
class Part:
    """One shape of an actor: where it hangs, and how far it swings about its own y axis."""

    shape: str
    place: tuple[float, float, float] = (0.0, 0.0, 0.0)
    swing_rad: float = 0.0


@dataclass(frozen=True)
class Actor:
    """Something that moves along the main street at constant speed, or with the ego's rhythm."""

    kind: str
    parts: tuple[Part, ...]
    lateral_m: float
    way_m: float
    """Way along at time 0."""
    speed_mps: float
    """Negative against the street's direction."""
    tint: NDArray[np.float32] = field(default_factory=lambda: OWN)
    z_m: float = 0.0
    leads_s: float | None = None
    """When set: drives where the ego will be after this time, `way_m` farther on."""
    stride_m: float = 1.4
    crosses_s: float | None = None
    """When set: walks across from this time on, from `lateral_m` to the other side."""


WALKER = (
    Part("person"),
    Part("leg", (0, 0.09, 0.88), 0.45),
    Part("leg", (0, -0.09, 0.88), -0.45),
    Part("arm", (0, 0.24, 1.36), -0.40),
    Part("arm", (0, -0.24, 1.36), 0.40),
)


def traffic(layout: Layout, motion: Motion) -> list[Actor]:
    """Everyone who moves in a city."""
    rng = generator(layout.seed, "traffic")
    main = layout.streets[0]
    return [
        *_oncoming(main, rng),
        *_leading(rng),
        *_cycling(main, rng),
        *_walking(main, rng),
        *_crossing(layout, motion, rng),
    ]


def _oncoming(main: Street, rng: np.random.Generator) -> Iterator[Actor]:
    """Vehicles of all kinds on the other lane, in shuffled packs."""
    pack: list[str] = []
    way, pace = main.start_m, -float(rng.uniform(7, 10))
    while way < main.end_m - 14:
        if not pack:
            pack = ["car", "bus", "car", "motorcycle", "truck", "car", "car", "train"]
            rng.shuffle(pack)
        kind = pack.pop()
        way += _EXTENT[kind] / 2
        yield _vehicle(rng, kind, 1.75, way, pace)
        way += _EXTENT[kind] / 2 + rng.uniform(9, 19)


def _leading(rng: np.random.Generator) -> Iterator[Actor]:
    """Vehicles ahead of the ego, which drive where it will be."""
    for leads_s, ahead in ((1.6, 9.0), (4.2, 24.0), (7.0, 42.0), (10.5, 60.0)):
        kind = str(rng.choice(["car", "car", "truck", "motorcycle", "bus"]))
        yield _vehicle(rng, kind, -1.75, ahead + _EXTENT[kind] / 2, 1.0, leads_s)


def _cycling(main: Street, rng: np.random.Generator) -> Iterator[Actor]:
    """Bicycles beside both lanes."""
    lane = main.half_width_m - 2.95
    for direction in (-1, 1):
        way = main.start_m
        while way < main.end_m - 8:
            yield _vehicle(rng, "bicycle", -direction * lane, way, direction * 4.2)
            way += rng.uniform(18, 40)


def _walking(main: Street, rng: np.random.Generator) -> Iterator[Actor]:
    """People on both sidewalks, in both directions."""
    for side in (-1, 1):
        for lateral, direction in ((0.40, 1), (0.68, -1)):
            way, speed = main.start_m, direction * float(rng.uniform(1.0, 1.4))
            while way < main.end_m - 4:
                beside = side * (main.half_width_m + lateral * main.sidewalk_m)
                yield _walker(rng, beside, way, speed)
                way += rng.uniform(6, 26)


def _crossing(layout: Layout, motion: Motion, rng: np.random.Generator) -> Iterator[Actor]:
    """People for whom the ego halts."""
    edge = layout.streets[0].half_width_m + 1.2
    for side, early_s in ((-1, 1.5), (-1, 0.7), (1, 4.0)):
        way = layout.stop_m + 4.6 + rng.uniform(-1, 1)
        yield _walker(rng, side * edge, way, 1.35, crosses_s=motion.stop_s - early_s)


def _vehicle(
    rng: np.random.Generator,
    kind: str,
    lateral: float,
    way: float,
    speed: float,
    leads_s: float | None = None,
) -> Actor:
    shape = f"car{rng.integers(3)}" if kind == "car" else kind
    parts = [Part(shape)]
    if kind in ("motorcycle", "bicycle"):
        parts.append(Part("rider"))
    paint = car_paint(rng)
    return Actor(kind, tuple(parts), lateral, way, speed, paint, leads_s=leads_s)


def _walker(
    rng: np.random.Generator,
    lateral: float,
    way: float,
    speed: float,
    crosses_s: float | None = None,
) -> Actor:
    color = rng.uniform(0.02, 0.5, (2, 3))
    color += 0.55 * (color.mean(1, keepdims=True) - color)  # cloth is seldom loud
    tint = (color * rng.uniform(0.3, 1.0, (2, 1))).astype(np.float32)
    return Actor("person", WALKER, lateral, way, speed, tint, CURB_M, crosses_s=crosses_s)


def parked(layout: Layout) -> list[Mesh]:
    """Standing vehicles, baked into the static scene."""
    rng = generator(layout.seed, "parked")
    stock, meshes = library(), []
    for number, street in enumerate(layout.streets):
        for side in (-1, 1):
            way = street.start_m + (6.0 if number == 0 else 20.0)
            lateral = side * (street.half_width_m - 1.15)
            while way < street.end_m - 6:
                kind = str(
                    rng.choice(
                        ["car0", "car1", "car2", "truck", "motorcycle", "bicycle"],
                        p=[0.36, 0.26, 0.16, 0.08, 0.07, 0.07],
                    )
                )
                long = {"truck": 8.4, "car2": 6.3}.get(kind, 5.8 if kind.startswith("car") else 2.6)
                use = rng.random() < 0.5 and street.free(way + long / 2, side, 8 + long / 2)
                if use:
                    (x, y), heading = street.at(way + long / 2, lateral)
                    turn = 0.0 if side < 0 else np.pi
                    mesh = stock[kind].painted(car_paint(rng))
                    meshes.append(mesh.moved(pose(x, y, 0.0, float(heading) + turn)))
                way += long
    return meshes
