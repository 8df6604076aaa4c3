"""Where a city puts things: a main street with curves and crossings, and what stands along it.

Everything lies at (way along, lateral) of a street, lateral positive to the left; traffic keeps to
the right. Lots beside the sidewalks are dealt from a shuffled pack, so that every stretch of a
drive meets houses, walls, fences and greenery.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from robustseg_core.sim import generator
from robustseg_core.sim.style import PLAIN, Style

STEP_M = 2.0
MARGIN_M = 130.0
"""The main street goes on this far before and behind the drive."""


@dataclass(frozen=True)
class Street:
    """A center line sampled every `STEP_M` from `start_m`, and its cross-section."""

    start_m: float
    points: NDArray[np.float64]
    """(K, 2) places."""
    headings: NDArray[np.float64]
    """(K,) radians."""
    half_width_m: float
    sidewalk_m: float
    crossings: tuple[tuple[float, float, int], ...] = ()
    """(way along, half width of the side street, side: -1, 1 or 0 for both)."""

    @cached_property
    def ways(self) -> NDArray[np.float64]:
        """(K,) way along the street of each sample."""
        return self.start_m + STEP_M * np.arange(len(self.points), dtype=np.float64)

    @property
    def end_m(self) -> float:
        """Way along at the last sample."""
        return float(self.ways[-1])

    def at(
        self, way_m: NDArray[np.floating] | float, lateral_m: NDArray[np.floating] | float = 0.0
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Places (..., 2) and headings (...) at ways along; straight beyond the street's ends."""
        way, side = np.asarray(way_m, np.float64), np.asarray(lateral_m, np.float64)
        inside = np.clip(way, self.start_m, self.end_m)
        heading = np.interp(inside, self.ways, self.headings)
        x = np.interp(inside, self.ways, self.points[:, 0])
        y = np.interp(inside, self.ways, self.points[:, 1])
        c, s, beyond = np.cos(heading), np.sin(heading), way - inside
        place = np.stack([x + c * beyond - s * side, y + s * beyond + c * side], -1)
        return place, heading

    def free(self, way_m: float, side: int, reach_m: float) -> bool:
        """Whether a way along, widened by `reach_m`, stays clear of side streets on that side."""
        return all(
            abs(way_m - way) > half + reach_m
            for way, half, which in self.crossings
            if which in (0, side)
        )

    def blocks(self, side: int, start_m: float, stop_m: float) -> Iterator[tuple[float, float]]:
        """Stretches between the side streets of one side."""
        here = start_m
        for way, half, which in self.crossings:
            if which in (0, side) and way + half > here and way - half < stop_m:
                if way - half > here:
                    yield here, way - half
                here = way + half
        if stop_m > here:
            yield here, stop_m


@dataclass(frozen=True)
class Lot:
    """A piece of land beside a sidewalk."""

    kind: str
    """building, garden, wall or park."""
    street: int
    way_m: float
    """Way along at its middle."""
    side: int
    front_m: float
    """Lateral distance of its front from the center line, positive on either side."""
    width_m: float


@dataclass(frozen=True)
class Layout:
    """The plan of one city."""

    seed: int
    length_m: float
    streets: tuple[Street, ...]
    """The main street first."""
    lots: tuple[Lot, ...]
    stop_m: float
    """Way along at which the drive halts, before a crosswalk."""


def plan(seed: int, length_m: float, style: Style = PLAIN) -> Layout:
    """Lay out a city around a drive of `length_m` metres."""
    rng = generator(seed, "plan")
    wide = style.half_width_m
    half = rng.choice([7.1, 7.4, 8.0]) if wide is None else rng.uniform(*wide)
    sidewalk = rng.uniform(*style.sidewalk_m)
    bends, crossings, way = [], [], 24.0 + rng.uniform(0, 14)
    heading = 0.0
    while way < length_m + 30:
        side_half = rng.uniform(4.0, 5.5)
        crossings.append((way, side_half, int(rng.choice([-1, 0, 0, 1]))))
        way += 36.0
        if rng.random() < 0.75:
            turn = rng.uniform(0.25, 0.75) * (-1 if heading > 0 else 1) * rng.choice([1, 1, 1, -1])
            turn = float(np.clip(heading + turn, -0.9, 0.9)) - heading
            long = max(30.0, 2 * abs(turn) * 48.0)  # the sharpest point has half the mean radius
            bends.append((way, long, turn))
            heading += turn
            way += long
        way += 36.0 + rng.uniform(0, 12)
    ways = np.arange(-MARGIN_M, length_m + MARGIN_M, STEP_M)
    headings = np.zeros(len(ways))
    for start, long, turn in bends:
        share = np.clip((ways - start) / long, 0, 1)
        headings += turn * (share - np.sin(2 * np.pi * share) / (2 * np.pi))
    middle = (headings[1:] + headings[:-1]) / 2
    steps = STEP_M * np.stack([np.cos(middle), np.sin(middle)], 1)
    points = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, 0)])
    points -= points[round(MARGIN_M / STEP_M)]
    main = Street(-MARGIN_M, points, headings, float(half), float(sidewalk), tuple(crossings))
    streets = [main, *_side_streets(main)]
    lots: list[Lot] = []
    for number, street in enumerate(streets):
        lots += _lots(number, street, style, rng)
    halfway = [w - h for w, h, _ in crossings if w > min(60.0, 0.25 * length_m)]
    return Layout(
        seed, length_m, tuple(streets), tuple(lots), (halfway or [0.5 * length_m])[0] - 6.5
    )


def _side_streets(main: Street) -> list[Street]:
    streets = []
    for way, half, which in main.crossings:
        for side in (-1, 1):
            if which not in (0, side):
                continue
            place, heading = main.at(way, side * main.half_width_m)
            out = float(heading) + side * np.pi / 2
            reach = STEP_M * np.arange(34)
            ahead = np.array([np.cos(out), np.sin(out)])
            points = place + reach[:, None] * ahead
            streets.append(Street(0.0, points, np.full(len(reach), out), half, main.sidewalk_m))
    return streets


def _lots(number: int, street: Street, style: Style, rng: np.random.Generator) -> list[Lot]:
    lots = []
    first = street.start_m if number == 0 else 18.0
    for side in (-1, 1):
        pack: list[str] = []
        for start, end in street.blocks(side, first, street.end_m):
            here, stop = start + street.sidewalk_m * 0.6, end - street.sidewalk_m * 0.6
            while stop - here > 7:
                if not pack:
                    pack = list(style.lots)
                    rng.shuffle(pack)
                kind = pack.pop()
                wide = rng.uniform(11, 20) if kind == "building" else rng.uniform(8, 13)
                if stop - here - wide < 8:
                    wide = stop - here
                setback = street.half_width_m + street.sidewalk_m
                lots.append(Lot(kind, number, here + wide / 2, side, setback, wide))
                here += wide
    return lots
