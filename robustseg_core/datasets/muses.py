"""MUSES: a real car in Switzerland's weather, with frame camera, event camera and LiDAR.

Brödermann et al., "MUSES: The Multi-Sensor Semantic Perception Dataset for Driving under
Uncertainty", arXiv 2401.12761. Raw sensors by default, projected by the live node's own code, so
that a network trained here runs on a robot; or the PNG form that the data set's SDK writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robustseg_core.codecs.picture_file import levels, planes, png_size, read_json, read_picture
from robustseg_core.datasets import _published
from robustseg_core.datasets._collection import Collection, Entry, must_be
from robustseg_core.datasets._muses_png import PngReader
from robustseg_core.datasets._muses_raw import (
    CAMERA_SIZE,
    STAMP_NS,
    Calibration,
    read_events,
    read_scan,
)
from robustseg_core.errors import RobustsegError
from robustseg_core.modalities.event import Event
from robustseg_core.modalities.lidar import Lidar
from robustseg_core.modalities.rgb import Rgb
from robustseg_core.models.classes import CITYSCAPES
from robustseg_core.types import IGNORE, Reading

_FOLDERS = {"rgb": "frame_camera", "event": "event_camera", "lidar": "lidar"}
_ENDINGS = {"rgb": ".png", "event": ".h5", "lidar": ".bin"}
_CLASSES = len(CITYSCAPES.names)


class EventWindow(Event.Encoding):
    """The live encoding of events, over the 30 ms that the data set has."""

    window_ms: float = Field(
        30.0, gt=0, le=30, description="Events of this long before the exposure's end are counted."
    )


class Muses(Collection):
    """MUSES at its root: `frame_camera event_camera lidar gt_semantic calib.json [meta.json]`.

    Samples are taken from meta.json where it exists, else from the folders. The test split has no
    public labels: its samples have label None. Motion during a LiDAR scan is not compensated.
    Tags: `scene` (the recording, REC####), `condition` (`rain/night`).
    """

    known: ClassVar = ("rgb", "event", "lidar")
    classes = CITYSCAPES
    protocol_size: ClassVar = (1024, 1024)

    class Options(Collection.Options):
        """Which form of the sensors, and habits of the any-modality papers."""

        form: Literal["raw", "png"] = Field(
            "raw", description="Raw events and LiDAR projected here, or the SDK's projected PNGs."
        )
        png_folder: str = Field(
            "projected_to_rgb", description="Folder of the PNG form below the root; . is the root."
        )
        event: EventWindow = Field(EventWindow(), description="Encoding of events.")
        lidar: Lidar.Encoding = Field(Lidar.Encoding(), description="Encoding of LiDAR returns.")
        event_size: tuple[int, int] = Field(
            (720, 1280), description="(H, W) of the event sensor; calib.json does not tell it."
        )
        nearest_m: float = Field(
            1.0, ge=0, description="Returns nearer to the LiDAR than this are the car itself."
        )
        legacy_void_as_road: bool = Field(
            default=False,
            description="Unknown pixels are labelled road, and so trained and scored.",
        )
        legacy_unnormalized: Literal["anyseg", "robustseg"] | None = Field(
            None,
            description="PNG form as levels 0..255 without normalization: high bytes, bicubic, as "
            "AnySeg's code reads them, or RobustSeg's, which stretches LiDAR over each picture.",
        )

    options: Options

    def folders(self) -> Mapping[str, str]:
        """The folders of the modalities that are read, of the labels, and the calibration."""
        needed = {self._folder(modality): modality for modality in self.modalities}
        if self.options.form == "raw" and {"event", "lidar"} & set(self.modalities):
            needed["calib.json"] = "calibration"
        return needed if self.split == "test" else {**needed, "gt_semantic": "labels"}

    def describe(self) -> None:
        """Say how every modality is represented, and make what encodes it."""
        options = self.options
        if options.legacy_unnormalized:
            if options.form == "raw":
                raise RobustsegError(
                    "legacy_unnormalized imitates a loader of PNG files; set options.form to png"
                )
            self.rgb = Rgb(encoding={"mean": (0, 0, 0), "std": (1 / 255,) * 3})
        event, lidar = options.event.model_dump(mode="json"), options.lidar.model_dump(mode="json")
        self._event, self._lidar = Event(encoding=event), Lidar(encoding=lidar)
        self._png = PngReader(options.event, options.lidar)
        if options.legacy_unnormalized:
            event = {"representation": "muses_png_0_255"}
            stretched = options.legacy_unnormalized == "robustseg"
            lidar = {"representation": "muses_png_0_255_stretched"} if stretched else dict(event)
        elif options.form == "png":
            event, lidar = self._png.encodings()
        every = {"rgb": self.rgb.encoding.model_dump(mode="json"), "event": event, "lidar": lidar}
        self.encodings = {modality: every[modality] for modality in self.modalities}

    def prepare(self) -> None:
        """Read the calibration, where the sensors are projected here."""
        if self.options.form == "raw" and set(self.modalities) - {"rgb"}:
            path = self.root / "calib.json"
            self._calibration = Calibration(path, self.options.event_size)

    def find(self) -> Iterable[Entry]:
        """One entry for every moment of the split, sorted by its path."""
        for stem in sorted(self._stems()):  # fog/night/REC0475_frame_000247
            weather, time_of_day, name = stem.parts
            files = {
                modality: self.root
                / self._folder(modality)
                / self.split
                / weather
                / time_of_day
                / f"{name}_{_FOLDERS[modality]}{self._ending(modality)}"
                for modality in self.modalities
            }
            label = self.root / "gt_semantic" / self.split / stem.parent
            label /= f"{name}_gt_labelTrainIds.png"
            if self.split != "test" or label.exists():
                files["label"] = label
            scene = name.partition("_frame_")[0]
            tags = {"scene": scene, "condition": f"{weather}/{time_of_day}"}
            yield Entry(str(PurePosixPath(self.split) / stem), tags, files)

    def looked_for(self) -> str:
        """The file list, or the pattern."""
        if (self.root / "meta.json").exists():
            return f"meta.json lists none for {self.split}; unpack it again, or take it away"
        first = self.modalities[0]
        pattern = f"<weather>/<day or night>/*_{_FOLDERS[first]}{self._ending(first)}"
        return f"looked for {self._folder(first)}/{self.split}/{pattern}; check the root"

    def read(
        self, modality: str, entry: Entry, native: tuple[int, int], size: tuple[int, int]
    ) -> NDArray[np.float32] | None:
        """(3, H, W); None for a scan without any return."""
        path = entry.files[modality]
        if modality == "rgb" or self.options.legacy_unnormalized:
            picture = read_picture(path)
            picture = must_be(path, picture, native) if modality == "rgb" else picture
            if self.options.legacy_unnormalized:
                return self._unnormalized(modality, picture, size)
            return self.encode_rgb(levels(picture), size)
        if self.options.form == "png":
            return self._png.read(modality, path, size)
        view = self._calibration.view(size)
        if modality == "event":
            packet = read_events(path, self.options.event_size)
            return self._event.encode([Reading("event", STAMP_NS, "event", packet)], view, STAMP_NS)
        cloud = read_scan(path, self.options.nearest_m)
        if not len(cloud.xyz):
            return None
        return self._lidar.encode([Reading("lidar", STAMP_NS, "lidar", cloud)], view, STAMP_NS)

    def _unnormalized(
        self, modality: str, picture: NDArray[Any], size: tuple[int, int]
    ) -> NDArray[np.float32]:
        """(3, H, W) levels 0..255, as the published loaders hand them to the network."""
        resized = _published.bicubic(picture, size)
        if modality == "lidar" and self.options.legacy_unnormalized == "robustseg":
            return planes(_published.stretched(resized))
        return planes(resized)

    def fit(self, picture: NDArray[Any], size: tuple[int, int], *, nearest: bool) -> NDArray[Any]:
        """(H, W) labels brought to `size`."""
        if self.options.legacy_unnormalized and nearest:
            return _published.nearest(picture, size)
        return super().fit(picture, size, nearest=nearest)

    def read_label(self, entry: Entry) -> NDArray[np.uint8] | None:
        """Train ids 0..18, 255 unknown; None for the test split."""
        path = entry.files.get("label")
        if path is None:
            return None
        label = read_picture(path)
        label = label if label.ndim == 2 else label[..., 0]
        wrong = (label >= _CLASSES) & (label != IGNORE)
        if wrong.any():
            raise RobustsegError(
                f"{path} holds the id {label[wrong][0]}; expected train ids 0..18 or 255"
            )
        label = label.astype(np.uint8)
        if self.options.legacy_void_as_road:
            label[label == IGNORE] = 0
        return label

    def native(self, entry: Entry) -> tuple[int, int]:
        """The frame camera's size, where it is read."""
        return png_size(entry.files["rgb"]) if "rgb" in entry.files else CAMERA_SIZE

    def _stems(self) -> Iterable[PurePosixPath]:
        """`weather/time/REC####_frame_######` of all moments of the split."""
        meta = self.root / "meta.json"
        if meta.exists():
            scenes = read_json(meta)
            try:
                for key, scene in scenes.items():
                    if scene["split"] != self.split:
                        continue
                    name = key
                    if path := scene.get("path_to_frame_camera"):
                        name = PurePosixPath(path).name.removesuffix("_frame_camera.png")
                    stem = PurePosixPath(scene["weather"], scene["time_of_day"], name)
                    if len(stem.parts) != 3 or stem.is_absolute() or ".." in stem.parts:
                        raise ValueError(f"{str(stem)!r:.80} is no weather/time/name")
                    yield stem
            except (ValueError, AttributeError, TypeError, KeyError) as error:
                raise RobustsegError(
                    f"{meta} is no list of scenes with split, weather and time_of_day "
                    f"({type(error).__name__}: {error}); unpack it again, or take it away"
                ) from None
            return
        first = self.modalities[0]
        folder = self.root / self._folder(first) / self.split
        ending = f"_{_FOLDERS[first]}{self._ending(first)}"
        for path in folder.glob(f"*/*/*{ending}"):
            name = path.name.removesuffix(ending)
            yield PurePosixPath(*path.parent.relative_to(folder).parts, name)

    def _folder(self, modality: str) -> str:
        """Folder of a modality below the root."""
        png = self.options.form == "png" and modality != "rgb"
        return str(Path(self.options.png_folder if png else ".") / _FOLDERS[modality])

    def _ending(self, modality: str) -> str:
        return ".png" if self.options.form == "png" else _ENDINGS[modality]
