"""From recorded bytes to a message: whose definition to believe, per connection of a bag.

The bag's own definition wins where it differs from ours (an older distribution); ours serves where
the bag has none. ROS 1 payloads of a type that ROS 2 has too become ROS 2 messages, so that nobody
behind this has to know `CameraInfo.K` beside `CameraInfo.k`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag1,
    MessageDefinition,
    MessageDefinitionFormat,
    Nodetype,
)
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from robustseg_core.bag import event_array
from robustseg_core.bag.typestore import EVENT_ARRAYS, typestore
from robustseg_core.types import Fault, Rejection

HEADER = "std_msgs/msg/Header"
_NAMED = int(Nodetype.NAME)
_BASE = int(Nodetype.BASE)
_ARRAY = int(Nodetype.ARRAY)
_LONGEST = 1 << 17
"""Characters of a definition, all that it needs included; to parse so many takes seconds."""
_MOST_PARTS = 1 << 20
"""Parts of a message that its definition alone, and no payload, says are there."""


def normalize_type(name: str) -> str:
    """`pkg/msg/Type`, also of the `pkg/Type` that ROS 1 and early ROS 2 bags say."""
    package, slash, rest = name.partition("/")
    return f"{package}/msg/{rest}" if slash and "/" not in rest else name


class Codec:
    """Decodes the payloads of one connection.

    `why` is empty, or the reason why they cannot be decoded.
    """

    def __init__(
        self,
        kind: str,
        *,
        why: str = "",
        decode: Callable[[bytes], Any] | None = None,
        stamped: bool = False,
        ros1: bool = False,
        native: bool = False,
        definition: tuple[str, str] | None = None,
    ) -> None:
        self.kind = kind
        self.why = why
        self._decode = decode
        self._stamped = stamped
        self._ros1 = ros1
        self.native = native
        """Whether the payload is CDR of the definition that robustseg has: fit to be passed on."""
        self.definition = definition
        """(text, RIHS01 hash) that the bag has of a CDR payload: fit to be passed on with it."""

    def message(self, raw: bytes) -> Any:
        """The rosbags message of `raw`.

        Raises:
            Rejection: FORMAT; no definition, or bytes that do not follow it.
        """
        if self._decode is None:
            raise Rejection(Fault.FORMAT, f"{self.kind} cannot be decoded: {self.why}")
        try:
            return self._decode(raw)
        except Exception as error:  # damaged bytes meet generated code: anything can come out
            text = f"{len(raw)} bytes are no {self.kind}: {type(error).__name__}: {error}"
            raise Rejection(Fault.FORMAT, text) from None

    def header(self, raw: bytes) -> tuple[int, str] | None:
        """(stamp in ns, frame_id) read off the first bytes; None where the type has no header."""
        if not self._stamped:
            return None
        try:
            if self._ros1:
                order, at = "<", 4  # after Header.seq
            else:
                order, at = {b"\0\1": "<", b"\0\0": ">"}[bytes(raw[:2])], 4
            seconds, nanoseconds, length = struct.unpack_from(f"{order}iII", raw, at)
            name = bytes(raw[at + 12 : at + 12 + length])
            if len(name) != length or length > 4096:
                return None
            return seconds * 10**9 + nanoseconds, name.rstrip(b"\0").decode()
        except (struct.error, UnicodeDecodeError, KeyError):
            return None


def codec_of(connection: Connection) -> Codec:
    """The codec of one connection of a rosbags reader; never raises, see `Codec.why`."""
    kind = normalize_type(connection.msgtype)
    if isinstance(connection.ext, ConnectionExtRosbag1):
        return _codec(kind, connection.msgdef, "", ros1=True)
    if (form := connection.ext.serialization_format) != "cdr":
        return Codec(kind, why=f"its encoding is {form!r}, expected 'cdr'")
    return _codec(kind, connection.msgdef, connection.digest, ros1=False)


def codec_for(kind: str) -> Codec:
    """The codec of CDR payloads of a type as robustseg has it: off the wire, of no bag."""
    return _codec(kind, MessageDefinition(MessageDefinitionFormat.NONE, ""), "", ros1=False)


@lru_cache(maxsize=256)
def _codec(kind: str, definition: MessageDefinition, digest: str, *, ros1: bool) -> Codec:
    ours, why = typestore(), "the bag has no definition of it, and neither has robustseg"
    known = kind in ours.types
    try:
        theirs = _parse(kind, definition)
        layout = theirs and _layout(theirs, kind)
    except Exception as error:  # definitions are free text out of a file
        reason = f"{type(error).__name__}: {error}"
        theirs, layout, why = None, None, f"its definition in the bag is unusable ({reason})"
    store = theirs or (ours if known else None)
    if theirs and not digest and not ros1:  # MCAP files keep the hash in the metadata beside them
        digest = theirs.hash_rihs01(kind)
    told = (definition.data, digest) if definition.data.strip() and digest and not ros1 else None
    if store is None:
        return Codec(kind, why=" ".join(why.split()), definition=told)
    same = theirs is None or (known and layout == _layout(ours, kind))
    fields = store.fielddefs[kind][1]
    stamped = bool(fields) and fields[0][1] == (_NAMED, HEADER)

    packed = kind in EVENT_ARRAYS and same

    def decode(raw: bytes) -> Any:
        if packed:
            return event_array.from_ros1(raw, kind) if ros1 else event_array.deserialize(raw, kind)
        if not ros1:
            return (ours if known and same else store).deserialize_cdr(raw, kind)
        if known and same:
            return ours.deserialize_cdr(ours.ros1_to_cdr(raw, kind), kind)
        return store.deserialize_ros1(raw, kind)

    native = known and same and not ros1
    return Codec(kind, decode=decode, stamped=stamped, ros1=ros1, native=native, definition=told)


def _parse(kind: str, definition: MessageDefinition) -> Typestore | None:
    """A store with the definition's types, completed from ours; None without a definition."""
    if definition.format == MessageDefinitionFormat.NONE or not definition.data.strip():
        return None
    if len(definition.data) > _LONGEST:
        raise ValueError(f"it has {len(definition.data)} characters, limit {_LONGEST}")
    if definition.format == MessageDefinitionFormat.MSG:
        types = dict(get_types_from_msg(definition.data, kind))
    else:
        types = {}
        for part in definition.data.split("=" * 80 + "\n"):
            text = part.partition("\n")[2] if part.startswith("IDL: ") else part
            types |= get_types_from_idl(text) if text.strip() else {}
    store = get_typestore(Stores.EMPTY)
    ours = typestore().fielddefs
    waiting = list(types)
    while waiting:
        for _, description in types[waiting.pop()][1]:
            name = _name_in(description)
            if name and name not in types and name not in store.types and name in ours:
                types[name] = ours[name]
                waiting.append(name)
    if (parts := _parts(types, kind, {})) > _MOST_PARTS:
        raise ValueError(f"every message would have {parts} parts, limit {_MOST_PARTS}")
    store.register(types)
    return store


def _parts(types: Mapping[str, Any], name: str, known: dict[str, int]) -> int:
    """How many parts a message of `types[name]` has whatever its payload says."""

    def count(description: Any) -> int:
        kind, content = description
        if kind == _BASE or (kind == _NAMED and content not in types):
            return 1
        if kind == _NAMED:
            return _parts(types, content, known)
        element, size = content
        numbers = element[0] == _BASE and element[1][0] != "string"
        return size * count(element) if kind == _ARRAY and not numbers else count(element)

    if name not in known:
        known[name] = 1 + sum(count(description) for _, description in types[name][1])
    return known[name]


def _name_in(description: Any) -> str | None:
    """The message type that a field, or an element of it, has; None for numbers and strings."""
    kind, content = description
    if kind == _NAMED:
        return str(content)
    return None if kind == _BASE else _name_in(content[0])


def _layout(store: Typestore, name: str) -> tuple[Any, ...]:
    """The order of the bytes on the wire, whatever the fields are called; without Header.seq."""

    def shape(description: Any) -> Any:
        kind, content = description
        if kind == _NAMED:
            return _layout(store, content)
        return content if kind == _BASE else (int(kind), shape(content[0]), content[1])

    return tuple(
        (label.lower(), shape(description))
        for label, description in store.fielddefs[name][1]
        if not (name == HEADER and label == "seq")
    )
