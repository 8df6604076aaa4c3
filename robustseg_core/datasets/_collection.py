"""A collection of files on disk: entries that name files, and one way to make samples of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustseg_core.codecs.picture_file import resize
from robustseg_core.config import parse
from robustseg_core.datasets._base import Dataset, Sample, digest
from robustseg_core.errors import RobustsegError
from robustseg_core.geometry.view import View
from robustseg_core.modalities.rgb import Rgb
from robustseg_core.types import Reading


@dataclass(frozen=True, slots=True)
class Entry:
    """One moment of the collection, before anything of it is read."""

    id: str
    tags: Mapping[str, str]
    files: Mapping[str, Path]
    """What the subclass wants to find again; `label` is the label's, if there is one."""


class Collection(Dataset):
    """A data set under one root, whose samples are separate files for every sensor.

    A subclass says which folders it needs (`folders`), what is in them (`find`), and how one
    modality (`read`) and the label (`read_label`) are read.
    """

    entries: Sequence[Entry]
    """All samples of the split, in a stable order."""

    def __init__(self, paths: Sequence[Path], split: str = "train", **options: Any) -> None:
        super().__init__(paths, split, **options)
        if len(self.paths) != 1:
            listed = ", ".join(map(str, self.paths)) or "none"
            raise RobustsegError(f"{self.name} lies under one root; given {listed}")
        self.root = self.paths[0]
        lacking = {f: what for f, what in self.folders().items() if not (self.root / f).exists()}
        if lacking:
            listed = ", ".join(f"{folder} ({what})" for folder, what in lacking.items())
            raise RobustsegError(
                f"{self.root} lacks {listed}; unpack {self.name} there, "
                "or leave out the modalities that you do not have"
            )
        self.rgb = Rgb()
        self.describe()
        self.prepare()
        self.entries = tuple(self.find())
        if not self.entries:
            raise RobustsegError(
                f"{self.root} has no {split} sample of {self.name}: {self.looked_for()}"
            )

    @abstractmethod
    def folders(self) -> Mapping[str, str]:
        """Folders and files below the root that must exist -> what they hold."""

    @abstractmethod
    def find(self) -> Iterable[Entry]:
        """The entries of the split, in a stable order."""

    @abstractmethod
    def looked_for(self) -> str:
        """Where `find` looks, and the way out when nothing is there: the end of a sentence."""

    @abstractmethod
    def read(
        self, modality: str, entry: Entry, native: tuple[int, int], size: tuple[int, int]
    ) -> NDArray[np.float32] | None:
        """(3, H, W) of one modality at `size`, encoded; None: the sensor had nothing to say.

        `native` is the (H, W) that the collection's pictures have before.

        Raises:
            RobustsegError: a file is missing or damaged, or its size is not `native`.
        """

    @abstractmethod
    def read_label(self, entry: Entry) -> NDArray[np.uint8] | None:
        """(H, W) class ids at native size, or None: there is no label.

        Raises:
            RobustsegError: the file is missing or damaged, or holds ids that cannot be.
        """

    @classmethod
    def encodings_with(
        cls, options: Mapping[str, Any], modalities: Sequence[str]
    ) -> Mapping[str, Mapping[str, Any]]:
        """`encodings` of samples that are read with these options; no file is looked at.

        Raises:
            RobustsegError: options that the collection does not have.
        """
        unread = object.__new__(cls)
        name = cls.__module__.rpartition(".")[2]
        unread.name, unread.modalities, unread.rgb = name, tuple(modalities), Rgb()
        unread.options = parse(cls.Options, options, where=f"options of {name}")
        unread.describe()
        return unread.encodings

    @abstractmethod
    def describe(self) -> None:
        """Set `encodings`, how every modality is represented: options tell, and no file."""

    def prepare(self) -> None:
        """What has to be read before entries are found: a calibration."""

    def native(self, entry: Entry) -> tuple[int, int]:
        """(H, W) of the pictures of an entry without label."""
        raise NotImplementedError(f"{self.name} has labels for all splits")

    def fit(self, picture: NDArray[Any], size: tuple[int, int], *, nearest: bool) -> NDArray[Any]:
        """(H, W[, C]) brought to `size`."""
        return resize(picture, size, nearest=nearest)

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Sample:
        entry = self.entries[index]
        label = self.read_label(entry)
        native = self.native(entry) if label is None else (label.shape[0], label.shape[1])
        if 0 in native:
            raise RobustsegError(f"{entry.id} is {native[0]}x{native[1]}; unpack it again")
        size = self.size or native
        images = {}
        for modality in self.modalities:
            array = self.read(modality, entry, native, size)
            if array is not None:
                images[modality] = array
        if label is not None:
            label = self.fit(label, size, nearest=True)
        return Sample(entry.id, images, label, entry.tags)

    def tags(self, index: int) -> Mapping[str, str]:
        """The tags of sample `index`, from its path alone."""
        return self.entries[index].tags

    def fingerprint(self) -> str:
        """Names of all samples, wherever the root is, and the options."""
        return digest(
            [self.name, self.split, self.size, self.modalities, self.encodings],
            self.options.model_dump(mode="json"),
            [entry.id for entry in self.entries],
        )

    @property
    def labelled(self) -> bool:
        """Whether the split has labels."""
        return "label" in self.entries[0].files

    def encode_rgb(self, picture: NDArray[Any], size: tuple[int, int]) -> NDArray[np.float32]:
        """(3, H, W) of an (H, W, 3) picture on the 0..255 scale, as the live node encodes it."""
        picture = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)
        return self.rgb.encode([Reading("rgb", 0, "", picture)], View(size), 0)


def must_be(path: Path, picture: NDArray[Any], native: tuple[int, int]) -> NDArray[Any]:
    """The picture, if it has the size of its label.

    Raises:
        RobustsegError: it has not.
    """
    if picture.shape[:2] != native:
        found = "x".join(map(str, picture.shape[:2]))
        raise RobustsegError(
            f"{path} is {found}, its label {native[0]}x{native[1]}; "
            "pictures and labels must cover the same pixels; unpack both from the same release"
        )
    return picture
