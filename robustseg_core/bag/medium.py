"""Recordings that are no bag: pictures or a video of one camera, and how they are recognized."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from robustseg_core.errors import RobustsegError

PICTURES, VIDEO = "pictures", "video"
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts")
_FORMATS = {b"\xff\xd8\xff": "jpeg", b"\x89PNG\r\n\x1a\n": "png"}
"""What messages may hold as it is, by how it begins; WebP has its mark further on."""
_PLAIN = (b"BM", b"II*\0", b"MM\0*")
"""BMP and TIFF."""


def medium_of(path: Path) -> str:
    """`pictures` or `video`, of a file by how it begins, of a folder by its names; else empty.

    Raises:
        RobustsegError: a folder that holds both, or several videos.
    """
    if path.is_dir():
        return _medium_of_folder(path)
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError:
        return ""  # said where it is read
    if format_of(head) or head.startswith(_PLAIN):
        return PICTURES
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide") or head.startswith(b"\x1aE\xdf\xa3"):
        return VIDEO
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return VIDEO
    packets = path.suffix.lower() in VIDEO_SUFFIXES and head[:1] == b"G"
    return VIDEO if head.startswith(b"\0\0\1\xba") or packets else ""


def _medium_of_folder(path: Path) -> str:
    pictures, videos = files_named(path, PICTURE_SUFFIXES), files_named(path, VIDEO_SUFFIXES)
    if videos:
        more = f" and {len(pictures)} pictures" if pictures else ""
        raise RobustsegError(
            f"{path} holds {len(videos)} videos{more}; a folder is one camera's pictures: give "
            f"videos by name, e.g. {videos[0]}"
        )
    return PICTURES if pictures else ""


def files_named(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """Files of a folder whose names end so, those that are hidden left out."""
    files = (f for f in folder.iterdir() if f.suffix.lower() in suffixes and f.name[0] != ".")
    return sorted(file for file in files if file.is_file())


def format_of(head: bytes) -> str:
    """What a CompressedImage calls a file that begins so; empty: none of these."""
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "webp"
    return next((form for start, form in _FORMATS.items() if head.startswith(start)), "")
