"""REP 2016 type descriptions in C memory, from the definitions that the type store holds.

Discovery and the `~/get_type_description` service hand them on, so that `ros2 topic echo` and
Foxglove can decode a type that this machine has no compiled package for.
"""

from __future__ import annotations

import ctypes
from typing import Any

from rosbags.interfaces import Nodetype

from robustseg_core.bag.typestore import typestore

_ARRAY, _BOUNDED, _UNBOUNDED = 48, 96, 144
"""What rosidl adds to a type's number for T[N], T[<=N] and T[]."""
_NESTED = 1
_NUMBERS = {
    "int8": 2,
    "uint8": 3,
    "int16": 4,
    "uint16": 5,
    "int32": 6,
    "uint32": 7,
    "int64": 8,
    "uint64": 9,
    "float32": 10,
    "float64": 11,
    "float128": 12,
    "char": 13,
    "bool": 15,
    "byte": 16,
    "octet": 16,
    "string": 17,
    "wstring": 18,
}
_BOUNDED_STRING = {"string": 21, "wstring": 22}


class _String(ctypes.Structure):
    _fields_ = (("data", ctypes.c_char_p), ("size", ctypes.c_size_t), ("room", ctypes.c_size_t))


class _FieldType(ctypes.Structure):
    _fields_ = (
        ("type_id", ctypes.c_uint8),
        ("capacity", ctypes.c_uint64),
        ("string_capacity", ctypes.c_uint64),
        ("nested_type_name", _String),
    )


class _Field(ctypes.Structure):
    _fields_ = (("name", _String), ("type", _FieldType), ("default_value", _String))


class _Fields(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.POINTER(_Field)),
        ("size", ctypes.c_size_t),
        ("room", ctypes.c_size_t),
    )


class _Individual(ctypes.Structure):
    _fields_ = (("type_name", _String), ("fields", _Fields))


class _Individuals(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.POINTER(_Individual)),
        ("size", ctypes.c_size_t),
        ("room", ctypes.c_size_t),
    )


class TypeDescription(ctypes.Structure):
    """rosidl_runtime_c__type_description__TypeDescription; owns what it points to."""

    _fields_ = (("type_description", _Individual), ("referenced", _Individuals))


def describe(msgtype: str) -> TypeDescription:
    """The description of `msgtype` and of all that it refers to, sorted by name as RIHS01 asks."""
    nested: set[str] = set()
    waiting = [msgtype]
    while waiting:
        for _, kind in _members(waiting.pop()):
            name = _field_type(kind).nested_type_name.data
            if name and name.decode() not in nested:
                nested.add(name.decode())
                waiting.append(name.decode())
    table = (_Individual * len(nested))(*map(_individual, sorted(nested - {msgtype})))
    return TypeDescription(_individual(msgtype), _Individuals(table, len(table), len(table)))


def _individual(msgtype: str) -> _Individual:
    fields = [_Field(_string(n), _field_type(kind), _string("")) for n, kind in _members(msgtype)]
    table = (_Field * len(fields))(*fields)
    return _Individual(_string(msgtype), _Fields(table, len(fields), len(fields)))


def _members(msgtype: str) -> list[tuple[str, Any]]:
    """(field, type) pairs; rosidl gives an empty message one byte."""
    padding = [("structure_needs_at_least_one_member", (Nodetype.BASE, ("uint8", 0)))]
    return list(typestore().fielddefs[msgtype][1]) or padding


def _field_type(kind: Any) -> _FieldType:
    node, detail = kind
    if node in (Nodetype.ARRAY, Nodetype.SEQUENCE):
        element, count = detail
        result = _field_type(element)
        extra = _ARRAY if node == Nodetype.ARRAY else _BOUNDED if count else _UNBOUNDED
        result.type_id += extra
        result.capacity = count
        return result
    if node == Nodetype.NAME:
        return _FieldType(_NESTED, 0, 0, _string(detail))
    name, limit = detail
    number = _BOUNDED_STRING[name] if limit and name in _BOUNDED_STRING else _NUMBERS[name]
    return _FieldType(number, 0, limit if name in _BOUNDED_STRING else 0, _string(""))


def _string(text: str) -> _String:
    data = text.encode()
    return _String(data, len(data), len(data) + 1)
