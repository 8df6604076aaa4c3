"""Files of a few bytes that become, or claim, any number: as somebody would make them."""

from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path

import lz4.frame
import numpy as np

from robustseg_core.bag.typestore import typestore
from support.makers import image

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

IMAGE = "sensor_msgs/msg/Image"
GIB = 1 << 30
MAGIC = b"\x89MCAP0\r\n"


def zeros(compression: str, size: int, *, head: bytes = b"") -> bytes:
    """A compressed stream, without its size in it, of `head` and zeros: `size` bytes in all."""
    make = {"zstd": zstd.ZstdCompressor, "lz4": lz4.frame.LZ4FrameCompressor}[compression]()
    block = bytes(1 << 20)
    out = [make.begin()] if compression == "lz4" else []
    out.append(make.compress(head))
    left = size - len(head)
    while left > 0:
        out.append(make.compress(block[:left]))
        left -= len(block)
    return b"".join([*out, make.flush()])


def entry(operation: int, content: bytes) -> bytes:
    return struct.pack("<BQ", operation, len(content)) + content


def text(word: str) -> bytes:
    return struct.pack("<I", len(word)) + word.encode()


def message(time_ns: int, payload: bytes) -> bytes:
    return entry(5, struct.pack("<HIQQ", 1, 0, time_ns, time_ns) + payload)


def payload(value: int) -> bytes:
    """A small gray picture."""
    pixels = np.full((8, 8), value, np.uint8)
    sent = image(pixels, "mono8", 1_000_000_000 + value)
    return bytes(typestore().serialize_cdr(sent, sent.__msgtype__))


def definition() -> str:
    """What the recording says of its type."""
    return str(typestore().generate_msgdef(IMAGE, ros_version=2)[0])


class Chunk:
    """A chunk of an MCAP; by default an honest one of the pictures `values`, at those times."""

    def __init__(
        self,
        values: tuple[int, ...],
        compression: str = "zstd",
        *,
        packed: bytes | None = None,
        claim: int | None = None,
    ) -> None:
        data = b"".join(message(value, payload(value)) for value in values)
        pack = {"zstd": zstd.compress, "lz4": lz4.frame.compress, "": bytes}[compression]
        self.values, self.compression = values, compression
        self.packed = pack(data) if packed is None else packed
        self.claim = len(data) if claim is None else claim

    def record(self) -> bytes:
        head = struct.pack("<QQQI", self.values[0], self.values[-1], self.claim, 0)
        head += text(self.compression) + struct.pack("<Q", len(self.packed))
        return entry(6, head + self.packed)


def bomb(compression: str, time_ns: int, size: int, *, claim: int | None = None) -> Chunk:
    """A chunk of one message that is nothing but zeros."""
    head = struct.pack("<BQ", 5, size - 9) + struct.pack("<HIQQ", 1, 0, time_ns, time_ns)
    packed = zeros(compression, size, head=head)
    return Chunk((time_ns,), compression, packed=packed, claim=size if claim is None else claim)


def mcap(path: Path, chunks: list[Chunk], *, indexed: bool = True, twice: int = 1) -> Path:
    """A recording of one camera; its index lists each chunk so often."""
    schema = entry(3, struct.pack("<H", 1) + text(IMAGE) + text("ros2msg") + text(definition()))
    channel = entry(4, struct.pack("<HH", 1, 1) + text("/camera") + text("cdr") + bytes(4))
    content = MAGIC + entry(1, text("ros2") + text("test")) + schema + channel
    index = b""
    for chunk in chunks:
        start, record = len(content), chunk.record()
        times = b"".join(struct.pack("<QQ", value, 0) for value in chunk.values)
        table = entry(7, struct.pack("<HI", 1, len(times)) + times)
        head = struct.pack("<QQQQ", chunk.values[0], chunk.values[-1], start, len(record))
        head += struct.pack("<IHQQ", 10, 1, start + len(record), len(table))
        head += text(chunk.compression) + struct.pack("<QQ", len(chunk.packed), chunk.claim)
        index += twice * entry(8, head)
        content += record + table
    content += entry(15, bytes(4))
    if indexed:
        count = twice * sum(len(chunk.values) for chunk in chunks)
        times = [value for chunk in chunks for value in chunk.values]
        told = struct.pack("<QHIIIIQQ", count, 1, 1, 0, 0, len(chunks), min(times), max(times))
        told += struct.pack("<IHQ", 10, 1, count)
        footer = struct.pack("<QQI", len(content), 0, 0)
        content += schema + channel + index + entry(11, told)
    else:
        footer = bytes(20)
    path.write_bytes(content + entry(2, footer) + MAGIC)
    return path


def png(
    chunks: list[tuple[bytes, bytes]], *, size: tuple[int, int] = (2, 2), kind: int = 2
) -> bytes:
    """A png of zeros, with `chunks` before its pixels; `kind` is its color type."""

    def chunk(name: bytes, content: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + crc

    channels = {0: 1, 2: 3, 6: 4}[kind]
    depth = 16 if kind == 6 else 8
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", size[1], size[0], depth, kind, 0, 0, 0))
    rows = zlib.compress(bytes(size[0] * (1 + size[1] * channels * depth // 8)))
    body = b"".join(chunk(*c) for c in chunks) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + head + body
