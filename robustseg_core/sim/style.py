"""What one town has and another has not: the generator's parameters beside the seed.

`plain` is one town, everywhere the same; `varied` draws a town for each seed. One generator serves
both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from robustseg_core.errors import RobustsegError, did_you_mean
from robustseg_core.sim import generator, stock
from robustseg_core.sim.stock import Stock
from robustseg_core.sim.weather import Weather

STREETS = ("plain", "varied")
"""Names of styles."""
Range = tuple[float, float]
_LOTS = ("building", "building", "building", "garden", "garden", "wall", "park")
_TOWNS = (
    (("building",) * 7 + ("wall", "park"), (9.0, 30.0)),  # in the middle of a city
    (_LOTS, (7.0, 18.0)),
    (("garden", "garden", "building", "park", "garden", "wall"), (4.0, 10.0)),  # a suburb
    (("park", "park", "garden", "park", "building", "wall"), (4.0, 14.0)),  # green
)
"""Lots that a stretch of street is dealt, and how high its buildings are."""


@dataclass(frozen=True)
class Style:
    """The parameters of a town; the defaults are those of the plain one."""

    stock: Stock = stock.BUILT
    """Where trees and bushes come from."""
    varied: bool = False
    """Whether there are other people, vehicles and street furniture than the plain town's, too."""
    lots: tuple[str, ...] = _LOTS
    stories_m: Range = (7.0, 18.0)
    """How high buildings are."""
    walls: NDArray[np.float64] | None = None
    """(K, 3) colors of facades; None: the plain town's."""
    half_width_m: Range | None = None
    """Half the width of the road; None: one of the plain town's three."""
    sidewalk_m: Range = (2.8, 4.4)
    asphalt: NDArray[np.float64] | None = None
    """(3,) color of the road; None: the plain town's grays."""
    cobbles: bool = False
    marked: bool = True
    """Whether lanes are painted."""
    lawn: tuple[float, float, float] = (0.085, 0.14, 0.04)
    pavers: tuple[float, float, float] = (0.33, 0.32, 0.30)
    walk_gap_m: Range = (6.0, 26.0)
    """Between people who walk on the same line of a sidewalk."""
    cycle_gap_m: Range = (18.0, 40.0)
    furniture_gap_m: Range = (6.0, 8.5)
    """Between lamps, trees and signs along the curb."""
    posts: float = 1.0
    """How thick posts are beside the plain town's."""
    parked_share: float = 0.5
    lane_edge_m: float = 2.95
    """From the curb to who rides a bicycle on the road."""
    sun_deg: Range | None = None
    """How high the sun stands; None: where the plain town's weather has it."""
    contact: bool = False
    """Whether the sky's light is missing beneath and beside things: soft, dark contact shadows."""

    def weather(self, weather: Weather, seed: int) -> Weather:
        """The air and the light of this town: a sun of any height, haze, fog thin and thick."""
        if self.sun_deg is None:
            return weather
        rng = generator(seed, "air")
        height, azimuth = np.radians(rng.uniform(*self.sun_deg)), rng.uniform(-np.pi, np.pi)
        low = float(np.clip(1 - height / 0.45, 0, 1))
        warm = np.array([1.0, 1 - 0.25 * low, 1 - 0.5 * low])
        tint = rng.uniform(0.9, 1.1, 3)
        direction = np.array(
            [np.cos(azimuth) * np.cos(height), np.sin(azimuth) * np.cos(height), np.sin(height)]
        )
        day = not weather.night
        damp = rng.random() < 0.2 and weather.rain_mm_h == 0
        return replace(
            weather,
            sun_direction=direction,
            sun_color=weather.sun_color * (warm * rng.uniform(0.7, 1.3) if day else 1.0),
            sky_color=weather.sky_color * tint * rng.uniform(0.7, 1.5),
            horizon_color=weather.horizon_color * tint * rng.uniform(0.8, 1.3),
            fog_extinction_per_m=weather.fog_extinction_per_m * float(rng.uniform(0.5, 1.4)),
            wetness=float(rng.uniform(0.2, 0.8)) if damp else weather.wetness,
            clouds=float(np.clip(weather.clouds + rng.uniform(-0.25, 0.4), 0, 1)),
        )


PLAIN = Style()


def style(name: str, seed: int) -> Style:
    """The style called `name`, of the town of a seed.

    Raises:
        RobustsegError: there is no such style.
    """
    if name not in STREETS:
        raise RobustsegError(f"no streets called {name!r}; {did_you_mean(name, STREETS)}")
    return PLAIN if name == "plain" else _town(generator(seed, "style"))


def _town(rng: np.random.Generator) -> Style:
    lots, stories_m = _TOWNS[rng.integers(len(_TOWNS))]
    busy = rng.uniform(0.6, 1.6)
    """How close people follow one another, beside the mean."""
    gray = rng.uniform(0.05, 0.24)
    grass = np.array([0.10, 0.13, 0.045]) * rng.uniform(0.6, 1.5)
    dry = rng.uniform(0, 1) ** 2
    grass = grass * (1 - dry) + np.array([0.26, 0.21, 0.10]) * dry
    stone = np.full(3, rng.uniform(0.16, 0.48)) * rng.uniform(0.9, 1.1, 3)
    loud = 0.7 * rng.uniform(0, 1, (10, 1)) ** 2  # most are stone, brick, ochre and white
    warm = rng.uniform(0.12, 0.8, (10, 1)) * np.column_stack(
        [np.ones(10), rng.uniform(0.62, 1.0, 10), rng.uniform(0.4, 1.0, 10)]
    )
    walls = (1 - loud) * warm + loud * rng.uniform(0.08, 0.7, (10, 3))
    narrow = rng.random() < 0.35  # no room to park
    return Style(
        stock=stock.library("winter" if rng.random() < 0.25 else "mixed"),
        varied=True,
        lots=lots,
        stories_m=stories_m,
        walls=walls,
        half_width_m=(4.9, 6.0) if narrow else (6.9, 9.2),
        sidewalk_m=(1.8, 3.2) if narrow else (2.4, 5.5),
        asphalt=gray * rng.uniform(0.93, 1.07, 3),
        cobbles=bool(rng.random() < 0.12),
        marked=bool(rng.random() < 0.75),
        lawn=tuple(grass.tolist()),
        pavers=tuple(stone.tolist()),
        walk_gap_m=(1.5 * busy, 9.0 * busy),
        cycle_gap_m=(6.0 * busy, 22.0 * busy),
        furniture_gap_m=(2.6, 5.5),
        posts=float(rng.uniform(1.1, 2.2)),
        parked_share=0.0 if narrow else float(rng.uniform(0.2, 0.85)),
        lane_edge_m=0.8 if narrow else 2.95,
        sun_deg=(7.0, 72.0),
        contact=True,
    )
