"""Who uses the street: parked and moving vehicles, riders, and people who walk.

An actor says what it is made of and how it moves; where it is at a time, `crowd` works out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from robustseg_core.sim import generator, shapes
from robustseg_core.sim.furnish import CURB_M, car_paint
from robustseg_core.sim.layout import Layout, Street
from robustseg_core.sim.materials import MATERIAL, Kind, surface
from robustseg_core.sim.meshes import Mesh, box, join, pose, tube
from robustseg_core.sim.motion import Motion
from robustseg_core.sim.style import PLAIN, Style

PEOPLE = 9
"""Shapes of people in varied towns."""
_CARS = (
    ("car0", (1.10, 1.06, 1.20)),
    ("car0", (0.84, 0.92, 1.02)),
    ("car1", (1.08, 1.04, 1.00)),
    ("car1", (0.96, 1.02, 1.12)),
    ("car2", (1.16, 1.10, 1.22)),
)
OWN = np.full((2, 3), -1.0, np.float32)
_EXTENT = {"car": 5.0, "truck": 8.0, "bus": 12.0, "train": 20.0, "motorcycle": 3.0, "bicycle": 3.0}


@cache
def library(*, varied: bool = False) -> dict[str, Mesh]:
    """All shapes that move, by name; those of the plain town only, or more of them."""
    plain = {
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
    return plain | _others(plain) if varied else plain


def _others(plain: dict[str, Mesh]) -> dict[str, Mesh]:
    """More people and vehicles: the plain town's, of other build, height, skin and clothes."""
    rng = generator(0, "library")
    more = {}
    for number, (name, factors) in enumerate(_CARS, 3):
        more[f"car{number}"] = plain[name].stretched(factors)
    for number in range(1, PEOPLE):
        tall = rng.uniform(0.92, 1.1) if number % 4 else rng.uniform(0.6, 0.75)
        girth = rng.uniform(0.85, 1.35) * min(tall * 1.1, 1.0)
        skin = np.array([0.42, 0.26, 0.18]) * rng.uniform(0.25, 1.35)
        hair = rng.uniform(0.02, 0.4) * np.array([1.0, 0.8, 0.55])
        body = [plain["person"]]
        if number % 3 == 0:  # a coat, or a skirt
            cloth = surface("person", "cloth", kind=Kind.PAINT_A)
            body.append(tube((0, 0, 0.95), (0, 0, 0.42), 0.17, cloth, end_radius=0.24))
        if number % 3 == 1:  # something on the back
            bag = surface("person", "cloth", rng.uniform(0.02, 0.4, 3))
            body.append(box((0.18, 0.3, 0.42), bag, center=(-0.22, 0, 1.22)))
        whole = {"person": join(body), "leg": plain["leg"], "arm": plain["arm"]}
        for name, mesh in whole.items():
            more[f"{name}{number}"] = _colored(mesh.stretched((girth, girth, tall)), skin, hair)
        seated = shapes.rider(lean=float(rng.uniform(0.05, 0.45)))
        more[f"rider{number}"] = _colored(seated.stretched((1.0, girth, 1.0)), skin, hair)
    return more


def _colored(mesh: Mesh, skin: NDArray[np.float64], hair: NDArray[np.float64]) -> Mesh:
    """With another skin, and hair or a helmet of another color."""
    look = mesh.look.copy()
    bare = look["material"] == MATERIAL["skin"]
    look["color"][bare] = skin
    plain = (look["kind"] == Kind.PLAIN) & (look["material"] == MATERIAL["cloth"])
    look["color"][plain & (look["color"][:, 0] < 0.06)] = hair
    return Mesh(mesh.corners, look)


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
    turn_rad: float = 0.0
    """Looks this far to the left of where it goes."""


WALKER = (
    Part("person"),
    Part("leg", (0, 0.09, 0.88), 0.45),
    Part("leg", (0, -0.09, 0.88), -0.45),
    Part("arm", (0, 0.24, 1.36), -0.40),
    Part("arm", (0, -0.24, 1.36), 0.40),
)


def _people(number: int, tall: float = 1.0) -> tuple[Part, ...]:
    """Parts of someone of the library; `tall` is how high the hips are beside the plain ones."""
    if not number:
        return WALKER
    return tuple(
        replace(part, shape=f"{part.shape}{number}", place=(part.place[0], part.place[1], z))
        for part in WALKER
        for z in [part.place[2] * tall]
    )


def traffic(layout: Layout, motion: Motion, style: Style = PLAIN) -> list[Actor]:
    """Everyone who moves in a city."""
    rng = generator(layout.seed, "traffic")
    main = layout.streets[0]
    draw = _Draw(rng, style)
    return [
        *_oncoming(main, draw),
        *_leading(draw),
        *_cycling(main, draw),
        *_walking(main, draw),
        *_crossing(layout, motion, draw),
        *((*_standing(main, draw), *_accompanying(main, draw)) if style.varied else ()),
    ]


@dataclass(frozen=True)
class _Draw:
    """Who comes next, in a town."""

    rng: np.random.Generator
    style: Style

    def vehicle(
        self, kind: str, lateral: float, way: float, speed: float, leads_s: float | None = None
    ) -> Actor:
        """A vehicle, with its rider where it has one."""
        rng, varied = self.rng, self.style.varied
        cars = 3 + len(_CARS) if varied else 3
        shape = f"car{rng.integers(cars)}" if kind == "car" else kind
        parts = [Part(shape)]
        if kind in ("motorcycle", "bicycle"):
            number = int(rng.integers(PEOPLE)) if varied else 0
            parts.append(Part(f"rider{number}" if number else "rider"))
        paint = car_paint(rng)
        return Actor(kind, tuple(parts), lateral, way, speed, paint, leads_s=leads_s)

    def walker(
        self,
        lateral: float,
        way: float,
        speed: float,
        crosses_s: float | None = None,
        turn_rad: float = 0.0,
    ) -> Actor:
        """Someone on foot."""
        rng = self.rng
        color = rng.uniform(0.02, 0.5, (2, 3))
        color += 0.55 * (color.mean(1, keepdims=True) - color)  # cloth is seldom loud
        tint = (color * rng.uniform(0.3, 1.0, (2, 1))).astype(np.float32)
        parts: tuple[Part, ...] = WALKER
        if self.style.varied:
            number = int(rng.integers(PEOPLE))
            corners = library(varied=True)[f"leg{number}" if number else "leg"].corners
            parts = _people(number, float(-corners[..., 2].min() / 0.885))
        return Actor(
            "person", parts, lateral, way, speed, tint, CURB_M, None, 1.4, crosses_s, turn_rad
        )


def _oncoming(main: Street, draw: _Draw) -> Iterator[Actor]:
    """Vehicles of all kinds on the other lane, in shuffled packs."""
    rng = draw.rng
    pack: list[str] = []
    way, pace = main.start_m, -float(rng.uniform(7, 10))
    while way < main.end_m - 14:
        if not pack:
            pack = ["car", "bus", "car", "motorcycle", "truck", "car", "car", "train"]
            if draw.style.varied:
                pack += ["motorcycle", "car", "motorcycle"]
            rng.shuffle(pack)
        kind = pack.pop()
        way += _EXTENT[kind] / 2
        yield draw.vehicle(kind, 1.75, way, pace)
        way += _EXTENT[kind] / 2 + rng.uniform(9, 19)


def _leading(draw: _Draw) -> Iterator[Actor]:
    """Vehicles ahead of the ego, which drive where it will be."""
    for leads_s, ahead in ((1.6, 9.0), (4.2, 24.0), (7.0, 42.0), (10.5, 60.0)):
        kind = str(draw.rng.choice(["car", "car", "truck", "motorcycle", "bus"]))
        yield draw.vehicle(kind, -1.75, ahead + _EXTENT[kind] / 2, 1.0, leads_s)


def _accompanying(main: Street, draw: _Draw) -> Iterator[Actor]:
    """Two-wheelers that ride with the ego, on its right."""
    way = draw.rng.uniform(3.5, 9.0)
    for _ in range(4):
        kind = str(draw.rng.choice(["bicycle", "bicycle", "motorcycle"]))
        lateral = -(main.half_width_m - draw.style.lane_edge_m) + draw.rng.uniform(-0.4, 0.2)
        yield draw.vehicle(kind, lateral, way, 1.0, leads_s=draw.rng.uniform(0.3, 1.0))
        way += draw.rng.uniform(3.0, 12.0)


def _cycling(main: Street, draw: _Draw) -> Iterator[Actor]:
    """Bicycles beside both lanes."""
    lane = main.half_width_m - draw.style.lane_edge_m
    for direction in (-1, 1):
        way = main.start_m
        while way < main.end_m - 8:
            yield draw.vehicle("bicycle", -direction * lane, way, direction * 4.2)
            way += draw.rng.uniform(*draw.style.cycle_gap_m)


def _walking(main: Street, draw: _Draw) -> Iterator[Actor]:
    """People on both sidewalks, in both directions."""
    rng = draw.rng
    for side in (-1, 1):
        for lateral, direction in ((0.40, 1), (0.68, -1)):
            way, speed = main.start_m, direction * float(rng.uniform(1.0, 1.4))
            while way < main.end_m - 4:
                beside = side * (main.half_width_m + lateral * main.sidewalk_m)
                yield draw.walker(beside, way, speed)
                way += rng.uniform(*draw.style.walk_gap_m)


def _standing(main: Street, draw: _Draw) -> Iterator[Actor]:
    """People who wait at the curb, alone and in groups, and look anywhere."""
    rng, way = draw.rng, main.start_m
    while way < main.end_m - 4:
        way += rng.uniform(4.0, 20.0)
        side = -1 if rng.random() < 0.6 else 1  # more of them on the ego's side
        for _ in range(int(rng.integers(1, 4))):
            beside = side * (main.half_width_m + rng.uniform(0.2, 1.2))
            turn = float(rng.uniform(-np.pi, np.pi))
            yield draw.walker(beside, way + float(rng.uniform(-1, 1)), 0.0, turn_rad=turn)


def _crossing(layout: Layout, motion: Motion, draw: _Draw) -> Iterator[Actor]:
    """People for whom the ego halts."""
    edge = layout.streets[0].half_width_m + 1.2
    for side, early_s in ((-1, 1.5), (-1, 0.7), (1, 4.0)):
        way = layout.stop_m + 4.6 + draw.rng.uniform(-1, 1)
        yield draw.walker(side * edge, way, 1.35, crosses_s=motion.stop_s - early_s)


def parked(layout: Layout, style: Style = PLAIN) -> list[Mesh]:
    """Standing vehicles, baked into the static scene."""
    rng = generator(layout.seed, "parked")
    stock, meshes = library(varied=style.varied), []
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
                if style.varied and kind.startswith("car"):
                    kind = f"car{rng.integers(3 + len(_CARS))}"
                long = {"truck": 8.4, "car2": 6.3}.get(kind, 5.8 if kind.startswith("car") else 2.6)
                use = rng.random() < style.parked_share and street.free(
                    way + long / 2, side, 8 + long / 2
                )
                if use:
                    (x, y), heading = street.at(way + long / 2, lateral)
                    turn = 0.0 if side < 0 else np.pi
                    mesh = stock[kind].painted(car_paint(rng))
                    meshes.append(mesh.moved(pose(x, y, 0.0, float(heading) + turn)))
                way += long
    return meshes
