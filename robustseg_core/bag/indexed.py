"""Sound recordings by their index: rosbags' readers, with bounds on all that a file claims.

rosbags believes what a file says of its size. Here a piece that would be too much is passed over
and counted (`Refusals`), and the rest is read; a view, or a chunk that the index lists twice, is
refused before anybody looks into it. What comes is what rosbags gives, in the same order.
"""

from __future__ import annotations

import heapq
import struct
import zlib
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import closing
from functools import partial
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Any

from rosbags.interfaces import Connection
from rosbags.rosbag1 import Reader as Ros1Reader
from rosbags.rosbag1.reader import Header
from rosbags.rosbag2.storage_mcap import McapReader
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Reader

from robustseg_core.bag.salvage import (
    CHANNEL,
    CHUNK,
    MESSAGE,
    SCHEMA,
    Refusals,
    Row,
    open_tables,
    records,
)
from robustseg_core.storage.budget import Budget, Meter, OverBudget

_QOS = b"offered_qos_profiles"
_LONGEST_QOS = 1 << 16
"""Bytes of a topic's profiles; a YAML parser of them takes a second for so many."""


class _Bounded:
    """What a rosbags storage lacks of the interface that `Bag` wants."""

    metadata: Any
    open: Callable[[], None]
    close: Callable[[], None]

    def __enter__(self) -> Any:
        self.open()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def start_time(self) -> int:
        """Log time of the first message, in ns."""
        return int(self.metadata.start_time)

    @property
    def end_time(self) -> int:
        """Behind the log time of the last message, in ns."""
        return int(self.metadata.end_time)

    @property
    def message_count(self) -> int:
        """Messages by the index."""
        return int(self.metadata.message_count)


class IndexedMcap(_Bounded, McapReader):
    """An MCAP with a summary, chunk by chunk; or one without chunks, record by record.

    Raises:
        Exception: any, where the file is damaged, or has chunks and no index of them.
    """

    def __init__(self, path: Path, budget: Budget, refused: Refusals) -> None:
        super().__init__(path)
        self._budget, self._refused = budget, refused
        self._size = path.stat().st_size
        self._walked = False

    def open(self) -> None:
        """Read the index, and refuse the chunks that claim too much."""
        with self.path.open("rb") as file:
            (length,) = struct.unpack("<9xQ", file.read(17))
        self._budget.check(length, "header has")
        super().open()
        for chunk in self.chunks:
            self._allowed(chunk)

    def read_index(self) -> None:
        """As rosbags does, of a summary that is not too long."""
        assert self.bio
        self._budget.check(self._size - self.data_end, "index has")
        self.bio.seek(self.data_end)
        summary = self.bio.read()
        for operation, at, end in records(summary):
            if operation == CHANNEL:
                _check_channel(summary[at:end])
        super().read_index()

    def meta_scan(self) -> None:
        """As rosbags does, of a file without chunks."""
        self._walk()
        super().meta_scan()

    def messages(
        self, connections: Collection[Connection], start: int | None = None, stop: int | None = None
    ) -> Generator[Row, None, None]:
        """The messages of `connections` by log time; refused chunks are passed over."""
        if not self.chunks:
            self._walk()
            yield from super().messages(connections, start, stop)
            return
        wanted = {connection.id: connection for connection in connections}
        meter = Meter(self._budget, self._size)
        chunks = [
            self._chunk(chunk, wanted, meter)
            for chunk in self.chunks
            if any(chunk.channel_count.get(number, 0) for number in wanted)
        ]
        for time_ns, _, _, connection, data, at, end in heapq.merge(*chunks):
            if connection is not None:
                yield connection, time_ns, data[at:end]

    def _walk(self) -> None:
        """Make sure that there are no chunks, and no records too large, where no index says it."""
        if self._walked:
            return
        assert self.bio
        at = self.data_start
        while at < self.data_end:
            self.bio.seek(at)
            operation, length = struct.unpack("<BQ", self.bio.read(9))
            if operation == CHUNK:
                raise ValueError("it has chunks and no index of them")
            if operation in (SCHEMA, CHANNEL, MESSAGE):
                self._budget.check(length, f"record at byte {at} has")
            if operation == CHANNEL:
                _check_channel(self.bio.read(length))
            at += 9 + length
        self._walked = True

    def _chunk(self, chunk: Any, wanted: dict[int, Connection], meter: Meter) -> Iterator[Any]:
        """(time, chunk, number, connection, data, start, end) of each message, by time.

        The first one has no connection: it says when the chunk will be needed, and only then it
        is unpacked.
        """
        first_ns, last_ns = chunk.message_start_time, chunk.message_end_time
        place = chunk.chunk_start_offset
        yield first_ns, 0, 0, None, b"", 0, 0
        what, size = f"chunk at byte {place}", chunk.uncompressed_size
        if not self._allowed(chunk):
            return
        try:
            meter.hold(size, what)
        except OverBudget as error:
            self._refused.add(place, error, chunk.channel_count)
            return
        try:
            meter.take(size, what)
            data = self._unpacked(chunk)
            found = []
            for operation, at, end in records(data):
                if operation == MESSAGE:
                    number, time_ns = struct.unpack_from("<H4xQ", data, at)
                    if first_ns <= time_ns <= last_ns and number in wanted and end - at >= 22:
                        found.append((time_ns, wanted[number], at + 22, end))
            found.sort(key=lambda message: message[0])
            for number, (time_ns, connection, at, end) in enumerate(found):
                yield time_ns, place, number, connection, data, at, end
        except OverBudget as error:
            self._refused.add(place, error, chunk.channel_count)
        finally:
            meter.release(size)

    def _allowed(self, chunk: Any) -> bool:
        """Whether what the index says of the chunk's size can be; else it is refused."""
        what, packed = f"chunk at byte {chunk.chunk_start_offset}", chunk.compressed_size
        try:
            self._budget.check(packed, f"{what} has")
            packed = packed if chunk.compression else None
            self._budget.check(chunk.uncompressed_size, f"{what} claims", packed=packed)
        except OverBudget as error:
            self._refused.add(chunk.chunk_start_offset, error, chunk.channel_count)
            return False
        return True

    def _unpacked(self, chunk: Any) -> bytes:
        assert self.bio
        self.bio.seek(chunk.chunk_start_offset + 33)
        (crc,) = struct.unpack("<I", self.bio.read(4))
        self.bio.seek(chunk.chunk_start_offset + 49 + len(chunk.compression))
        data = self.bio.read(chunk.compressed_size)
        size = chunk.uncompressed_size
        if chunk.compression:
            what = f"chunk at byte {chunk.chunk_start_offset}"
            data = self._budget.unpack(chunk.compression, data, what, size=size)
        if len(data) != size or (crc and zlib.crc32(data) != crc):
            raise ValueError(f"chunk at byte {chunk.chunk_start_offset} does not fit its checksum")
        return data


class IndexedSqlite(_Bounded, Sqlite3Reader):
    """A rosbag2 SQLite file, by the index that its table of messages has.

    Raises:
        RobustsegError: its tables are none.
        Exception: any, where the file is damaged.
    """

    def __init__(self, path: Path, budget: Budget, refused: Refusals) -> None:
        super().__init__(path)
        self._file, self._budget, self._refused = path, budget, refused

    def open(self) -> None:
        """Read the topics, after a look at what SQLite would have to do for it."""
        with closing(open_tables(self._file, self._budget)) as source:
            columns = [c[0] for c in source.execute("SELECT * FROM topics LIMIT 0").description]
            if _QOS.decode() in columns:
                for (text,) in source.execute("SELECT offered_qos_profiles FROM topics"):
                    _check_qos(str(text).encode())
            for names in source.execute("SELECT name, type FROM topics"):
                if not all(isinstance(name, str) for name in names):
                    raise ValueError(f"{names} is no name and type of a topic")
            roots = source.execute("SELECT rootpage FROM sqlite_master WHERE rootpage > 0")
            _check_trees(self._file, [root for (root,) in roots])
        super().open()

    def messages(
        self, connections: Collection[Connection], start: int | None = None, stop: int | None = None
    ) -> Generator[Row, None, None]:
        """The messages of `connections` by log time; rows that are too large are passed over."""
        wanted = {connection.id: connection for connection in connections}
        meter = Meter(self._budget, self.path.stat().st_size)
        query = (
            "SELECT messages.id, topics.id, messages.timestamp, length(messages.data), "
            "CASE WHEN length(messages.data) <= ? THEN messages.data END "
            "FROM messages JOIN topics ON messages.topic_id = topics.id "
            f"WHERE topics.id IN ({','.join('?' * len(wanted))}) ORDER BY timestamp"
        )
        with closing(open_tables(self._file, self._budget)) as source:
            rows = source.execute(query, (self._budget.largest, *wanted))
            for row, number, time_ns, size, data in rows:
                what = f"message {row}"
                try:
                    if isinstance(size, int):
                        self._budget.check(size, f"{what} has")
                        meter.take(size, what)
                except OverBudget as error:
                    self._refused.add(row, error, {number: 1})
                else:
                    yield wanted[number], time_ns, data


class _Careful:
    """A path whose file gives no more at once than one piece may have."""

    def __init__(self, path: Path, budget: Budget) -> None:
        self._path, self._budget = path, budget

    def __str__(self) -> str:
        return str(self._path)

    def exists(self) -> bool:
        """Whether it does."""
        return self._path.exists()

    def open(self, _mode: str) -> BufferedReader:
        """The file, to be read."""
        budget = self._budget

        class File(BufferedReader):
            def read(self, size: int | None = -1, /) -> bytes:
                return super().read(budget.check(size or 0, f"piece at byte {self.tell()} has"))

            def readline(self, _size: int | None = -1, /) -> bytes:
                return super().readline(_LONGEST_QOS)

        return File(FileIO(self._path))


class IndexedRos1(Ros1Reader):
    """A ROS 1 bag; a chunk that becomes too much is passed over.

    Raises:
        Exception: any, where the file is damaged.
    """

    def __init__(self, path: Path, budget: Budget, refused: Refusals) -> None:
        # rosbags asks no more of a path than this
        super().__init__(_Careful(path, budget))  # type: ignore[arg-type]
        self._budget, self._refused = budget, refused
        self._size = path.stat().st_size
        self._indexed: set[int] = set()

    def read_chunk(self) -> Any:
        """As rosbags does; it is unpacked within the budget."""
        assert self.bio
        at = self.bio.tell()
        compression = Header.read(self.bio).get_string("compression")
        self.bio.seek(at)
        chunk = super().read_chunk()
        if compression == "none":
            return chunk
        what = f"chunk at byte {at}"
        return chunk._replace(
            decompressor=lambda packed: self._budget.unpack(compression, packed, what)
        )

    def read_index_data(self, pos: int, indexes: Any) -> None:
        """As rosbags does, and once only of each place."""
        assert self.bio
        if self.bio.tell() in self._indexed:
            raise ValueError(f"its index lists the chunk at byte {pos} twice")
        self._indexed.add(self.bio.tell())
        super().read_index_data(pos, indexes)

    def messages(
        self,
        connections: Collection[Connection] = (),
        start: int | None = None,
        stop: int | None = None,
    ) -> Generator[Row, None, None]:
        """The messages of `connections` by log time; those of refused chunks are passed over."""
        known = {connection.id: connection for connection in self.connections}
        load = partial(self._load, Meter(self._budget, self._size))
        place = -1
        data: bytes | None = b""
        for entry in heapq.merge(*(self.indexes[connection.id] for connection in connections)):
            if entry.chunk_pos != place:
                place, data = entry.chunk_pos, b""  # the old one goes before the new one comes
                data = load(place)
            if data is None:
                continue
            number, time_ns, raw = _ros1_message(data, entry.offset)
            if time_ns != entry.time:
                raise ValueError(f"message at byte {entry.offset} of chunk {place} is not indexed")
            yield known[number], time_ns, raw

    def _load(self, meter: Meter, place: int) -> bytes | None:
        """The chunk at `place`; None: it is refused."""
        assert self.bio
        chunk, what = self.chunks[place], f"chunk at byte {place}"
        try:
            self._budget.check(chunk.datasize, f"{what} has")
            self.bio.seek(chunk.datapos)
            packed = self.bio.read(chunk.datasize)
            if len(packed) != chunk.datasize:
                raise ValueError(f"{what} ends early")
            data = chunk.decompressor(packed)
            meter.take(len(data), what)
        except OverBudget as error:
            counts = next(c.connection_counts for c in self.chunk_infos if c.pos == place)
            self._refused.add(place, error, counts)
            return None
        return data


def _check_trees(path: Path, roots: list[int]) -> None:
    """Make sure that no page is in two places: counting rows would take for ever.

    A few bytes of each leaf are read, and the pages above them (sqlite.org/fileformat.html, 1.6).

    Raises:
        ValueError: one is.
    """
    with path.open("rb") as file:
        (size,) = struct.unpack(">16xH", file.read(18))
        size = 65536 if size == 1 else size
        seen, waiting = set(roots), list(roots)
        if len(seen) != len(waiting):
            raise ValueError("two of its tables are in one place")
        while waiting:
            file.seek((waiting.pop() - 1) * size)
            page = file.read(8)
            if len(page) < 8 or page[0] not in (2, 5):  # a leaf, or damage that SQLite will name
                continue
            (cells,) = struct.unpack_from(">H", page, 3)
            page += file.read(size - 8)
            if len(page) < size:  # the file breaks off here
                continue
            places = [8, *struct.unpack_from(f">{min(cells, (size - 12) // 2)}H", page, 12)]
            for place in places:
                (child,) = struct.unpack_from(">I", page, min(place, size - 4))
                if child in seen:
                    raise ValueError(f"its page {child} is in two places")
                seen.add(child)
                waiting.append(child)


def _ros1_message(data: bytes, at: int) -> tuple[int, int, bytes]:
    """(connection, time in ns, payload) of the message record at `at`, or behind it."""
    while True:
        fields: dict[bytes, bytes] = {}
        (length,) = struct.unpack_from("<I", data, at)
        at, end = at + 4, at + 4 + length
        while at < end:
            (length,) = struct.unpack_from("<I", data, at)
            name, _, value = data[at + 4 : at + 4 + length].partition(b"=")
            fields[name] = value
            at += 4 + length
        (length,) = struct.unpack_from("<I", data, end)
        at = end + 4
        if fields[b"op"] == b"\x02":
            if at + length > len(data):
                raise ValueError(f"message of {length} bytes exceeds its chunk")
            (number,) = struct.unpack("<I", fields[b"conn"])
            seconds, nanoseconds = struct.unpack("<II", fields[b"time"])
            return number, seconds * 10**9 + nanoseconds, data[at : at + length]
        if fields[b"op"] != b"\x07":  # connections are told again inside of chunks
            raise ValueError(f"record of kind {fields[b'op']!r} where a message should be")
        at += length


def _check_channel(content: bytes) -> None:
    """Refuse a channel whose profiles are no YAML that a recorder writes."""
    at = content.rfind(_QOS)
    if at >= 0:
        _check_qos(content[at + len(_QOS) + 4 :])


def _check_qos(text: bytes) -> None:
    """Refuse what would keep a YAML parser busy: aliases, merged keys, great length.

    Raises:
        ValueError: it is such a text.
    """
    if len(text) > _LONGEST_QOS or b"&" in text or b"*" in text:
        raise ValueError("its quality of service is none that a recorder writes")
