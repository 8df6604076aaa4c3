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
from typing import Any, BinaryIO

from robustseg_core.budget import read_json
from robustseg_core.errors import RobustsegError

FORMAT = "robustseg-shards/1"
INDEX = "index.json"
_BLOCK = 512


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
        if self._file is None or len(self.rows) % self._shard_size == 0:
            self._begin()
        found = {
            extension.partition(".")[0]: self._append(f"{key}.{extension}", data)
            for extension, data in members.items()
        }
        shard = len(self.shards) - 1
        self.rows.append({"id": key, "stamp_ns": stamp_ns, "shard": shard, "members": found})

    def _begin(self) -> None:
        self._finish()
        name = f"{len(self.shards):06d}.tar"
        self._file = (self.folder / name).open("xb")
        self.shards.append({"file": name, "bytes": 0})

    def _append(self, name: str, data: bytes) -> list[int]:
        info = tarfile.TarInfo(name)  # its time is 0: the same sample is the same bytes
        info.size = len(data)
        self._file.write(info.tobuf(tarfile.USTAR_FORMAT))
        offset = self._file.tell()
        self._file.write(data + bytes(-len(data) % _BLOCK))
        return [offset, len(data), zlib.crc32(data)]

    def _finish(self) -> None:
        if self._file is not None:
            self._file.write(bytes(2 * _BLOCK))
            self.shards[-1]["bytes"] = self._file.tell()
            self._file.close()
            self._file = None


def write_index(folder: Path, index: Mapping[str, Any]) -> None:
    """Write `index.json`: an entry a line, then a sample a line."""
    entries = [f'"{k}": {json.dumps(v)}' for k, v in index.items() if k != "samples"]
    rows = ",\n  ".join(json.dumps(row) for row in index["samples"])
    entries.append(f'"samples": [\n  {rows}\n ]')
    (folder / INDEX).write_text("{\n " + ",\n ".join(entries) + "\n}\n")


def read_index(folder: Path) -> dict[str, Any]:
    """The index of a shard folder; that its files are there and complete is checked.

    Raises:
        RobustsegError: no index of ours, or a shard that is missing or cut short.
    """
    path = folder / INDEX
    try:
        index = read_json(path)
    except (OSError, ValueError) as error:
        raise RobustsegError(f"{path} cannot be read ({error}); {_again(folder)}") from None
    form = index.get("format") if isinstance(index, dict) else None
    if form != FORMAT:
        raise RobustsegError(
            f"{path} is of format {form!r}; expected {FORMAT!r}; give a folder that "
            "`robustseg extract` wrote"
        )
    for shard in index["shards"]:
        file = folder / Path(shard["file"]).name
        if not file.is_file():
            raise RobustsegError(f"{file} is missing, though it is in {INDEX}; {_again(folder)}")
        if (have := file.stat().st_size) != shard["bytes"]:
            raise RobustsegError(
                f"{file} has {have} bytes; expected {shard['bytes']}; {_again(folder)}"
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
