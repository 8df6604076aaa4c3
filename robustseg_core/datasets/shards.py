"""Recordings that `robustseg extract` packed: sample i is one seek away, nothing is unpacked."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from robustseg_core.codecs.picture import picture_size
from robustseg_core.datasets._base import Dataset, Sample, digest
from robustseg_core.errors import RobustsegError, did_you_mean
from robustseg_core.modalities import channels_of
from robustseg_core.models.classes import ClassSet
from robustseg_core.shards.archive import INDEX, Index, read_index, read_member
from robustseg_core.shards.levels import from_png, read_label_png, stacked
from robustseg_core.storage.budget import parse_json

_AGREE = ("modalities", "classes", "palette", "encodings", "size")


class Shards(Dataset):
    """Shard folders of any number of recordings, which must agree on what they hold.

    Args:
        paths: shard folders, or folders (of folders) of such.
        split: ignored; give each split its own paths.
        size: that of the shards, or None.
        modalities: some of those in the shards; samples that have none of them are left out.
        options: see `Options`.

    Raises:
        RobustsegError: no shards, shards that disagree, are damaged, of another size, or lack a
            modality, or a recording that is there twice.
    """

    class Options(Dataset.Options):
        """Which samples to use."""

        complete: bool = Field(
            default=False, description="Only samples in which no sensor is missing."
        )
        labelled: bool = Field(default=False, description="Only samples with a label.")
        part: tuple[float, float] = Field(
            (0.0, 1.0),
            description="Only this part of the time of each recording: 0 its first sample, 1 its "
            "last; samples at the first bound are in, at the second only if it is 1.",
        )

        @field_validator("part")
        @classmethod
        def _ascends(cls, part: tuple[float, float]) -> tuple[float, float]:
            if not 0 <= part[0] < part[1] <= 1:
                raise ValueError(f"{part[0]:g} to {part[1]:g} is no part; give 0 <= from < to <= 1")
            return part

    options: Options

    def __init__(
        self,
        paths: Sequence[Path],
        split: str = "train",
        *,
        size: tuple[int, int] | None = None,
        modalities: Sequence[str] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(paths, split, size=size, modalities=modalities, options=options)
        folders = [folder for path in self.paths for folder in _folders(path)]
        indexes = [read_index(folder) for folder in folders]
        _expect_agreement(folders, indexes)
        first = indexes[0]
        have = first.size
        if size is not None and tuple(size) != have:
            raise RobustsegError(
                f"{folders[0]} has samples of {have[0]}x{have[1]}, wanted is {size[0]}x{size[1]}; "
                f"use size {have[0]},{have[1]}, or extract again with --size"
            )
        self.size = have
        self.classes = ClassSet(first.classes, first.palette)
        self._columns = (*first.modalities, "label", "json")
        self.modalities = _chosen(modalities, first.modalities, indexes)
        self.encodings = {name: first.encodings.get(name, {}) for name in self.modalities}
        self._channels = {name: channels_of(name, self.encodings[name]) for name in self.modalities}
        self._tags = [index.tags for index in indexes]
        self._files = [
            [folder / shard.file for shard in index.shards]
            for folder, index in zip(folders, indexes, strict=True)
        ]
        rows = [(k, row) for k, index in enumerate(indexes) for row in index.samples]
        self._ids = [row.id for _, row in rows]
        self._where = np.array([(k, row.shard) for k, row in rows], np.int64).reshape(-1, 2)
        absent = (0, -1, 0)
        table = [[row.members.get(name, absent) for name in self._columns] for _, row in rows]
        self._members = np.array(table, np.int64).reshape(len(rows), len(self._columns), 3)
        """(samples, columns, 3): offset, size and checksum; size -1 where there is none. One array
        and no lists, so that worker processes share its memory."""
        self._at = _places(np.array([row.stamp_ns for _, row in rows], np.int64), self._where[:, 0])
        self._use = self._wanted()

    def __len__(self) -> int:
        """How many samples are used; never 0."""
        return len(self._use)

    def __getitem__(self, index: int) -> Sample:
        """Sample `index`, read from disk and checked.

        Raises:
            IndexError: there are fewer.
            RobustsegError: the shard is damaged; the text names file and sample.
        """
        row = self._use[index]
        account = self._parsed(row, "json", parse_json)
        images = {
            name: self._parsed(row, name, partial(_image, account, name, self.shape, count))
            for name, count in self._channels.items()
            if self._has(name)[row]
        }
        label = None
        if self._has("label")[row]:
            label = self._parsed(row, "label", partial(_label, self.shape))
        return Sample(self._ids[row], images, label, self.tags(index))

    @property
    def ids(self) -> list[str]:
        """Of all samples, in order, without reading them: `SCENE/NUMBER_STAMP`."""
        return [self._ids[row] for row in self._use]

    def tags(self, index: int) -> Mapping[str, str]:
        """`scene` and `condition` of sample `index`."""
        recording = int(self._where[self._use[index], 0])
        return self._tags[recording]

    def fingerprint(self) -> str:
        """Sizes and checksums of all that is read, wherever the shards are."""
        return self.part_fingerprint(range(len(self)))

    def part_fingerprint(self, part: Sequence[int]) -> str:
        """As `fingerprint`, of some samples alone."""
        used = [self._columns.index(name) for name in (*self.modalities, "label", "json")]
        rows = self._use[list(part)]
        return digest(
            [self.size, self.modalities, self.encodings, self.classes],
            [self._ids[row] for row in rows],
            self._members[rows][:, used, 1:].tolist(),
        )

    def parts(self) -> list[Sequence[int]]:
        """The samples of each recording."""
        recordings = self._where[self._use, 0]
        return [np.flatnonzero(recordings == one).tolist() for one in np.unique(recordings)]

    @property
    def labelled(self) -> bool:
        """Whether any sample has a label."""
        return bool(self._has("label")[self._use].any())

    def _has(self, name: str) -> NDArray[np.bool_]:
        """(samples,) bool."""
        sizes: NDArray[np.int64] = self._members[:, self._columns.index(name), 1]
        return sizes >= 0

    def _wanted(self) -> NDArray[np.intp]:
        """Rows that are used, as the options say."""
        present = np.stack([self._has(name) for name in self.modalities])  # (M, samples)
        keep = np.asarray(present.all(0) if self.options.complete else present.any(0))
        if self.options.labelled:
            keep = keep & self._has("label")
        first, last = self.options.part
        keep = keep & (self._at >= first) & ((self._at < last) | (last == 1))
        if not keep.any():
            raise RobustsegError(
                f"none of the {len(keep)} samples in {', '.join(map(str, self.paths))} is left "
                f"with {', '.join(self.modalities)} and {self.options}; ask for less"
            )
        return np.flatnonzero(keep)

    def _read(self, row: int, name: str) -> bytes:
        folder, shard = self._where[row]
        offset, size, crc = self._members[row, self._columns.index(name)].tolist()
        file = self._files[folder][shard]
        return read_member(file, f"{name} of {self._ids[row]}", offset, size, crc)

    def _parsed(self, row: int, name: str, parser: Callable[[bytes], Any]) -> Any:
        data = self._read(row, name)
        try:
            return parser(data)
        except (RobustsegError, ValueError, TypeError, KeyError, RecursionError) as error:
            folder = self._files[self._where[row, 0]][0].parent
            raise RobustsegError(
                f"{name} of {self._ids[row]} in {folder} is not what was extracted "
                f"({type(error).__name__}: {error!s:.200}); extract it again"
            ) from None


def _places(stamps: NDArray[np.int64], recording: NDArray[np.int64]) -> NDArray[np.float64]:
    """(samples,) where in the time of its recording each sample lies, in [0, 1]."""
    at = np.zeros(len(stamps))
    for one in np.unique(recording):
        own = recording == one
        since = stamps[own] - stamps[own].min()
        at[own] = since / max(1, since.max())
    return at


def _image(
    account: Any, name: str, size: tuple[int, int], channels: int, data: bytes
) -> NDArray[np.float32]:
    values = account["values"][name]
    if not np.isfinite(np.array(values, np.float64)).all():
        raise ValueError(f"levels of {values}")
    _expect_size(data, (size[0] * stacked(values), size[1]))
    return from_png(data, values, channels)


def _label(size: tuple[int, int], data: bytes) -> NDArray[np.uint8]:
    _expect_size(data, size)
    return read_label_png(data)


def _expect_size(data: bytes, size: tuple[int, int]) -> None:
    """Read off the header: a picture of another size is never decoded."""
    if (have := picture_size(np.frombuffer(data, np.uint8))) != size:
        raise ValueError(f"is {have}, expected {size}")


def _folders(path: Path) -> list[Path]:
    """The shard folders at or below `path`, by name; what begins with a dot is unfinished."""
    for pattern in (INDEX, f"*/{INDEX}", f"*/*/{INDEX}"):
        found = sorted(file.parent for file in path.glob(pattern))
        found = [f for f in found if not any(p.startswith(".") for p in f.relative_to(path).parts)]
        if found:
            return found
    raise RobustsegError(
        f"{path} holds no shards (expected {INDEX} in it or in its folders); make some with: "
        "robustseg extract BAG... --out SHARDS"
    )


def _expect_agreement(folders: Sequence[Path], indexes: Sequence[Index]) -> None:
    scenes: dict[str, Path] = {}
    for folder, index in zip(folders, indexes, strict=True):
        for key in _AGREE:
            ours, theirs = getattr(indexes[0], key), getattr(index, key)
            if ours != theirs:
                raise RobustsegError(
                    f"{folders[0]} has {key} {_short(ours)}, {folder} has {_short(theirs)}; "
                    "extract both with the same options"
                )
        scene = index.tags["scene"]
        other = scenes.setdefault(scene, folder)
        if other is not folder:
            raise RobustsegError(
                f"{other} and {folder} are both of the recording {scene!r}; "
                "give each recording once"
            )


def _chosen(
    wanted: Sequence[str] | None, known: Sequence[str], indexes: Sequence[Index]
) -> tuple[str, ...]:
    for name in wanted or ():
        if name not in known:
            raise RobustsegError(
                f"the shards have no modality {name!r}; {did_you_mean(name, known)}"
            )
    for name in wanted or ():
        if not any(index.counts.used.get(name) for index in indexes):
            why = next((f" ({i.unused[name]})" for i in indexes if name in i.unused), "")
            raise RobustsegError(f"no sample has {name!r}{why}; leave it out")
    return tuple(wanted or known)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
