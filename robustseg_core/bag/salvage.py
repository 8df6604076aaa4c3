"""Storage files without a usable index, read from the start to where they break.

A recorder that lost power leaves an MCAP without its summary, or an SQLite file with missing pages.
rosbags wants both whole. Here every record is taken that is complete: also those of a chunk that
breaks off in the middle. Memory is bounded by one chunk, whatever the damaged lengths claim, and
a chunk by the budget.
"""

from __future__ import annotations

import heapq
import sqlite3
import struct
import zlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag2,
    MessageDefinition,
    MessageDefinitionFormat,
)

from robustseg_core.errors import RobustsegError
from robustseg_core.storage.budget import Budget, Meter, OverBudget

Row = tuple[Connection, int, bytes]
"""Connection, log time in ns, payload: what rosbags' readers yield."""

_FORMATS = {
    "ros2msg": MessageDefinitionFormat.MSG,
    "ros2idl": MessageDefinitionFormat.IDL,
    "omgidl": MessageDefinitionFormat.IDL,
}
FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, DATA_END = 0x02, 0x03, 0x04, 0x05, 0x06, 0x0F
_TABLES = ("schema", "topics", "message_definitions", "messages")
"""What rosbags and we look at."""
_ROW = 1 << 16
"""Bytes of a row beside its payload."""
_STEP, _STEPS = 10_000, 10_000_000
"""Instructions of SQLite from one look at their count to the next, and of an empty file at most."""


def in_time_order(rows: Iterable[Row], *, window_bytes: int = 1 << 23) -> Iterator[Row]:
    """`rows` by log time, as far as a window of that many bytes can sort them."""
    heap: list[tuple[int, int, Row]] = []
    held = 0
    for serial, row in enumerate(rows):
        heapq.heappush(heap, (row[1], serial, row))
        held += len(row[2])
        while held > window_bytes and len(heap) > 1:
            first = heapq.heappop(heap)[2]
            held -= len(first[2])
            yield first
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


class Refusals:
    """The pieces of one file that were not unpacked: each counted once, however often it is met."""

    def __init__(self) -> None:
        self._lost: dict[int, Mapping[int, int]] = {}
        self.first = ""
        """Why the first one was not."""
        self.messages = 0
        """Messages that were read and could not be unpacked, in the pass that met the most."""
        self._met = 0

    def add(self, place: int, error: OverBudget, messages: Mapping[int, int] | None = None) -> None:
        """The piece at `place`, which held so many `messages` of each connection."""
        self.first = self.first or str(error)
        self._lost.setdefault(place, messages or {})

    def start_pass(self) -> None:
        """Messages are counted from the first one again."""
        self._met = 0

    def add_message(self, error: OverBudget) -> None:
        """The next message of this pass."""
        self.first = self.first or str(error)
        self._met += 1
        self.messages = max(self.messages, self._met)

    def lost(self, connections: Collection[Connection]) -> int:
        """Messages of `connections` in pieces that were not read, as far as an index says it."""
        ids = [connection.id for connection in connections]
        return sum(messages.get(i, 0) for messages in self._lost.values() for i in ids)

    def __len__(self) -> int:
        return len(self._lost) + self.messages

    def __str__(self) -> str:
        """A sentence without its subject; empty: there are none."""
        pieces = "1 piece is" if len(self) == 1 else f"{len(self)} pieces are"
        return f"{pieces} not unpacked and not read: {self.first}" if self.first else ""


class Salvage(ABC):
    """A damaged file with the interface of a rosbags reader; one pass on opening counts it."""

    def __init__(self, path: Path, budget: Budget, refused: Refusals) -> None:
        self.path = path
        self._budget, self._refused = budget, refused
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
        self._meter = Meter(self._budget, self.path.stat().st_size)
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
            if operation in (DATA_END, FOOTER):
                return
            if not operation or 0x0F < operation < 0x80:
                self.stopped = f"at byte {position} of {size}"
                return
            if operation in (SCHEMA, CHANNEL, MESSAGE, CHUNK):
                try:
                    self._budget.check(min(length, left), f"record at byte {position} has")
                    content = file.read(min(length, left))
                    whole = len(content) == length
                    if operation == CHUNK:
                        yield from self._chunk(memoryview(content), position, whole=whole)
                    elif whole and (row := self._record(operation, memoryview(content))):
                        yield row
                except OverBudget as error:
                    self._refused.add(position, error)
                except (struct.error, ValueError):
                    self.skipped += 1
            if length > left:
                self.stopped = f"at byte {position} of {size}"
                return
            file.seek(position + 9 + length)
        self.stopped = f"at byte {size} of {size}"

    def _chunk(self, content: memoryview, position: int, *, whole: bool) -> Iterator[Row]:
        size, crc = struct.unpack_from("<QI", content, 16)
        compression, at = _string(content, 28)
        data: Any = content[at + 8 :]
        what = f"chunk at byte {position}"
        if compression in ("zstd", "lz4"):
            data = self._budget.unpack(compression, data, what, size=size, broken=True)
        else:
            self._budget.check(size, f"{what} claims")
        self._meter.take(len(data), what)
        if whole and (len(data) != size or (crc and zlib.crc32(data) != crc)):
            raise ValueError("chunk does not fit its checksum")
        try:
            for operation, start, end in records(data):
                if row := self._record(operation, memoryview(data)[start:end]):
                    yield row
        except EOFError:
            self.skipped += whole

    def _record(self, operation: int, content: memoryview) -> Row | None:
        if operation == MESSAGE:
            number, time_ns = struct.unpack_from("<H4xQ", content)
            if len(content) < 22:
                raise ValueError("message record is too short")
            connection = self._connections.get(number)
            return (connection, time_ns, bytes(content[22:])) if connection else None
        if operation == SCHEMA:
            (number,) = struct.unpack_from("<H", content)
            name, at = _string(content, 2)
            encoding, at = _string(content, at)
            self._schemas[number] = name, encoding, _string(content, at)[0]
        elif operation == CHANNEL:
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
        source = _open(self.path, self._budget)
        try:
            # else SQLite refuses a file that is shorter than its header says
            source.execute("PRAGMA writable_schema = ON")
            _check_tables(source, self.path)
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
            rows = source.execute(
                "SELECT topic_id, timestamp, length(data), "
                "CASE WHEN length(data) <= ? THEN data END FROM messages",
                (self._budget.largest,),
            )
            for place, (number, time_ns, size, data) in enumerate(rows):
                connection = self._connections.get(number)
                try:
                    if isinstance(size, int):
                        what = f"message {place + 1} in the table"
                        self._budget.check(size, f"{what} has")
                        self._meter.take(size, what)
                except OverBudget as error:
                    self._refused.add(place, error)
                    continue
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


def flaws(path: Path, reader: Any, budget: Budget) -> list[str]:
    """What is wrong with an SQLite file that `reader` (rosbags') has opened all the same."""
    found = []
    if short := shortage(path):
        found.append(f"ends early, {short}; its last message may be damaged")
    try:
        with closing(open_tables(path, budget)) as source:
            ((count,),) = source.execute("SELECT count(*) FROM messages")
    except (sqlite3.Error, ValueError):
        return found  # then reading will say so
    lost = count - sum(connection.msgcount for connection in reader.connections)
    if lost > 0:
        found.append(f"has messages of no topic, {lost} of {count}; they are not read")
    return found


def open_tables(path: Path, budget: Budget) -> sqlite3.Connection:
    """An SQLite recording to read from; its rows and its work are bounded.

    Raises:
        RobustsegError: one of the tables is a view, virtual, or computes what it holds.
        sqlite3.Error: it is damaged.
    """
    source = _open(path, budget)
    try:
        _check_tables(source, path)
    except BaseException:
        source.close()
        raise
    return source


def _open(path: Path, budget: Budget) -> sqlite3.Connection:
    # A replay opens a bag in one thread and reads it in another; SQLite itself does not mind.
    source = sqlite3.connect(
        f"file:{quote(str(path))}?mode=ro&immutable=1", uri=True, check_same_thread=False
    )
    source.text_factory = lambda raw: raw.decode(errors="replace")
    if hasattr(source, "setlimit"):  # Python 3.11; SQLite has a limit of its own, of 1 GB
        source.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, min(budget.largest + _ROW, 1_000_000_000))
    steps = iter(range((_STEPS + 8 * path.stat().st_size) // _STEP))
    source.set_progress_handler(lambda: next(steps, None) is None, _STEP)
    return source


def _check_tables(source: sqlite3.Connection, path: Path) -> None:
    query = f"SELECT name, sql FROM sqlite_master WHERE lower(name) IN {_TABLES}"
    for name, sql in source.execute(query).fetchall():
        kind = str(sql).split("(")[0].lower().split()[:2]
        computed = kind != ["create", "table"]
        columns = [] if computed else source.execute(f"PRAGMA table_xinfo({name})").fetchall()
        if computed or any(column[6] for column in columns):
            what = " ".join(kind[1:]) if computed else "table with generated columns"
            raise RobustsegError(
                f"{path}: {name} is a {what}, and there is no limit to what that computes; "
                "give a recording as rosbag2 writes it, with plain tables"
            )


def records(data: Any) -> Iterator[tuple[int, int, int]]:
    """(operation, start, end) of each MCAP record in `data`.

    Raises:
        EOFError: the last one ends early.
    """
    at = 0
    while at + 9 <= len(data):
        operation, length = struct.unpack_from("<BQ", data, at)
        at += 9
        if at + length > len(data):
            raise EOFError(f"record at byte {at - 9} ends early")
        yield operation, at, at + length
        at += length


def _string(content: Any, at: int) -> tuple[str, int]:
    """The string with a 32-bit length at `at`, and where it ends."""
    (length,) = struct.unpack_from("<I", content, at)
    end = at + 4 + length
    if end > len(content):
        raise ValueError("string exceeds its record")
    return bytes(content[at + 4 : end]).decode(), end
