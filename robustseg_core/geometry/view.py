"""The pixel grid that all sensors are brought onto: that of the camera, in the network's size.

A View learns from CameraInfo, TF and configuration as they come; `version` tells that something
changed, so that callers may keep what they computed until then. A sensor on a mount that moves is
looked up at a `Moment`; its movement is no change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from robustseg_core.config import ViewConfig
from robustseg_core.geometry._nearest import Nearest, nearest
from robustseg_core.geometry.camera import Camera, rays_of
from robustseg_core.geometry.transforms import (
    Moment,
    Route,
    TransformTree,
    apart,
    placed,
    pose,
    strip,
)
from robustseg_core.types import Fault, Rejection, kind_of

T = TypeVar("T")

_CAMERAS = ("rgb", "depth")
"""Whose CameraInfo makes the grid, most wanted first; others only if none of these has one."""

_STILL_M, _STILL_DEG = 1e-3, 0.01
"""A sensor that moved by less is where it was."""

_KEPT = 16
"""Things kept at once; no robot needs so many, and a sensor that changes its name or size with
every message must not fill the memory with tables."""


@dataclass(frozen=True, slots=True)
class Projection:
    """Points that land inside the grid."""

    rows: NDArray[np.intp]
    cols: NDArray[np.intp]
    depth_m: NDArray[np.floating[Any]]
    index: NDArray[np.intp]
    """Which of the given points they are."""


class _Place(NamedTuple):
    """Where the data of a stream lie, as they are used."""

    target: str
    frame_id: str
    told: NDArray[np.float64]
    """View from sensor, as it was last told."""
    newest: NDArray[np.float64]
    """The same, as it is used; it may have crept on since."""
    version: int = 0
    """Of the view, when that was looked at."""
    stance: Mapping[str, NDArray[np.float64]] = {}
    """How the links stood that move, when it was told."""


class _Found(NamedTuple):
    """Where a frame lies."""

    pose: NDArray[np.float64] | None
    """(4, 4) view from sensor; None: nowhere that is believed."""
    why: str = ""
    """Why the transform is not believed; empty: it is, or there is none."""


def project(points: NDArray[np.floating[Any]], camera: Camera, size: tuple[int, int]) -> Projection:
    """Where (N, 3) points in a camera's frame land on a grid of `size` (H, W) over its image."""
    height, width = size
    u, v, depth_m, index = camera.project(points)
    with np.errstate(all="ignore"):
        # Pixel centers are integers on both grids; the grids share their outer edges.
        u, v = (u + 0.5) * (width / camera.width), (v + 0.5) * (height / camera.height)
        inside = np.flatnonzero((u >= 0) & (u < width) & (v >= 0) & (v < height))
    rows, cols = v[inside].astype(np.intp), u[inside].astype(np.intp)
    # A float32 just below the edge may have been rounded onto it.
    rows, cols = np.minimum(rows, height - 1), np.minimum(cols, width - 1)
    return Projection(rows, cols, depth_m[inside], index[inside])


def moved(points: NDArray[np.float32], there_from_here: NDArray[np.float64]) -> NDArray[np.float32]:
    """(N, 3) points in another frame, by the (4, 4) transform to it."""
    rows = there_from_here[:3].astype(np.float32)
    x, y, z = points.T
    there = np.empty((3, len(points)), np.float32)
    # Written out: a thin matrix product wakes all of BLAS's threads, and waits for them.
    with np.errstate(all="ignore"):
        for axis, (to_x, to_y, to_z, shift) in zip(there, rows, strict=True):
            np.multiply(x, to_x, out=axis)
            np.add(axis, y * to_y, out=axis)
            np.add(axis, z * to_z, out=axis)
            np.add(axis, shift, out=axis)
    return there.T


def still(one: NDArray[np.float64] | None, other: NDArray[np.float64] | None) -> bool:
    """Whether a mount stands as it stood (`View.stance`): within 1 mm and 0.01 degrees."""
    if one is None or other is None:
        return one is other
    metres, degrees = apart(one, other)
    return metres < _STILL_M and degrees < _STILL_DEG


def grid_of(cameras: Iterable[str]) -> str | None:
    """Whose camera makes the grid, of sensors that have one; None: there is none."""
    known = tuple(cameras)
    first = [name for kind in _CAMERAS for name in known if kind_of(name) == kind]
    return next(iter([*first, *known]), None)


class View:
    """Where each sensor's data lies on the common (H, W) grid of the network."""

    def __init__(self, size: tuple[int, int], config: ViewConfig | None = None) -> None:
        self.size = size
        self.config = config or ViewConfig()
        self.version = 0
        """Changes whenever something that places a sensor does."""
        self._cameras: dict[str, Camera] = {}
        self._poses: dict[str, NDArray[np.float64]] = {}
        self._places: dict[str, _Place] = {}
        self._frames: dict[str, str] = {}
        """The frame of each stream's newest data."""
        self._image: tuple[tuple[int, int], str] | None = None
        self._tree = TransformTree(kept_s=self.config.tf_kept_s, grace_s=self.config.tf_grace_s)
        self._heard = 0
        """Messages of /tf."""
        self._latest: dict[tuple[str, str], tuple[Any, _Found]] = {}
        """What was last looked up of a sensor that moves, and when that was."""
        self._tables: dict[Any, tuple[int, NDArray[np.float64], NDArray[np.intp]]] = {}
        """The last `lookup` of one, with the version and the pose that it is of."""
        self._kept: dict[Any, Any] = {}

    @property
    def camera(self) -> Camera | None:
        """The camera whose grid this is, or None: nothing is known of its lens."""
        return self._keep("camera", self._find_camera)

    @property
    def calibration(self) -> Camera | None:
        """The same, unless the images are none that such a camera takes."""
        camera = self.camera
        if camera is None or not self._image or self.config.intrinsics:
            return camera
        return camera if camera.fits(*self._image[0]) else None

    @property
    def frame_id(self) -> str:
        """The optical frame of the grid; empty while nobody named it."""
        named = self._named()
        image = self._image[1] if self._image else ""
        return strip(self.config.frame_id) or (named.frame_id if named else "") or image

    @property
    def camera_size(self) -> tuple[int, int]:
        """(H, W) of masks: configured, else CameraInfo's, else the image's, else the grid's."""
        if self.config.height and self.config.width:
            return self.config.height, self.config.width
        if named := self._named():
            return named.image_size
        return self._image[0] if self._image else self.size

    def set_camera_info(self, modality: str, message: Any, *, rectified: bool | None = None) -> str:
        """Learn a sensor's intrinsics; `rectified` says that its images are undistorted already.

        Returns:
            As `set_camera`.

        Raises:
            Rejection: NO_CALIB; an uncalibrated, impossible or contradictory message. The last good
                one stays.
        """
        return self.set_camera(modality, Camera.from_message(message, rectified=rectified))

    def set_camera(self, modality: str, camera: Camera) -> str:
        """Learn a sensor's intrinsics from elsewhere: the calibration file of a data set.

        Returns:
            What is another than before, old and new value; empty: nothing, or these are the first.
        """
        known = self._cameras.get(modality)
        if known == camera:
            return ""
        changes = known.changes(camera) if known else ""
        if known is None or changes:
            self._cameras[modality] = camera
            self._changed()
        return changes

    def set_pose(self, modality: str, view_from_sensor: NDArray[np.float64]) -> None:
        """Learn where a sensor hangs without TF; (4, 4). A configured extrinsic still wins."""
        self._poses[modality] = view_from_sensor
        self._changed()

    def set_image_size(self, height: int, width: int, *, frame_id: str = "") -> None:
        """Learn what the camera's image looks like, for robots without CameraInfo."""
        image = ((height, width), strip(frame_id))
        if self._image != image:
            self._image = image
            self._changed()

    def add_transforms(self, message: Any) -> None:
        """Learn the transforms of a tf2_msgs/TFMessage; a child's newest parent counts.

        Raises:
            Rejection: NO_TF; a transform is not finite or has no rotation, and all others are
                learned; or one puts a sensor too far away, whose last good place stays.
        """
        changed, wrong = self._tree.add(message)
        if changed:
            self._changed()
        wrong = wrong or self._too_far(message)
        if wrong:
            raise wrong

    def move(self, message: Any) -> None:
        """Learn how frames move, of a tf2_msgs/TFMessage of /tf.

        Raises:
            Rejection: NO_TF or FORMAT; a transform is refused (`TransformTree.move`), and all
                others are learned.
        """
        changed, wrong = self._tree.move(message)
        self._heard += 1
        if changed:
            self._changed()
        if wrong:
            raise wrong

    def forget_motion(self) -> None:
        """Forget where frames that move have been: stamps begin anew."""
        self._tree.forget()
        self._heard += 1

    def needs_motion(self, modalities: Iterable[str]) -> bool:
        """Whether /tf may matter to one of these streams: else nobody needs to listen to it.

        It may while a stream has not been heard, or its way to the view is not known, or moves.
        """
        target = self.frame_id
        return not target or any(self._moves_perhaps(name, target) for name in modalities)

    def _moves_perhaps(self, modality: str, target: str) -> bool:
        if modality in self.config.extrinsics or modality in self._poses:
            return False
        frame_id = self._frames.get(modality)
        if frame_id is None:
            return True
        route = self._route(frame_id)
        return bool(route.moving) if route else frame_id != target

    def moving(self, modality: str, frame_id: str) -> tuple[str, ...]:
        """The frames that move on the way of a sensor."""
        route = self._moving_route(modality, strip(frame_id))
        return route.moving if route else ()

    def stance(self, modality: str, frame_id: str, at: Moment) -> NDArray[np.float64] | None:
        """(4, 4) view from sensor where something moves on the way; None: nothing does, or it is
        not known at that time.
        """
        moves = self._moving_route(modality, strip(frame_id))
        return self._pose_of(modality, frame_id, at) if moves else None

    def settle(self, modality: str, frame_id: str) -> str:
        """A stream's data, in this frame, are used from now on.

        Returns:
            How it moved in the view since the last call, old and new pose; empty: it did not. A
            mount that moves is taken to stand as it stood then.
        """
        target, frame_id = self.frame_id, strip(frame_id)
        self._frames[modality] = frame_id
        known = self._places.get(modality)
        if route := self._moving_route(modality, frame_id):
            return self._settle_moving(modality, frame_id, route)
        here = self._pose_of(modality, frame_id)
        if here is None:
            return ""
        if known is None or known.target != target:  # the view is another: nothing to compare with
            self._places[modality] = _Place(target, frame_id, here, here)
            return ""
        if known.frame_id == frame_id and known.newest is here:
            return ""
        return self._compare(modality, known, _Place(target, frame_id, here, here))

    def _settle_moving(self, modality: str, frame_id: str, route: Route) -> str:
        """Of a stream on whose way something moves."""
        known, same = self._places.get(modality), (self.frame_id, frame_id, self.version)
        if known and (known.target, known.frame_id, known.version) == same:
            return ""
        try:
            stance = self._tree.stance(route)
        except Rejection:
            return ""
        comparable = known is not None and known.target == self.frame_id
        if known is not None and comparable and set(known.stance) == set(stance):
            stance = dict(known.stance)
            here = route.along(lambda link: stance[link.child])
            now = _Place(self.frame_id, frame_id, here, here, self.version, stance)
            return self._compare(modality, known, now)
        here = route.along(lambda link: stance[link.child])
        self._places[modality] = _Place(self.frame_id, frame_id, here, here, self.version, stance)
        return ""

    def _compare(self, modality: str, known: _Place, now: _Place) -> str:
        """Remember a place; how it differs from the one that was told, if it does."""
        target, here = now.target, now.newest
        metres, degrees = apart(known.told, here)
        if still(known.told, here):
            self._places[modality] = now._replace(told=known.told)
            return ""
        self._places[modality] = now
        return (
            f"moved by {metres:.3f} m and turned by {degrees:.2f} degrees in {target!r}: "
            f"from {placed(known.told)} to {placed(here)}"
        )

    def far(self, modality: str, frame_id: str, at: Moment | None = None) -> str:
        """Why the transform of a sensor's frame is not believed; empty: it is, or there is none."""
        return self._place_of(modality, strip(frame_id), at).why

    def why(self, missing: Fault, modality: str, frame_id: str, at: Moment | None = None) -> str:
        """What people are told of `missing_for`'s answer: the reason, and the way out."""
        if missing is Fault.NO_TF:
            return self.far(modality, frame_id, at) or (
                f"no transform from {frame_id!r} to {self.frame_id!r}; publish /tf_static "
                f"or set view.extrinsics.{modality}"
            )
        if wrong := self._wrong_intrinsics():
            way_out = "give those of these pixels, or set view.width and view.height"
            return f"view.intrinsics: {wrong}; {way_out}"
        if (camera := self.camera) and self._image:
            (height, width), _ = self._image
            return (
                f"CameraInfo is for {camera.width}x{camera.height} pixels, the images have "
                f"{width}x{height}; publish that of these images or set view.intrinsics"
            )
        return "no usable CameraInfo yet; publish it or set view.intrinsics"

    def missing_for(self, modality: str, frame_id: str, at: Moment | None = None) -> Fault | None:
        """Why data of this frame cannot be projected yet (NO_CALIB, NO_TF), or None: it can."""
        if self.calibration is None:
            return Fault.NO_CALIB
        return Fault.NO_TF if self._pose_of(modality, frame_id, at) is None else None

    def joined(self, modality: str, frame_id: str) -> bool:
        """Whether anything says where a sensor is, at some time or other."""
        moves = self._moving_route(modality, strip(frame_id))
        return bool(moves) or self._pose_of(modality, frame_id) is not None

    def located(self, modality: str, frame_id: str) -> bool:
        """Whether it is known where in the view a sensor looks: from its very place, or from one
        that a calibrated view is joined to. Others are taken to see just what the camera sees."""
        if strip(frame_id) == self.frame_id:
            return True
        return self.calibration is not None and self.joined(modality, frame_id)

    def view_from(
        self, modality: str, frame_id: str, at: Moment | None = None
    ) -> NDArray[np.float64]:
        """(4, 4) transform to the view's frame from the sensor's: configured, else TF's.

        Args:
            modality: the sensor.
            frame_id: the frame of its data.
            at: when it saw, and when the camera looked; None: the newest that is known.

        Raises:
            Rejection: NO_TF; no chain of transforms joins the two frames, or not at that time.
        """
        view_from_sensor = self._pose_of(modality, frame_id, at)
        if view_from_sensor is None:
            raise Rejection(
                Fault.NO_TF,
                self.far(modality, frame_id, at)
                or f"no transform to {self.frame_id!r} from {strip(frame_id)!r}; "
                f"publish it on /tf_static or set view.extrinsics.{modality}",
            )
        return view_from_sensor

    def turned(self, modality: str, frame_id: str, at: Moment) -> NDArray[np.float64] | None:
        """(4, 4) a sensor's frame when the camera looked, from what it was when the sensor saw.

        None: nothing moves on its way, or it is not known.
        """
        if at.sensor_ns == at.view_ns or (then := self.stance(modality, frame_id, at)) is None:
            return None
        now = self.stance(modality, frame_id, Moment(at.view_ns, at.view_ns))
        return None if now is None else np.linalg.inv(now) @ then

    def place(
        self,
        modality: str,
        frame_id: str,
        points: NDArray[np.float32],
        at: Moment | None = None,
    ) -> NDArray[np.float32]:
        """(N, 3) points of a sensor, moved into the view's frame.

        Raises:
            Rejection: NO_TF.
        """
        return moved(points, self.view_from(modality, frame_id, at))

    def camera_of(self, modality: str) -> Camera | None:
        """A sensor's own intrinsics, or None: no usable CameraInfo came."""
        return self._cameras.get(modality)

    def rays(self, modality: str, height: int, width: int) -> NDArray[np.float32]:
        """(height * width, 3) points at z = 1, in its own frame, that a sensor's pixels look at.

        Raises:
            Rejection: NO_CALIB; the sensor has no CameraInfo.
        """
        own = self.camera_of(modality)
        if own is None:
            raise Rejection(Fault.NO_CALIB, f"no CameraInfo for {modality}; publish it")
        return rays_of(own, height, width)

    def project(self, points: NDArray[np.floating[Any]]) -> Projection:
        """Where (N, 3) points in the view's frame land on the grid.

        Raises:
            Rejection: NO_CALIB; the view knows no intrinsics.
        """
        return project(points, self._expect_camera(), self.size)

    def _expect_camera(self) -> Camera:
        camera = self.camera
        if camera is None:
            raise Rejection(
                Fault.NO_CALIB, "no CameraInfo for the view; publish it or set view.intrinsics"
            )
        return camera

    def nearest(
        self,
        modality: str,
        frame_id: str,
        points: NDArray[np.float32],
        *,
        grow: int = 1,
        lengths: NDArray[np.float32] | None = None,
        at: Moment | None = None,
    ) -> Nearest:
        """The nearest point on each pixel of the grid, as `place` and `project` put it there.

        Args:
            modality: whose points they are.
            frame_id: the frame that they are in.
            points: (N, 3), or rays.
            grow: side in pixels of the square that each point paints.
            lengths: (N,) what rays are multiplied by; one that is not above 0 hits nothing.
            at: as of `view_from`.

        Raises:
            Rejection: NO_TF, or NO_CALIB.
        """
        view_from_sensor = self.view_from(modality, frame_id, at)
        camera = self._expect_camera()
        return nearest(points, view_from_sensor, camera, self.size, grow=grow, lengths=lengths)

    def cells(self, step: int) -> tuple[NDArray[np.float32], float]:
        """Of cells of `step` x `step` pixels of the grid: how the camera looks at them.

        Returns:
            (H // step, W // step) lengths of their rays at z = 1, and the degrees across one in the
            middle; ones, and 0, where nobody knows the camera's lens.
        """
        return self._keep(("cells", step), lambda: self._find_cells(step))

    def _find_cells(self, step: int) -> tuple[NDArray[np.float32], float]:
        height, width = (n // step for n in self.size)
        if (camera := self.calibration) is None:
            return np.ones((height, width), np.float32), 0.0
        across = camera.width * step / self.size[1]
        rows = (np.arange(height) + 0.5) * step * camera.height / self.size[0]
        columns = (np.arange(width) + 0.5) * across
        rays = rays_of(camera, camera.height, camera.width)
        rays = rays.reshape(camera.height, camera.width, 3)
        seen = rays[np.ix_(rows.astype(np.intp), columns.astype(np.intp))]
        lengths = np.nan_to_num(np.linalg.norm(seen, axis=2), nan=1.0)
        return lengths.astype(np.float32), float(np.degrees(np.arctan(across / camera.fx)))

    def lookup(
        self, modality: str, frame_id: str, height: int, width: int, at: Moment | None = None
    ) -> NDArray[np.intp]:
        """(height * width,) flat grid pixel of each pixel of a sensor without depth; -1: outside.

        With CameraInfo and a transform: the far-field homography K_view R K_sensor^-1, lenses
        included. Without: both images are taken to cover the same field of view. Where something
        moves on the way, the last table serves until it has turned by 0.01 degrees.

        Raises:
            Rejection: NO_TF; the sensor moves, and how is not known at that time.
        """
        key = ("lookup", modality, strip(frame_id), height, width)
        if self.camera_of(modality) is None or not self._moving_route(modality, strip(frame_id)):
            there = self._pose_of(modality, frame_id)
            return self._keep(key, lambda: self._find_lookup(modality, there, height, width))
        there = self.view_from(modality, frame_id, at)
        version, of, table = self._tables.get(key, (-1, there, np.empty(0, np.intp)))
        if version != self.version or apart(of, there)[1] >= _STILL_DEG:
            table = self._find_lookup(modality, there, height, width)
            if len(self._tables) >= _KEPT:
                self._tables.clear()
            self._tables[key] = self.version, there, table
        return table

    def _find_lookup(
        self, modality: str, there: NDArray[np.float64] | None, height: int, width: int
    ) -> NDArray[np.intp]:
        own = self.camera_of(modality)
        if own is None or self.camera is None or there is None:
            rows = (np.arange(height) * 2 + 1) * self.size[0] // (2 * height)
            cols = (np.arange(width) * 2 + 1) * self.size[1] // (2 * width)
            every: NDArray[np.intp] = rows[:, None] * self.size[1] + cols
            return every.ravel()
        with np.errstate(all="ignore"):  # pixels that look nowhere are NaN
            rays = self.rays(modality, height, width) @ there[:3, :3].T.astype(np.float32)
        found = self.project(rays)
        table = np.full(height * width, -1, np.intp)
        table[found.index] = found.rows * self.size[1] + found.cols
        return table

    def _named(self) -> Camera | None:
        """The CameraInfo that makes the grid."""
        name = grid_of(self._cameras)
        return self._cameras[name] if name else None

    def _find_camera(self) -> Camera | None:
        if self._wrong_intrinsics():
            return None
        return self._configured() or self._named()

    def _configured(self) -> Camera | None:
        if not self.config.intrinsics:
            return None
        fx, fy, cx, cy = self.config.intrinsics
        return Camera(*self.camera_size, fx, fy, cx, cy, frame_id=self.frame_id)

    def _wrong_intrinsics(self) -> str:
        """Why the configured ones belong to no camera of this size; empty: they may, or nobody
        has said the size yet.
        """
        config = self.config
        sized = self._image or self._named() or (config.height and config.width)
        configured = self._configured() if sized else None
        return configured.impossible if configured else ""

    def _route(self, frame_id: str) -> Route | None:
        """TF's way from a frame to the view's."""
        target = self.frame_id
        return self._keep(("route", frame_id), lambda: self._tree.route(target, frame_id))

    def _moving_route(self, modality: str, frame_id: str) -> Route | None:
        """The same, if something moves on it and it counts."""
        if modality in self.config.extrinsics or modality in self._poses:
            return None
        route = self._route(frame_id)
        return route if route and route.moving else None

    def _pose_of(
        self, modality: str, frame_id: str, at: Moment | None = None
    ) -> NDArray[np.float64] | None:
        """View from sensor, or None."""
        return self._place_of(modality, strip(frame_id), at).pose

    def _place_of(self, modality: str, frame_id: str, at: Moment | None = None) -> _Found:
        """Where a sensor is, and why its transform is not believed, if it is not."""
        route = self._moving_route(modality, frame_id)
        if route is None:
            key = ("pose", modality, frame_id)
            return self._keep(key, lambda: self._find_place(modality, frame_id))
        asked, name = (self.version, self._heard, at), (modality, frame_id)
        known = self._latest.get(name)
        if known is not None and known[0] == asked:
            return known[1]
        try:
            way = self._tree.follow(route, at)
            why = self._why_far(modality, frame_id, way)
            found = _Found(None, why) if why else _Found(way)
        except Rejection as rejection:
            found = _Found(None, str(rejection))
        if len(self._latest) >= _KEPT:
            self._latest.clear()
        self._latest[name] = asked, found
        return found

    def _find_place(self, modality: str, frame_id: str) -> _Found:
        if modality in self.config.extrinsics:
            return _Found(pose(*self.config.extrinsics[modality]))
        if modality in self._poses:
            return _Found(self._poses[modality])
        route = self._route(frame_id)
        way = self._tree.follow(route) if route else None
        if way is None or not (why := self._why_far(modality, frame_id, way)):
            return _Found(way)
        known = self._places.get(modality)
        good = known is not None and known[:2] == (self.frame_id, frame_id)
        return _Found(known.newest if known and good else None, why)

    def _why_far(self, modality: str, frame_id: str, way: NDArray[np.float64]) -> str:
        """Why nobody believes that a sensor hangs there; empty: one may."""
        limit_m = self.config.max_distance_m
        if (distance_m := float(np.linalg.norm(way[:3, 3]))) <= limit_m:
            return ""
        return (
            f"transform puts {frame_id!r} {distance_m:.1f} m from {self.frame_id!r}, "
            f"limit {limit_m:g} m; mend it, set view.extrinsics.{modality} or raise "
            "view.max_distance_m"
        )

    def _too_far(self, message: Any) -> Rejection | None:
        """NO_TF, if a transform of this message is a link to a stream that it puts too far away."""
        for modality, frame_id in self._frames.items():
            if not (text := self.far(modality, frame_id)):
                continue
            links = self._tree.links(self.frame_id, frame_id)
            children = (getattr(one, "child_frame_id", None) for one in message.transforms)
            if any(isinstance(child, str) and strip(child) in links for child in children):
                return Rejection(Fault.NO_TF, text)
        return None

    def _keep(self, key: Any, compute: Callable[[], T]) -> T:
        """`compute()`, done once per version."""
        kept = self._kept  # a change in another thread puts a new dictionary in its place
        try:
            value: T = kept[key]
            return value
        except KeyError:
            value = compute()
        if len(kept) >= _KEPT:
            kept.clear()
        kept[key] = value
        return value

    def _changed(self) -> None:
        self.version += 1
        self._kept = {}
