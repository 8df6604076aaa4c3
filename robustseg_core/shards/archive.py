"""Shards: plain tar files of samples, and one index that finds each member without unpacking.

    drive/index.json       what is in it, where, made of what and how
    drive/000000.tar       drive/000007_1700000000466666667.rgb.png, .depth.png, ..., .label.png,
                           .json, and so on: what the `webdataset` library calls a sample

The index holds offset, size and checksum of every member, so that sample i is one seek away, and
damage is found before it is learned from.
"""

from __future__ import annotations

import json
import os
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from pydantic import Field, field_validator, model_validator

from robustseg_core.codecs.picture_file import read_json
from robustseg_core.config import Strict, parse
from robustseg_core.errors import RobustsegError
from robustseg_core.types import IGNORE, LONGEST_SIDE, Color, Names

FORMAT = "robustseg-shards/1"
INDEX = "index.json"
_BLOCK = 512

Count = Annotated[int, Field(ge=0, lt=1 << 63)]
Size = Annotated[int, Field(ge=0, le=1 << 28)]
"""Bytes of one member: a quarter of a gigabyte, and a picture of the largest size has less."""
Crc = Annotated[int, Field(ge=0, lt=1 << 32)]
Side = Annotated[int, Field(gt=0, le=LONGEST_SIDE)]


class ShardWriter:
    """Appends samples to tar files; a context manager. Equal samples give equal bytes.

    Args:
        folder: exists, and has no shards yet.
        shard_size: samples in each file.
    """

    def __init__(self, folder: Path, *, shard_size: int) -> None:
        self.folder = folder
        self.rows: list[dict[str, Any]] = []
        """Of the index: id, stamp_ns, shard, and members as name -> [offset, size, crc32]."""
        self.shards: list[dict[str, Any]] = []
        """Of the index: file and its bytes."""
        self._shard_size = shard_size
        self._file: BinaryIO | None = None

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        self._finish()

    def add(self, key: str, stamp_ns: int, members: Mapping[str, bytes]) -> None:
        """Append one sample.

        Args:
            key: unique; `scene/name`, the name without a dot, as webdataset splits there.
            stamp_ns: of the sample.
            members: extension (`rgb.png`) -> content; the index calls it by its first word.
        """
        file = self._file
        if file is None or len(self.rows) % self._shard_size == 0:
            file = self._begin()
        found = {
            extension.partition(".")[0]: _append(file, f"{key}.{extension}", data)
            for extension, data in members.items()
        }
        shard = len(self.shards) - 1
        self.rows.append({"id": key, "stamp_ns": stamp_ns, "shard": shard, "members": found})

    def _begin(self) -> BinaryIO:
        self._finish()
        name = f"{len(self.shards):06d}.tar"
        self._file = (self.folder / name).open("xb")
        self.shards.append({"file": name, "bytes": 0})
        return self._file

    def _finish(self) -> None:
        if self._file is not None:
            self._file.write(bytes(2 * _BLOCK))
            self.shards[-1]["bytes"] = self._file.tell()
            self._file.close()
            self._file = None


def _append(file: BinaryIO, name: str, data: bytes) -> list[int]:
    """Write one member of a tar file; its offset, size and checksum."""
    info = tarfile.TarInfo(name)  # its time is 0: the same sample is the same bytes
    info.size = len(data)
    file.write(info.tobuf(tarfile.USTAR_FORMAT))
    offset = file.tell()
    file.write(data + bytes(-len(data) % _BLOCK))
    return [offset, len(data), zlib.crc32(data)]


def write_index(folder: Path, index: Mapping[str, Any]) -> None:
    """Write `index.json`: an entry a line, then a sample a line."""
    entries = [f'"{k}": {json.dumps(v)}' for k, v in index.items() if k != "samples"]
    rows = ",\n  ".join(json.dumps(row) for row in index["samples"])
    entries.append(f'"samples": [\n  {rows}\n ]')
    (folder / INDEX).write_text("{\n " + ",\n ".join(entries) + "\n}\n")


class Shard(Strict):
    """A tar file, as the index knows it."""

    file: str = Field(min_length=1, max_length=255, description="Name, in the index's folder.")
    bytes: int = Field(ge=0, description="Size of the whole file.")

    @field_validator("file")
    @classmethod
    def _lies_here(cls, name: str) -> str:
        if Path(name).name != name or name == ".." or not name.isprintable():
            raise ValueError(f"{name!r} is no name of a file in this folder")
        return name


class Row(Strict, extra="ignore"):
    """A sample, as the index knows it."""

    id: str = Field(min_length=1, max_length=1000, description="Unique; `scene/name`.")
    stamp_ns: int = Field(0, ge=-(1 << 63), lt=1 << 63, description="When it was.")
    shard: int = Field(ge=0, description="Place of its file among the shards.")
    members: dict[str, tuple[Count, Size, Crc]] = Field(
        description="Name -> offset, size and crc32 of its content."
    )


class Counts(Strict, extra="ignore"):
    """How many samples there are."""

    used: dict[str, Count] = Field(description="Modality -> samples that have it.")


class Index(Strict, extra="ignore"):
    """What is read of an index; it says more, for people."""

    modalities: Names = Field(min_length=1, max_length=32, description="Columns of samples.")
    classes: Names = Field(max_length=IGNORE, description="Names of the label's ids.")
    palette: tuple[Color, ...] = Field(max_length=IGNORE, description="RGB per class.")
    size: tuple[Side, Side] = Field(description="(H, W) of samples.")
    encodings: dict[str, dict[str, Any]] = Field(description="modality -> options.")
    tags: dict[str, str] = Field(description="`scene` and `condition`.")
    counts: Counts = Field(description="How many there are.")
    notices: tuple[str, ...] = Field((), description="What people should know.")
    unused: dict[str, str] = Field({}, description="Modality that no sample has -> why.")
    shards: tuple[Shard, ...] = Field(description="Files.")
    samples: tuple[Row, ...] = Field(description="Where each sample is.")

    @model_validator(mode="after")
    def _consistent(self) -> Index:
        if len(self.palette) != len(self.classes):
            raise ValueError(f"{len(self.palette)} colors for {len(self.classes)} classes")
        if "scene" not in self.tags:
            raise ValueError("tags have no scene")
        if odd := set(self.modalities) & {"label", "json"}:
            raise ValueError(f"{odd.pop()!r} is no modality")
        if len({row.id for row in self.samples}) < len(self.samples):
            raise ValueError("a sample is there twice")
        for row in self.samples:
            if row.shard >= len(self.shards) or "json" not in row.members:
                raise ValueError(f"sample {row.id!r} is in no shard, or has no account")
            whole = self.shards[row.shard].bytes
            for name, (offset, size, _) in row.members.items():
                if offset + size > whole:
                    raise ValueError(
                        f"{name} of {row.id!r} ends at byte {offset + size} of {whole}"
                    )
        return self


def read_index(folder: Path) -> Index:
    """The index of a shard folder; that its files are there and complete is checked.

    Raises:
        RobustsegError: no index of ours, one that contradicts itself, or a shard that is missing or
            cut short.
    """
    path = folder / INDEX
    try:
        tree = read_json(path)
    except RobustsegError as error:
        raise RobustsegError(f"{error}; {_again(folder)}") from None
    form = tree.get("format") if isinstance(tree, dict) else None
    if form != FORMAT:
        raise RobustsegError(
            f"{path} is of format {form!r:.80}; expected {FORMAT!r}; give a folder that "
            "`robustseg extract` wrote"
        )
    try:
        index = parse(Index, tree)
    except RobustsegError as error:
        raise RobustsegError(f"{path} is damaged ({error!s:.300}); {_again(folder)}") from None
    for shard in index.shards:
        file = folder / shard.file
        if not file.is_file():
            raise RobustsegError(f"{file} is missing, though it is in {INDEX}; {_again(folder)}")
        if (have := file.stat().st_size) != shard.bytes:
            raise RobustsegError(
                f"{file} has {have} bytes; expected {shard.bytes}; {_again(folder)}"
            )
    return index


def read_member(file: Path, name: str, offset: int, size: int, crc: int) -> bytes:
    """One member of a shard; `name` is for the error's text.

    Raises:
        RobustsegError: it is not what was written.
    """
    try:
        number = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = os.pread(number, size, offset)
        finally:
            os.close(number)
    except OSError as error:
        raise RobustsegError(
            f"cannot read {file}: {error.strerror}; {_again(file.parent)}"
        ) from None
    if len(data) != size or zlib.crc32(data) != crc:
        raise RobustsegError(
            f"{file}: {name} is damaged (its checksum differs); {_again(file.parent)}"
        )
    return data


def _again(folder: Path) -> str:
    return f"copy it again, or delete {folder} and extract it again"
