"""How the ego vehicle drives: along its lane, slower in bends, halting once at a crosswalk."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robustseg_core.sim import generator
from robustseg_core.sim.layout import Layout
from robustseg_core.sim.meshes import pose

LANE_M = -1.75
"""Lateral place of who keeps to the middle of the right lane."""
_TICK_S = 0.02
_PAUSE_S = 4.0


class Motion:
    """The ego's motion, tabulated once: way along against time.

    `lane_m` is how far to the left of the street's middle it drives.
    """

    def __init__(self, layout: Layout, lane_m: float = LANE_M) -> None:
        self._lane_m = lane_m
        rng = generator(layout.seed, "drive")
        street = layout.streets[0]
        grid = 0.25
        ways = np.arange(0.0, layout.length_m + grid, grid)
        _, heading = street.at(ways)
        bend = np.abs(np.gradient(heading, grid))
        cruise = rng.uniform(9.5, 13.0) + 0.8 * np.sin(ways / rng.uniform(18, 30))
        speed = np.clip(np.minimum(cruise, np.sqrt(1.8 / np.maximum(bend, 1e-4))), 5.0, 14.0)
        speed[np.abs(ways - layout.stop_m) < grid] = 0.3
        speed[-1] = 0.3
        for order in (range(1, len(ways)), range(len(ways) - 2, -1, -1)):
            for k in order:
                before = speed[k - 1] if order.step > 0 else speed[k + 1]
                speed[k] = min(speed[k], np.sqrt(before**2 + 2 * 1.6 * grid))
        step_s = grid / ((speed[1:] + speed[:-1]) / 2)
        halt = int(np.argmin(np.abs(ways - layout.stop_m)))
        times = np.concatenate([[0.0], np.cumsum(step_s)])
        self.stop_s = float(times[halt])
        """When the halt begins; the pause lasts four seconds."""
        times[halt + 1 :] += _PAUSE_S
        times = np.insert(times, halt + 1, times[halt] + _PAUSE_S - 0.05)
        ways = np.insert(ways, halt + 1, ways[halt] + 0.01)
        self.duration_s = float(times[-1])
        """The ego stands at the end of its street from then on."""
        even = np.arange(-1.0, self.duration_s + 1, _TICK_S)
        table = np.interp(even, times, ways)
        early = even < 0
        table[early] = speed[0] * even[early]
        kernel = np.hanning(51)
        padded = np.pad(table, 25, mode="reflect", reflect_type="odd")
        self._times, self._ways = even, np.convolve(padded, kernel / kernel.sum(), "valid")
        self._street = street
        self._sway = rng.uniform(0, 2 * np.pi, 3)

    def way_m(self, t_s: NDArray[np.floating] | float) -> NDArray[np.float64]:
        """(...) way along the main street at times (...); constant after the end."""
        return np.asarray(np.interp(t_s, self._times, self._ways))

    def pose(self, t_s: float) -> NDArray[np.float64]:
        """(4, 4) world_from_base: REP 103 axes, origin on the road below the vehicle's middle."""
        way = self.way_m(t_s)
        (x, y), heading = self._street.at(way, self._lane_m)
        ahead = float(self.way_m(t_s + 0.1) - self.way_m(t_s - 0.1)) / 0.2
        gain = (self.way_m(t_s + 0.2) - 2 * way + self.way_m(t_s - 0.2)) / 0.04
        shake = min(ahead, 8.0) / 8.0
        pitch = -0.006 * gain + 0.003 * shake * np.sin(9.1 * t_s + self._sway[0])
        roll = 0.003 * shake * np.sin(7.3 * t_s + self._sway[1])
        lift = 0.008 * shake * np.sin(8.2 * t_s + self._sway[2])
        matrix = pose(x, y, lift, float(heading))
        tilt = np.eye(4)
        c, s = np.cos(pitch), np.sin(pitch)
        tilt[:3, :3] = [[c, 0, s], [0, 1, 0], [-s, 0, c]]
        c, s = np.cos(roll), np.sin(roll)
        lean = np.eye(4)
        lean[1:3, 1:3] = [[c, -s], [s, c]]
        return matrix @ tilt @ lean
