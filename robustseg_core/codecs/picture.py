"""How large a compressed picture says that it is: read off its first bytes, nothing allocated.

A header of thirty bytes may claim gigabytes, and the libraries believe it. What else would keep
them busy, and no encoder writes, is refused here too.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from robustseg_core.codecs.fields import most_pixels
from robustseg_core.storage.budget import OverBudget, budget
from robustseg_core.types import Fault, Rejection

_MOST_MARKERS = 1024
"""Segments and pieces of garbage before a jpeg's frame; a color profile may fill 255."""
_MOST_SCANS = 100
"""Of a progressive jpeg, each a pass over all pixels; encoders write about ten."""
_MOST_CHUNKS = 1024
"""Of a png, its image data not counted."""
_MOST_EXTRA = 1 << 23
"""Bytes of a png's compressed text and color profile, unpacked; a profile has a million at most."""
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""By the color type of a png."""


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
        Rejection: FORMAT; no jpeg, png or webp, or one that claims more pixels than there can be,
            or more of anything else than an encoder writes.
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
    if data[0] == 0x89:
        _check_png(data, form)
    elif data[0] == 0xFF:
        scans = data.tobytes().count(b"\xff\xda")
        if scans > _MOST_SCANS:
            raise Rejection(
                Fault.FORMAT, f"{form!r} is a jpeg of {scans} scans; expected at most {_MOST_SCANS}"
            )


def _check_png(data: NDArray[np.uint8], form: str) -> None:
    """Its bytes per pixel, and what its text and color profile become (ISO/IEC 15948, 11.3)."""
    height, width = struct.unpack_from(">II", data.data, 16)[::-1]
    depth, color = int(data[24]), int(data[25])
    size = height * width * _CHANNELS.get(color, 4) * max(depth, 8) // 8
    content, at, others, extra = data.data, 8, 0, 0
    what = f"{form!r} of {len(data)} bytes"
    try:
        if size > budget().limit // 4:
            text = f"{what} claims pixels of {size} bytes; expected at most {budget().limit // 4}"
            raise Rejection(Fault.FORMAT, text)
        while at + 12 <= len(data):
            length, kind = struct.unpack_from(">I4s", content, at)
            chunk = content[at + 8 : at + 8 + length]
            others += kind != b"IDAT" or not length
            if others > _MOST_CHUNKS:
                text = f"{what} is a png of over {_MOST_CHUNKS} chunks beside its pixels"
                raise Rejection(Fault.FORMAT, text)
            if kind in (b"zTXt", b"iTXt", b"iCCP"):
                extra += _inflated(kind, bytes(chunk), what)
                if extra > _MOST_EXTRA:
                    text = f"{what} holds text and profiles of {extra} bytes"
                    raise Rejection(Fault.FORMAT, f"{text}; expected at most {_MOST_EXTRA}")
            at += 12 + length
    except OverBudget as error:
        raise Rejection(Fault.FORMAT, str(error)) from None


def _inflated(kind: bytes, chunk: bytes, what: str) -> int:
    """Bytes that the zlib stream in a chunk becomes; what is none costs the library nothing."""
    behind = chunk.partition(b"\0")[2][1:]
    if kind == b"iTXt":  # flag, method, language, translated keyword
        behind = behind[1:].partition(b"\0")[2].partition(b"\0")[2]
    name = kind.decode()
    try:
        return len(budget().unpack("zlib", behind, f"{name} in {what}", broken=True))
    except ValueError:
        return 0


def _jpeg(data: NDArray[np.uint8]) -> tuple[int, int] | None:
    """From marker to marker up to the start of a frame (ITU T.81, B.1.1.2 and B.2.2)."""
    content = data.data
    at, end = 2, len(data)
    steps = iter(range(_MOST_MARKERS))
    while 0 <= at < end - 1:
        at = _next(data, at, steps)
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


def _next(data: NDArray[np.uint8], at: int, steps: Iterator[int]) -> int:
    """Where the code of the next marker is, fill bytes and garbage skipped; -1: there is none.

    Each look at the data takes one of `steps`.

    Raises:
        Rejection: FORMAT; there are none left.
    """
    while at < len(data):
        if next(steps, None) is None:
            raise Rejection(
                Fault.FORMAT,
                f"jpeg of {len(data)} bytes has over {_MOST_MARKERS} markers or pieces of garbage "
                f"before its size, up to byte {at}",
            )
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
