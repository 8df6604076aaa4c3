"""What a run says, as a recording for Rerun's viewer: a sink of the masks that the MCAP is made of.

Everything lies on two timelines: `recording`, seconds since its first message, and `stamp`, the
mask's own. Of several cameras, each has its name before its entities. The file is read by the
viewer of rerun-sdk (extra `viz`): `rerun rerun.rrd`. `robustseg view --live` fills one, or a
window, with what a node publishes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias
from uuid import uuid4

import cv2
import numpy as np
from numpy.typing import NDArray

from robustseg_core.errors import RobustsegError, not_installed
from robustseg_core.geometry.scene import Scene
from robustseg_core.geometry.view import moved
from robustseg_core.output import draw, messages, states, topics
from robustseg_core.output.cloud import labelled
from robustseg_core.output.cloud_picture import UNLABELLED
from robustseg_core.types import IGNORE, SECOND, Finding, ModelSpec, State, kind_of

NAME: Final = "rerun.rrd"
"""The file, in the folder of results."""
RECORDING, STAMP = "recording", "stamp"
"""Its timelines."""
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 85]
_MM: Final = 1000.0
_POINT_PX: Final = 2.0

Logged: TypeAlias = Iterable[tuple[str, Any]]
"""Entities below the camera's name, and what is logged there."""


def rerun() -> Any:
    """The module.

    Raises:
        RobustsegError: it is not installed.
    """
    try:
        import rerun
    except ImportError:
        raise RobustsegError(not_installed("rerun")) from None
    return rerun


def _label_mask(mask: topics.Mask) -> Logged:
    yield "image/label_mask", rerun().SegmentationImage(mask.label_map.ids)


def _confidence(mask: topics.Mask) -> Logged:
    yield "image/confidence", rerun().Image(mask.label_map.confidence, color_model="L")


def _overlay(mask: topics.Mask) -> Logged:
    data = messages.compressed_overlay(mask.picture, mask.label_map)["data"]
    yield "overlay", rerun().EncodedImage(contents=data.tobytes(), media_type="image/jpeg")


def _camera(mask: topics.Mask) -> Logged:
    """Of the mask's own pixels; a lens' distortion is not told to Rerun, which knows none."""
    told = messages.camera_info(mask.label_map)
    if told is not None:
        size = [told["width"], told["height"]]
        matrix = np.reshape(told["k"], (3, 3))
        yield "image", rerun().Pinhole(image_from_camera=matrix, resolution=size)


def _points(mask: topics.Mask) -> Logged:
    """In the camera's frame, so that whose they are may change."""
    found = labelled(mask.label_map, mask.points)
    if found is None:
        return
    xyz = moved(found.xyz, found.camera_from_points)
    here = np.isfinite(xyz).all(axis=1)
    radii = rerun().Radius.ui_points(_POINT_PX)
    yield "points", rerun().Points3D(xyz[here], class_ids=found.ids[here], radii=radii)


def _curves(mask: topics.Mask) -> Logged:
    told = states.sensor_states(mask.label_map, mask.spec)
    for name, value in zip(told["name"], told["position"], strict=True):
        stream, _, what = name.rpartition(".")
        if np.isfinite(value) and what not in ("state", "used"):
            yield f"curves/{stream or 'mask'}/{what}", rerun().Scalars(float(value))


SHOWN: Mapping[str, Callable[[topics.Mask], Logged]] = {
    "label_mask": _label_mask,
    "confidence": _confidence,
    "overlay": _overlay,
    "label_color": lambda mask: (),  # the annotation context colors the mask
    "camera_info": _camera,
    "points": _points,
    "sensor_states": _curves,
    "status": lambda mask: (),  # told when it changes: `RerunFile`
}
"""Output topic (`topics.of_a_mask`) -> what Rerun shows of it."""


class RerunFile:
    """Writes the file while masks come in; a context manager.

    Args:
        path: where, ending in .rrd; None: no file, a viewer's window is opened instead.
        spec: the network's.
        title: of the recording, for the viewer's list.
        cameras: names of several; none: there is one.

    Raises:
        RobustsegError: rerun is not installed, or the file cannot be written.
    """

    def __init__(
        self, path: Path | None, spec: ModelSpec, *, title: str, cameras: Sequence[str] = ()
    ) -> None:
        self._spec = spec
        self._rr = rerun()
        self._states: dict[str, State] = {}
        """Entity -> what was said last."""
        self._findings: dict[str, dict[str, Finding]] = {}
        self._pictured: dict[str, set[str]] = {}
        """Camera -> entities of sensors that a picture of is shown."""
        try:
            if path is not None:
                path.touch()
        except OSError as error:
            raise RobustsegError(
                f"cannot write {path}: {error.strerror}; choose another --out"
            ) from None
        self._stream = self._rr.RecordingStream("robustseg", recording_id=uuid4())
        self._stream.set_log_time_enabled(False)
        self._stream.set_log_tick_enabled(False)
        if path is None:
            self._stream.spawn()
        else:
            self._stream.save(str(path))
        self._stream.send_recording_name(title)
        self._stream.log("/", self._classes(), static=True)
        for camera in cameras or ("/",):  # of an optical frame: x right, y down, z ahead
            self._stream.log(camera, self._rr.ViewCoordinates.RDF, static=True)
        self._stream.send_blueprint(self._views([f"/{camera}" for camera in cameras] or [""]))

    def __enter__(self) -> RerunFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stream.flush()
        self._stream.disconnect()

    def add(
        self,
        mask: topics.Mask,
        at_ns: int,
        seen: Mapping[str, NDArray[np.uint8]] | None = None,
    ) -> None:
        """Log one mask, what it was made of, and how its sensors are.

        Args:
            mask: as the MCAP gets it.
            at_ns: its place on the timeline.
            seen: (h, w, 3) RGB of sensors that it is not made of.
        """
        label_map = mask.label_map
        self._stream.set_time(RECORDING, duration=at_ns / SECOND)
        self._stream.set_time(STAMP, timestamp=np.datetime64(label_map.stamp_ns, "ns"))
        root = f"{label_map.camera}/" if label_map.camera else ""
        for make in SHOWN.values():
            for entity, what in make(mask):
                self._stream.log(f"{root}{entity}", what)
        self._inputs(mask, root, seen or {})
        for name in label_map.streams(mask.spec.modalities):
            state = label_map.states.get(name, State.DISABLED)
            self._state(name, root, state)
            self._tell(name, root, label_map.reasons.get(name, ()))

    def add_points(self, xyz: NDArray[np.float32], ids: NDArray[np.uint32], frame_id: str) -> None:
        """Log a labelled cloud as a node published it, at the time of the mask that was added last.

        Args:
            xyz: (N, 3) metres in its sensor's frame.
            ids: (N,) class ids.
            frame_id: of the sensor. By REP 103, what has no `optical` in it has x ahead and z up.
        """
        if "optical" not in frame_id:
            xyz = np.stack([-xyz[:, 1], -xyz[:, 2], xyz[:, 0]], axis=1)
        here = np.isfinite(xyz).all(axis=1)
        radii = self._rr.Radius.ui_points(_POINT_PX)
        cloud = self._rr.Points3D(xyz[here], class_ids=ids[here].astype(np.uint16), radii=radii)
        self._stream.log("points", cloud)

    def _classes(self) -> Any:
        known = zip(self._spec.classes, self._spec.palette, strict=True)
        told = [(number, name, color) for number, (name, color) in enumerate(known)]
        return self._rr.AnnotationContext([*told, (IGNORE, messages.UNLABELED, UNLABELLED)])

    def _views(self, roots: Sequence[str]) -> Any:
        """How the viewer is laid out: masks, clouds, inputs, states and what was told."""
        from rerun import blueprint

        def of(root: str) -> Any:
            pictures = blueprint.Vertical(
                blueprint.Spatial2DView(origin=f"{root}/overlay", name="mask"),
                blueprint.Grid(
                    *(
                        blueprint.Spatial2DView(origin=f"{root}/inputs/{name}", name=name)
                        for name in self._spec.modalities
                    )
                ),
            )
            told = blueprint.Vertical(
                blueprint.Spatial3DView(
                    origin=root or "/", contents=f"{root}/points", name="cloud"
                ),
                blueprint.StateTimelineView(origin=f"{root}/states", name="states"),
                blueprint.TextLogView(origin=f"{root}/log", name="what is wrong"),
                row_shares=[3, 2, 2],
            )
            return blueprint.Horizontal(pictures, told, name=root.strip("/") or None)

        views = [of(root) for root in roots]
        whole = views[0] if len(views) == 1 else blueprint.Tabs(*views)
        return blueprint.Blueprint(whole, collapse_panels=True)

    def _inputs(self, mask: topics.Mask, root: str, seen: Mapping[str, NDArray[np.uint8]]) -> None:
        """What each sensor showed the network, or said though it is not used; metres of depth."""
        said = dict(self._input_pictures(mask, seen))
        before = self._pictured.setdefault(root, set())
        for name in before - said.keys():
            self._stream.log(f"{root}inputs/{name}", self._rr.Clear(recursive=True))
        self._pictured[root] = set(said)
        for name, what in said.items():
            self._stream.log(f"{root}inputs/{name}", what)

    def _input_pictures(
        self, mask: topics.Mask, seen: Mapping[str, NDArray[np.uint8]]
    ) -> Iterator[tuple[str, Any]]:
        label_map = mask.label_map
        shown = {name: draw.seen_by(f, mask.spec) for name, f in label_map.bundle.frames.items()}
        for name, picture in ({kind_of(name): p for name, p in seen.items()} | shown).items():
            ok, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), _JPEG)
            if ok:
                contents = data.tobytes()
                yield name, self._rr.EncodedImage(contents=contents, media_type="image/jpeg")
        scene: Scene | None = label_map.scene
        for name, placed in scene.placed.items() if scene is not None else ():
            if placed.lens is not None:
                with np.errstate(invalid="ignore"):
                    mm = np.nan_to_num(placed.reading.data * _MM, nan=0.0, posinf=0.0, neginf=0.0)
                whole = np.clip(np.rint(mm), 0, np.iinfo(np.uint16).max).astype(np.uint16)
                yield f"{name}/metres", self._rr.DepthImage(whole, meter=_MM)

    def _state(self, name: str, root: str, state: State) -> None:
        entity = f"{root}states/{name}"
        before = self._states.get(entity)
        if before is state:
            return
        if before is None:
            colors = [draw.STATE_COLORS[known] for known in State]
            config = self._rr.StateConfiguration(values=[s.value for s in State], colors=colors)
            self._stream.log(entity, config, static=True)
        else:
            text = f"{name} is {state.value}, was {before.value}"
            self._log_text(name, root, text, bad=state is State.DEAD)
        self._states[entity] = state
        self._stream.log(entity, self._rr.StateChange(state=state.value))

    def _tell(self, name: str, root: str, findings: Iterable[Finding]) -> None:
        """Findings that begin, and that end."""
        entity = f"{root}{name}"
        now = {finding.fault.value: finding for finding in reversed(tuple(findings))}
        before = self._findings.get(entity, {})
        self._findings[entity] = now
        for fault, finding in now.items():
            if fault not in before:
                self._log_text(name, root, f"{name} {finding}", bad=finding.fatal)
        for fault in before.keys() - now.keys():
            self._log_text(name, root, f"{name} {fault}: over", bad=None)

    def _log_text(self, name: str, root: str, text: str, *, bad: bool | None) -> None:
        levels = self._rr.TextLogLevel
        level = levels.INFO if bad is None else levels.ERROR if bad else levels.WARN
        self._stream.log(f"{root}log/{name}", self._rr.TextLog(text, level=level))
