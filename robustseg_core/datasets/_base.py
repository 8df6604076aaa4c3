"""The contract of a data set: an ordered list of samples that a recipe can name.

Everything is map-style: sample `i` is the same today, tomorrow and on every rank. Shuffling,
resuming to the exact step and splitting over processes are then one line each, in the loop.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from robustseg_core.config import Strict, parse
from robustseg_core.errors import RobustsegError
from robustseg_core.models.classes import ClassSet
from robustseg_core.types import LONGEST_SIDE, network_size

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Sample:
    """What the sensors saw at one moment, encoded for the network, and what was there."""

    id: str
    """Unique in its data set, and stable: a relative path, or recording and stamp."""
    images: Mapping[str, NDArray[np.float32]]
    """modality -> (C, H, W) float32, encoded as the data set's `encodings` say and all of one size.
    A sensor that had nothing to say is absent."""
    label: NDArray[np.uint8] | None = None
    """(H, W) class ids, `IGNORE` where unknown; None: nobody labelled it."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """What tables are split by: `scene` always; `condition` and `case` where known."""
    quality: Mapping[str, float] = field(default_factory=dict)
    """modality -> how well its sensor is, in [0, 1]; 1 where nothing is said."""
    intact: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    """modality -> its image before it was damaged on purpose."""
    embeddings: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    """modality -> (D,) what a vision-language model makes of its image (`robustseg embed`)."""
    text: NDArray[np.float32] | None = None
    """(D,) ... of the sample's caption; None: it has none."""


class Dataset(ABC):
    """One split of a collection of samples.

    A new data set is a file in this folder with one public subclass. The constructor finds and
    counts its files and reads none of them; `__getitem__` reads one sample.

    Args:
        paths: roots of the collection (most have one), or the recordings or shard folders.
        split: train, val or test; recordings and shards are one split each and ignore it.
        size: (H, W) that samples are brought to; None: the collection's own.
        modalities: what to read, in this order; None: all that there are.
        options: further options, as the class's `Options` names them.

    Raises:
        RobustsegError: missing folders (all of them are listed), an empty split, a modality that
            the data lacks, an unknown option.
    """

    class Options(Strict):
        """Choices that only this collection has."""

    classes: ClassSet
    """Names and palette; the class id is the place."""
    modalities: tuple[str, ...]
    """Columns of `alive`."""
    encodings: Mapping[str, Mapping[str, Any]]
    """modality -> how its images are encoded, for `ModelSpec.encodings`."""
    protocol_size: ClassVar[tuple[int, int] | None] = None
    """(H, W) of the images that the collection's published figures are of; None: of none."""
    known: ClassVar[tuple[str, ...]] = ()
    """Modalities that the collection has; empty: only its content tells."""

    def __init__(
        self,
        paths: Sequence[Path],
        split: str = "train",
        *,
        size: tuple[int, int] | None = None,
        modalities: Sequence[str] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        name = type(self).__module__.rpartition(".")[2]
        if split not in SPLITS:
            raise RobustsegError(f"split is {split!r}; expected one of {', '.join(SPLITS)}")
        if absent := [str(path) for path in paths if not Path(path).exists()]:
            raise RobustsegError(f"no such folder or file: {', '.join(absent)}; check the paths")
        self.name: str = name
        self.paths = tuple(Path(path) for path in paths)
        self.split = split
        if size is not None and not all(0 < side <= LONGEST_SIDE for side in size):
            raise RobustsegError(
                f"size is {size[0]}x{size[1]}; a side has 1 to {LONGEST_SIDE} pixels"
            )
        if modalities and len(set(modalities)) < len(modalities):
            raise RobustsegError(f"modalities are {', '.join(modalities)}; give each of them once")
        self.size = size
        self.options = parse(self.Options, options or {}, where=f"options of {name}")
        strange = [m for m in modalities or () if self.known and m not in self.known]
        if strange:
            raise RobustsegError(
                f"{name} has no modality {strange[0]!r}; it has {', '.join(self.known)}"
            )
        self.modalities = tuple(modalities or self.known)

    @abstractmethod
    def __len__(self) -> int:
        """How many samples the split has; never 0."""

    @abstractmethod
    def __getitem__(self, index: int) -> Sample:
        """Sample `index`, read from disk.

        Raises:
            IndexError: there are fewer (so that iteration ends).
            RobustsegError: a file is missing or damaged; the text names it.
        """

    @abstractmethod
    def tags(self, index: int) -> Mapping[str, str]:
        """The tags of sample `index`, without reading it."""

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of the samples."""
        return self.size or next(iter(self[0].images.values())).shape[1:]

    def network_shape(self) -> tuple[int, int]:
        """`shape`, if a network takes it.

        Raises:
            RobustsegError: a side does not divide by 32; the text names a size that does, the
                published one where there is one.
        """
        height, width = self.shape
        if (up := network_size(height, width)) != (height, width):
            high, wide = self.protocol_size or up
            whose = ", the size of its published figures" if self.protocol_size else ""
            raise RobustsegError(
                f"samples of {self.name} have {height} rows and {width} columns, and a network "
                f"takes numbers that divide by 32; give data.size=[{high},{wide}], or --size "
                f"{wide}x{high} to eval{whose}"
            )
        return height, width

    def fingerprint(self) -> str:
        """What differs when the samples do, and not when they only moved: names, and options."""
        return digest(
            [self.name, self.split, self.size, self.modalities, self.encodings],
            self.options.model_dump(mode="json"),
            [path.name for path in self.paths],
            len(self),
        )

    def parts(self) -> list[Sequence[int]]:
        """Samples that can be worked on apart from all others, each once and in order: those of one
        recording. Here all of them are one part."""
        return [range(len(self))]

    def part_fingerprint(self, part: Sequence[int]) -> str:
        """As `fingerprint`, of some samples; what else there is does not change it, where the
        collection can tell."""
        return digest(self.fingerprint(), list(part))

    @property
    def labelled(self) -> bool:
        """Whether samples have labels, as far as can be told without reading them all."""
        return True


def digest(*parts: Any) -> str:
    """A hash of anything that JSON can say."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
