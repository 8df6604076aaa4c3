"""DELIVER: four simulated sensors in five weathers, and five ways in which a sensor fails.

Zhang et al., "Delivering Arbitrary-Modal Semantic Segmentation", arXiv 2303.01480; the layout is
that of the public release (front view only).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robustseg_core.codecs.picture_file import levels, planes, read_picture, unit
from robustseg_core.datasets import _published
from robustseg_core.datasets._collection import Collection, Entry, must_be
from robustseg_core.errors import RobustsegError
from robustseg_core.models.classes import DELIVER
from robustseg_core.types import IGNORE

Condition = Literal["cloud", "fog", "night", "rain", "sun"]
Case = Literal["none", "motionblur", "overexposure", "underexposure", "lidarjitter", "eventlowres"]
CONDITIONS: tuple[Condition, ...] = ("cloud", "fog", "night", "rain", "sun")
CASES: tuple[Case, ...] = (
    "none",
    "motionblur",
    "overexposure",
    "underexposure",
    "lidarjitter",
    "eventlowres",
)

_TRAIN_ID = np.full(256, IGNORE, np.uint8)
_TRAIN_ID[1:26] = np.arange(25)


class Deliver(Collection):
    """DELIVER at its root: `img hha depth lidar event semantic`, each `weather/split/scene/`.

    Images are /255 in three channels, RGB with ImageNet's mean and deviation, as in the published
    code. Depth is the HHA folder, because that is what every paper means by it. Partners are found
    by name, never by order. Tags: `scene` (the place, whatever its weather and corner case),
    `condition` (weather), `case` (`none`, or the corner case in the scene folder's name).
    """

    known: ClassVar = ("rgb", "depth", "event", "lidar")
    classes = DELIVER
    protocol_size: ClassVar = (1024, 1024)

    class Options(Collection.Options):
        """Which part of DELIVER, and which of its two depths."""

        depth: Literal["hha", "raw"] = Field(
            "hha", description="Folder read as depth: hha, or raw (uint8 of undocumented scale)."
        )
        conditions: tuple[Condition, ...] = Field(
            (), description="Weathers to keep; empty: all five."
        )
        cases: tuple[Case, ...] = Field(
            (), description="Corner cases to keep, `none` among them; empty: all."
        )
        legacy_resize: Literal["antialias", "plain"] | None = Field(
            None,
            description="Resize as the published code does: 8 bits, all sensors bilinear, with the "
            "wider filter of torchvision since 0.17 (antialias) or without; null: as on a robot.",
        )

    options: Options

    def folders(self) -> Mapping[str, str]:
        """The folders of the modalities that are read, and of the labels."""
        named = {self._folder(m)[0]: m for m in self.modalities}
        return {"img": "rgb, which names the samples", **named, "semantic": "labels"}

    def describe(self) -> None:
        """Say how every modality is represented; only rgb is what a live sensor gives."""
        stored = {
            "rgb": self.rgb.encoding.model_dump(mode="json"),
            "depth": {"representation": "hha" if self.options.depth == "hha" else "deliver_depth"},
            "event": {"representation": "deliver_polarity"},
            "lidar": {"representation": "deliver_picture"},
        }
        self.encodings = {modality: stored[modality] for modality in self.modalities}

    def find(self) -> Iterable[Entry]:
        """One entry for every front view in `img`, sorted by path."""
        for condition in self.options.conditions or CONDITIONS:
            folder = self.root / "img" / condition / self.split
            for path in sorted(folder.glob("*/*_rgb_*.png")):
                place, case = split_scene(path.parent.name)
                if self.options.cases and case not in self.options.cases:
                    continue
                files = {m: self._partner(path, *self._folder(m)) for m in self.modalities}
                files["label"] = self._partner(path, "semantic", "semantic")
                yield Entry(
                    path.relative_to(self.root / "img").with_suffix("").as_posix(),
                    {"scene": place, "condition": condition, "case": case},
                    files,
                )

    def looked_for(self) -> str:
        """The pattern, and the filters."""
        weathers = ",".join(self.options.conditions or CONDITIONS)
        text = f"looked for img/{{{weathers}}}/{self.split}/<scene>/<frame>_rgb_front.png"
        if self.options.cases:
            return f"{text} of the cases {', '.join(self.options.cases)}; widen options.cases"
        return f"{text}; check the root"

    def read(
        self, modality: str, entry: Entry, native: tuple[int, int], size: tuple[int, int]
    ) -> NDArray[np.float32]:
        """(3, H, W). Event pictures of the low-resolution case are enlarged to the label's size."""
        path = entry.files[modality]
        picture = read_picture(path)
        if modality == "event":
            picture = self.fit(picture, native, nearest=True)
        picture = must_be(path, picture, native)
        if self.options.legacy_resize:
            wide = self.options.legacy_resize == "antialias"
            picture = _published.bilinear(picture, size, antialias=wide)
        if modality == "rgb":
            return self.encode_rgb(levels(picture), size)
        return planes(self.fit(unit(picture), size, nearest=True))

    def fit(self, picture: NDArray[Any], size: tuple[int, int], *, nearest: bool) -> NDArray[Any]:
        """(H, W[, C]) brought to `size`; for labels, and for what no published code blends."""
        if self.options.legacy_resize and nearest:
            return _published.nearest(picture, size)
        return super().fit(picture, size, nearest=nearest)

    def read_label(self, entry: Entry) -> NDArray[np.uint8]:
        """Stored 1..25 are classes 0..24; stored 0 and 255 are void."""
        path = entry.files["label"]
        stored = read_picture(path)
        stored = stored if stored.ndim == 2 else stored[..., 0]
        label: NDArray[np.uint8] = _TRAIN_ID[np.minimum(stored, 255)]
        wrong = (label == IGNORE) & (stored != 0) & (stored != 255)
        if wrong.any():
            raise RobustsegError(
                f"{path} holds the id {stored[wrong][0]}; expected 0..25 or 255 (channel 0)"
            )
        return label

    def _folder(self, modality: str) -> tuple[str, str]:
        """Top folder and file tag of a modality."""
        if modality == "depth":
            return ("hha" if self.options.depth == "hha" else "depth"), "depth"
        return ("img", "rgb") if modality == "rgb" else (modality, modality)

    def _partner(self, rgb: Path, folder: str, tag: str) -> Path:
        """The file of another sensor: top folder and tag change, all between stays."""
        between = rgb.parent.relative_to(self.root / "img")
        return self.root / folder / between / rgb.name.replace("_rgb_", f"_{tag}_")


def split_scene(name: str) -> tuple[str, Case]:
    """(place, corner case) of a scene folder's name, e.g. `MAP_1_point102_motionblur`."""
    for case in CASES[1:]:
        before, found, after = name.partition(case)
        if found:
            return f"{before.rstrip('_-')}{after}", case
    return name, "none"
