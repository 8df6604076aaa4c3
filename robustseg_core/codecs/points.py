"""PointCloud2 of any layout to arrays: one dtype per layout, one look at the payload, no loop."""

from __future__ import annotations

import reprlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustseg_core.codecs.fields import FARTHEST_M, as_bytes, byte_order, sizes, word
from robustseg_core.types import Fault, Rejection

DATATYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
"""PointField.datatype -> NumPy kind, without the byte order."""
_WANTED = (("x", ("x",)), ("y", ("y",)), ("z", ("z",)))
RING = ("ring", "laser_id", "line", "channel")
"""Fields that number the laser, the best first."""
_OPTIONAL = (
    (
        "intensity",
        ("intensity", "i", "intensities", "reflectivity", "remission", "reflectance"),
    ),
    ("ring", RING),
)
_MOST_FIELDS = 256


@dataclass(frozen=True, slots=True)
class Cloud:
    """Returns of one scan, in the sensor's frame; what did not return is dropped."""

    xyz: NDArray[np.float32]
    """(N, 3) metres; finite, and never the origin."""
    intensity: NDArray[np.float32] | None
    """(N,) in the sensor's own unit."""
    ring: NDArray[np.int32] | None
    """(N,) number of the laser."""
    total: int
    """Points of the message, dropped ones included."""


def decode_points(message: Any) -> Cloud:
    """The returns of a sensor_msgs/PointCloud2.

    Unaligned fields, padded points and rows, either endianness and all eight datatypes are read;
    an array field (`count` > 1) stands for its first element. NaN, infinite and (0, 0, 0) points
    are dropped (REP 117; Ouster and Velodyne drivers), and those farther than `FARTHEST_M`.

    Raises:
        Rejection: sizes that contradict each other; no x, y, z (the text names the fields present).
    """
    table = table_of(message, _WANTED, optional=_OPTIONAL)
    total = table.size
    if not total:
        return Cloud(np.empty((0, 3), np.float32), None, None, 0)
    columns = np.empty((3, total), np.float32)  # each axis in one piece: what follows is faster
    with np.errstate(all="ignore"):  # doubles beyond float32 become inf, and are dropped
        for column, name in zip(columns, "xyz", strict=True):
            column[:] = _values(table, name)
    names = table.dtype.names or ()
    return returns(
        columns,
        _values(table, "intensity") if "intensity" in names else None,
        _values(table, "ring") if "ring" in names else None,
    )


Names = tuple[tuple[str, tuple[str, ...]], ...]
"""A column as we call it, and the fields that it may be, the best first."""


def table_of(message: Any, wanted: Names, *, optional: Names = ()) -> NDArray[Any]:
    """(H, W) points of a sensor_msgs/PointCloud2 as they lie there, with the wanted columns.

    Raises:
        Rejection: sizes that contradict each other, or a wanted column that is missing; the text
            names the fields present.
    """
    height, width, point_step, row_step = sizes(
        message, "height", "width", "point_step", "row_step"
    )
    data = as_bytes(getattr(message, "data", None))
    kind, point_end = _layout(_fields(message), byte_order(message), wanted, optional)
    if point_end > point_step:
        raise Rejection(
            Fault.FORMAT, f"point_step is {point_step} bytes; the fields need {point_end}"
        )
    if row_step < width * point_step or row_step * height != len(data):
        raise Rejection(
            Fault.FORMAT,
            f"payload has {len(data)} bytes in {height} rows of row_step {row_step}; "
            f"{width} points of {point_step} bytes make rows of {width * point_step}",
        )
    if not height * width:
        return np.empty((0, 0), kind)
    return np.ndarray((height, width), kind, data, strides=(row_step, point_step))


def returns(
    columns: NDArray[np.float32], intensity: NDArray[Any] | None, ring: NDArray[Any] | None
) -> Cloud:
    """The returns of a scan's (3, N) x, y, z; what did not return is dropped, as above."""
    with np.errstate(all="ignore"):
        # One sum says it all: 0 for the origin, NaN or inf for what is not finite.
        square = columns[0] ** 2 + columns[1] ** 2 + columns[2] ** 2
        good = (square > 0) & (square < FARTHEST_M**2)
        keep: Any = slice(None) if good.all() else np.flatnonzero(good)
        return Cloud(
            columns[:, keep].T,
            None if intensity is None else np.nan_to_num(intensity[keep].astype(np.float32)),
            None if ring is None else np.nan_to_num(ring[keep]).astype(np.int32),
            columns.shape[1],
        )


def _values(table: NDArray[Any], name: str) -> NDArray[Any]:
    return table[name].reshape(-1)


def _fields(message: Any) -> tuple[tuple[str, int, int], ...]:
    fields = getattr(message, "fields", None)
    if not isinstance(fields, (list, tuple)):
        text = f"fields is {reprlib.repr(fields)}; expected a list of PointField"
        raise Rejection(Fault.FORMAT, text)
    if len(fields) > _MOST_FIELDS:
        raise Rejection(Fault.FORMAT, f"cloud has {len(fields)} fields, limit {_MOST_FIELDS}")
    found = []
    for field in fields:
        offset, code = sizes(field, "offset", "datatype")
        found.append((word(field, "name"), offset, code))
    return tuple(found)


@lru_cache(maxsize=64)
def _layout(
    fields: tuple[tuple[str, int, int], ...], order: str, needed: Names, optional: Names
) -> tuple[np.dtype[Any], int]:
    """dtype of the wanted fields under our names, and the bytes that a point needs at least."""
    there = {name: (offset, code) for name, offset, code in fields}
    if missing := [ours for ours, known in needed if not set(known) & set(there)]:
        raise Rejection(
            Fault.FORMAT,
            f"cloud has no field {', '.join(missing)}; it has {', '.join(there) or 'none at all'}",
        )
    wanted = {}
    for ours, known in (*needed, *optional):
        if found := [name for name in known if name in there]:
            wanted[ours] = found[0]
    names, formats, offsets = [], [], []
    for ours, theirs in wanted.items():
        offset, code = there[theirs]
        if code not in DATATYPES:
            raise Rejection(
                Fault.FORMAT, f"field {theirs} has datatype {code}; PointField knows 1 to 8"
            )
        base = np.dtype(order + DATATYPES[code])
        if offset + base.itemsize > 1 << 20:
            raise Rejection(Fault.FORMAT, f"field {theirs} lies at byte {offset} of a point")
        names.append(ours)
        formats.append(base)
        offsets.append(offset)
    end = max(o + f.itemsize for o, f in zip(offsets, formats, strict=True))
    layout: np.dtype[Any] = np.dtype(
        {"names": names, "formats": formats, "offsets": offsets, "itemsize": end}
    )
    return layout, end
