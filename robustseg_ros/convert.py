"""Nested dicts of fields (`robustseg_core.output.messages`) into rclpy messages; stamps, both ways.

A 7 MB image costs one memory copy: a ready `array.array` passes the generated setters unchecked,
anything else is checked (or copied) element by element (rosidl_python #156).
"""

from __future__ import annotations

import array
from collections.abc import Mapping
from typing import Any

import numpy as np
from rclpy.serialization import serialize_message
from rosidl_parser.definition import (
    AbstractNestedType,
    AbstractSequence,
    BasicType,
    NamespacedType,
)

from robustseg_core.bag.sealed import Sealed
from robustseg_core.blackbox import layout
from robustseg_core.errors import RobustsegError, did_you_mean
from robustseg_ros.optional import message_class

_CODES = {
    "int8": "b",
    "uint8": "B",
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "uint64": "Q",
    "float": "f",
    "double": "d",
}
"""The `array.array` codes of the types that rosidl keeps in one."""
_NUMPY = {"float": "float32", "double": "float64"}


def to_message(kind: type[Any], fields: Mapping[str, Any]) -> Any:
    """An instance of the compiled message class `kind`; fields that are not named keep defaults.

    Numbers may be Python's or NumPy's; number sequences anything NumPy takes, of the wire's type.

    Raises:
        RobustsegError: a field that the message does not have.
    """
    message = kind()
    slots = dict(zip(kind.get_fields_and_field_types(), kind.SLOT_TYPES, strict=True))
    for name, value in fields.items():
        if name not in slots:
            raise RobustsegError(
                f"{kind.__name__} has no field {name!r}; {did_you_mean(name, slots)}"
            )
        setattr(message, name, _value(slots[name], value))
    return message


def serialized(message: Any) -> tuple[str, bytes]:
    """(type, CDR) of a message as a subscription gives it: serialized, rosbags' or rclpy's."""
    if isinstance(message, Sealed) or hasattr(message, "__msgtype__"):
        return layout.serialized(message)
    kind = type(message)
    return f"{kind.__module__.partition('.')[0]}/msg/{kind.__name__}", serialize_message(message)


def _value(slot: Any, value: Any) -> Any:
    if isinstance(slot, NamespacedType):
        kind = message_class("/".join(slot.namespaced_name()))
        assert kind is not None  # installed with the message that holds it
        return to_message(kind, value)
    if isinstance(slot, AbstractNestedType):
        code = getattr(slot.value_type, "typename", None)
        if isinstance(slot.value_type, BasicType) and code in _CODES:
            return _numbers(slot, code, value)
        return [_value(slot.value_type, element) for element in value]
    if isinstance(slot, BasicType):
        if slot.typename == "octet":  # DiagnosticStatus.level: one byte, not a number
            return value if isinstance(value, bytes) else bytes([value])
        return value.item() if isinstance(value, np.generic) else value
    return value


def _numbers(slot: Any, code: str, value: Any) -> Any:
    """One copy of a number sequence, as the setter wants it."""
    flat = np.ascontiguousarray(value, dtype=_NUMPY.get(code, code)).reshape(-1)
    if not isinstance(slot, AbstractSequence):
        return flat  # a fixed-size array is a NumPy array in rosidl
    payload = array.array(_CODES[code])
    payload.frombytes(flat.view(np.uint8).data if flat.size else b"")
    return payload
