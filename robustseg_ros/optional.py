"""Every import of a ROS package that PyPI does not have, and what stands in for it.

On a robot with `tf2_msgs`, `event_camera_msgs` or `vision_msgs` installed those are used. Elsewhere
rclpy passes the same messages in serialized form (`robustseg_ros.typesupport`) and
`robustseg_core.bag.typestore` decodes them: the bytes on the wire, the type name and the type hash
are the same.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any, TypeAlias

from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription

from robustseg_core.bag.event_array import deserialize, serialize
from robustseg_core.bag.sealed import Sealed
from robustseg_core.bag.typestore import EVENT_ARRAYS, typestore
from robustseg_core.errors import RobustsegError
from robustseg_core.types import Fault, Rejection
from robustseg_ros.typesupport import forget_error, installing, stand_in

RCLError = rclpy_implementation.RCLError
MessageInfo: TypeAlias = Mapping[str, Any]
"""What rclpy tells beside a message: `received_timestamp`, ns on the system clock, and more."""


@cache
def message_class(msgtype: str) -> type[Any] | None:
    """The compiled class of "package/msg/Name", or None where its package is not installed."""
    package, _, name = msgtype.rpartition("/")
    try:
        found: type[Any] = getattr(importlib.import_module(package.replace("/", ".")), name)
        return found
    except (ImportError, AttributeError):
        return None


class SimpleFilter:
    """What every filter of message_filters is: callbacks that get its output. The stand-in."""

    def __init__(self) -> None:
        self.callbacks: dict[int, tuple[Callable[..., Any], tuple[Any, ...]]] = {}

    def registerCallback(self, cb: Callable[..., Any], *args: Any) -> int:
        """Have `cb(*messages, *args)` called with every output; the callback's number."""
        number = len(self.callbacks)
        self.callbacks[number] = (cb, args)
        return number

    def signalMessage(self, *msg: Any) -> None:
        """Hand an output to all callbacks."""
        for cb, args in self.callbacks.values():
            cb(*msg, *args)


@cache
def filter_base() -> type[Any]:
    """`message_filters.SimpleFilter`, or its stand-in where that package is not installed."""
    try:
        real: type[Any] = importlib.import_module("message_filters").SimpleFilter
        return real
    except ImportError:
        return SimpleFilter


def subscribe(
    node: Node,
    msgtype: str,
    topic: str,
    callback: Callable[..., None],
    qos: QoSProfile | int,
    *,
    rejected: Callable[..., None] | None = None,
    informed: bool = False,
    sealed: bool = False,
    **options: Any,
) -> Subscription[Any]:
    """A subscription to any known type; `callback` gets a message with the type's fields.

    Arrays of numbers arrive as `array.array` (compiled) or `numpy` (stand-in); both offer the
    buffer protocol. A stand-in's payload that does not deserialize goes to `rejected` as a FORMAT
    rejection (a compiled type's never leaves rclpy). With `informed`, both get the `MessageInfo` as
    a second argument. With `sealed`, the callback gets a `Sealed` of any type, installed or not:
    nothing is deserialized before somebody looks into it, and `rejected` is not called. The events
    of an EventArray arrive as bytes (`robustseg_core.bag.event_array`) in any case. `options` go to
    `create_subscription`.

    Raises:
        RobustsegError: the type is neither installed nor defined in the type store, or has no
            stand-in under this middleware.
    """
    real = message_class(msgtype)
    serialized = sealed or msgtype in EVENT_ARRAYS  # rclpy would make an object per event
    if real and not (serialized and msgtype in typestore().fielddefs):
        return node.create_subscription(real, topic, callback, qos, **options)

    def seal(raw: bytes, info: MessageInfo) -> None:
        callback(Sealed(raw, msgtype), *((info,) if informed else ()))

    def decode(raw: bytes, info: MessageInfo) -> None:
        told = (info,) if informed else ()
        try:
            message = deserialize(raw, msgtype)
        except Exception as error:  # damaged bytes meet generated code: anything can come out
            if rejected is not None:
                text = f"{len(raw)} bytes are no {msgtype}: {type(error).__name__}: {error}"
                rejected(Rejection(Fault.FORMAT, text), *told)
            return
        callback(message, *told)

    take = seal if sealed else decode
    if real is not None:
        return node.create_subscription(real, topic, take, qos, raw=True, **options)
    with _standing_in(msgtype) as kind:
        return node.create_subscription(kind, topic, take, qos, raw=True, **options)


@contextmanager
def _standing_in(msgtype: str) -> Iterator[type[Any]]:
    """The stand-in of a type that is not installed, while an endpoint of it is created.

    Fast DDS of Jazzy asks for introspection code, which a stand-in does not have (rmw_fastrtps_cpp,
    `register_type_object`).
    """
    kind = stand_in(msgtype)
    try:
        yield kind
    except RCLError as error:
        raise RobustsegError(
            f"{msgtype} is not installed, and this middleware refuses its stand-in "
            f"({str(error).partition(', at ')[0]}); {installing(msgtype)}"
        ) from None
    finally:
        forget_error()


class Publisher:
    """Publishes messages of any known type; also serialized ones, as they are."""

    def __init__(
        self, node: Node, msgtype: str, topic: str, qos: QoSProfile | int, **options: Any
    ) -> None:
        self.msgtype = msgtype
        real = message_class(msgtype)
        self._needs_bytes = real is None
        with _standing_in(msgtype) if real is None else nullcontext(real) as kind:
            self.rcl = node.create_publisher(kind, topic, qos, **options)
            """The rclpy publisher, for matching, counting and destroying."""

    def publish(self, message: Any) -> None:
        """`message`: of the compiled class, of its twin in the type store, or CDR bytes."""
        twin = hasattr(message, "__msgtype__")
        if not isinstance(message, bytes) and (self._needs_bytes or twin):
            message = self.serialize(message)
        self.rcl.publish(message)

    def serialize(self, message: Any) -> bytes:
        """The CDR bytes of a message with this type's fields."""
        return serialize(message, self.msgtype)


def publisher(
    node: Node, msgtype: str, topic: str, qos: QoSProfile | int, **options: Any
) -> Publisher:
    """A `Publisher` on `topic`.

    Raises:
        RobustsegError: the type is neither installed nor defined in the type store, or has no
            stand-in under this middleware.
    """
    return Publisher(node, msgtype, topic, qos, **options)
