"""Cameras and mounts as a caller gives them, plain arrays and mappings; each is checked."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustseg_core.config import ViewConfig
from robustseg_core.errors import RobustsegError, did_you_mean
from robustseg_core.geometry.camera import Camera

CameraLike: TypeAlias = "Camera | ArrayLike | Mapping[str, Any]"
"""A `Camera`; or a 3x3 matrix K, for the pixels of the image that is given with it; or a mapping of
`K` with `size` (H, W), `distortion` (OpenCV's order) and `fisheye` (bool) as far as they are so."""

_DISTORTIONS = {False: (4, 5, 8), True: (4,)}
"""fisheye -> how many coefficients there may be."""


def size_of(camera: Any) -> tuple[int, int] | None:
    """(H, W) that a camera says of itself; None: it does not."""
    if isinstance(camera, Camera):
        return camera.image_size
    size = camera.get("size") if isinstance(camera, Mapping) else None
    if size is None:
        return None
    pixels = np.asarray(size)
    if pixels.shape != (2,) or pixels.dtype.kind not in "iu" or pixels.min() <= 0:
        raise RobustsegError(f"camera's size is {reprlib.repr(size)}; give (height, width)")
    return int(pixels[0]), int(pixels[1])


def camera_of(name: str, value: Any, size: tuple[int, int] | None) -> Camera:
    """A camera of `size`, unless it says another; that of sensor `name`.

    Raises:
        RobustsegError: no 3x3 matrix of a pinhole camera, or it does not fit its image.
    """
    if isinstance(value, Camera):
        return value
    what = f"camera of {name}"
    rest: Mapping[str, Any] = {}
    if isinstance(value, Mapping):
        if unknown := [key for key in value if key not in ("K", "size", "distortion", "fisheye")]:
            way_out = did_you_mean(str(unknown[0]), ("K", "size", "distortion", "fisheye"))
            raise RobustsegError(f"{what} has an unknown key {unknown[0]!r}; {way_out}")
        if "K" not in value:
            raise RobustsegError(f"{what} lacks 'K', the 3x3 matrix; it has {list(value)}")
        value, rest = value["K"], value
    matrix = _floats(f"{what}: K", value, (3, 3))
    if not np.allclose(matrix[2], (0, 0, 1)) or not np.allclose(matrix[[0, 1], [1, 0]], 0):
        raise RobustsegError(
            f"{what}: K is {matrix.tolist()}; expected [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]"
        )
    if matrix[0, 0] <= 0 or matrix[1, 1] <= 0:
        raise RobustsegError(
            f"{what}: K has focal lengths {matrix[0, 0]:g} and {matrix[1, 1]:g}; "
            "give pixels, more than 0"
        )
    size = size_of(rest) or size
    if size is None:
        raise RobustsegError(
            f"{what} does not say how many pixels it has; give {{'K': K, 'size': (H, W)}}"
        )
    fisheye = rest.get("fisheye", False)
    if not isinstance(fisheye, (bool, np.bool_)):
        raise RobustsegError(f"{what} has the fisheye {reprlib.repr(fisheye)}; give True or False")
    fisheye = bool(fisheye)
    lens = _lens(what, rest.get("distortion", ()), _DISTORTIONS[fisheye])
    height, width = size
    fx, fy, cx, cy = matrix[[0, 1, 0, 1], [0, 1, 2, 2]].tolist()
    camera = Camera(
        height,
        width,
        fx,
        fy,
        cx,
        cy,
        distortion=tuple(lens.tolist()),
        fisheye=fisheye and bool(lens.size),
    )
    if wrong := camera.impossible:
        raise RobustsegError(f"{what}: {wrong}; give K of these pixels")
    return camera


def _lens(what: str, value: Any, sizes: Sequence[int]) -> NDArray[np.float64]:
    """(N,) coefficients of a distortion; none, or as many as one of `sizes`.

    Raises:
        RobustsegError: they are not.
    """
    try:
        lens = np.ravel(np.asarray(value, np.float64))
    except (TypeError, ValueError):
        lens = np.array([np.nan])
    if lens.size and (lens.size not in sizes or not np.isfinite(lens).all()):
        raise RobustsegError(
            f"{what} has the distortion {reprlib.repr(value)}; give "
            f"{' or '.join(map(str, sizes))} finite numbers"
        )
    return lens


def pose_of(what: str, value: Any) -> NDArray[np.float64]:
    """A (4, 4) rigid transform in metres.

    Raises:
        RobustsegError: none, or one that is farther away than any robot is large.
    """
    matrix = _floats(what, value, (4, 4))
    turn, limit_m = matrix[:3, :3], ViewConfig().max_distance_m
    if not np.allclose(matrix[3], (0, 0, 0, 1)):
        raise RobustsegError(f"{what} has the last row {matrix[3].tolist()}; expected 0, 0, 0, 1")
    if not np.allclose(turn @ turn.T, np.eye(3), atol=1e-3) or np.linalg.det(turn) < 0:
        raise RobustsegError(f"{what} holds no rotation; give a rigid 4x4 transform")
    if (distance_m := float(np.linalg.norm(matrix[:3, 3]))) > limit_m:
        raise RobustsegError(
            f"{what} puts the sensor {distance_m:.1f} m from the camera, limit {limit_m:g} m; give "
            "metres"
        )
    return matrix


def _floats(what: str, value: Any, shape: tuple[int, int]) -> NDArray[np.float64]:
    """A finite matrix of that shape."""
    try:
        matrix = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        matrix = np.empty(0)
    if matrix.shape != shape:
        raise RobustsegError(
            f"{what} is {reprlib.repr(value)}; give a {shape[0]}x{shape[1]} matrix"
        )
    if not np.isfinite(matrix).all():
        raise RobustsegError(f"{what} has values that are not finite; calibrate again")
    return matrix
