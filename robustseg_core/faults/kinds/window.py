"""What settles on a lens or hangs before it: dirt, dew, dust; and a sensor that grows dim.

All of it creeps in over minutes, unless `minutes=0` says otherwise; so nothing is expected of
health in time, and what it may say is what it says in the end.
"""

from __future__ import annotations

from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robustseg_core.faults._base import Creeping, FaultState
from robustseg_core.faults.kinds._seen import Seen
from robustseg_core.faults.kinds.events import Columns
from robustseg_core.faults.kinds.lidar import Points
from robustseg_core.types import Fault

Plane = NDArray[np.float32]

_COARSE = (60, 96)
"""Rows and columns of the pattern that dirt on a lens is drawn as,"""
_WINDOW = (180, 360)
"""and dirt on a LiDAR's window: a cell is a degree."""
_BLOB = 3.0
"""Size of a spot, in cells of that."""
_EDGE = 0.08
"""How soft the edge of a spot is, in ranks of the pattern: dirt on a lens is out of focus."""
_DIRT = np.array([52, 44, 36], np.float32)
_DUST = np.array([188, 172, 146], np.float32)
_DEW_WIDTHS = 0.04
"""Width of the halo that drops make of each light, in widths of the picture."""
_NEAR_M = (0.4, 6.0)
"""Between these a beam meets dust."""


def _pattern(rng: np.random.Generator, shape: tuple[int, int], *, around: bool = False) -> Plane:
    """Spots as ranks: any share s of the cells are below s. `around`: the right edge meets the
    left."""
    noise = rng.standard_normal(shape, np.float32)
    wide = np.pad(noise, 16, mode="wrap" if around else "reflect")
    smooth = cv2.GaussianBlur(wide, (0, 0), _BLOB)[16:-16, 16:-16]
    ranks = np.empty(smooth.size, np.float32)
    ranks[np.argsort(smooth, axis=None)] = (np.arange(smooth.size) + 0.5) / smooth.size
    return ranks.reshape(shape)


def _spots(state: FaultState, size: tuple[int, ...]) -> Plane:
    """(H, W) ranks of the pixels, the same for every picture of this fault."""
    memory = state.memory
    if "spots" not in memory:
        memory["spots"] = _pattern(state.rng, _COARSE)
    wide = cv2.resize(memory["spots"], size[1::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(wide, np.float32)


def _scan_spots(points: Points, state: FaultState) -> NDArray[np.float64]:
    """(H, W) ranks of the returns, by direction: the share of the first scan that lies below."""
    memory = state.memory
    if "window" not in memory:
        memory["window"] = _pattern(state.rng, _WINDOW, around=True)
    window = memory["window"]
    x, y, z = np.nan_to_num(points.xyz())
    turn = (np.arctan2(y, x) / (2 * np.pi)) % 1
    lift = np.clip(np.arctan2(z, np.hypot(x, y)) / np.pi + 0.5, 0, 1)  # of straight up and down
    rows = np.minimum((lift * window.shape[0]).astype(int), window.shape[0] - 1)
    columns = np.minimum((turn * window.shape[1]).astype(int), window.shape[1] - 1)
    found = window[rows, columns]
    if "known" not in memory:
        memory["known"] = np.sort(found[returned(points)])
    known = memory["known"]
    return np.asarray(np.searchsorted(known, found) / max(1, known.size))


def returned(points: Points) -> NDArray[np.bool_]:
    """(H, W): where there is a return."""
    xyz = points.xyz()
    return np.asarray(np.isfinite(xyz).all(0) & (xyz != 0).any(0))


def _kept(seen: Columns, kept: NDArray[np.bool_]) -> Columns:
    """Those of the events."""
    x, y, p, t = (column[kept] for column in seen)
    return x, y, p, t


def _thinned(seen: Columns, share: float, rng: np.random.Generator) -> Columns:
    """Events of which this share is lost, at random."""
    return _kept(seen, rng.random(seen[0].size) >= share)


class Fouling(Seen, Creeping):
    """Dirt on the lens or on the LiDAR's window: spots through which nothing is seen."""

    contents: ClassVar = ("picture", "depth", "events", "points")
    may: ClassVar = frozenset(
        {Fault.COVERED, Fault.SPARSE_CLOUD, Fault.INVALID_DEPTH, Fault.NO_EVENTS, Fault.EMPTY_CLOUD}
    )
    called: ClassVar = frozenset(
        {Fault.COVERED, Fault.SPARSE_CLOUD, Fault.INVALID_DEPTH, Fault.NO_EVENTS, Fault.EMPTY_CLOUD}
    )
    measures: ClassVar = "share"
    levels: ClassVar = (0.05, 0.1, 0.2, 0.4, 0.6)
    share: float | None = Field(
        None, gt=0, le=1, description="Share of the picture, or of the returns, that is covered."
    )

    def picture(self, rgb: NDArray[np.uint8], state: FaultState) -> NDArray[np.uint8]:
        """Dark, soft spots."""
        share = self.grown(state)
        edge = max(min(_EDGE, 2 * share), 1e-6)  # the first spots are small, not pale
        cover = np.clip((share - _spots(state, rgb.shape)) / edge + 0.5, 0, 1)[..., None]
        return np.asarray(np.rint(rgb * (1 - cover) + _DIRT * cover), np.uint8)

    def metres(self, metres: NDArray[np.float64], state: FaultState) -> NDArray[np.float64]:
        """Spots without depth."""
        metres[_spots(state, metres.shape) < self.grown(state)] = np.nan
        return metres

    def brightness(self, seen: Columns, size: tuple[int, int], state: FaultState) -> Columns:
        """Spots without events."""
        return _kept(seen, _spots(state, size)[seen[1], seen[0]] >= self.grown(state))

    def points(self, points: Points, state: FaultState) -> Any:
        """Directions without a return."""
        return points.lose(_scan_spots(points, state) < self.grown(state))


class Dew(Seen, Creeping):
    """Drops on the lens or on the LiDAR's window: light is scattered, contrast goes."""

    contents: ClassVar = ("picture", "events", "points")
    may: ClassVar = frozenset(
        {
            Fault.BLURRED,
            Fault.FLAT,
            Fault.HAZY,
            Fault.DIM,
            Fault.COVERED,
            Fault.SPARSE_CLOUD,
            Fault.NO_EVENTS,
            Fault.FORMAT,
        }
    )
    called: ClassVar = frozenset(
        {
            Fault.BLURRED,
            Fault.HAZY,
            Fault.DIM,
            Fault.FLAT,
            Fault.SPARSE_CLOUD,
            Fault.COVERED,
            Fault.NO_EVENTS,
        }
    )
    measures: ClassVar = "share"
    levels: ClassVar = (0.15, 0.3, 0.5, 0.7, 0.9)
    share: float | None = Field(
        None, gt=0, le=1, description="Share of the light that is scattered, or does not return."
    )

    def picture(self, rgb: NDArray[np.uint8], state: FaultState) -> NDArray[np.uint8]:
        """The picture under a halo of itself."""
        share = self.grown(state)
        halo = cv2.GaussianBlur(rgb, (0, 0), max(1.0, _DEW_WIDTHS * rgb.shape[1]))
        return np.rint((1 - share) * rgb + share * halo).astype(np.uint8)

    def brightness(self, seen: Columns, size: tuple[int, int], state: FaultState) -> Columns:
        """What has less contrast makes fewer events."""
        return _thinned(seen, self.grown(state), state.rng)

    def points(self, points: Points, state: FaultState) -> Any:
        """Fewer and weaker returns."""
        share = self.grown(state)
        points.dim(1 - share)
        return points.lose(state.rng.random(points.view("x").shape) < share)


class Dust(Seen, Creeping):
    """Dust in the air: a pale veil before the camera, returns right before the LiDAR."""

    contents: ClassVar = ("picture", "depth", "points")
    may: ClassVar = frozenset(
        {
            Fault.FLAT,
            Fault.HAZY,
            Fault.COVERED,
            Fault.DISCOLORED,
            Fault.INVALID_DEPTH,
            Fault.NOISY,
            Fault.NEAR_RETURNS,
        }
    )
    called: ClassVar = frozenset(
        {Fault.HAZY, Fault.FLAT, Fault.INVALID_DEPTH, Fault.NOISY, Fault.NEAR_RETURNS}
    )
    measures: ClassVar = "share"
    levels: ClassVar = (0.05, 0.15, 0.3, 0.5, 0.7)
    share: float | None = Field(
        None, gt=0, le=1, description="Share of the light, or of the returns, that is the dust's."
    )

    def picture(self, rgb: NDArray[np.uint8], state: FaultState) -> NDArray[np.uint8]:
        """A veil that is thicker here than there; its mean is the share."""
        share = self.grown(state)
        uneven = 2 * share * (1 - share) * (_spots(state, rgb.shape)[..., None] - 0.5)
        veil = share + uneven
        return np.asarray(np.rint(rgb * (1 - veil) + _DUST * veil), np.uint8)

    def metres(self, metres: NDArray[np.float64], state: FaultState) -> NDArray[np.float64]:
        """The share of the pixels that see a cloud instead, in clouds; those without depth stay."""
        near = state.rng.uniform(*_NEAR_M, metres.shape)
        dusty = (_spots(state, metres.shape) < self.grown(state)) & (near < metres)
        return np.where(dusty, near, metres)

    def points(self, points: Points, state: FaultState) -> Any:
        """The share of the beams that come back too early."""
        xyz = points.xyz()
        away = np.linalg.norm(xyz, axis=0)
        near = state.rng.uniform(*_NEAR_M, away.shape)
        dusty = state.rng.random(away.shape) < self.grown(state)
        dusty &= returned(points) & (near < away)
        points.put(xyz * np.where(dusty, near / np.where(dusty, away, 1), 1))
        return points.message()


class Fading(Seen, Creeping):
    """The sensor grows dim: exposure, intensity, points or events slowly collapse."""

    contents: ClassVar = ("picture", "depth", "events", "points")
    may: ClassVar = frozenset(
        {
            Fault.BLACK,
            Fault.DIM,
            Fault.FLAT,
            Fault.COVERED,
            Fault.INVALID_DEPTH,
            Fault.SPARSE_CLOUD,
            Fault.EMPTY_CLOUD,
            Fault.NO_EVENTS,
            Fault.OUTSIDE,
            Fault.FORMAT,
        }
    )
    called: ClassVar = frozenset(
        {
            Fault.DIM,
            Fault.BLACK,
            Fault.FLAT,
            Fault.SPARSE_CLOUD,
            Fault.EMPTY_CLOUD,
            Fault.INVALID_DEPTH,
            Fault.NO_EVENTS,
        }
    )
    measures: ClassVar = "lost"
    levels: ClassVar = (0.3, 0.5, 0.7, 0.85, 0.95)
    lost: float | None = Field(
        None, gt=0, le=1, description="Share of the light, or of the measurements, that is lost."
    )

    def picture(self, rgb: NDArray[np.uint8], state: FaultState) -> NDArray[np.uint8]:
        """A darker picture, and its grain."""
        dim = rgb * np.float32(1 - self.grown(state))
        grain = state.rng.standard_normal(rgb.shape, np.float32) * np.float32(0.7)
        return np.asarray(np.clip(np.rint(dim + grain), 0, 255), np.uint8)

    def metres(self, metres: NDArray[np.float64], state: FaultState) -> NDArray[np.float64]:
        """What is far, and so returns the least light, is lost first."""
        metres[self._weakest(metres, np.isfinite(metres), state)] = np.nan
        return metres

    def brightness(self, seen: Columns, size: tuple[int, int], state: FaultState) -> Columns:
        """Fewer events."""
        return _thinned(seen, self.grown(state), state.rng)

    def points(self, points: Points, state: FaultState) -> Any:
        """Weaker returns, and fewer: what is far is lost first."""
        points.dim(1 - self.grown(state))
        away = np.linalg.norm(points.xyz(), axis=0)
        return points.lose(self._weakest(away, returned(points), state))

    def _weakest(
        self, away: NDArray[np.float64], known: NDArray[np.bool_], state: FaultState
    ) -> NDArray[np.bool_]:
        """The share of the `known` that is farthest, give or take the reflectance of things."""
        lost = np.zeros(away.shape, bool)
        order = np.argsort(-away[known] * state.rng.lognormal(0, 0.5, int(known.sum())))
        weak = np.zeros(order.size, bool)
        weak[order[: round(self.grown(state) * order.size)]] = True
        lost[known] = weak
        return lost
