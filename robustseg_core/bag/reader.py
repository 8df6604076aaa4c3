"""Recorded bags without ROS: rosbag2 (db3, mcap) and ROS 1, whole or damaged, message by message.

A bag that lost its end, its metadata or some of its files is still a drive worth replaying: what is
there is read, and `Bag.notices` says what is not.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rosbags.interfaces import Connection, ConnectionExtRosbag1, QosDurability

from robustseg_core.bag.codec import Codec, codec_of
from robustseg_core.bag.files import find_files, kind_of, unpack, unzip
from robustseg_core.bag.indexed import IndexedMcap, IndexedRos1, IndexedSqlite
from robustseg_core.bag.medium import medium_of
from robustseg_core.bag.salvage import (
    Refusals,
    Row,
    Salvage,
    SalvagedMcap,
    SalvagedSqlite,
    checked,
    flaws,
    in_time_order,
)
from robustseg_core.errors import RobustsegError
from robustseg_core.storage.budget import Budget, Meter, OverBudget, budget

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Topic:
    """What a bag holds of one topic."""

    name: str
    type: str
    """`pkg/msg/Type`, however the bag spells it."""
    count: int
    decodable: bool
    why: str = ""
    """Why it is not decodable; empty when it is."""
    latched: bool = False
    """Whether late subscribers got its last message (transient local; ROS 1: latching)."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One message as it lies in the bag, not decoded yet."""

    topic: str
    type: str
    time_ns: int
    """Log time: when the recorder received it."""
    raw: bytes = field(repr=False)
    """CDR, or ROS 1's serialization; decompressed."""
    codec: Codec = field(repr=False)
    recording: int = 0
    """Which of several recordings, played in a row, it is of: the place in `Bag.spans`."""

    def header(self) -> tuple[int, str] | None:
        """(stamp in ns, frame_id) without decoding the rest; None where there is no header."""
        return self.codec.header(self.raw)

    def message(self) -> Any:
        """The decoded message (rosbags' class, ROS 2 field names also for ROS 1 bags).

        Raises:
            Rejection: FORMAT; the payload is corrupt, or its type has no definition.
        """
        return self.codec.message(self.raw)


class Bag:
    """One recording, or several played one after the other (then stamps may go back).

    Each path is a rosbag2 folder, a folder or file of *.mcap / *.db3 without metadata, a ROS 1 bag,
    or what one camera saw: a picture, a folder of pictures, a video (`pictures`). Memory does not
    grow with the payload, and what is compressed is unpacked within `allowed` (default: the
    process's budget): a piece that would be more is passed over, and a notice says so. A recording
    without messages opens, and has none.

    Raises:
        RobustsegError: a path that is missing, empty or no recording, or of which nothing is left
            within the budget.
    """

    def __init__(
        self, paths: Sequence[Path | str] | Path | str, *, allowed: Budget | None = None
    ) -> None:
        single = [paths] if isinstance(paths, (str, Path)) else paths
        self.paths = [Path(path) for path in single]
        if not self.paths:
            raise RobustsegError(
                "no bag was given; give a bag folder, an .mcap, .db3 or .bag file, a video or a "
                "picture"
            )
        self.notices: list[str] = []
        """What is missing or damaged, a sentence each; grows where damage is met on the way."""
        self._recordings: list[list[_Part | _Pictures]] = []
        self._stack = ExitStack()
        self._allowed = allowed or budget()

    def __enter__(self) -> Bag:
        try:
            for path in self.paths:
                self._recordings.append(self._open(path))
            self._expect_something()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()
        self._recordings.clear()

    def _open(self, path: Path) -> list[_Part | _Pictures]:
        files = find_files(path, self.notices)
        parts: list[_Part | _Pictures] = []
        failures: list[RobustsegError] = []
        for file in files:
            try:
                parts.append(self._part(file))
            except RobustsegError as error:
                failures.append(error)
        if not parts:
            raise failures[0]
        self.notices += map(str, failures)
        if path.is_dir() and not list(path.glob("metadata*.yaml")):
            parts.sort(key=lambda part: part.start_ns)
        return parts

    def _part(self, file: Path) -> _Part | _Pictures:
        if medium_of(file):
            return _Pictures(file, self.notices)
        return _Part(file, self.notices, self._stack, self._allowed)

    @property
    def _parts(self) -> list[_Part | _Pictures]:
        return [part for _, part in self._numbered]

    @property
    def _numbered(self) -> list[tuple[int, _Part | _Pictures]]:
        """The parts with the places of their recordings in `spans`."""
        if not self._recordings:
            raise RuntimeError("the bag is not open; write `with Bag(paths) as bag:`")
        found, number = [], 0
        for parts in self._recordings:
            found += [(number, part) for part in parts]
            number += any(part.count for part in parts)
        return found

    @property
    def topics(self) -> list[Topic]:
        """All topics by name; a topic recorded with two types is listed twice."""
        counts: Counter[tuple[str, str]] = Counter()
        why: dict[tuple[str, str], str] = {}
        latched: set[tuple[str, str]] = set()
        for part in self._parts:
            for connection in part.storage.connections:
                codec = part.codecs[connection.id]
                key = (connection.topic, codec.kind)
                counts[key] += connection.msgcount
                why[key] = why.get(key) or codec.why
                if _latched(connection):
                    latched.add(key)
        return [
            Topic(*key, counts[key], not why[key], why[key], key in latched)
            for key in sorted(counts)
        ]

    @property
    def message_count(self) -> int:
        """Messages in all recordings, by their indexes (or counted, where there is none)."""
        return sum(part.count for part in self._parts)

    @property
    def start_ns(self) -> int:
        """Log time of the first message played; 0 in an empty bag."""
        return self.spans[0][0] if self.spans else 0

    @property
    def duration_ns(self) -> int:
        """From the first to the last message of each recording, summed over the recordings."""
        return sum(last_ns - first_ns for first_ns, last_ns in self.spans)

    @property
    def spans(self) -> list[tuple[int, int]]:
        """First and last log time of each recording that holds messages, as they are played."""
        found = []
        for parts in self._recordings:
            if full := [part for part in parts if part.count]:
                found.append((min(p.start_ns for p in full), max(p.end_ns for p in full)))
        return found

    def messages(self, topics: Collection[str] | None = None) -> Iterator[Recorded]:
        """Every message (of `topics`, if given) in log-time order, recording after recording.

        A name that the bag does not have is no error: that sensor is silent in it.
        """
        wanted = None if topics is None else set(topics)
        for number, part in self._numbered:
            for recorded in part.messages(wanted):
                yield replace(recorded, recording=number) if number else recorded
        self._expect_something()

    def _expect_something(self) -> None:
        """Raise if all that there is was refused."""
        refused = [part.refused for part in self._parts if part.refused]
        if refused and all(part.nothing_left for part in self._parts):
            raise OverBudget(f"{self.paths[0]}: {refused[0].first}")


class _Pictures:
    """Pictures or a video in the place of a storage file."""

    nothing_left = False
    """Nothing is refused here for its size."""

    def __init__(self, path: Path, notices: list[str]) -> None:
        from robustseg_core.bag.pictures import Camera  # OpenCV takes its time to load

        self.refused = Refusals()
        self.storage = camera = Camera(path, notices)
        self.codecs = {c.id: codec_of(c) for c in camera.connections}
        self.count, self.start_ns, self.end_ns = camera.count, camera.start_ns, camera.end_ns

    def messages(self, wanted: set[str] | None) -> Iterator[Recorded]:
        """The messages of the topics `wanted` (None: all)."""
        for connection, time_ns, raw in self.storage.rows(wanted):
            codec = self.codecs[connection.id]
            yield Recorded(connection.topic, codec.kind, time_ns, raw, codec)


class _Part:
    """One storage file: read by rosbags, or salvaged where rosbags finds it damaged."""

    def __init__(self, path: Path, notices: list[str], stack: ExitStack, allowed: Budget) -> None:
        self.name = path.name
        self.refused = Refusals()
        """What was not unpacked."""
        self._notices, self._allowed = notices, allowed
        self._told = ""
        self._left: int | None = None
        """How many messages were found without the index, where it is damaged."""
        kind = kind_of(path)
        if kind == "zstd":
            folder = stack.enter_context(TemporaryDirectory(prefix="robustseg-"))
            path = unpack(path, Path(folder), notices, allowed)
            kind = kind_of(path)
            if kind == "zstd":
                raise RobustsegError(f"{self.name} is compressed twice; unpack it once by hand")
        self._path, self._kind = path, kind
        if Path(f"{path}-wal").is_file() and os.path.getsize(f"{path}-wal"):
            notices.append(
                f"{self.name}: the newest messages are still in {path.name}-wal and are not read; "
                f"move them with: sqlite3 {path.name} 'PRAGMA wal_checkpoint'"
            )
        self.storage: IndexedMcap | IndexedSqlite | IndexedRos1 | Salvage = self._open(stack)
        self.codecs = {c.id: codec_of(c) for c in self.storage.connections}
        self.count = self.storage.message_count
        self.start_ns = self.storage.start_time
        self.end_ns = self.storage.end_time - 1  # rosbags' end is exclusive
        self._tell_refused()

    @property
    def nothing_left(self) -> bool:
        """Whether no message of the index remains beside what was refused."""
        lost = self.refused.lost(self.storage.connections) + self.refused.messages
        return (self.count if self._left is None else self._left) <= lost

    def _tell_refused(self) -> None:
        """One notice about all that was refused so far."""
        if not self.refused or self._told == (text := f"{self.name}: {self.refused}"):
            return
        if self._told in self._notices:
            self._notices[self._notices.index(self._told)] = text
        else:
            self._notices.append(text)
        self._told = text

    def _open(self, stack: ExitStack) -> IndexedMcap | IndexedSqlite | IndexedRos1 | Salvage:
        within = self._allowed, self.refused
        if self._kind == "ros1":
            try:
                return stack.enter_context(IndexedRos1(self._path, *within))
            except Exception as error:  # a damaged index breaks rosbags in many ways
                raise RobustsegError(
                    f"{self._path} cannot be read: {error}; rebuild its index with `rosbag reindex`"
                ) from None
        try:
            if self._path.suffix != f".{self._kind}":
                raise ValueError(f"its name does not end in .{self._kind}")
            make = IndexedMcap if self._kind == "mcap" else IndexedSqlite
            reader: IndexedMcap | IndexedSqlite = stack.enter_context(make(self._path, *within))
            checked((None, reader.start_time + reader.end_time, b""))
        except Exception as error:  # as above
            return self._salvage(error)
        if self._kind == "db3":
            self._notices += [
                f"{self.name} {text}" for text in flaws(self._path, reader, self._allowed)
            ]
        return reader

    def _salvage(self, error: Exception) -> Salvage:
        make = SalvagedMcap if self._kind == "mcap" else SalvagedSqlite
        self.refused = Refusals()  # it counts anew, by other places
        salvage = make(self._path, self._allowed, self.refused)
        self._left = salvage.message_count
        log.info("%s: %s: %s", self._path, type(error).__name__, error)
        text = f"{self.name} is read from start to end, for its index is damaged or missing: "
        text += f"{salvage.message_count} messages"
        if salvage.stopped:
            text += f"; it ends early, {salvage.stopped}"
        if salvage.skipped:
            text += f"; damaged pieces passed over: {salvage.skipped}"
        self._notice(text)
        return salvage

    def _notice(self, text: str) -> None:
        """Say it once, however often the file is read."""
        if text not in self._notices:
            self._notices.append(text)

    def messages(self, wanted: set[str] | None) -> Iterator[Recorded]:
        """The messages of the topics `wanted` (None: all); damage on the way is worked around."""
        try:
            yield from self._messages(wanted)
        finally:
            self._tell_refused()

    def _messages(self, wanted: set[str] | None) -> Iterator[Recorded]:
        delivered: Counter[str] = Counter()
        connections = self._of(self.storage, wanted)
        if not connections:
            return
        meter = Meter(self._allowed, self._path.stat().st_size)
        self.refused.start_pass()
        damage: Exception | None = None
        try:
            for row in map(checked, self.storage.messages(connections)):
                delivered[row[0].topic] += 1
                yield self._recorded(row, meter)
        except Exception as error:  # a damaged chunk or page
            damage = error
        count, promised = delivered.total(), sum(c.msgcount for c in connections)
        promised -= self.refused.lost(connections)
        if damage is None and count < promised:
            # rosbags checks neither size nor checksum of a chunk, and is content with what comes
            damage = ValueError(f"{count} of the {promised} messages in its index came")
        if damage is None:
            return
        if self._kind == "ros1" or isinstance(self.storage, Salvage):
            self._notice(f"{self.name} breaks off after {count} messages: {damage}")
            return
        salvage = self._salvage(damage)
        self.codecs |= {c.id: codec_of(c) for c in salvage.connections}
        ids = {c.id for c in self._of(salvage, wanted)}
        rest = _without_first((row for row in salvage.rows() if row[0].id in ids), delivered)
        for row in in_time_order(rest):
            yield self._recorded(row, meter)

    @staticmethod
    def _of(storage: Any, wanted: set[str] | None) -> list[Connection]:
        return [c for c in storage.connections if wanted is None or c.topic in wanted]

    def _recorded(self, row: Row, meter: Meter) -> Recorded:
        connection, time_ns, raw = row
        codec = self.codecs[connection.id]
        try:
            raw = unzip(raw, self._allowed, meter)
        except OverBudget as error:
            self.refused.add_message(error)
            codec = Codec(codec.kind, why=str(error))
        return Recorded(connection.topic, codec.kind, time_ns, raw, codec)


def _latched(connection: Connection) -> bool:
    if isinstance(connection.ext, ConnectionExtRosbag1):
        return bool(connection.ext.latching)
    profiles = connection.ext.offered_qos_profiles
    return any(qos.durability is QosDurability.TRANSIENT_LOCAL for qos in profiles)


def _without_first(rows: Iterator[Row], counts: Counter[str]) -> Iterator[Row]:
    """`rows` less the first `counts[topic]` of each topic."""
    left = Counter(counts)
    for row in rows:
        if left[row[0].topic] > 0:
            left[row[0].topic] -= 1
        else:
            yield row
