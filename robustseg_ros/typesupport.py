"""A ROS message type made at run time, for genuine rclpy to publish and subscribe serialized.

rclpy needs C code that the message's package was compiled with; PyPI has no such package for
`tf2_msgs` or `event_camera_msgs`. But a serialized message only passes through: the middleware
needs the type's *name*, *hash* and *description*, never its fields. So we take the compiled
structures of a type that is there, and replace those three (`rosidl_message_type_support_t`,
`message_type_support_callbacks_t`, REP 2011). Nobody on the network can tell the difference.

Everything that C may look at is kept alive for the life of the process.
"""

from __future__ import annotations

import ctypes
import importlib.util
from functools import cache
from typing import Any

from rclpy.type_support import check_for_type_support
from rclpy.utilities import get_rmw_implementation_identifier
from sensor_msgs.msg import Image

from robustseg_core.bag.typestore import typestore
from robustseg_core.errors import RobustsegError
from robustseg_ros.typedescription import describe

FAST_DDS = "rmw_fastrtps_cpp"
_HANDLE = b"rosidl_typesupport_fastrtps_c"
_HASH_VERSION, _HASH_BYTES = 1, 32

_CONVERSIONS = ("_CREATE_ROS_MESSAGE", "_CONVERT_FROM_PY", "_CONVERT_TO_PY", "_DESTROY_ROS_MESSAGE")
"""rclpy asks that a type has these; serialized messages never meet them."""

_Getter = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
_Handler = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)


class _TypeSupport(ctypes.Structure):
    """rosidl_message_type_support_t, as it is since ROS 2 Iron."""

    _fields_ = (
        ("identifier", ctypes.c_char_p),
        ("data", ctypes.c_void_p),
        ("handler", ctypes.c_void_p),
        ("type_hash", _Getter),
        ("description", _Getter),
        ("sources", _Getter),
    )


class _Callbacks(ctypes.Structure):
    """message_type_support_callbacks_t of Fast DDS: its first six members, those of every distro.

    Later distros append (key callbacks: none for our types); `later` leaves room of null pointers.
    """

    _fields_ = (
        ("namespace", ctypes.c_char_p),
        ("name", ctypes.c_char_p),
        ("functions", ctypes.c_void_p * 4),
        ("later", ctypes.c_void_p * 6),
    )


class _TypeHash(ctypes.Structure):
    """rosidl_type_hash_t."""

    _fields_ = (("version", ctypes.c_uint8), ("value", ctypes.c_uint8 * _HASH_BYTES))


class _Sources(ctypes.Structure):
    """rosidl_runtime_c__type_description__TypeSource__Sequence, empty: we ship no source text."""

    _fields_ = (("data", ctypes.c_void_p), ("size", ctypes.c_size_t), ("room", ctypes.c_size_t))


_capsule_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_capsule_pointer.restype = ctypes.c_void_p
_capsule_pointer.argtypes = (ctypes.py_object, ctypes.c_char_p)
_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype = ctypes.py_object
_new_capsule.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)

_rcutils = ctypes.CDLL("librcutils.so")

_alive: list[Any] = []
"""Structures, callbacks and strings that C holds pointers to."""


@cache
def stand_in(msgtype: str) -> type:
    """A class that rclpy takes for the message type `msgtype`, such as "tf2_msgs/msg/TFMessage".

    Good for `create_subscription(..., raw=True)` and for `publish(bytes)`; its instances mean
    nothing. Type name, RIHS01 hash and description are the true ones.

    Raises:
        RobustsegError: the type has no definition here, or the middleware is not Fast DDS.
    """
    if msgtype not in typestore().fielddefs:
        raise RobustsegError(
            f"no definition of {msgtype} is known here; install the ROS package "
            f"{msgtype.partition('/')[0]}"
        )
    way_out = f"{installing(msgtype)}, or set RMW_IMPLEMENTATION={FAST_DDS}"
    if importlib.util.find_spec("rclpy.type_hash") is None:
        raise RobustsegError(f"{msgtype} cannot be stood in for before ROS 2 Iron; {way_out}")
    middleware = get_rmw_implementation_identifier()
    if middleware != FAST_DDS:
        raise RobustsegError(
            f"{msgtype} is not installed and its stand-in needs {FAST_DDS}, "
            f"but RMW_IMPLEMENTATION is {middleware}; {way_out}"
        )
    check_for_type_support(Image)
    members = {name: getattr(Image.__class__, name) for name in _CONVERSIONS}
    members["_TYPE_SUPPORT"] = _type_support(msgtype)
    metaclass = type(f"Metaclass_{msgtype.rpartition('/')[2]}", (type,), members)
    made: type[Any] = metaclass(
        msgtype.rpartition("/")[2], (), {"__doc__": f"Stand-in for {msgtype}."}
    )
    return made


def installing(msgtype: str) -> str:
    """The command that installs the compiled type."""
    return f"`apt install ros-$ROS_DISTRO-{msgtype.partition('/')[0].replace('_', '-')}`"


def forget_error() -> None:
    """Clear what creating a stand-in's endpoint leaves in this thread's error state.

    Fast DDS looks for introspection code too, does without, and does not clear the error; the next
    unrelated one would be reported as "overwritten" on stderr.
    """
    _rcutils.rcutils_reset_error()


def _type_support(msgtype: str) -> Any:
    """The capsule that rclpy reads: Image's type support, renamed, rehashed, redescribed."""
    image = _capsule_pointer(Image.__class__._TYPE_SUPPORT, None)
    function = ctypes.cast(_TypeSupport.from_address(image).handler, ctypes.c_void_p).value
    assert function is not None  # generated code, which is there
    handler = _Handler(function)
    address = handler(image, _HANDLE)
    if not address:
        raise RobustsegError(f"sensor_msgs was built without {_HANDLE.decode()}; use {FAST_DDS}")
    donor = _TypeSupport.from_address(address)
    if donor.identifier != _HANDLE:
        raise RobustsegError(
            f"type support is {donor.identifier!r}, expected {_HANDLE!r}; use {FAST_DDS}"
        )
    callbacks = _Callbacks()
    ctypes.memmove(ctypes.byref(callbacks), donor.data, _Callbacks.later.offset)
    if (callbacks.namespace, callbacks.name) != (b"sensor_msgs::msg", b"Image"):
        raise RobustsegError(
            "this release of rosidl_typesupport_fastrtps lays its structures out differently; "
            f"install the ROS package of {msgtype}"
        )
    namespace, _, name = msgtype.rpartition("/")
    callbacks.namespace = namespace.replace("/", "::").encode()
    callbacks.name = name.encode()

    text = typestore().hash_rihs01(msgtype)
    digest = _TypeHash(_HASH_VERSION, (ctypes.c_uint8 * _HASH_BYTES)(*bytes.fromhex(text[7:])))
    description, sources = describe(msgtype), _Sources()
    support = _TypeSupport(
        _HANDLE,
        ctypes.addressof(callbacks),
        donor.handler,  # compares the identifier and returns the structure that it was asked with
        _returning(digest),
        _returning(description),
        _returning(sources),
    )
    _alive.extend([callbacks, digest, description, sources, support, handler])
    return _new_capsule(ctypes.addressof(support), None, None)


def _returning(structure: ctypes.Structure) -> Any:
    address = ctypes.addressof(structure)
    getter = _Getter(lambda _handle: address)
    _alive.append(getter)
    return getter
