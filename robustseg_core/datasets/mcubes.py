"""MCubeS: materials of street scenes, seen in color, polarization and near infrared.

Liang et al., "Multimodal Material Segmentation", CVPR 2022.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robustseg_core.codecs.picture_file import levels, planes, read_array, read_picture, unit
from robustseg_core.codecs.picture_file import resize as resized
from robustseg_core.datasets._collection import Collection, Entry, must_be
from robustseg_core.errors import RobustsegError
from robustseg_core.models.classes import MCUBES
from robustseg_core.storage.budget import read_text
from robustseg_core.types import IGNORE

_LEFT = 192
"""Columns at the left that the near-infrared camera does not see; cropped off everything."""
_CLASSES = len(MCUBES.names)
_FOLDERS = {
    "rgb": ("polL_color",),
    "aolp": ("polL_aolp_sin", "polL_aolp_cos"),
    "dolp": ("polL_dolp",),
    "nir": ("NIR_warped", "NIR_warped_mask"),
}
_ARRAYS = ("polL_aolp_sin", "polL_aolp_cos", "polL_dolp")


class Mcubes(Collection):
    """MCubeS at its root (`multimodal_dataset`), split by its own lists in `list_folder`.

    Channels: RGB with ImageNet's mean and deviation; angle of polarization as (sin, cos, sin);
    degree of polarization and near infrared three times. The left 192 columns are cropped off. A
    `size` of another shape than what remains (1024x1032) is cut from the center, as the published
    evaluation does, then scaled. Tag: `scene` (the drive that the frame is of).
    """

    known: ClassVar = ("rgb", "aolp", "dolp", "nir")
    classes = MCUBES
    protocol_size: ClassVar = (1024, 1024)

    class Options(Collection.Options):
        """Two habits of the published code."""

        legacy_val_is_test: bool = Field(
            default=False,
            description="Read test.txt as val: what papers on the DELIVER code base report as val.",
        )
        legacy_keep_invalid_nir: bool = Field(
            default=False,
            description="Train on pixels without near infrared too, as the DELIVER code base does.",
        )

    options: Options

    def folders(self) -> Mapping[str, str]:
        """The folders of the modalities that are read, of the labels, and the list."""
        named = {folder: m for m in self.modalities for folder in _FOLDERS[m]}
        return {**named, "GT": "labels", self._list(): f"names of the {self.split} split"}

    def describe(self) -> None:
        """Say how every modality is represented."""
        stored = {
            "rgb": self.rgb.encoding.model_dump(mode="json"),
            "aolp": {"representation": "sin_cos_sin"},
            "dolp": {"representation": "degree"},
            "nir": {"representation": "intensity"},
        }
        self.encodings = {modality: stored[modality] for modality in self.modalities}

    def find(self) -> Iterable[Entry]:
        """The names of the split's list, in its order."""
        path = self.root / self._list()
        try:
            lines = read_text(path).splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise RobustsegError(f"cannot read {path}: {error}; unpack it again") from None
        for name in dict.fromkeys(line.split()[0] for line in lines if line.strip()):
            if Path(name).name != name or not name.isprintable():
                raise RobustsegError(f"{path} names {name!r:.80}, which is no file's name")
            files = {
                folder: self.root / folder / f"{name}{'.npy' if folder in _ARRAYS else '.png'}"
                for modality in self.modalities
                for folder in _FOLDERS[modality]
            }
            files["label"] = self.root / "GT" / f"{name}.png"
            yield Entry(name, {"scene": name.rpartition("_")[0] or name}, files)

    def looked_for(self) -> str:
        """The list."""
        return f"{self._list()} is empty; unpack it again"

    def read(
        self, modality: str, entry: Entry, native: tuple[int, int], size: tuple[int, int]
    ) -> NDArray[np.float32]:
        """(3, H, W) of one modality, 8 and 16 bits alike."""
        parts = []
        for folder in _FOLDERS[modality]:
            path = entry.files[folder]
            if folder == "NIR_warped_mask":
                continue
            picture = read_array(path) if folder in _ARRAYS else read_picture(path)
            parts.append(must_be(path, picture[:, _LEFT:], native))
        if modality == "rgb":
            # As floats, because resizing rounds 8-bit pictures and not 16-bit ones.
            return self.encode_rgb(self._cut(levels(parts[0]).astype(np.float32), size), size)
        if modality == "aolp":
            sine, cosine = parts
            picture = np.stack([sine, cosine, sine], axis=-1)
        else:
            gray = parts[0] if parts[0].ndim == 2 else parts[0][..., 0]
            picture = gray if modality == "dolp" else unit(gray)
        return planes(self.fit(picture, size, nearest=False))

    def read_label(self, entry: Entry) -> NDArray[np.uint8]:
        """0..19; all else is unknown. In training, pixels without near infrared are unknown too.

        They are taken out of the loss only: images and other splits keep them. White in the mask
        means invalid.
        """
        label = _first(read_picture(entry.files["label"]))[:, _LEFT:]
        label = np.where(label < _CLASSES, label, IGNORE).astype(np.uint8)
        masked = "nir" in self.modalities and self.split == "train"
        if masked and not self.options.legacy_keep_invalid_nir:
            path = entry.files["NIR_warped_mask"]
            invalid = must_be(path, _first(read_picture(path))[:, _LEFT:], label.shape)
            label[invalid > 0] = IGNORE
        return label

    def fit(self, picture: NDArray[Any], size: tuple[int, int], *, nearest: bool) -> NDArray[Any]:
        """The largest centered part of the shape of `size`, scaled to it."""
        return resized(self._cut(picture, size), size, nearest=nearest)

    def _cut(self, picture: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
        """The largest centered part of the shape of `size`."""
        height, width = picture.shape[:2]
        scale = min(height / size[0], width / size[1])
        down, across = round(size[0] * scale), round(size[1] * scale)
        top, left = (height - down) // 2, (width - across) // 2
        return picture[top : top + down, left : left + across]

    def _list(self) -> str:
        legacy = self.options.legacy_val_is_test and self.split == "val"
        return str(Path("list_folder") / ("test.txt" if legacy else f"{self.split}.txt"))


def _first(picture: NDArray[Any]) -> NDArray[Any]:
    """The only channel, or the first."""
    return picture if picture.ndim == 2 else picture[..., 0]
