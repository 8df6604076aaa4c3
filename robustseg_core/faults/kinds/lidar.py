"""What goes wrong with a LiDAR: what does not come back, and what comes back elsewhere.

Points are changed in place of a copy, whatever the layout; a lost return is NaN, as REP 117 says.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robustseg_core.codecs.fields import sizes
from robustseg_core.codecs.points import DATATYPES, RING
from robustseg_core.faults._base import FaultModel, FaultState, altered, payload, with_payload
from robustseg_core.types import Fault, Rejection

_BANDS = 64
"""Rings that a cloud without a ring number is taken to have."""


class Points:
    """The points of a message, in a copy of its payload that may be written to."""

    def __init__(self, message: Any) -> None:
        self._message = message
        self._data = payload(message)
        self._shape = sizes(message, "height", "width")
        self._strides = sizes(message, "row_step", "point_step")
        self._fields = {field.name: field for field in message.fields}
        if self._shape[0] * self._strides[0] != self._data.size:
            text = f"payload has {self._data.size} bytes; row_step and height make another number"
            raise Rejection(Fault.FORMAT, text)
        if missing := [name for name in "xyz" if name not in self._fields]:
            raise Rejection(Fault.FORMAT, f"cloud has no field {', '.join(missing)}")

    def view(self, name: str) -> NDArray[Any]:
        """(H, W) view of one field."""
        field = self._fields[name]
        order = ">" if self._message.is_bigendian else "<"
        kind = np.dtype(order + DATATYPES[field.datatype])
        return np.ndarray(self._shape, kind, self._data.data, field.offset, self._strides)

    def xyz(self) -> NDArray[np.float64]:
        """(3, H, W) metres."""
        return np.stack([self.view(name).astype(np.float64) for name in "xyz"])

    def records(self) -> NDArray[np.uint8]:
        """(H, W, bytes of a point) view of all fields."""
        step, point = self._strides
        return np.ndarray((*self._shape, point), np.uint8, self._data.data, 0, (step, point, 1))

    def rings(self) -> NDArray[np.intp]:
        """(H, W) number of the laser: told, the row of an organized cloud, or by elevation."""
        if told := [name for name in RING if name in self._fields]:
            return np.asarray(self.view(told[0]), np.intp)
        if self._shape[0] > 1:
            return np.broadcast_to(np.arange(self._shape[0])[:, None], self._shape)
        x, y, z = self.xyz()
        elevation = np.nan_to_num(np.arctan2(z, np.hypot(x, y)))
        edges = np.quantile(elevation, np.arange(1, _BANDS) / _BANDS)
        return np.asarray(np.searchsorted(edges, elevation), np.intp)

    def put(self, xyz: NDArray[np.floating[Any]]) -> None:
        """Let the (3, H, W) metres be these."""
        for axis, name in zip(xyz, "xyz", strict=True):
            self.view(name)[...] = axis

    def dim(self, left: float) -> None:
        """Let this share of the intensities be left, where the cloud has any."""
        if "intensity" in self._fields:
            view = self.view("intensity")
            view[...] = view * left

    def lose(self, lost: NDArray[np.bool_]) -> Any:
        """The message without these returns."""
        for name in "xyz":
            axis = self.view(name)
            axis[lost] = np.nan if axis.dtype.kind == "f" else 0
        return self.message()

    def message(self) -> Any:
        """The message with the points as they are now."""
        return with_payload(self._message, self._data)


def mirrored(points: Points) -> Any:
    """The scan with left and right exchanged."""
    y = points.view("y")
    y[...] = -y
    return points.message()


class _CloudFault(FaultModel):
    contents: ClassVar = ("points",)

    def change(self, message: Any, state: FaultState) -> Any:
        """The message with other points."""
        points = Points(message)
        if not points.view("x").size:
            return message
        return self.edit(points, state)

    def edit(self, points: Points, state: FaultState) -> Any:
        """The message made of these points."""
        raise NotImplementedError


class Sector(_CloudFault):
    """Something stands before the LiDAR: a sector has no returns."""

    finds: ClassVar = frozenset({Fault.COVERED})
    may: ClassVar = frozenset({Fault.SPARSE_CLOUD, Fault.EMPTY_CLOUD})
    start_deg: float = Field(
        -60.0, ge=-360, le=360, description="Where it begins; 0 is ahead (x), 90 is left."
    )
    width_deg: float = Field(60.0, gt=0, le=360, description="How wide it is.")

    def expects(self, modality: str) -> frozenset[Fault]:
        """A person close by hides less."""
        return self.finds if self.width_deg >= 30 else frozenset()

    def edit(self, points: Points, state: FaultState) -> Any:
        """The scan with a gap."""
        x, y, _ = points.xyz()
        angle = np.degrees(np.arctan2(y, x))
        return points.lose((angle - self.start_deg) % 360 < self.width_deg)


class Rings(_CloudFault):
    """Lasers that are dead, at random but for good."""

    finds: ClassVar = frozenset({Fault.SPARSE_CLOUD})
    share: float = Field(0.5, gt=0, lt=1, description="Share of the lasers.")

    def expects(self, modality: str) -> frozenset[Fault]:
        """A quarter of the lasers is the limit."""
        return self.finds if self.share >= 0.4 else frozenset()

    def edit(self, points: Points, state: FaultState) -> Any:
        """The scan of the others."""
        ring = points.rings()
        if "dead" not in state.memory:  # decided once
            known = np.unique(ring)
            count = max(1, round(self.share * known.size))
            state.memory["dead"] = state.rng.choice(known, count, replace=False)
        return points.lose(np.isin(ring, state.memory["dead"]))


class Jitter(_CloudFault):
    """Ranges that tremble (rain, vibration)."""

    finds: ClassVar = frozenset({Fault.NOISY})
    metres: float = Field(0.1, gt=0, le=100, description="Deviation along the ray.")

    def expects(self, modality: str) -> frozenset[Fault]:
        """Fog and foliage make half of that."""
        return self.finds if self.metres >= 0.1 else frozenset()

    def edit(self, points: Points, state: FaultState) -> Any:
        """The trembling scan."""
        xyz = points.xyz()
        with np.errstate(all="ignore"):
            away = state.rng.normal(0, self.metres, xyz.shape[1:]) / np.linalg.norm(xyz, axis=0)
        scale = 1 + np.nan_to_num(away, posinf=0, neginf=0)
        points.put(xyz * scale)
        return points.message()


class SparseCloud(_CloudFault):
    """Most pulses do not come back (fog, a wet road)."""

    finds: ClassVar = frozenset({Fault.SPARSE_CLOUD})
    share: float = Field(0.8, gt=0, le=1, description="Share of the returns that is lost.")

    def expects(self, modality: str) -> frozenset[Fault]:
        """Half of the usual returns are still a scan."""
        return self.finds if self.share > 0.55 else frozenset()

    def edit(self, points: Points, state: FaultState) -> Any:
        """The thinned scan."""
        return points.lose(state.rng.random(points.view("x").shape) < self.share)


class EmptyCloud(_CloudFault):
    """Scans without a single point."""

    finds: ClassVar = frozenset({Fault.EMPTY_CLOUD})

    def change(self, message: Any, state: FaultState) -> Any:
        """The message with no points."""
        return altered(with_payload(message, b""), height=1, width=0, row_step=0)
