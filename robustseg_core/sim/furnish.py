"""A plan turned into triangles: ground, houses, greenery, and what stands on a sidewalk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robustseg_core.sim import generator, houses, shapes
from robustseg_core.sim.layout import Layout, Street
from robustseg_core.sim.materials import Kind, surface
from robustseg_core.sim.meshes import Look, Mesh, box, join, pose, quads, ribbon, tube
from robustseg_core.sim.style import PLAIN, Style

CURB_M = 0.13
_CARS = (
    (0.62, 0.62, 0.62),
    (0.03, 0.03, 0.035),
    (0.22, 0.23, 0.25),
    (0.40, 0.03, 0.03),
    (0.03, 0.07, 0.28),
    (0.75, 0.75, 0.73),
    (0.05, 0.16, 0.10),
    (0.55, 0.35, 0.06),
)


_SIGNS = (
    (0.55, 0.02, 0.02),
    (0.02, 0.12, 0.45),
    (0.02, 0.10, 0.40),
    (0.70, 0.45, 0.02),
    (0.02, 0.25, 0.08),
    (0.75, 0.75, 0.72),
)


def car_paint(rng: np.random.Generator) -> NDArray[np.float32]:
    """(2, 3) colors of a vehicle: body, and cargo."""
    body = np.asarray(_CARS[rng.integers(len(_CARS))]) * rng.uniform(0.8, 1.2)
    return np.stack([body, rng.uniform(0.2, 0.75) * np.ones(3)]).astype(np.float32)


@dataclass
class Site:
    """Collects meshes and lamps while a city is built."""

    layout: Layout
    style: Style
    meshes: list[Mesh]
    lamps: list[NDArray[np.float64]]

    def put(
        self,
        mesh: Mesh,
        street: Street,
        way_m: float,
        lateral_m: float,
        *,
        z: float = 0.0,
        turn: float = 0.0,
    ) -> None:
        """Stand a mesh at a place of a street, facing along it plus `turn` radians."""
        (x, y), heading = street.at(way_m, lateral_m)
        self.meshes.append(mesh.moved(pose(x, y, z, float(heading) + turn)))


def build(layout: Layout, style: Style = PLAIN) -> tuple[Mesh, NDArray[np.float64]]:
    """(static triangles, lamp places (K, 3)) of a plan."""
    site = Site(layout, style, [], [])
    rng = generator(layout.seed, "furnish")
    middle = layout.streets[0].points.mean(0)
    green = (0.10, 0.13, 0.045) if not style.varied else style.lawn
    wide = surface("terrain", "grass", green, kind=Kind.GRASS, seed=3)
    reach = layout.length_m / 2 + 700
    site.meshes.append(box((2 * reach, 2 * reach, 1.0), wide, center=(*middle, -0.53)))
    for number, street in enumerate(layout.streets):
        _ground(site, street, number, rng)
        _sidewalk_things(site, street, number, rng)
    for lot in layout.lots:
        turn = 0.0 if lot.side > 0 else np.pi
        mesh = houses.LOTS[lot.kind](lot.width_m, rng, style)
        front = lot.side * lot.front_m
        site.put(mesh, layout.streets[lot.street], lot.way_m, front, z=CURB_M - 0.02, turn=turn)
    _skyline(site, rng)
    return join(site.meshes), np.array(site.lamps).reshape(-1, 3)


def _strip(
    site: Site,
    street: Street,
    start: float,
    stop: float,
    lateral: tuple[float, float],
    z: tuple[float, float],
    look: Look,
) -> None:
    ways = np.unique(np.concatenate([[start, stop], street.ways]))
    ways = ways[(ways >= start) & (ways <= stop)]
    left, right = (
        np.column_stack([street.at(ways, d)[0], np.full(len(ways), height)])
        for d, height in zip(lateral, z, strict=True)
    )
    site.meshes.append(ribbon(left, right, look, along_m=ways, lateral_m=lateral))


def _ground(site: Site, street: Street, number: int, rng: np.random.Generator) -> None:
    half, walk, seed = street.half_width_m, street.sidewalk_m, site.layout.seed
    style, rough = site.style, rng.uniform(0.8, 1.3)
    grey = np.array([0.105, 0.105, 0.11]) * rough if style.asphalt is None else style.asphalt
    lines: tuple[float, ...] = (1.0, 0, 0, 0)
    if number == 0:
        lines = (1.0, float(rng.integers(2)), half - 2.2, half - 3.7)
    if style.lane_edge_m < 1:  # nobody parks
        lines = (lines[0], lines[1], 0, half - 0.3)
    lines = lines if style.marked else (0.0,)
    stones = Kind.PAVERS if style.cobbles else Kind.ROAD
    marked = surface("road", "asphalt", grey, kind=stones, seed=seed, params=lines)
    bare = surface("road", "asphalt", grey, kind=stones, seed=seed)
    stripes = surface("road", "asphalt", grey, kind=Kind.STRIPES, seed=seed)
    white = surface("road", "marking", (0.7, 0.7, 0.68))
    pavers = surface(
        "sidewalk",
        "concrete",
        np.array(style.pavers) * rng.uniform(0.75, 1.2),
        kind=Kind.PAVERS,
        seed=seed,
    )
    curb = surface("sidewalk", "concrete", (0.42, 0.41, 0.40))
    lawn = surface("terrain", "grass", style.lawn, kind=Kind.GRASS, seed=seed)
    begin = street.start_m
    cuts = [(way, h + walk * 0.4) for way, h, _ in street.crossings]
    for way, h in cuts:
        _strip(site, street, begin, way - h, (half, -half), (0, 0), marked)
        _strip(site, street, way - h, way + h, (half, -half), (0, 0), bare)
        begin = way + h
        for edge in (way - h - 3.2, way + h + 0.2):
            _strip(site, street, edge, edge + 3.0, (half - 0.3, -half + 0.3), (0.005,) * 2, stripes)
        _strip(site, street, way - h - 4.6, way - h - 4.2, (-0.2, -half + 2.3), (0.006,) * 2, white)
        _strip(site, street, way + h + 4.2, way + h + 4.6, (half - 2.3, 0.2), (0.006,) * 2, white)
    _strip(site, street, begin, street.end_m, (half, -half), (0, 0), marked)
    for side in (-1, 1):
        first = street.start_m if number == 0 else walk
        for start, stop in street.blocks(side, first, street.end_m):
            d = (side * half, side * (half + walk))
            _strip(site, street, start, stop, d, (CURB_M, CURB_M), pavers)
            _strip(site, street, start, stop, (d[0], d[0]), (0, CURB_M), curb)
            if rng.random() < 0.65 and stop - start > 12:  # a green verge by the curb
                verge = (side * (half + 0.15), side * (half + 1.05))
                _strip(site, street, start + 3, stop - 3, verge, (CURB_M + 0.005,) * 2, lawn)
            deep = (d[1], d[1] + side * 15)
            behind = start if number == 0 else start + 15  # the main street's lawns come first
            _strip(site, street, behind, stop, deep, (CURB_M - 0.01,) * 2, lawn)
            for end in (start, stop):
                ends, _ = street.at(end, np.array(d))
                low = np.column_stack([ends, np.zeros(2)])
                high = np.column_stack([ends, np.full(2, CURB_M)])
                site.meshes.append(quads(low[0], low[1], high[1], high[0], curb))


def _sidewalk_things(site: Site, street: Street, number: int, rng: np.random.Generator) -> None:
    half, walk = street.half_width_m, street.sidewalk_m
    steel = surface("pole", "metal", np.array([0.10, 0.11, 0.12]) * rng.uniform(0.6, 2.0))
    for side in (-1, 1):
        way = street.start_m + rng.uniform(3, 10) + (4 if number else 0)
        count = 0
        while way < street.end_m - 2:
            if street.free(way, side, 1.2):
                d = side * (half + 0.55)
                turn = 0.0 if side > 0 else np.pi
                what = count % 4
                if site.style.varied and what and rng.random() < 0.7:
                    _extra(site, street, way, side, rng, steel)
                elif what == 0:
                    _lamp(site, street, way, d, turn, steel)
                elif what == 2:
                    _sign(site, street, way, d, side, rng, steel)
                elif rng.random() < 0.75:
                    tree = site.style.stock.tree(rng, rng.uniform(5.5, 9))
                    site.put(tree, street, way, d + 0.25 * side, z=CURB_M - 0.02)
                count += 1
            way += rng.uniform(*site.style.furniture_gap_m)
    for way, h, _ in street.crossings:
        for sign, side in ((-1, -1), (1, 1), (-1, 1), (1, -1)):
            reach = h + walk * 0.4 + 3.6
            _signal(site, street, way + sign * reach, side * (half + 0.45), sign, steel, rng)


def _lamp(site: Site, street: Street, way: float, d: float, turn: float, steel: Look) -> None:
    glow = surface("pole", "lamp", (0.8, 0.75, 0.6))
    thick = site.style.posts
    reach = 1.9  # from the pole over the road, which lies to the right of a left-hand pole
    mesh = join(
        [
            tube((0, 0, 0), (0, 0, 6.6), 0.10 * thick, steel, end_radius=0.06 * thick),
            tube((0, 0, 6.5), (0, -reach, 7.0), 0.045, steel, sides=6),
            box((0.28, 0.75, 0.12), steel, center=(0, -reach, 7.0)),
            box((0.20, 0.60, 0.04), glow, center=(0, -reach, 6.92)),
        ]
    )
    site.put(mesh, street, way, d, z=CURB_M, turn=turn)
    (x, y), _ = street.at(way, d - np.sign(d) * reach)
    site.lamps.append(np.array([x, y, 6.8]))


def _sign(
    site: Site,
    street: Street,
    way: float,
    d: float,
    side: int,
    rng: np.random.Generator,
    steel: Look,
) -> None:
    seed, square = int(rng.integers(1 << 30)), float(rng.random() < 0.5)
    color = ((0.55, 0.02, 0.02), (0.02, 0.12, 0.45), (0.02, 0.10, 0.40))[seed % 3]
    style = site.style
    radius = 0.36 if not style.varied else float(rng.uniform(0.3, 0.6))
    if style.varied:
        color = _SIGNS[rng.integers(len(_SIGNS))]
    face = surface(
        "traffic sign", "retroreflector", color, kind=Kind.SIGN, seed=seed, params=(radius, square)
    )
    back = surface("traffic sign", "metal", (0.3, 0.3, 0.3))
    if square:
        broad = 1.0 if not style.varied else float(rng.choice([1.0, 1.0, 1.6, 0.7]))
        board = box((0.02, 2 * radius * broad, 2 * radius), face)
    else:
        sides = 18 if not style.varied else int(rng.choice([3, 4, 8, 18, 18]))
        board = tube((-0.01, 0, 0), (0.01, 0, 0), radius, back, sides=sides, caps=face)
    turn = np.pi if side < 0 else 0.0  # toward those who drive on that side
    post = tube((0, 0, 0), (0, 0, 2.75), 0.035 * style.posts, steel, sides=6)
    lifted = board.moved(pose(0.06, 0, 2.45))
    site.put(join([post, lifted]), street, way, d, z=CURB_M, turn=turn)


def _extra(
    site: Site, street: Street, way: float, side: int, rng: np.random.Generator, steel: Look
) -> None:
    """What only varied towns have on their sidewalks: bicycle stands, bollards, masts, boards."""
    half, thick = street.half_width_m, site.style.posts
    turn = 0.0 if side > 0 else np.pi
    what = rng.choice(
        ["bicycles", "bollards", "mast", "board", "sign", "motorcycles", "signal"],
        p=[0.30, 0.16, 0.16, 0.08, 0.12, 0.10, 0.08],
    )
    if what in ("bicycles", "motorcycles"):
        stock = shapes.bicycle() if what == "bicycles" else shapes.motorcycle()
        lean = np.pi / 2 if rng.random() < 0.6 else 0.0
        for k in range(int(rng.integers(2, 7))):
            mesh = stock.painted(car_paint(rng)).stretched(rng.uniform(0.9, 1.15, 3))
            along = way + k * (0.65 if lean else 2.0)
            if street.free(along, side, 1.2):
                d = side * (half + 1.1 + rng.uniform(-0.1, 0.1))
                z, angle = CURB_M, turn + lean + rng.uniform(-0.12, 0.12)
                site.put(mesh, street, along, d, z=z, turn=angle)
    elif what == "bollards":
        post = tube((0, 0, 0), (0, 0, rng.uniform(0.7, 1.1)), 0.055 * thick, steel)
        for k in range(4):
            if street.free(way + 1.4 * k, side, 1.2):
                site.put(post, street, way + 1.4 * k, side * (half + 0.35), z=CURB_M)
    elif what == "mast":
        wood = surface("pole", "bark", np.array([0.16, 0.12, 0.09]) * rng.uniform(0.6, 1.6))
        mast = tube((0, 0, 0), (0, 0, rng.uniform(7.0, 10.0)), 0.12 * thick, wood)
        bar = box((0.1, 2.0, 0.1), wood, center=(0, 0, 6.8))
        site.put(join([mast, bar]), street, way, side * (half + 0.5), z=CURB_M, turn=turn)
    elif what == "board":
        face = surface("traffic sign", "retroreflector", _SIGNS[rng.integers(len(_SIGNS))])
        wide, high = rng.uniform(0.9, 2.2), rng.uniform(0.6, 1.3)
        legs = [tube((0, y, 0), (0, y, 2.9), 0.045 * thick, steel) for y in (-0.3, 0.3)]
        board = box((0.04, wide, high), face, center=(0.08 * np.sign(-side), 0, 2.5))
        site.put(join([*legs, board]), street, way, side * (half + 1.2), z=CURB_M)
    elif what == "signal":
        _signal(site, street, way, side * (half + 0.45), side, steel, rng)
    else:
        _sign(site, street, way, side * (half + 0.55), side, rng, steel)


def _signal(
    site: Site,
    street: Street,
    way: float,
    d: float,
    sign: int,
    steel: Look,
    rng: np.random.Generator,
) -> None:
    case = surface("traffic light", "paint", (0.02, 0.025, 0.02))
    lit = int(rng.integers(2)) * 2
    colors = ((0.7, 0.02, 0.02), (0.7, 0.4, 0.02), (0.02, 0.6, 0.2))
    varied = site.style.varied
    parts = [tube((0, 0, 0), (0, 0, 3.6), 0.07 * site.style.posts, steel)]
    if varied and rng.random() < 0.5:
        case = surface("traffic light", "paint", (0.55, 0.36, 0.02))
    for x in (-0.22, 0.22):
        parts.append(box((0.30, 0.36, 1.0), case, center=(x, 0, 2.95)))
    for row, color in enumerate(colors):
        on = row == lit
        lens = surface(
            "traffic light", "signal" if on else "glass", np.array(color) * (1 if on else 0.12)
        )
        z = 3.26 - 0.31 * row
        for x in (-1, 1):
            parts.append(tube((0.36 * x, 0, z), (0.39 * x, 0, z), 0.11, lens, sides=10))
    if varied and rng.random() < 0.6:  # the same again, on an arm over the road
        inward = 1.0 if (d < 0) == (sign > 0) else -1.0
        reach, heads = rng.uniform(3.0, 5.0), join(parts[1:])
        parts.append(tube((0, 0, 3.5), (0, 0, 5.9), 0.08 * site.style.posts, steel))
        parts.append(tube((0, 0, 5.8), (0, inward * reach, 6.1), 0.06, steel, sides=6))
        parts.append(heads.moved(pose(0, inward * reach, 2.5)))
    mesh = join(parts)
    if varied:
        mesh = mesh.stretched(rng.uniform((1.0, 1.0, 0.95), (1.6, 1.6, 1.25)))
    site.put(mesh, street, way, d, z=CURB_M, turn=0.0 if sign > 0 else np.pi)


def _skyline(site: Site, rng: np.random.Generator) -> None:
    """Taller blocks and groves behind the first row, where no street is."""
    main = site.layout.streets[0]
    taken = np.concatenate([street.points for street in site.layout.streets])
    for way in np.arange(main.start_m, main.end_m, 17.0):
        for side in (-1, 1):
            away = rng.uniform(46, 95)
            place, heading = main.at(way, side * away)
            x, y = place
            size = (rng.uniform(12, 24), rng.uniform(10, 18), rng.uniform(9, 26))
            if np.hypot(*(taken - place).T).min() < 34:
                continue
            if rng.random() < 0.5:
                tree = site.style.stock.tree(rng, rng.uniform(8, 13))
                site.meshes.append(tree.moved(pose(x, y)))
            else:
                house = houses.block(size, rng, site.style)
                site.meshes.append(house.moved(pose(x, y, 0.0, float(heading))))
