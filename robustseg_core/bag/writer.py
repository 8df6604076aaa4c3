"""An MCAP bag of rosbags messages, with their definitions in it: opens in Foxglove and rosbag2."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Final, NamedTuple

from rosbags.interfaces import (
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from robustseg_core.bag.event_array import serialize
from robustseg_core.bag.reader import Recorded
from robustseg_core.bag.typestore import typestore
from robustseg_core.errors import RobustsegError

_VERSION: Final = 8
"""Of the metadata: the newest that Jazzy's rosbag2 reads too."""


class _Topic(NamedTuple):
    connection: Connection
    digest: str
    """RIHS01 hash of its definition; empty: `typestore()`'s."""


class BagWriter:
    """Writes a rosbag2 folder `path` holding one MCAP; a context manager.

    Several threads may write. The bag is completed with its index also when the block inside
    raises or is interrupted: what was recorded until then is what one wants to see.

    Raises:
        RobustsegError: the target exists and is not an empty folder, or its name is no folder's or
            not UTF-8.
    """

    def __init__(self, path: Path | str, *, compress: bool = False) -> None:
        self.path = Path(path)
        check_is_folder_name(self.path)
        _make_room(self.path)
        self._store = typestore()
        self._topics: dict[str, _Topic] = {}
        self._lock = threading.Lock()
        self._writer = Writer(self.path, version=_VERSION, storage_plugin=StoragePlugin.MCAP)
        if compress:
            self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)

    def __enter__(self) -> BagWriter:
        try:
            self._writer.open()
        except OSError as error:
            raise RobustsegError(
                f"cannot create {self.path}: {error.strerror}; choose a folder that can be written"
            ) from None
        return self

    def __exit__(self, *exc: object) -> None:
        self._writer.close()

    def has(self, topic: str) -> bool:
        """Whether a message of this topic was written."""
        return topic in self._topics

    def write(
        self, topic: str, msgtype: str, message: Any, time_ns: int, *, latched: bool = False
    ) -> None:
        """Append a message of `typestore()`'s classes, received at `time_ns`.

        `latched` topics (tf_static, label_info) are replayed to late subscribers; the first message
        of a topic decides.

        Raises:
            RobustsegError: a type that `typestore()` lacks, or another type or definition than the
                topic has.
        """
        with self._lock:
            connection = self._connect(topic, msgtype, None, latched=latched)
        cdr = serialize(message, msgtype)
        with self._lock:
            self._writer.write(connection, time_ns, cdr)

    def write_raw(
        self,
        topic: str,
        msgtype: str,
        raw: bytes,
        time_ns: int,
        *,
        latched: bool = False,
        definition: tuple[str, str] | None = None,
    ) -> None:
        """Append a message that is CDR already, byte for byte.

        Args:
            topic: where it was heard.
            msgtype: what it is.
            raw: CDR of `typestore()`'s definition, or of the one given.
            time_ns: when it was received.
            latched: as in `write`.
            definition: (text, RIHS01 hash) of the type, where it is not `typestore()`'s.

        Raises:
            RobustsegError: as in `write`.
        """
        with self._lock:
            connection = self._connect(topic, msgtype, definition, latched=latched)
            self._writer.write(connection, time_ns, raw)

    def copy(
        self,
        recorded: Recorded,
        *,
        time_ns: int | None = None,
        latched: bool = False,
        touched: bool = False,
    ) -> str:
        """Append a message of another recording, as it is if its bytes can be passed on.

        Args:
            recorded: the message.
            time_ns: when it was received; None: as recorded.
            latched: as in `write`.
            touched: messages of its topic may be made anew: a topic has one definition, so one of a
                foreign definition is written in ours; as is one that follows messages of ours.

        Returns:
            Why it cannot be written, or nothing.
        """
        codec = recorded.codec
        begun = self._topics.get(recorded.topic)
        in_ours = touched or (begun is not None and not begun.digest)
        received_ns = recorded.time_ns if time_ns is None else time_ns
        where = (recorded.topic, recorded.type)
        try:
            if codec.native:
                self.write_raw(*where, recorded.raw, received_ns, latched=latched)
            elif codec.definition and not in_ours:
                told = codec.definition
                self.write_raw(*where, recorded.raw, received_ns, latched=latched, definition=told)
            else:  # made by a fault, ROS 1, or of a topic that is written in ours
                self.write(*where, recorded.message(), received_ns, latched=latched)
        except (RobustsegError, AttributeError) as error:  # a field of our definition, not theirs
            return str(error)
        return ""

    def _connect(
        self, topic: str, msgtype: str, definition: tuple[str, str] | None, *, latched: bool
    ) -> Connection:
        """The topic's connection, made at its first message."""
        begun = self._topics.get(topic)
        if begun is None:
            if definition is None and msgtype not in self._store.types:
                raise RobustsegError(
                    f"{topic} has type {msgtype!r}, which robustseg does not know; "
                    "register it in robustseg_core.bag.typestore"
                )
            text, digest = definition or (None, None)
            connection = self._writer.add_connection(
                topic,
                msgtype,
                typestore=self._store,
                msgdef=text,
                rihs01=digest,
                offered_qos_profiles=[_qos(latched=latched)],
            )
            begun = self._topics[topic] = _Topic(connection, digest or "")
        if begun.connection.msgtype != msgtype:
            raise RobustsegError(
                f"{topic} is a topic of {begun.connection.msgtype}; got {msgtype}; "
                "use another topic name"
            )
        if begun.digest != (definition[1] if definition else ""):
            raise RobustsegError(
                f"{topic} was begun with another definition of {msgtype}, and a topic has one "
                "definition; use another topic name"
            )
        return begun.connection


def _qos(*, latched: bool) -> Qos:
    forever = QosTime(9223372036, 854775807)  # how rosbag2 writes an infinite duration
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=1 if latched else 10,
        reliability=QosReliability.RELIABLE,
        durability=QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        deadline=forever,
        lifespan=forever,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=forever,
        avoid_ros_namespace_conventions=False,
    )


def check_is_folder_name(path: Path) -> None:
    """Refuse names that people give to files, and those that a bag's metadata.yaml cannot hold.

    Raises:
        RobustsegError: it ends as a recording's file does, or is not UTF-8.
    """
    try:
        path.name.encode()
    except UnicodeEncodeError:
        raise RobustsegError(
            f"{path} is not UTF-8, and the bag's metadata.yaml holds its name; choose another"
        ) from None
    if path.suffix in (".mcap", ".db3", ".bag"):
        raise RobustsegError(
            f"{path} is a file name, and a rosbag2 is a folder; write to {path.with_suffix('')}"
        )


def _make_room(path: Path) -> None:
    """rosbags makes the folder itself; only an empty one may be there."""
    if path.is_dir() and not any(path.iterdir()):
        path.rmdir()
    elif path.exists():
        raise RobustsegError(f"{path} exists already; choose another name")
