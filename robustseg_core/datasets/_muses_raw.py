"""The raw sensors of MUSES, as the types that live sensors have: calibration, events, LiDAR.

From there on the live node's own code encodes them: one projection for recordings and robots. What
the data set's SDK does otherwise is not imitated: points behind the camera, last write wins.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustseg_core.codecs.events import Events, Packet
from robustseg_core.codecs.fields import FARTHEST_M
from robustseg_core.codecs.picture_file import read_bytes, read_json
from robustseg_core.codecs.points import Cloud
from robustseg_core.errors import RobustsegError, not_installed
from robustseg_core.geometry.camera import Camera
from robustseg_core.geometry.view import View
from robustseg_core.storage.budget import budget

CAMERA_SIZE = (1080, 1920)
"""(H, W) that the RGB camera's K is defined for, whatever size pictures are brought to."""
WINDOW_US = 30_000
"""Events of this long before the end of the exposure are in a file; their clock starts at 0."""
STAMP_NS = WINDOW_US * 1000 - 1
"""The end of the window: a set stamped so, looking back 30 ms, has every event of the file."""

_COLUMNS = 6
_LARGEST = 1e9
"""Beyond any intensity or ring."""
_MOST_EVENTS = 1 << 26
"""In 30 ms: twenty times what the fastest sensor can send."""
_LOST_SHARE = 0.01
"""More events than this off the sensor mean that its size is not what we believe."""


class Calibration:
    """`calib.json`: who sees what, on a grid of any size (no lens: the data are undistorted)."""

    def __init__(self, path: Path, event_size: tuple[int, int]) -> None:
        tree = read_json(path)
        try:
            intrinsics, extrinsics = tree["intrinsics"], tree["extrinsics"]
            self._rgb = _camera(intrinsics["rgb"]["K"], CAMERA_SIZE)
            self._event = _camera(intrinsics["event"]["K"], event_size)
            self._poses = {
                modality: np.asarray(extrinsics[f"{modality}2rgb"], np.float64).reshape(4, 4)
                for modality in ("lidar", "event")
            }
            if not all(np.isfinite(pose).all() for pose in self._poses.values()):
                raise ValueError("a pose is not finite")
        except KeyError as error:
            raise RobustsegError(f"{path} has no entry {error}; unpack it again") from None
        except (ValueError, TypeError, ArithmeticError) as error:
            text = " ".join(str(error).split())
            raise RobustsegError(f"{path} is no calibration: {text}; unpack it again") from None
        self._views: dict[tuple[int, int], View] = {}

    def view(self, size: tuple[int, int]) -> View:
        """The RGB camera's view on a grid of (H, W), on which both other sensors can be placed."""
        if size not in self._views:
            view = View(size)
            view.set_camera("rgb", self._rgb)
            view.set_camera("event", self._event)
            for modality, rgb_from_sensor in self._poses.items():
                view.set_pose(modality, rgb_from_sensor)
            self._views[size] = view
        return self._views[size]


def read_events(path: Path, size: tuple[int, int]) -> Packet:
    """The events of an `_event_camera.h5`, on a clock that ends at `STAMP_NS`.

    Args:
        path: file with `events/{x,y,t,p}`; t in microseconds since the window's start, unsigned.
        size: (H, W) of the event sensor.

    Raises:
        RobustsegError: missing or damaged file, missing library, events off the sensor.
    """
    try:
        import h5py
        import hdf5plugin  # noqa: F401 (its import teaches HDF5 the Blosc filter)
    except ImportError as error:
        raise RobustsegError(
            f"the events of MUSES cannot be read: {not_installed(error.name or 'h5py')}"
        ) from None
    _must_exist(path)
    try:
        with h5py.File(path, "r") as file:
            columns = [file[f"events/{name}"] for name in "xytp"]
            for column in columns:
                if (
                    column.ndim != 1
                    or column.size > _MOST_EVENTS
                    or column.dtype.kind not in "biuf"
                ):
                    raise ValueError(
                        f"{column.name} is {column.dtype} {column.shape}; expected one number for "
                        f"each of at most {_MOST_EVENTS} events"
                    )
                stored = column.id.get_storage_size()
                budget().check(column.nbytes, f"{path}: {column.name} claims", packed=stored)
            x, y, t, p = (np.asarray(column[()]) for column in columns)
    except KeyError:
        raise RobustsegError(f"{path} has no events/x, y, t and p; unpack it again") from None
    except (OSError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        text = " ".join(str(error).split())
        raise RobustsegError(f"{path} is no readable HDF5 file: {text}; unpack it again") from None
    if not x.shape == y.shape == t.shape == p.shape:
        raise RobustsegError(
            f"{path} has {x.size} x, {y.size} y, {t.size} t and {p.size} p; unpack it again"
        )
    height, width = size
    x, y = (np.rint(axis).astype(np.int64) for axis in (x, y))
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    if inside.size and 1 - inside.mean() > _LOST_SHARE:
        raise RobustsegError(
            f"{path} has events at up to x {x.max()}, y {y.max()}, beyond the sensor's "
            f"{height}x{width}; set options.event_size to its (height, width)"
        )
    t = t.astype(np.int64)[inside]  # unsigned microseconds cannot be subtracted from
    events = Events(
        x[inside].astype(np.uint16),
        y[inside].astype(np.uint16),
        p[inside] > 0,
        t,
        outside=int((~inside).sum()),
    )
    late_us = max(0, int(t.max(initial=0)) - (WINDOW_US - 1))
    rate = t.size / (WINDOW_US * 1e-6)
    return Packet(height, width, events, -late_us * 1000, rate)


def read_scan(path: Path, nearest_m: float) -> Cloud:
    """The returns of a `_lidar.bin`: float64 x, y, z, intensity, ring, time.

    Points nearer to the sensor than `nearest_m` (the car itself) are dropped, and those that no
    sensor can have seen. Ego-motion during the scan is not compensated.

    Raises:
        RobustsegError: missing file, or a size that is no multiple of six numbers.
    """
    data = read_bytes(path)
    if len(data) % (8 * _COLUMNS):
        raise RobustsegError(
            f"{path} has {len(data)} bytes; expected rows of {_COLUMNS} float64 "
            f"({8 * _COLUMNS} bytes each); unpack it again"
        )
    rows = np.frombuffer(data, "<f8").reshape(-1, _COLUMNS)
    with np.errstate(all="ignore"):
        range_m = np.linalg.norm(rows[:, :3], axis=1)
        keep = (range_m >= nearest_m) & (range_m < FARTHEST_M)  # not so where one is no number
        keep &= np.abs(rows[:, 3:5]).max(1, initial=0) < _LARGEST
    kept = rows[keep]
    return Cloud(
        np.ascontiguousarray(kept[:, :3], np.float32),
        kept[:, 3].astype(np.float32),
        kept[:, 4].astype(np.int32),
        len(rows),
    )


def _must_exist(path: Path) -> None:
    """HDF5's own words about a missing file are unreadable."""
    if not path.is_file():
        raise RobustsegError(f"cannot read {path}: no such file; unpack it from the archive again")


def _camera(matrix: Any, size: tuple[int, int]) -> Camera:
    k: NDArray[np.float64] = np.asarray(matrix, np.float64).reshape(3, 3)
    if not np.isfinite(k).all() or k[0, 0] <= 0 or k[1, 1] <= 0:
        raise ValueError(f"K is {k.tolist()}; expected focal lengths > 0")
    return Camera(*size, float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2]))
