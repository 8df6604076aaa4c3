"""Points of a sensor onto the pixel grid, the nearest wins: place, project and compare in one pass.

What `View.place`, `Camera.project`, `View.project` and `View.nearest` say one after the other, each
over arrays of all points; the numbers and their order are theirs, in float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robustseg_core.codecs.fields import Compiled
from robustseg_core.geometry.camera import NEAR_M, Camera

_NOWHERE = np.float32(np.inf)
_AT_ONCE = 512
"""Points; what is computed of them stays in the cache."""
_EVERY = np.empty(0, np.float32)


@dataclass(frozen=True, slots=True)
class Nearest:
    """What each pixel of the grid shows."""

    depth_m: NDArray[np.float32]
    """(H * W,) along the view's axis; infinite where there is nothing."""
    index: NDArray[np.int32]
    """(H * W,) which of the points; -1: none."""


def nearest(
    points: NDArray[np.float32],
    view_from_sensor: NDArray[np.float64],
    camera: Camera,
    size: tuple[int, int],
    *,
    grow: int = 1,
    lengths: NDArray[np.float32] | None = None,
) -> Nearest:
    """The nearest point of each pixel.

    Args:
        points: (N, 3) in the sensor's frame, or rays.
        view_from_sensor: (4, 4).
        camera: the view's.
        size: (H, W) of the grid.
        grow: side in pixels of the square that each point paints.
        lengths: (N,) what rays are multiplied by; those without one, 0 or NaN, hit nothing.
    """
    height, width = size
    k = np.zeros(8)
    k[: len(camera.distortion)] = camera.distortion
    rotation = np.array(camera.rotation or np.eye(3), np.float32).reshape(3, 3)
    depth_m = np.full(height * width, _NOWHERE, np.float32)
    index = np.full(height * width, -1, np.int32)
    lens = np.array(
        [camera.fx, camera.fy, camera.cx, camera.cy, width / camera.width, height / camera.height],
        np.float32,
    )
    _paint(
        np.ascontiguousarray(points, np.float32),
        _EVERY if lengths is None else np.ascontiguousarray(lengths, np.float32),
        view_from_sensor[:3].astype(np.float32),
        rotation,
        bool(camera.rotation),
        lens,
        np.concatenate((k, 2 * k[2:4])).astype(np.float32),
        (2 if camera.fisheye else 1) if camera.distortion else 0,
        np.float32(camera.reach**2),
        height,
        width,
        depth_m,
        index,
    )
    if grow == 1:
        return Nearest(depth_m, index)
    grown_m, grown = np.full_like(depth_m, _NOWHERE), np.full_like(index, -1)
    _grow(depth_m, index, height, width, grow, grown_m, grown)
    return Nearest(grown_m, grown)


def compile_nearest() -> None:
    """Compile the loops, so that no first message is late."""
    view = Camera(1, 1, 1.0, 1.0, 0.0, 0.0)
    nearest(np.zeros((1, 3), np.float32), np.eye(4), view, (1, 1), grow=2)


@Compiled
def _paint(  # noqa: C901 (the steps of one point)
    points: NDArray[np.float32],
    lengths: NDArray[np.float32],
    pose: NDArray[np.float32],
    rotation: NDArray[np.float32],
    turned: bool,  # noqa: FBT001
    lens: NDArray[np.float32],
    k: NDArray[np.float32],
    bends: int,
    reach2: np.float32,
    height: int,
    width: int,
    depth_m: NDArray[np.float32],
    index: NDArray[np.int32],
) -> None:
    """Fill `depth_m` and `index`; `bends` is 0 without a lens, 1 for a polynomial, 2 for a
    fisheye.

    Some points at once, a step for all of them after the other, without a branch: so the compiler
    makes vectors of them. What is not seen ends as NaN, of which every comparison is false.
    """
    zero = np.float32(0)
    one, two, half = np.float32(1), np.float32(2), np.float32(0.5)
    near, nan, tiny = np.float32(NEAR_M), np.float32(np.nan), np.float32(1e-8)
    fx, fy, cx, cy, across, down = lens[0], lens[1], lens[2], lens[3], lens[4], lens[5]
    wide, high = np.float32(width), np.float32(height)
    xs, ys = np.empty(_AT_ONCE, np.float32), np.empty(_AT_ONCE, np.float32)
    zs, pixels = np.empty(_AT_ONCE, np.float32), np.empty(_AT_ONCE, np.int32)
    for start in range(0, len(points), _AT_ONCE):
        count = min(_AT_ONCE, len(points) - start)
        part = points[start : start + count]
        for i in range(count):
            xs[i], ys[i], zs[i] = part[i, 0], part[i, 1], part[i, 2]
        if len(lengths):
            long = lengths[start : start + count]
            for i in range(count):
                length = long[i] if long[i] > 0 else nan
                xs[i], ys[i], zs[i] = xs[i] * length, ys[i] * length, zs[i] * length
        for i in range(count):
            x, y, z = xs[i], ys[i], zs[i]
            xs[i] = x * pose[0, 0] + y * pose[0, 1] + z * pose[0, 2] + pose[0, 3]
            ys[i] = x * pose[1, 0] + y * pose[1, 1] + z * pose[1, 2] + pose[1, 3]
            zs[i] = x * pose[2, 0] + y * pose[2, 1] + z * pose[2, 2] + pose[2, 3]
        if turned:
            for i in range(count):
                x, y, z = xs[i], ys[i], zs[i]
                xs[i] = x * rotation[0, 0] + y * rotation[0, 1] + z * rotation[0, 2]
                ys[i] = x * rotation[1, 0] + y * rotation[1, 1] + z * rotation[1, 2]
                zs[i] = x * rotation[2, 0] + y * rotation[2, 1] + z * rotation[2, 2]
        for i in range(count):
            z = zs[i] if zs[i] > near else nan
            xs[i], ys[i] = xs[i] / z, ys[i] / z
        if bends == 1:
            for i in range(count):
                x, y = xs[i], ys[i]
                r2 = x * x + y * y
                r2 = r2 if r2 <= reach2 else nan
                factor = one + r2 * (k[0] + r2 * (k[1] + r2 * k[4]))
                factor = factor / (one + r2 * (k[5] + r2 * (k[6] + r2 * k[7])))
                xs[i] = x * factor + k[8] * (x * y) + k[3] * (r2 + two * x * x)
                ys[i] = y * factor + k[9] * (x * y) + k[2] * (r2 + two * y * y)
        elif bends == 2:
            for i in range(count):
                x, y = xs[i], ys[i]
                r2 = x * x + y * y
                radius = np.sqrt(r2 if r2 <= reach2 else nan)
                angle = np.arctan(radius)
                a2 = angle * angle
                bent = angle * (one + a2 * (k[0] + a2 * (k[1] + a2 * (k[2] + a2 * k[3]))))
                factor = one if radius <= tiny else bent / radius
                xs[i], ys[i] = x * factor, y * factor
        for i in range(count):
            u = (xs[i] * fx + cx + half) * across
            v = (ys[i] * fy + cy + half) * down
            seen = (u >= 0) & (u < wide) & (v >= 0) & (v < high)
            col, row = np.int32(u if seen else zero), np.int32(v if seen else zero)
            pixels[i] = row * np.int32(width) + col if seen else np.int32(-1)
        for i in range(count):
            pixel = pixels[i]
            if pixel >= 0 and zs[i] < depth_m[pixel]:
                depth_m[pixel] = zs[i]
                index[pixel] = start + i


@Compiled
def _grow(
    depth_m: NDArray[np.float32],
    index: NDArray[np.int32],
    height: int,
    width: int,
    grow: int,
    grown_m: NDArray[np.float32],
    grown: NDArray[np.int32],
) -> None:
    """Each pixel that shows a point paints a square of side `grow`, centered as cv2.erode does."""
    back = grow // 2
    ahead = grow - 1 - back
    for row in range(height):
        for col in range(width):
            which = index[row * width + col]
            if which < 0:
                continue
            near = depth_m[row * width + col]
            for r in range(max(row - ahead, 0), min(row + back, height - 1) + 1):
                for c in range(max(col - ahead, 0), min(col + back, width - 1) + 1):
                    pixel = r * width + c
                    if near < grown_m[pixel]:
                        grown_m[pixel] = near
                        grown[pixel] = which
