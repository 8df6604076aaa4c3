"""How large a compressed picture says that it is: read off its first bytes, nothing allocated.

A header of thirty bytes may claim gigabytes, and the libraries believe it.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from robustseg_core.decode import most_pixels
from robustseg_core.types import Fault, Rejection


def picture_size(data: NDArray[np.uint8]) -> tuple[int, int] | None:
    """(H, W) that a jpeg, png or webp claims; None: it is none of these, or has no such header."""
    head = data[:64].tobytes()
    try:
        if head.startswith(b"\xff\xd8\xff"):
            return _jpeg(data)
        if head.startswith(b"\x89PNG\r\n\x1a\n") and head[12:16] == b"IHDR":
            width, height = struct.unpack_from(">II", head, 16)
            return height, width
        if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
            return _webp(head)
    except struct.error:  # it ends before its size comes
        pass
    return None


def check_claim(data: NDArray[np.uint8], form: str) -> None:
    """Refuse a picture before its pixels are allocated; `form` is what the message calls it.

    Raises:
        Rejection: FORMAT; no jpeg, png or webp, or one that claims more pixels than there can be.
    """
    size = picture_size(data)
    if size is None:
        raise Rejection(
            Fault.FORMAT,
            f"payload of {len(data)} bytes does not decode as {form!r}; expected jpeg, png or webp",
        )
    pixels = size[0] * size[1]
    limit = most_pixels(len(data))
    if not 0 < pixels <= limit:
        raise Rejection(
            Fault.FORMAT,
            f"{form!r} of {len(data)} bytes claims {size[0]}x{size[1]} pixels; "
            f"expected 1 to {limit}",
        )


def _jpeg(data: NDArray[np.uint8]) -> tuple[int, int] | None:
    """From marker to marker up to the start of a frame (ITU T.81, B.1.1.2 and B.2.2)."""
    content = data.data
    at, end = 2, len(data)
    while 0 <= at < end - 1:
        at = _next(data, at)
        if at < 0:
            return None
        marker = content[at]
        at += 1
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", content, at + 3)
            return height, width
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:  # without a length
            continue
        (length,) = struct.unpack_from(">H", content, at)
        if length < 2 or marker in (0xD9, 0xDA):  # the end, or a scan before any frame
            return None
        at += length
    return None


def _next(data: NDArray[np.uint8], at: int) -> int:
    """Where the code of the next marker is, fill bytes and garbage skipped; -1: there is none."""
    while at < len(data):
        window = data[at : at + 4096].tobytes()
        start = window.find(b"\xff")
        if start < 0:
            at += len(window)
            continue
        rest = window[start:].lstrip(b"\xff")
        if not rest:  # the code is behind this window
            at += max(1, len(window) - 1)
        elif rest[0] == 0:  # no marker: a stuffed byte
            at += len(window) - len(rest) + 1
        else:
            return at + len(window) - len(rest)
    return -1


def _webp(head: bytes) -> tuple[int, int] | None:
    """The first chunk: lossy, lossless or extended (RFC 9649, sections 2.5 to 2.7)."""
    kind = head[12:16]
    if kind == b"VP8 " and head[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", head, 26)
        return height & 0x3FFF, width & 0x3FFF
    if kind == b"VP8L" and head[20:21] == b"\x2f":
        (bits,) = struct.unpack_from("<I", head, 21)
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    if kind == b"VP8X":
        across, down = head[24:27], head[27:30]
        if len(down) == 3:
            return int.from_bytes(down, "little") + 1, int.from_bytes(across, "little") + 1
    return None
