"""Storage files without a usable index, read from the start to where they break.

A recorder that lost power leaves an MCAP without its summary, or an SQLite file with missing pages.
rosbags wants both whole. Here every record is taken that is complete: also those of a chunk that
breaks off in the middle. Memory is bounded by one chunk, whatever the damaged lengths claim.
"""

from __future__ import annotations

import heapq
import sqlite3
import struct
import sys
import zlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from lz4.frame import LZ4FrameDecompressor
from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag2,
    MessageDefinition,
    MessageDefinitionFormat,
)

from robustseg_core.errors import RobustsegError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Row = tuple[Connection, int, bytes]
"""Connection, log time in ns, payload: what rosbags' readers yield."""

_FORMATS = {
    "ros2msg": MessageDefinitionFormat.MSG,
    "ros2idl": MessageDefinitionFormat.IDL,
    "omgidl": MessageDefinitionFormat.IDL,
}
_LARGEST = 1 << 28
"""Bytes of the largest record believed (256 MiB); a longer one is a damaged length."""

_FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _DATA_END = 0x02, 0x03, 0x04, 0x05, 0x06, 0x0F


def in_time_order(rows: Iterable[Row], *, window_bytes: int = 1 << 23) -> Iterator[Row]:
    """`rows` by log time, as far as a window of that many bytes can sort them."""
    heap: list[tuple[int, int, Row]] = []
    held = 0
    for serial, row in enumerate(rows):
        heapq.heappush(heap, (row[1], serial, row))
        held += len(row[2])
        while held > window_bytes and len(heap) > 1:
            row = heapq.heappop(heap)[2]
            held -= len(row[2])
            yield row
    while heap:
        yield heapq.heappop(heap)[2]


def checked(row: Any) -> Any:
    """The row of a rosbags reader, which may be anything: SQLite keeps any type in any column.

    Raises:
        ValueError: its time is no whole number, or its payload no bytes.
    """
    if not isinstance(row[1], int) or not isinstance(row[2], bytes):
        raise ValueError(f"row holds {type(row[1]).__name__}, {type(row[2]).__name__}")
    return row


class Salvage(ABC):
    """A damaged file with the interface of a rosbags reader; one pass on opening counts it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stopped = ""
        """Where and why reading ended before the end; empty: it did not."""
        self.skipped = 0
        """Damaged pieces that were passed over."""
        self._connections: dict[int, Connection] = {}
        counts: Counter[int] = Counter()
        self.start_time, self.end_time = 2**63 - 1, 0
        for connection, time_ns, _ in self.rows():
            counts[connection.id] += 1
            self.start_time = min(self.start_time, time_ns)
            self.end_time = max(self.end_time, time_ns + 1)
        self.message_count = sum(counts.values())
        self.connections = [c._replace(msgcount=counts[c.id]) for c in self._connections.values()]

    def messages(self, connections: Collection[Connection]) -> Iterator[Row]:
        """The complete messages of `connections`, in log-time order within a window of 8 MiB."""
        wanted = {c.id for c in connections}
        return in_time_order(row for row in self.rows() if row[0].id in wanted)

    def rows(self) -> Iterator[Row]:
        """All complete messages, in the order of the file."""
        self.stopped, self.skipped = "", 0
        yield from self._rows()

    @abstractmethod
    def _rows(self) -> Iterator[Row]: ...

    def _connect(
        self, number: int, topic: str, kind: str, form: str, encoding: str, text: str
    ) -> None:
        definition = MessageDefinition(_FORMATS.get(encoding, MessageDefinitionFormat.NONE), text)
        extra = ConnectionExtRosbag2(form, [])
        self._connections.setdefault(
            number, Connection(number, topic, kind, definition, "", 0, extra, self)
        )


class SalvagedMcap(Salvage):
    """An MCAP file, record by record (mcap.dev/spec); summary and footer are not needed."""

    def _rows(self) -> Iterator[Row]:
        self._schemas: dict[int, tuple[str, str, str]] = {}
        with self.path.open("rb") as file:
            file.seek(8)
            yield from self._walk(file, self.path.stat().st_size)

    def _walk(self, file: BinaryIO, size: int) -> Iterator[Row]:
        while (position := file.tell()) < size:
            head = file.read(9)
            operation, length = struct.unpack("<BQ", head) if len(head) == 9 else (0, 0)
            left = size - position - 9
            if operation in (_DATA_END, _FOOTER):
                return
            if not operation or (0x0F < operation < 0x80) or (length > _LARGEST and length <= left):
                self.stopped = f"at byte {position} of {size}"
                return
            if operation in (_SCHEMA, _CHANNEL, _MESSAGE, _CHUNK):
                content = file.read(min(length, left, _LARGEST))
                whole = len(content) == length
                try:
                    if operation == _CHUNK:
                        yield from self._chunk(content, whole)
                    elif whole and (row := self._record(operation, content)):
                        yield row
                except (struct.error, ValueError, RuntimeError, zstd.ZstdError):
                    self.skipped += 1
            if length > left:
                self.stopped = f"at byte {position} of {size}"
                return
            file.seek(position + 9 + length)
        self.stopped = f"at byte {size} of {size}"

    def _chunk(self, content: bytes, whole: bool) -> Iterator[Row]:
        size, crc = struct.unpack_from("<QI", content, 16)
        compression, at = _string(content, 28)
        packed = content[at + 8 :]
        if size > _LARGEST:
            raise ValueError(f"chunk claims {size} bytes")
        if compression == "zstd":
            data = zstd.ZstdDecompressor().decompress(packed, size)
        elif compression == "lz4":
            data = LZ4FrameDecompressor().decompress(packed, size)
        else:
            data = packed
        if whole and (len(data) != size or (crc and zlib.crc32(data) != crc)):
            raise ValueError("chunk does not fit its checksum")
        at = 0
        while at + 9 <= len(data):
            operation, length = struct.unpack_from("<BQ", data, at)
            at += 9
            if at + length > len(data):
                self.skipped += whole
                return
            if row := self._record(operation, data[at : at + length]):
                yield row
            at += length

    def _record(self, operation: int, content: bytes) -> Row | None:
        if operation == _MESSAGE:
            number, time_ns = struct.unpack_from("<H4xQ", content)
            if len(content) < 22:
                raise ValueError("message record is too short")
            connection = self._connections.get(number)
            return (connection, time_ns, content[22:]) if connection else None
        if operation == _SCHEMA:
            (number,) = struct.unpack_from("<H", content)
            name, at = _string(content, 2)
            encoding, at = _string(content, at)
            self._schemas[number] = name, encoding, _string(content, at)[0]
        elif operation == _CHANNEL:
            number, schema = struct.unpack_from("<HH", content)
            topic, at = _string(content, 4)
            form, at = _string(content, at)
            name, encoding, text = self._schemas.get(schema, ("", "", ""))
            self._connect(number, topic, name, form, encoding, text)
        return None


class SalvagedSqlite(Salvage):
    """A rosbag2 SQLite file, row by row without its indexes, up to the first bad page.

    Raises:
        RobustsegError: a sound SQLite file that holds no recording.
    """

    def _rows(self) -> Iterator[Row]:
        source = _open(self.path)
        try:
            # else SQLite refuses a file that is shorter than its header says
            source.execute("PRAGMA writable_schema = ON")
            source.text_factory = lambda raw: raw.decode(errors="replace")
            names = {name for (name,) in source.execute("SELECT name FROM sqlite_master")}
            if not {"topics", "messages"} <= names:
                if short := shortage(self.path):
                    self.stopped = short
                    return
                raise RobustsegError(
                    f"{self.path} is an SQLite file without the tables topics and messages; "
                    "give a rosbag2 recording"
                )
            texts = self._definitions(source) if "message_definitions" in names else {}
            query = "SELECT id, name, type, serialization_format FROM topics"
            for number, topic, kind, form in source.execute(query):
                self._connect(number, str(topic), str(kind), form, *texts.get(kind, ("", "")))
            for number, time_ns, data in source.execute(
                "SELECT topic_id, timestamp, data FROM messages"
            ):
                connection = self._connections.get(number)
                if connection and isinstance(time_ns, int) and isinstance(data, bytes):
                    yield connection, time_ns, data
                else:
                    self.skipped += 1
        except sqlite3.Error as error:
            self.stopped = shortage(self.path) or f"at a bad page ({error})"
        finally:
            source.close()

    def _definitions(self, source: sqlite3.Connection) -> dict[str, tuple[str, str]]:
        query = "SELECT topic_type, encoding, encoded_message_definition FROM message_definitions"
        try:
            return {kind: (encoding, text) for kind, encoding, text in source.execute(query)}
        except sqlite3.Error:
            return {}  # the payloads matter more


def shortage(path: Path) -> str:
    """How much an SQLite file is shorter than its header says; empty: it is not."""
    with path.open("rb") as file:
        head = file.read(32)
    if len(head) == 32:
        page, pages = struct.unpack_from(">H", head, 16)[0], struct.unpack_from(">I", head, 28)[0]
        full = pages * (65536 if page == 1 else page)
    else:
        full = 512  # the smallest page
    size = path.stat().st_size
    return f"at byte {size} of {full}" if size < full else ""


def flaws(path: Path, reader: Any) -> list[str]:
    """What is wrong with an SQLite file that `reader` (rosbags') has opened all the same."""
    found = []
    if short := shortage(path):
        found.append(f"ends early, {short}; its last message may be damaged")
    try:
        with closing(_open(path)) as source:
            ((count,),) = source.execute("SELECT count(*) FROM messages")
    except (sqlite3.Error, ValueError):
        return found  # then reading will say so
    lost = count - sum(connection.msgcount for connection in reader.connections)
    if lost > 0:
        found.append(f"has messages of no topic, {lost} of {count}; they are not read")
    return found


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path))}?mode=ro&immutable=1", uri=True)


def _string(content: bytes, at: int) -> tuple[str, int]:
    """The string with a 32-bit length at `at`, and where it ends."""
    (length,) = struct.unpack_from("<I", content, at)
    end = at + 4 + length
    if end > len(content):
        raise ValueError("string exceeds its record")
    return content[at + 4 : end].decode(), end
