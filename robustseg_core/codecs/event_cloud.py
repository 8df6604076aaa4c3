"""Events as a PointCloud2 whose points are pixels: x, y, t and p (polarity), in any numbers.

Whole numbers of t are microseconds, others seconds; p is ON above 0. Such a cloud does not say how
large the sensor is: it is taken for the smallest known one that holds its events.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustseg_core.codecs.events._base import Events
from robustseg_core.codecs.points import table_of
from robustseg_core.types import Fault, Rejection

EVENT_CLOUD = "x y t p"
"""What a guess calls the form of such a cloud."""
_COLUMNS = {
    "x": ("x",),
    "y": ("y",),
    "t": ("t", "ts", "time", "timestamp"),
    "p": ("p", "polarity", "pol"),
}
_SENSORS = ((128, 128), (180, 240), (240, 304), (260, 346), (320, 320), (480, 640), (720, 1280))
"""(H, W) of DVS128, DAVIS240, ATIS, DAVIS346, GenX320, VGA, HD; by their pixels."""
_LARGEST = (2048, 2048)
_STRAY = 0.01
"""Share of the events that may lie off a sensor which is nevertheless taken for the right one."""
LATEST_US = 1 << 53
"""Nanoseconds of it fit into 64 bits; in microseconds since 1970, the year 2255."""


def is_event_cloud(message: Any) -> bool:
    """Whether a cloud has x, y, t and p, and no z: a place on a sensor, not in the world."""
    fields = getattr(message, "fields", None)
    if not isinstance(fields, (list, tuple)):
        return False
    names = {getattr(field, "name", None) for field in fields}
    return "z" not in names and all(names & set(known) for known in _COLUMNS.values())


class EventCloudDecoder:
    """Clouds in, events out; feed it every cloud of one stream in order."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the size of the sensor, and how often its clock has wrapped."""
        self.size = _SENSORS[0]
        """(H, W) of the sensor, as far as its events tell."""
        self._last: int | None = None
        self._epoch = 0

    def decode(self, message: Any) -> Events:
        """The events of the next cloud.

        Raises:
            Rejection: FORMAT; sizes that contradict each other, or no x, y, t and p.
        """
        if not is_event_cloud(message):
            raise Rejection(
                Fault.FORMAT, "cloud has no fields x, y, t and p, or has z, too; expected events"
            )
        table = table_of(message, tuple(_COLUMNS.items()))
        with np.errstate(all="ignore"):
            x, y = (_pixels(np.ravel(table[name])) for name in "xy")
            on = np.ravel(table["p"]) > 0
            t, known = self._microseconds(np.ravel(table["t"]))
        self._grow(x, y)
        height, width = self.size
        if known is None and x.max(initial=0) < width and y.max(initial=0) < height:
            return Events(x, y, on, t, len(t))
        known = np.ones(len(t), np.bool_) if known is None else known
        inside = (x < width) & (y < height)
        keep = known & inside
        outside = int((known & ~inside).sum())
        unknown = len(t) - int(known.sum())
        return Events(x[keep], y[keep], on[keep], t[keep], len(t), unknown, outside=outside)

    def _microseconds(self, t: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.bool_] | None]:
        """Times that go on where 32 bits end, and which of them can be times; None: all can."""
        if t.dtype.kind == "f":
            known = np.abs(t) < LATEST_US / 1e6
            whole = np.where(known, t, 0).astype(np.float64) * 1e6
            return np.rint(whole).astype(np.int64), known
        times = t.astype(np.int64)
        if t.dtype.itemsize == 4 and times.size:
            before = times[0] if self._last is None else self._last
            self._last, epoch = int(times[-1]), self._epoch
            if max(int(times.max()), before) - min(int(times.min()), before) > 1 << 31:
                steps = np.diff(times, prepend=before)
                laps = (steps < -(1 << 31)).astype(np.int64) - (steps > 1 << 31)
                times += np.cumsum(laps) << 32
                self._epoch += int(laps.sum()) << 32
            if epoch:
                times += epoch
        return times, None

    def _grow(self, x: NDArray[np.uint16], y: NDArray[np.uint16]) -> None:
        for height, width in (*_SENSORS, _LARGEST):
            if height < self.size[0] or width < self.size[1]:
                continue
            self.size = height, width
            if x.max(initial=0) < width and y.max(initial=0) < height:
                return
            if np.count_nonzero((x >= width) | (y >= height)) <= _STRAY * len(x):
                return


def _pixels(values: NDArray[Any]) -> NDArray[np.uint16]:
    """Columns or rows; what cannot be one lies off any sensor."""
    if values.dtype.kind != "u":
        values = np.where(values >= 0, np.nan_to_num(values), _LARGEST[0])
    pixels: NDArray[np.uint16] = np.minimum(values, _LARGEST[0]).astype(np.uint16, copy=False)
    return pixels
