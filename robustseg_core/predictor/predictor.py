"""The network behind plain arrays: what is given is checked, placed, encoded and labelled."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustseg_core import modalities
from robustseg_core.engines import Engine, artifact
from robustseg_core.engines.opening import device_of, open_engine
from robustseg_core.engines.weights import weights_file
from robustseg_core.errors import RobustsegError, did_you_mean
from robustseg_core.geometry.camera import Camera, same_aspect
from robustseg_core.geometry.view import View, grid_of
from robustseg_core.intake import checked
from robustseg_core.modalities._base import Modality
from robustseg_core.models.calibration import Promise
from robustseg_core.models.novelty import novelty_of
from robustseg_core.predictor.calibration import CameraLike, camera_of, pose_of, size_of
from robustseg_core.predictor.result import Result
from robustseg_core.robot.config import RobotConfig
from robustseg_core.segmenter import encode, enlarge
from robustseg_core.types import (
    Bundle,
    Color,
    Fault,
    Finding,
    Frame,
    ModelSpec,
    Reading,
    sentence,
)

log = logging.getLogger(__name__)


def load(
    weights: str | Path = "street",
    *,
    device: str = "auto",
    engine: str = "auto",
    cpu_threads: int = 0,
    alpha: float = 0.0,
    input_size: str = "",
) -> Predictor:
    """A predictor with the student that is shipped, or with a checkpoint.

    Args:
        weights: `street`, `street_tiny` for a slow computer, or the path of a .safetensors file
            that `robustseg train` wrote, or of what `robustseg export` made of it.
        device: auto, cpu, cuda or cuda:N.
        engine: as a robot's: auto, eager, openvino or onnxruntime.
        cpu_threads: of this process's networks, on a CPU; 0: all cores but one.
        alpha: at most this share of the pixels that keep their label is wrong, as the checkpoint
            promises (docs/specs/confidence.md); the others become 255. 0: all keep it.
        input_size: WIDTHxHEIGHT at which the network sees the scene, as "512x320"; empty: as it was
            trained.

    Raises:
        RobustsegError: no such weights, device, engine or number of threads, a file that is no
            checkpoint, or a promise that it does not give.
    """
    if not isinstance(weights, (str, Path)) or not str(weights):
        raise RobustsegError(f"weights is {weights!r}; give the name, as 'street', or the path")
    fields = {"engine": engine, "cpu_threads": cpu_threads, "alpha": alpha}
    robot = RobotConfig.model_validate({**fields, "input_size": input_size}, strict=True)
    device_of(device, engine)  # before the weights are read
    exported = artifact.load(weights_file(weights), robot.input_shape)
    runs = open_engine(exported, device=device, engine=engine, cpu_threads=cpu_threads)
    return Predictor(exported.spec, runs, alpha=alpha)


class Predictor:
    """Arrays of some sensors in, a `Result` out; for one thread at a time.

    Args:
        spec: what the network expects.
        engine: runs the network.
        alpha: as `load` takes it.

    Raises:
        RobustsegError: the network does not promise that.
    """

    def __init__(self, spec: ModelSpec, engine: Engine, *, alpha: float = 0.0) -> None:
        self.spec = spec
        self._promise = Promise(spec, alpha)
        self._engine = engine
        self._novelty = novelty_of(spec)
        self._decoders: dict[str, Modality] = {
            name: modalities.load(name)(encoding=spec.encodings.get(name))
            for name in spec.modalities
            if not modalities.unfed(name, spec.encodings.get(name, {}))
        }
        self._rig: tuple[object, View] | None = None
        """The view of the last call: its tables serve again while the cameras stay."""

    @property
    def modalities(self) -> tuple[str, ...]:
        """The sensors that the network knows."""
        return self.spec.modalities

    @property
    def classes(self) -> tuple[str, ...]:
        """Name of each class; its id is its place."""
        return self.spec.classes

    @property
    def palette(self) -> tuple[Color, ...]:
        """RGB of each class."""
        return self.spec.palette

    def predict(
        self,
        inputs: Mapping[str, Any],
        *,
        camera: CameraLike | Mapping[str, CameraLike] | None = None,
        extrinsics: Mapping[str, ArrayLike] | None = None,
        reject: bool = False,
    ) -> Result:
        """One class per pixel of the camera, made of the sensors that are given.

        Args:
            inputs: modality -> what the sensor says, as `robustseg_core.predictor` documents it.
            camera: the camera whose pixels are labelled (that of `rgb`); or modality -> camera,
                where depth or events come through a lens of their own. Without one, pictures are
                taken to show the same field of view (so they have one aspect ratio), and a point
                cloud cannot be placed.
            extrinsics: modality -> (4, 4) camera_from_sensor in metres, of point clouds and of
                whatever has a lens of its own.
            reject: leave out what the product would reject, as a black image. Else it is used all
                the same, unless it says nothing at all: no valid depth, no point in the image, no
                event in the window. `Result.findings` and the log tell of it either way.

        Raises:
            RobustsegError: nothing is given, a name or an array is not what it should be, a sensor
                cannot be placed, or nothing is left that says something and is not rejected.
        """
        names = self._check_names(inputs)
        cameras = self._cameras(camera)
        poses = self._poses({} if extrinsics is None else extrinsics)
        data = self._decode(names, inputs, cameras)
        view = self._view(data, cameras, poses)
        frames: dict[str, Frame] = {}
        findings: dict[str, tuple[Finding, ...]] = {}
        for name in names:
            frame, alarms = self._frame(name, data[name], view)
            if alarms:
                findings[name] = alarms
                log.warning("%s: %s", name, sentence(alarms))
            if frame is not None and not (reject and any(found.fatal for found in alarms)):
                frames[name] = frame
        if not frames:
            raise RobustsegError(_nothing_left(findings))
        bundle = Bundle(0, frames)
        ids, confidence = self._engine(bundle)
        ids = self._promise.kept(ids, confidence, bundle)
        height, width = view.camera_size
        return Result(
            ids=enlarge(ids, height, width),
            confidence=enlarge(confidence, height, width),
            used=tuple(frames),
            findings=findings,
            novelty={
                name: judge(frames[name].array)
                for name, judge in self._novelty.items()
                if name in frames
            },
            spec=self.spec,
            bundle=bundle,
            picture=data["rgb"] if "rgb" in frames else None,
        )

    def _frame(self, name: str, data: Any, view: View) -> tuple[Frame | None, tuple[Finding, ...]]:
        """(what the network sees of a sensor, what is objected to); None: nothing to be seen."""
        decoder = self._decoders[name]
        decoder.reset()  # what was usual in another call says nothing of this one
        found, quality = checked(decoder, data)
        alarms = tuple(finding for finding in found if finding.alarm)
        reading = Reading(name, 0, "", data, quality)
        frame = encode(decoder, [reading], view, 0)
        if frame.array.any():
            return frame, alarms
        if astray := decoder.astray(reading, view, 0):
            alarms = (Finding(Fault.OUTSIDE, fatal=True, text=astray), *alarms)
        return None, alarms

    def _check_names(self, inputs: Mapping[str, Any]) -> list[str]:
        """The sensors that are given, in the network's order."""
        if not isinstance(inputs, Mapping):
            raise RobustsegError(
                f"inputs is a {type(inputs).__name__}; give a mapping, as {{'rgb': image}}"
            )
        self._check_known(inputs, "inputs")
        if not inputs:
            raise RobustsegError(f"inputs is empty; give one of {', '.join(self.modalities)}")
        return [name for name in self.modalities if name in inputs]

    def _check_known(self, names: Iterable[object], what: str) -> None:
        for name in names:
            if name in self.modalities and name not in self._decoders:
                why = modalities.unfed(str(name), self.spec.encodings.get(str(name), {}))
                raise RobustsegError(f"{what}: {name} cannot be fed, for {why}; leave it out")
            if name not in self._decoders:
                way_out = did_you_mean(str(name), self.modalities)
                raise RobustsegError(f"{what}: the network knows no {name!r}; {way_out}")

    def _cameras(self, camera: Any) -> dict[str, CameraLike]:
        """modality -> its camera, as given."""
        if camera is None:
            return {}
        if not isinstance(camera, Mapping) or "K" in camera:
            return {"rgb": camera}
        self._check_known(camera, "camera")
        return dict(camera)

    def _poses(self, extrinsics: Mapping[str, ArrayLike]) -> dict[str, NDArray[np.float64]]:
        """modality -> (4, 4) camera_from_sensor."""
        if not isinstance(extrinsics, Mapping):
            raise RobustsegError(
                f"extrinsics is a {type(extrinsics).__name__}; give a mapping, as {{'lidar': T}}"
            )
        self._check_known(extrinsics, "extrinsics")
        return {name: pose_of(f"extrinsics[{name!r}]", T) for name, T in extrinsics.items()}

    def _decode(
        self, names: Iterable[str], inputs: Mapping[str, Any], cameras: Mapping[str, CameraLike]
    ) -> dict[str, Any]:
        """What each sensor's `decode` would have returned."""
        data: dict[str, Any] = {}
        picture: tuple[int, int] | None = None
        # Pictures know their size; events have that of a picture, where nobody says otherwise.
        for name in sorted(names, key=lambda n: self._decoders[n].accumulates):
            told = size_of(cameras.get(name)) or size_of(cameras.get("rgb")) or picture
            data[name] = self._decoders[name].from_array(inputs[name], told)
            picture = picture or self._decoders[name].size(data[name])
        return data

    def _view(
        self,
        data: Mapping[str, Any],
        cameras: Mapping[str, CameraLike],
        poses: Mapping[str, NDArray[np.float64]],
    ) -> View:
        """The pixel grid, with every sensor in its place.

        Raises:
            RobustsegError: one has none; the text says what is missing.
        """
        found = {name: self._decoders[name].size(data[name]) for name in data}
        sizes = {name: size for name, size in found.items() if size}
        grid = grid_of(cameras)
        bare = next((size for name, size in sizes.items() if name not in cameras), None)
        known = {
            name: camera_of(name, value, sizes.get(name) or (bare if name == grid else None))
            for name, value in cameras.items()
            if name in data or name == grid
        }
        self._check_places(data, sizes, known, poses)
        self._check_shapes(sizes, known)
        view = self._kept_view(known, {**poses, **({grid: np.eye(4)} if grid else {})})
        if not known and sizes:
            view.set_image_size(*next(sizes[name] for name in self.modalities if name in sizes))
        return view

    def _check_places(
        self,
        data: Iterable[str],
        sizes: Mapping[str, tuple[int, int]],
        known: Mapping[str, Camera],
        poses: Mapping[str, NDArray[np.float64]],
    ) -> None:
        """Whether the calibration of the sensors that are given is complete, and theirs."""
        grid = grid_of(known)
        if grid and grid in poses and not np.allclose(poses[grid], np.eye(4), atol=1e-6):
            raise RobustsegError(
                f"extrinsics[{grid!r}] is not the identity, but it is {grid}'s camera that all "
                "others are placed in; leave it out"
            )
        for name in data:
            if name in known and name in sizes and not known[name].fits(*sizes[name]):
                (height, width), camera = sizes[name], known[name]
                raise RobustsegError(
                    f"camera of {name} is for {camera.height}x{camera.width} pixels (H, W), but "
                    f"the data have {height}x{width}; give K of this size, or its own with 'size'"
                )
            points, lens = self._decoders[name].needs_view, name in known and name != grid
            if points and grid is None:
                raise RobustsegError(
                    f"{name} cannot be placed without a camera; give camera=K (3x3) and "
                    f"extrinsics={{{name!r}: T}} (4x4, camera from {name})"
                )
            if (points or lens) and name not in poses:
                raise RobustsegError(
                    f"{name} cannot be placed without extrinsics; give extrinsics={{{name!r}: T}}, "
                    f"4x4, camera from {name} (np.eye(4) if it is in the camera's frame)"
                )
            if not points and not lens and name != grid and name in poses:
                raise RobustsegError(
                    f"extrinsics[{name!r}] needs the camera of {name}, too; give "
                    f"camera={{'rgb': K, {name!r}: ...}}, or leave it out if it is aligned"
                )

    def _check_shapes(
        self, sizes: Mapping[str, tuple[int, int]], known: Mapping[str, Camera]
    ) -> None:
        """Whether pictures without a lens of their own can show what the view shows."""
        grid = grid_of(known) or next((name for name in self.modalities if name in sizes), None)
        if grid is None:
            return
        height, width = known[grid].image_size if grid in known else sizes[grid]
        for name, size in sizes.items():
            if name not in known and not same_aspect(size, (height, width)):
                raise RobustsegError(
                    f"{name} has {size[0]}x{size[1]} pixels (H, W), and {grid} {height}x{width}, "
                    "another aspect ratio, so they do not show the same field of view; crop one, "
                    f"or give camera={{{grid!r}: K, {name!r}: K of its own}} and extrinsics"
                )

    def _kept_view(
        self, cameras: Mapping[str, Camera], poses: Mapping[str, NDArray[np.float64]]
    ) -> View:
        """A view of this rig: that of the last call, if it was the same."""
        key = (
            tuple(cameras.items()),
            tuple((name, pose.tobytes()) for name, pose in poses.items()),
        )
        if self._rig is None or self._rig[0] != key:
            view = View(self.spec.size)
            for name, camera in cameras.items():
                view.set_camera(name, camera)
            for name, pose in poses.items():
                view.set_pose(name, pose)
            self._rig = key, view
        return self._rig[1]


def _nothing_left(findings: Mapping[str, tuple[Finding, ...]]) -> str:
    """Why no sensor is used, the strongest reason of each."""
    strongest = {name: found[0] for name, found in findings.items()}
    if len(strongest) == 1:
        for finding in strongest.values():
            if finding.fault is Fault.OUTSIDE:
                return finding.text
    told = "; ".join(f"{name}: {finding}" for name, finding in strongest.items())
    return f"nothing is left to make a mask of ({told}); give other data"
