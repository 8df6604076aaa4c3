"""What the air and the light do: conditions by name, turned into numbers that sensors use."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robustseg_core.errors import RobustsegError
from robustseg_core.sim import generator

CONDITIONS = ("clear", "cloud", "fog", "rain", "night")


@dataclass(frozen=True)
class Weather:
    """Illumination and attenuation; luminance 1 is white paper in full sun."""

    conditions: frozenset[str]
    sun_direction: NDArray[np.float64]
    """(3,) unit vector to the sun (or moon), world axes."""
    sun_color: NDArray[np.float64]
    """(3,) strength of the direct light."""
    sky_color: NDArray[np.float64]
    """(3,) luminance of the zenith, which also lights what faces up."""
    horizon_color: NDArray[np.float64]
    """(3,) luminance of the horizon, and of what fog scatters into view."""
    fog_extinction_per_m: float
    """Beer-Lambert extinction over one metre by haze, fog and rain together; visibility is 3.9 over
    it (Koschmieder)."""
    rain_mm_h: float
    wetness: float
    """0 dry .. 1 covered with water: darker, more mirror-like ground."""
    clouds: float
    """Share of the sky that is covered, 0..1."""
    night: bool
    """Headlights, street lamps and windows are lit."""

    def transmission(self, distance_m: NDArray[np.floating]) -> NDArray[np.float32]:
        """Share of light that passes the air over a way (one way), 0..1."""
        far = np.minimum(distance_m, 1e5).astype(np.float32)
        share: NDArray[np.float32] = np.exp(np.float32(-self.fog_extinction_per_m) * far)
        return share


def weather_from(conditions: Iterable[str], *, seed: int) -> Weather:
    """The weather of combined conditions; the seed places the sun and scatters the strengths.

    Raises:
        RobustsegError: a condition is unknown, or "clear" goes with cloud, fog or rain.
    """
    names = frozenset(conditions) or frozenset({"clear"})
    unknown = sorted(names - set(CONDITIONS))
    if unknown:
        raise RobustsegError(
            f"condition {unknown[0]!r} is not known; have {', '.join(CONDITIONS)}, also combined"
        )
    if "clear" in names and names & {"cloud", "fog", "rain"}:
        raise RobustsegError(
            f"conditions {', '.join(sorted(names))} contradict each other; leave out 'clear'"
        )
    rng = generator(seed, "weather")
    azimuth, height = rng.uniform(-np.pi, np.pi), np.radians(rng.uniform(28, 58))
    vary, mist, drops = rng.uniform(0.8, 1.25, 3)
    sun = np.array([1.0, 0.95, 0.86])
    sky, horizon = np.array([0.20, 0.36, 0.68]), np.array([0.62, 0.70, 0.80])
    extinction, clouds = 1.0 / 4000, 0.25
    rain_mm_h = 12.0 * drops if "rain" in names else 0.0
    if names & {"cloud", "fog", "rain"}:
        grey = 0.55 if "rain" in names else 0.75
        sun, clouds = sun * 0.12, 1.0
        sky, horizon = np.full(3, 0.62) * grey, np.array([0.72, 0.75, 0.78]) * grey
    if rain_mm_h:
        extinction += 1.076 * rain_mm_h**0.67 / 4343  # dB/km; Carbonneau and Wisely 1998
    if "fog" in names:
        extinction, sun = 0.030 * mist, sun * 0.3
        horizon = np.array([0.64, 0.66, 0.68])
        sky = horizon * 0.95
    night = "night" in names
    if night:
        sun, clouds = np.array([0.6, 0.7, 1.0]) * 0.004, max(clouds, 0.3)
        sky, horizon = np.array([0.5, 0.6, 1.0]) * 0.0008, np.array([1.0, 0.8, 0.6]) * 0.0022
    direction = np.array(
        [np.cos(azimuth) * np.cos(height), np.sin(azimuth) * np.cos(height), np.sin(height)]
    )
    return Weather(
        names,
        direction,
        sun * (vary if not night else 1.0),
        sky,
        horizon,
        float(extinction),
        float(rain_mm_h),
        1.0 if rain_mm_h else 0.0,
        clouds,
        night,
    )
