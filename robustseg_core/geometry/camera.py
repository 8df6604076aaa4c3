"""One pinhole or fisheye camera: points to pixels, and pixels back to rays.

Pixel (0, 0) is the center of the first pixel, as in `CameraInfo`; axes are REP 103's optical ones
(z forward, x right, y down).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustseg_core.codecs.fields import MAX_PIXELS, header, sizes, word
from robustseg_core.geometry.transforms import turned
from robustseg_core.types import Fault, Rejection

NEAR_M = 1e-3
"""Nothing nearer than a millimetre is projected: dividing by less is noise, or worse."""

_SHORTEST_PX = 1e-3
"""A shorter focal length sees everything in one pixel."""
_LARGEST = 1e9
"""Of any number in a CameraInfo; keeps all that follows finite."""

_NARROWEST, _WIDEST, _WIDEST_FISHEYE = 1.0, 170.0, 360.0
"""Degrees across the image that a lens may see; a pinhole's plane has no 180."""
_SQUAREST = 5.0
"""fx and fy differ by less than this factor: pixels are nearly squares."""
_ASPECT = 0.02
"""Image and camera may differ by this share in aspect, and be scaled copies nevertheless."""
_SAME_PX, _SAME = 0.01, 1e-5
"""What rounding alone changes when a calibration is published again: pixels, and other numbers."""

_FISHEYE = ("equidistant", "fisheye")
_MODELS = ("plumb_bob", "rational_polynomial", *_FISHEYE)


@dataclass(frozen=True)
class Camera:
    """Intrinsics, for an image of `height` x `width` pixels before binning."""

    height: int
    width: int
    fx: float
    fy: float
    cx: float
    cy: float
    frame_id: str = ""
    distortion: tuple[float, ...] = ()
    """k1 k2 p1 p2 k3 k4 k5 k6 (plumb_bob, rational_polynomial) or k1 k2 k3 k4 (fisheye)."""
    fisheye: bool = False
    rotation: tuple[float, ...] = ()
    """Row-major `rectified_from_camera` (CameraInfo's R), or empty: none."""
    binning: tuple[int, int] = (1, 1)
    """Sensor pixels per image pixel, down and across."""
    p: tuple[float, ...] = ()
    """fx, fy, cx, cy of CameraInfo's P, where they are others than K's, ..."""
    r: tuple[float, ...] = ()
    """... and its R, row-major: how others rectify raw images; kept to be said again."""

    @classmethod
    def from_message(cls, message: Any, *, rectified: bool | None = None) -> Camera:
        """The camera of a sensor_msgs/CameraInfo (REP 104), for raw or for rectified images.

        A region of interest crops it. P's fourth column is left to TF: an optical frame has its
        origin in its own camera.

        Raises:
            Rejection: NO_CALIB; no size or an impossible one, no focal length or one of no lens,
                a principal point outside the image, numbers that are not finite, or a distortion
                model that is not known. FORMAT; fields that are none of a CameraInfo's.
        """
        height, width = sizes(message, "height", "width")
        k, r, p, d = (_numbers(message, name) for name in "krpd")
        if not 0 < height * width <= MAX_PIXELS:
            raise _uncalibrated(f"CameraInfo is for {height}x{width} pixels; expected the image's")
        if k.size != 9 or min(k[0], k[4]) < _SHORTEST_PX:
            raise _uncalibrated(f"CameraInfo K is {k.tolist()}; expected focal lengths > 0")
        fx, fy, cx, cy = k[0], k[4], k[2], k[5]
        rotation: tuple[float, ...] = ()
        if r.size == 9 and _turns(r.reshape(3, 3)) and not np.array_equal(r, np.eye(3).ravel()):
            rotation = tuple(r.tolist())
        projection: tuple[float, ...] = ()
        if p.size == 12 and min(p[0], p[5]) >= _SHORTEST_PX:
            projection = tuple(p[[0, 5, 2, 6]].tolist())
        if rectified:
            fx, fy, cx, cy = projection or (fx, fy, cx, cy)
            d = d[:0]
        d = np.trim_zeros(d, "b")
        model = word(message, "distortion_model")
        longest = 4 if model in _FISHEYE else 8
        if d.size and (model not in _MODELS or d.size > longest):
            raise _uncalibrated(
                f"distortion {model!r} with {d.size} coefficients is not known; "
                f"have {', '.join(_MODELS)}; or give the rectified image"
            )
        down, across = sizes(message, "binning_y", "binning_x")
        whole = cls(
            height,
            width,
            float(fx),
            float(fy),
            float(cx),
            float(cy),
            frame_id=header(message)[1],
            distortion=tuple(d.tolist()),
            fisheye=model in _FISHEYE and bool(d.size),
            rotation=rotation if rectified else (),
            binning=(max(1, down), max(1, across)),
            p=projection if projection != (fx, fy, cx, cy) else (),
            r=() if rectified else rotation,
        )
        if whole.impossible:
            raise _uncalibrated(f"CameraInfo's {whole.impossible}; calibrate the camera")
        roi = sizes(getattr(message, "roi", None), "height", "width", "y_offset", "x_offset")
        if not (roi[0] and roi[1]):
            return whole
        if roi[0] > height or roi[1] > width:
            raise _uncalibrated(
                f"CameraInfo's region of interest is {roi[0]}x{roi[1]} of {height}x{width} "
                "pixels; expected a part of them"
            )
        return replace(
            whole,
            height=roi[0],
            width=roi[1],
            cx=whole.cx - roi[3],
            cy=whole.cy - roi[2],
            p=(*whole.p[:2], whole.p[2] - roi[3], whole.p[3] - roi[2]) if whole.p else (),
        )

    @property
    def impossible(self) -> str:
        """What no camera can be, with value and limit; empty: there may be one. Before cropping."""
        height, width = self.height, self.width
        if not (-0.5 <= self.cx <= width - 0.5 and -0.5 <= self.cy <= height - 0.5):
            return (
                f"principal point ({self.cx:.1f}, {self.cy:.1f}) lies outside the image of "
                f"{width}x{height} pixels"
            )
        sides = (width / self.fx, height / self.fy)
        widest = _WIDEST_FISHEYE if self.fisheye else _WIDEST
        fov = np.degrees(max(sides) if self.fisheye else 2 * np.arctan(max(sides) / 2))
        if not _NARROWEST <= fov <= widest:
            return (
                f"focal length {self.fx:g} x {self.fy:g} px for {width}x{height} pixels sees "
                f"{fov:.3g} degrees; expected {_NARROWEST:g} to {widest:g}"
            )
        if not 1 / _SQUAREST <= self.fx / self.fy <= _SQUAREST:
            return (
                f"focal lengths {self.fx:g} and {self.fy:g} px differ by more than a factor of "
                f"{_SQUAREST:g}"
            )
        return ""

    def changes(self, new: Camera) -> str:
        """What is another in `new`, old and new value; empty: nothing, but for rounding."""
        told = []
        if (self.height, self.width) != (new.height, new.width):
            told.append(f"size {self.width}x{self.height} to {new.width}x{new.height}")
        if self.binning != new.binning:
            (down, across), (new_down, new_across) = self.binning, new.binning
            told.append(f"binning {across}x{down} to {new_across}x{new_down}")
        for name in ("fx", "fy", "cx", "cy"):
            old_px, new_px = getattr(self, name), getattr(new, name)
            if abs(old_px - new_px) > _SAME_PX:
                told.append(f"{name} {old_px:.2f} to {new_px:.2f} px")
        if self.fisheye != new.fisheye or not _close(self.distortion, new.distortion):
            told.append(f"distortion {_lens(self)} to {_lens(new)}")
        if self.rotation != new.rotation:
            old_turn, new_turn = (np.reshape(c.rotation or np.eye(3), (3, 3)) for c in (self, new))
            if not _close(old_turn.ravel(), new_turn.ravel()):
                told.append(f"rectification {turned(old_turn)} to {turned(new_turn)}")
        if self.frame_id != new.frame_id:
            told.append(f"frame_id {self.frame_id!r} to {new.frame_id!r}")
        return ", ".join(told)

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) of the images that this camera publishes."""
        return self.height // self.binning[0] or 1, self.width // self.binning[1] or 1

    def scaled(self, height: int, width: int) -> Camera:
        """The camera of this image resized to that size; the outer edges stay where they are."""
        down, across = height / self.height, width / self.width

        def resized(fx: float, fy: float, cx: float, cy: float) -> tuple[float, ...]:
            # Pixel centers are integers: what is scaled is the way from the edge.
            return fx * across, fy * down, (cx + 0.5) * across - 0.5, (cy + 0.5) * down - 0.5

        fx, fy, cx, cy = resized(self.fx, self.fy, self.cx, self.cy)
        return replace(
            self,
            height=height,
            width=width,
            fx=fx,
            fy=fy,
            cx=cx,
            cy=cy,
            binning=(1, 1),
            p=resized(*self.p) if self.p else (),
        )

    def fits(self, height: int, width: int) -> bool:
        """Whether an image of that size may be this camera's, or a scaled copy of it."""
        return same_aspect((height, width), (self.height, self.width))

    @cached_property
    def reach(self) -> float:
        """Tangent of the angle from the axis beyond which the distortion polynomial folds back.

        Polynomials are fitted inside the image; far outside they return, and would put points from
        beside the robot into the picture.
        """
        if not self.distortion:
            return np.inf
        radius = np.tan(np.radians(np.linspace(0.0, 89.0, 1781)))
        with np.errstate(all="ignore"):
            bent = radius * self._radial(radius * radius)
            folds = np.flatnonzero(~(np.diff(bent) > 0))
        return float(radius[folds[0]] if folds.size else radius[-1])

    def project(self, points: NDArray[np.floating[Any]]) -> tuple[NDArray[Any], ...]:
        """Pixels of (N, 3) points in this camera's frame: (u, v, depth_m, index), M <= N each.

        Only points in front (tested before the division) and within `reach`; they may lie outside
        the image. `index` says which points they are.
        """
        if self.rotation:
            points = points @ np.array(self.rotation, points.dtype).reshape(3, 3).T
        x, y, depth = points.T
        index = np.flatnonzero(depth > NEAR_M)
        x, y, depth = x[index], y[index], depth[index]
        with np.errstate(all="ignore"):
            x, y = x / depth, y / depth
            if self.distortion:
                keep = np.flatnonzero(x * x + y * y <= self.reach**2)
                index, depth = index[keep], depth[keep]
                x, y = self._distort(x[keep], y[keep])
            return x * self.fx + self.cx, y * self.fy + self.cy, depth, index

    def rays(self, height: int, width: int) -> NDArray[np.float32]:
        """(height * width, 3) points at z = 1 that the pixels of an image of that size look at.

        The image may be a scaled copy. Distortion is undone by fixed-point iteration; pixels that
        no ray reaches are NaN.
        """
        u = (np.arange(width) + 0.5) * (self.width / width) - 0.5
        v = (np.arange(height) + 0.5) * (self.height / height) - 0.5
        x, y = np.meshgrid((u - self.cx) / self.fx, (v - self.cy) / self.fy)
        bent_x, bent_y = x.ravel(), y.ravel()
        x, y = bent_x, bent_y
        if self.distortion:
            with np.errstate(all="ignore"):
                for _ in range(30):
                    there_x, there_y = self._distort(x, y)
                    x, y = x + (bent_x - there_x), y + (bent_y - there_y)
                there_x, there_y = self._distort(x, y)
                error = np.hypot(there_x - bent_x, there_y - bent_y)
                lost = ~((error * self.fx < 0.5) & (x * x + y * y <= self.reach**2))
            x, y = np.where(lost, np.nan, x), np.where(lost, np.nan, y)
        rays = np.stack([x, y, np.ones_like(x)], axis=1)
        if self.rotation:
            rays = rays @ np.array(self.rotation).reshape(3, 3)
        return rays.astype(np.float32)

    def same_pixels(self, other: Camera) -> bool:
        """Whether both see every direction at the same place of their images, to 1/500 of them."""
        if (self.distortion, self.fisheye, self.rotation) != (
            other.distortion,
            other.fisheye,
            other.rotation,
        ):
            return False
        return bool(np.allclose(self._shares(), other._shares(), rtol=0, atol=2e-3))

    def _shares(self) -> tuple[float, ...]:
        across, down = self.width, self.height
        center = (self.cx + 0.5) / across, (self.cy + 0.5) / down
        return self.fx / across, self.fy / down, *center

    def _radial(self, r2: NDArray[Any]) -> NDArray[Any]:
        """Factor that lengthens a normalized radius, by its square."""
        if self.fisheye:  # Kannala and Brandt 2006, eq. 6, in OpenCV's order
            k = (*self.distortion, 0, 0, 0, 0)
            radius = np.sqrt(r2)
            angle = np.arctan(radius)
            a2 = angle * angle
            bent = angle * (1 + a2 * (k[0] + a2 * (k[1] + a2 * (k[2] + a2 * k[3]))))
            return np.where(radius > 1e-8, bent / np.maximum(radius, 1e-8), 1.0)
        k1, k2, _, _, k3, k4, k5, k6 = (*self.distortion, *(0.0,) * 8)[:8]
        factor = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
        return factor / (1 + r2 * (k4 + r2 * (k5 + r2 * k6))) if k4 or k5 or k6 else factor

    def _distort(self, x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Normalized coordinates as the lens bends them (OpenCV's models)."""
        r2 = x * x + y * y
        factor = self._radial(r2)
        if self.fisheye:
            return x * factor, y * factor
        _, _, p1, p2 = (*self.distortion, *(0.0,) * 4)[:4]
        xy = x * y
        return (
            x * factor + 2 * p1 * xy + p2 * (r2 + 2 * x * x),
            y * factor + 2 * p2 * xy + p1 * (r2 + 2 * y * y),
        )


@lru_cache(maxsize=16)  # more depth cameras than a robot has
def rays_of(camera: Camera, height: int, width: int) -> NDArray[np.float32]:
    """`Camera.rays`, kept: undoing a distortion takes longer than a frame."""
    return camera.rays(height, width)


def same_aspect(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two pictures, (H, W) each, may be scaled copies of one."""
    return abs(one[1] * other[0] / (one[0] * other[1]) - 1) <= _ASPECT


def _numbers(message: Any, name: str) -> NDArray[np.float64]:
    try:
        numbers = np.asarray(getattr(message, name, None), np.float64).ravel()
    except (TypeError, ValueError):
        numbers = np.array([np.nan])
    if not (np.abs(numbers) < _LARGEST).all():
        raise _uncalibrated(
            f"CameraInfo {name.upper()} is not finite, or beyond {_LARGEST:g}; calibrate the camera"
        )
    return numbers


def _close(one: ArrayLike, other: ArrayLike) -> bool:
    """Whether two rows of numbers, of which the shorter goes on with zeros, are the same."""
    rows = np.asarray(one), np.asarray(other)
    size = max(map(len, rows))
    first, second = (np.pad(row, (0, size - len(row))) for row in rows)
    return bool(np.allclose(first, second, rtol=_SAME, atol=_SAME))


def _lens(camera: Camera) -> str:
    kind = "fisheye " if camera.fisheye else ""
    return f"{kind}({', '.join(f'{k:.6g}' for k in camera.distortion)})"


def _turns(matrix: NDArray[np.float64]) -> bool:
    """Whether it is a rotation, to 1/1000."""
    square = np.allclose(matrix @ matrix.T, np.eye(3), rtol=0, atol=1e-3)
    return bool(square) and np.linalg.det(matrix) > 0


def _uncalibrated(text: str) -> Rejection:
    return Rejection(Fault.NO_CALIB, text)
