"""How a fault's file is laid out: which topics, and how an act becomes a row and an act again.

The streams lie there on their own topics as they came. Beside them are five topics of ours, all
standard types (docs/specs/black_box.md): what any tool that copies a bag copies, too.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from robustseg_core.bag.event_array import serialize
from robustseg_core.bag.sealed import Sealed
from robustseg_core.blackbox.account import of_finding, of_states
from robustseg_core.blackbox.ring import Ended, Entry
from robustseg_core.errors import RobustsegError
from robustseg_core.intake import Act
from robustseg_core.robot.config import RobotConfig
from robustseg_core.robot.topics import TF, TF_STATIC, calibrations

VERSION = 2
"""Of the layout; another one is refused."""
PLACE = "/robustseg/black_box"
HEAD, STATE, ACTS = f"{PLACE}/head", f"{PLACE}/state", f"{PLACE}/acts"
STATES, DECISIONS = f"{PLACE}/states", f"{PLACE}/decisions"
OWN = (HEAD, STATE, ACTS, STATES, DECISIONS)
TEXT, BYTES = "std_msgs/msg/String", "std_msgs/msg/UInt8MultiArray"
BATCH = 200
"""Acts in a message of `ACTS`."""

Serialize = Callable[[Any], tuple[str, bytes]]
"""(type, CDR) of a message."""


class Carried(NamedTuple):
    """A message as it is written."""

    topic: str
    msgtype: str
    raw: bytes
    latched: bool


def serialized(message: Any) -> tuple[str, bytes]:
    """(type, CDR) of a message that came serialized, or of rosbags'."""
    if isinstance(message, Sealed):
        return message.msgtype, message.raw
    msgtype: str = message.__msgtype__
    return msgtype, serialize(message, msgtype)


class Rows:
    """Makes rows of acts, and says which message goes with each.

    Args:
        config: the robot's, for the names of the topics.
        serialize: of messages that are neither serialized nor rosbags'.
    """

    def __init__(self, config: RobotConfig, serialize: Serialize = serialized) -> None:
        self._sensors = config.topics
        self._infos = {n: topic for topic, names in calibrations(config).items() for n in names}
        self._serialize = serialize
        self._counts: Counter[str] = Counter()
        self._types: dict[tuple[str, str], str] = {}
        self._newest: dict[str, Any] = {}

    def of(self, entry: Entry) -> tuple[list[Any], Carried | None]:
        """[act, time, subject, what] as plain data, and the message, where the act has a new one.

        A message is [topic, which of that topic's in the file, crc32 of its bytes].
        """
        act, what = entry.act, entry.what
        row: list[Any] = [act.value, entry.now_ns, entry.subject]
        if act in _MESSAGES:
            place, carried = self._carry(self._topic(entry), what, latched=act is Act.STATIC)
            return [*row, place], carried
        if act in (Act.REJECT, Act.REFUSE):
            row.append(of_finding(what))
        elif act is Act.CONFIGURE:
            row.append(what.model_dump(mode="json"))
        elif act is Act.END:
            row.append(of_end(what))
        return row, None

    def _topic(self, entry: Entry) -> str:
        if entry.act is Act.CAMERA_INFO:
            return self._infos.get(entry.subject, f"{PLACE}/camera_info/{entry.subject}")
        fixed = {Act.STATIC: TF_STATIC, Act.MOVING: TF}
        return fixed.get(entry.act) or self._sensors[entry.subject]

    def _carry(
        self, topic: str, message: Any, *, latched: bool
    ) -> tuple[list[Any], Carried | None]:
        known = self._newest.get(topic)
        if known is not None and known[0] is message:  # one CameraInfo for several sensors
            return known[1], None
        msgtype, raw = self._serialize(message)
        name = self._named(topic, msgtype)
        place = [name, self._counts[name], zlib.crc32(raw)]
        self._counts[name] += 1
        self._newest[topic] = message, place
        return place, Carried(name, msgtype, raw, latched)

    def _named(self, topic: str, msgtype: str) -> str:
        """A bag has one type on a topic: of a driver that changed it, the second lies beside."""
        if (topic, msgtype) not in self._types:
            first = not any(known == topic for known, _ in self._types)
            beside = msgtype.rpartition("/")[2]
            self._types[topic, msgtype] = topic if first else f"{topic}/{beside}"
        return self._types[topic, msgtype]


def of_end(ended: Ended | None) -> dict[str, Any]:
    """What came of a step, as plain data; empty: nothing."""
    found: dict[str, Any] = {}
    if ended is None:
        return found
    if ended.decision is not None:
        found["decision"] = ended.decision.account()
    if ended.healths is not None:
        found["states"] = of_states(ended.healths)
    return found


_MESSAGES = (Act.OFFER, Act.PUSH, Act.CAMERA_INFO, Act.STATIC, Act.MOVING)
"""Acts that have a message."""


class Row(NamedTuple):
    """An act out of a file."""

    act: Act
    now_ns: int
    subject: str
    what: Any
    """The message's place, a finding's account, a configuration, or what came of a step."""

    @property
    def carries(self) -> bool:
        """Whether a message goes with it."""
        return self.act in _MESSAGES


def rows_of(batch: Any) -> Iterator[Row]:
    """The acts of a message of `ACTS`.

    Raises:
        RobustsegError: they are none.
    """
    try:
        for act, now_ns, subject, *what in batch:
            yield Row(Act(act), int(now_ns), str(subject), what[0] if what else None)
    except (TypeError, ValueError) as error:
        raise RobustsegError(
            f"{ACTS} holds what is no act of this version ({error}); the file is damaged"
        ) from None


def expect_version(head: Mapping[str, Any]) -> None:
    """Refuse another layout.

    Raises:
        RobustsegError: names both versions.
    """
    if head.get("version") != VERSION:
        raise RobustsegError(
            f"the file has layout {head.get('version')!r}, expected {VERSION}; explain it with the "
            f"robustseg that wrote it ({head.get('robustseg', 'unknown')})"
        )
