"""Which files make up a recording: by what lies in the folder, and by how each file begins.

`metadata.yaml` is believed for the list and order of the files only; what is in them, they say.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path, PurePosixPath

from robustseg_core.bag.medium import medium_of
from robustseg_core.config import parse_yaml
from robustseg_core.errors import RobustsegError, what_is
from robustseg_core.storage.budget import Budget, Meter, OverBudget, read_text

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_MAGIC = {
    b"\x89MCAP0\r\n": "mcap",
    b"SQLite format 3\0": "db3",
    b"#ROSBAG V": "ros1",
    ZSTD_MAGIC: "zstd",
}
_SUFFIXES = (".mcap", ".db3", ".bag")
_PACKED = (".zstd", ".zst")
_BLOCK = 1 << 20
_HEAD = 4096
"""Bytes in which a recording of another make says what it is."""


def find_files(path: Path, notices: list[str]) -> list[Path]:
    """The storage files of the recording at `path`, in recording order where metadata says it.

    `notices` gets a sentence for everything that is missing.

    Raises:
        RobustsegError: nothing there, or nothing there that could be a recording of ROS.
    """
    if path.is_file():
        _expect_no_stranger(path)
        return [path]
    if not path.is_dir():
        raise RobustsegError(
            f"{path} {what_is(path)}; give a bag folder, an .mcap, .db3 or .bag file, a video, a "
            "picture or a folder of pictures"
        )
    listed = _listed(path, notices)
    files = [file for name in listed if (file := _present(path, name))]
    if missing := [name for name in listed if not _present(path, name)]:
        span = missing[0] if len(missing) == 1 else f"{missing[0]} ... {missing[-1]}"
        verb = "is" if len(missing) == 1 else "are"
        notices.append(
            f"{path.name}: {len(missing)} of {len(listed)} files {verb} missing ({span})"
        )
    if files:
        return files
    files = sorted(file for file in path.iterdir() if file.is_file() and _is_storage(file.name))
    if files:
        return files
    if medium_of(path):
        return [path]
    bags = sorted(p.name for p in path.iterdir() if p.is_dir() and (p / "metadata.yaml").exists())
    inside = sorted(p.name for p in path.iterdir() if p.is_dir() and _has_pictures(p))
    way_out = "give the folder of a bag"
    if bags or inside:
        kind, names = ("bags", bags) if bags else ("folders of pictures", inside)
        way_out = f"give one of the {kind} in it: {names}"
    raise RobustsegError(
        f"{path} holds no recording (expected metadata.yaml, *.mcap, *.db3 or *.bag, or pictures); "
        f"{way_out}"
    )


def _has_pictures(folder: Path) -> bool:
    try:
        return bool(medium_of(folder))
    except (OSError, RobustsegError):
        return False


def kind_of(path: Path) -> str:
    """`mcap`, `db3`, `ros1` or `zstd`, by the first bytes of the file.

    Raises:
        RobustsegError: unreadable, empty, or the beginning of something else.
    """
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise RobustsegError(f"cannot read {path}: {error.strerror}; check its rights") from None
    if not head:
        raise RobustsegError(f"{path} is empty (0 bytes); record or copy it again")
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return kind
    raise RobustsegError(
        f"{path} is no recording: it begins with {head[:8]!r}; expected MCAP, SQLite (.db3), "
        "a ROS 1 bag, a video or a picture"
    )


def _expect_no_stranger(path: Path) -> None:
    """Name a recording of event cameras' own software for what it is, and say what to do.

    Raises:
        RobustsegError: it is one.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return  # said where it is read
    if head.startswith(b"% "):
        version = re.search(rb"^% (?:evt |format EVT)([0-9.]+)", head, re.MULTILINE)
        if version:
            form = version[1].decode()
            raise RobustsegError(
                f"{path} is a RAW recording of Prophesee's software (EVT {form}), no bag; convert "
                f"it: python docs/examples/raw_to_bag.py {path.name} {path.stem} (in the sources "
                "of robustseg)"
            )
        if b"Data file containing" in head:
            raise RobustsegError(
                f"{path} is a DAT file of Prophesee's software, no bag; convert the RAW recording "
                "that it was made of: python docs/examples/raw_to_bag.py (in the sources of "
                "robustseg)"
            )
    if head.startswith(b"#!AER-DAT"):
        version = re.match(rb"#!AER-DAT([0-9.]+)", head)
        form = version[1].decode() if version else ""
        older = "" if form.startswith("4") else "save it as AEDAT4 with iniVation's DV, and "
        raise RobustsegError(
            f"{path} is an AEDAT {form} recording of iniVation's software, no bag; {older}convert "
            f"it with dv_ros_aedat4 (gitlab.com/inivation/dv/dv-ros): convert_aedat4 -i "
            f"{path.stem}.aedat4 -o {path.stem}.bag"
        )


def unpack(path: Path, folder: Path, notices: list[str], allowed: Budget) -> Path:
    """`path` (a file compressed with zstd) unpacked into `folder`, block by block.

    A file that breaks off is unpacked up to there, and `notices` says so.

    Raises:
        OverBudget: it becomes too much; what was unpacked is removed.
        RobustsegError: the disk is full.
    """
    name = path.name
    for suffix in _PACKED:
        name = name.removesuffix(suffix)
    target = folder / name
    meter = Meter(allowed, path.stat().st_size)
    try:
        with zstd.open(path, "rb") as source, target.open("xb") as sink:
            while block := source.read(_BLOCK):
                meter.take(len(block), str(path))
                sink.write(block)
    except OverBudget:
        target.unlink()
        raise
    except (EOFError, zstd.ZstdError) as error:
        notices.append(f"{path.name}: compressed file breaks off ({error})")
    except OSError as error:
        raise RobustsegError(
            f"cannot unpack {path} into {folder}: {error.strerror}; set TMPDIR to a roomier disk"
        ) from None
    return target


def unzip(raw: bytes, allowed: Budget, meter: Meter) -> bytes:
    """A payload that was compressed by itself (no CDR begins as zstd does); others as they are.

    Raises:
        OverBudget: it becomes too much, by itself or with those before it.
    """
    if raw[:4] != ZSTD_MAGIC:
        return raw
    what = f"message of {len(raw)} bytes"
    try:
        payload = allowed.unpack("zstd", raw, what)
    except ValueError:  # it stays undecodable, and decoding will say so
        return raw
    meter.take(len(payload), what)
    return payload


def _listed(folder: Path, notices: list[str]) -> list[str]:
    """File names in the order of the metadata; empty without readable metadata."""
    found = [folder / "metadata.yaml"]
    if not found[0].exists():  # kept under another name beside a subset of the splits
        found = sorted(folder.glob("metadata*.yaml"))
    if len(found) != 1:
        if any(_is_storage(file.name) for file in folder.iterdir()):
            notices.append(f"{folder.name}: no metadata.yaml; files go by their first message")
        return []
    try:
        text = read_text(found[0])
        information = parse_yaml(text)["rosbag2_bagfile_information"]
        listed = information["relative_file_paths"]
        return list(dict.fromkeys(PurePosixPath(name).name for name in listed))  # each once
    except (OSError, ValueError, TypeError, KeyError, RobustsegError) as error:
        text = " ".join(str(error).split())[:120]
        notices.append(f"{folder.name}: {found[0].name} is unreadable ({text}); it is ignored")
        return []


def _present(folder: Path, name: str) -> Path | None:
    """The file, or its copy that somebody has unpacked by hand."""
    names = [name, *(name.removesuffix(suffix) for suffix in _PACKED)]
    return next((folder / n for n in names if n and (folder / n).is_file()), None)


def _is_storage(name: str) -> bool:
    for suffix in _PACKED:
        name = name.removesuffix(suffix)
    return name.endswith(_SUFFIXES)
