"""Plain arrays as people have them, to what decoders return: one sentence for whatever is amiss."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustseg_core.codecs.compressed_depth import from_metres
from robustseg_core.codecs.event_cloud import LATEST_US
from robustseg_core.codecs.events import Events
from robustseg_core.codecs.fields import MAX_PIXELS
from robustseg_core.codecs.points import Cloud, returns
from robustseg_core.errors import RobustsegError, did_you_mean

_COLUMNS = {
    "x": "x",
    "y": "y",
    "t_us": "t_us",
    "t": "t_us",
    "polarity": "polarity",
    "p": "polarity",
}
"""Name of a column of events -> what we call it."""
_BESIDE = ("size", "until_us")
_MOST_COLUMNS = 16
"""Columns of a point cloud; three or four rows of more are a cloud lying on its side."""


def image(name: str, value: Any) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB.

    Raises:
        RobustsegError: another shape or type.
    """
    array = _numbers(name, value, "an (H, W, 3) uint8 array")
    shape = array.shape
    if array.ndim == 4:
        raise RobustsegError(f"{name} has shape {shape}, a batch; give one image, as {name}[0]")
    if array.ndim == 2:
        raise RobustsegError(
            f"{name} has shape {shape}, gray; give np.stack([{name}] * 3, axis=-1)"
        )
    if array.ndim != 3 or shape[-1] != 3:
        way_out = "expected (H, W, 3)"
        if array.ndim == 3 and shape[-1] == 4:
            way_out = f"{way_out}; without alpha it is {name}[..., :3]"
        elif array.ndim == 3 and shape[0] == 3:
            way_out = f"{way_out}, channels last; give {name}.transpose(1, 2, 0)"
        raise RobustsegError(f"{name} has shape {shape}; {way_out}")
    _check_pixels(name, shape)
    if array.dtype != np.uint8:
        raise RobustsegError(f"{name} is {_values(array)}; {_to_uint8(name, array)}")
    return array


def metres(name: str, value: Any) -> NDArray[np.float32]:
    """(H, W) float32 metres, NaN where unknown.

    Raises:
        RobustsegError: another shape, or whole numbers, which are millimetres as a rule.
    """
    array = _numbers(name, value, "an (H, W) array of metres")
    if array.ndim != 2:
        way_out = "expected (H, W)"
        if 1 in (array.shape[:1] + array.shape[-1:]) and array.ndim == 3:
            way_out = f"{way_out}; give {name}.squeeze()"
        raise RobustsegError(f"{name} has shape {array.shape}; {way_out}")
    _check_pixels(name, array.shape)
    if array.dtype.kind != "f":
        raise RobustsegError(
            f"{name} is {_values(array)}; give metres as floats: millimetres are {name} / 1000"
        )
    with np.errstate(all="ignore"):
        return from_metres(array)


def cloud(name: str, value: Any) -> Cloud:
    """The returns of (N, 3 or more) x, y, z, intensity; further columns are not used.

    Raises:
        RobustsegError: another shape or type.
    """
    array = _numbers(name, value, "an (N, 3) or (N, 4) array of x, y, z in metres and intensity")
    shape = array.shape
    if array.ndim != 2 or shape[1] < 3:
        way_out = "expected (N, 3) or (N, 4): x, y, z in metres and intensity"
        if array.ndim == 2 and shape[0] in (3, 4):
            way_out = f"{way_out}; give {name}.T"
        raise RobustsegError(f"{name} has shape {shape}; {way_out}")
    if shape[0] in (3, 4) and shape[1] > _MOST_COLUMNS:
        raise RobustsegError(f"{name} has shape {shape}, a point a column; give {name}.T")
    _check_many(name, shape[0], "points")
    with np.errstate(all="ignore"):  # what is beyond float32 becomes inf, and is dropped
        columns = np.ascontiguousarray(array[:, :3].T, np.float32)
        return returns(columns, array[:, 3] if shape[1] > 3 else None, None)


def events(
    name: str, value: Any, size: tuple[int, int] | None
) -> tuple[Events, tuple[int, int], int]:
    """(events in the order of their times, (H, W) of the sensor, the moment in microseconds).

    Args:
        name: of the modality, for the errors.
        value: a mapping, or a structured array, with x, y, t_us (or t) and polarity (or p); a
            mapping may say the sensor's `size` and `until_us` when the set is, too.
        size: (H, W) of the sensor, where the value does not say it.

    Raises:
        RobustsegError: a column is missing, unknown or of another length or type, or an event lies
            off the sensor.
    """
    columns = _event_columns(name, value)
    count = len(columns["x"])
    _check_many(name, count, "events")
    for key, column in columns.items():
        if column.ndim != 1 or len(column) != count:
            raise RobustsegError(
                f"{name}[{key!r}] has shape {column.shape}; expected ({count},), one for each x"
            )
    own = value.get("size") if isinstance(value, Mapping) else None
    height, width = (_sensor_size(name, own) if own is not None else size) or (0, 0)
    if not height:
        raise RobustsegError(
            f"{name} does not say how many pixels its sensor has; give {name}['size'] = (H, W), "
            "or a camera"
        )
    for key, side in (("y", height), ("x", width)):
        _check_whole(f"{name}[{key!r}]", columns[key])
        if count and not (columns[key].min() >= 0 and columns[key].max() < side):
            raise RobustsegError(
                f"{name}[{key!r}] is {columns[key].min()} to {columns[key].max()} on a sensor of "
                f"{height}x{width} pixels; give {name}['size'] = (H, W) of yours"
            )
    polarity = columns["polarity"]
    if polarity.dtype.kind not in "biuf" or not np.isin(polarity, (-1, 0, 1)).all():
        raise RobustsegError(
            f"{name}['polarity'] is {_values(polarity)}; give True or 1 for brighter, and False, 0 "
            "or -1 for darker"
        )
    t_us = _times(f"{name}['t_us']", columns["t_us"])
    until = value.get("until_us") if isinstance(value, Mapping) else None
    if until is None:
        until_us = int(t_us.max()) if count else 0
    else:
        what = f"{name}['until_us']"
        moment = _numbers(what, until, "whole microseconds below 2 ** 53")
        if moment.ndim:
            raise RobustsegError(f"{what} has shape {moment.shape}; give one number")
        until_us = int(_times(what, moment))
    order = np.argsort(t_us, kind="stable")
    sorted_events = Events(
        columns["x"][order].astype(np.uint16),
        columns["y"][order].astype(np.uint16),
        polarity[order] > 0,
        t_us[order],
    )
    return sorted_events, (height, width), until_us


def _event_columns(name: str, value: Any) -> dict[str, NDArray[Any]]:
    """The four columns under our names."""
    if isinstance(value, Mapping):
        given = list(value)
    else:
        given = list(getattr(getattr(value, "dtype", None), "names", None) or ())
        if not given:
            raise RobustsegError(
                f"{name} is {_kind(value)}; give a mapping or a structured array with x, y, t_us "
                "and polarity"
            )
    found: dict[str, NDArray[Any]] = {}
    for key in given:
        if key not in _COLUMNS and key not in _BESIDE and isinstance(value, Mapping):
            known = (*_COLUMNS, *_BESIDE)
            raise RobustsegError(f"{name} has no {key!r}; {did_you_mean(str(key), known)}")
        if key in _COLUMNS:
            ours = _COLUMNS[key]
            if ours in found:
                raise RobustsegError(f"{name} has {ours!r} twice, once as {key!r}; give one")
            found[ours] = _numbers(f"{name}[{key!r}]", value[key], "a row of numbers")
    for wanted in dict.fromkeys(_COLUMNS.values()):
        if wanted not in found:
            raise RobustsegError(
                f"{name} lacks {wanted!r}; it has {given or 'nothing'}; give x, y, t_us, polarity"
            )
    return found


def _times(name: str, column: NDArray[Any]) -> NDArray[np.int64]:
    _check_whole(name, column)
    if column.size and not (column.min() > -LATEST_US and column.max() < LATEST_US):
        raise RobustsegError(f"{name} is {_values(column)}; give microseconds below 2 ** 53")
    return column.astype(np.int64)


def _sensor_size(name: str, value: Any) -> tuple[int, int]:
    size = np.asarray(value)
    whole = size.shape == (2,) and size.dtype.kind in "iu"
    if not whole or not 0 < size.min() <= size.max() < 1 << 16:
        raise RobustsegError(
            f"{name}['size'] is {reprlib.repr(value)}; give (height, width) of the sensor in pixels"
        )
    return int(size[0]), int(size[1])


def _numbers(name: str, value: Any, expected: str) -> NDArray[Any]:
    """`value` as an array of numbers."""
    if value is None:
        raise RobustsegError(f"{name} is None; leave a sensor out that has nothing to say")
    if isinstance(value, np.ma.MaskedArray) and (masked := np.count_nonzero(value.mask)):
        raise RobustsegError(
            f"{name} is a masked array, {masked} of its {value.size} values masked; give plain "
            f"values: {name}.filled(...) with what means unknown, or leave those out"
        )
    try:
        array = np.asarray(value)
    except Exception as error:  # of a tensor on a GPU, or rows of unequal length
        raise RobustsegError(f"{name} is no array ({error}); give {expected}") from None
    if isinstance(value, int) and array.dtype.kind == "O":  # more than 64 bits of it
        raise RobustsegError(f"{name} is {reprlib.repr(value)}; give {expected}")
    if array.dtype.kind not in "buif":
        raise RobustsegError(f"{name} is {_kind(value)}; give {expected}")
    return array


def _check_pixels(name: str, shape: tuple[int, ...]) -> None:
    pixels = shape[0] * shape[1]
    if not 0 < pixels <= MAX_PIXELS:
        raise RobustsegError(
            f"{name} has shape {shape}; expected at least one pixel, and at most {MAX_PIXELS}"
        )


def _check_many(name: str, count: int, what: str) -> None:
    """A view of one number may have any length, and is copied."""
    if count > MAX_PIXELS:
        raise RobustsegError(f"{name} has {count} {what}; give at most {MAX_PIXELS} at a time")


def _check_whole(name: str, column: NDArray[Any]) -> None:
    if column.dtype.kind not in "iu" and column.size:
        raise RobustsegError(
            f"{name} is {_values(column)}; give whole numbers: np.rint(...).astype(np.int64)"
        )


def _to_uint8(name: str, array: NDArray[Any]) -> str:
    """How an image of another type becomes one of 0 to 255."""
    if array.dtype.kind != "f":
        return f"give 0 to 255: {name}.astype(np.uint8), of 16 bits ({name} >> 8).astype(np.uint8)"
    low, high = float(array.min()), float(array.max())
    if low >= 0 and high <= 1:
        return f"give 0 to 255: ({name} * 255).round().astype(np.uint8)"
    if low >= 0 and high <= 255:
        return f"give whole levels: {name}.round().astype(np.uint8)"
    return "give uint8, 0 to 255, before any normalization"


def _values(array: NDArray[Any]) -> str:
    """Type and range, for people."""
    if not array.size:
        return f"{array.dtype} and empty"
    return f"{array.dtype} from {float(array.min()):g} to {float(array.max()):g}"


def _kind(value: Any) -> str:
    dtype, kind = getattr(value, "dtype", None), type(value).__name__
    article = "an" if kind[0].lower() in "aeiou" else "a"
    return f"{article} {kind}" + (f" of {dtype}" if dtype is not None else "")
