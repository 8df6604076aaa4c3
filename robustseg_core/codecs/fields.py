"""Payload bytes to arrays: check the sizes first, then look at the bytes where they lie.

Messages are duck-typed (rclpy's `array.array`, rosbags' ndarray, plain `bytes`), payloads are never
copied to be read, and whatever does not fit together is a `Rejection` that says so.
"""

from __future__ import annotations

import reprlib
import zlib
from collections.abc import Callable
from types import FunctionType
from typing import Any, ClassVar, Generic, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from robustseg_core.types import SECOND, Fault, Rejection

MAX_PIXELS = 1 << 26
"""Of one image (67 million). A few bytes may claim any size; nobody drives with a larger camera."""
FARTHEST_M = 1e6
"""What claims to lie beyond was not measured; below it, no product of distances overflows."""

P = ParamSpec("P")
R = TypeVar("R")

_BELIEVED = 1 << 22
_DENSEST = 1 << 11
_BLOCK = 4096
_STRIDE = 16 * _BLOCK
_SHORT, _PIECE = 1 << 16, 5 << 10
LONGEST_WORD = 1024
"""Characters of a name; a longer one would travel through logs, caches and diagnostics."""


def as_bytes(payload: Any) -> NDArray[np.uint8]:
    """(N,) uint8 view of a payload, without a copy.

    Raises:
        Rejection: it is not a buffer of bytes.
    """
    try:
        view = memoryview(payload)
        if view.ndim == 0 or view.itemsize != 1:
            raise TypeError
        return np.frombuffer(view.cast("B"), np.uint8) if view.nbytes else np.empty(0, np.uint8)
    except (TypeError, ValueError, BufferError):
        kind = type(payload).__name__
        raise Rejection(
            Fault.FORMAT, f"payload is a {kind}; expected bytes, array.array or a uint8 array"
        ) from None


def sizes(message: Any, *names: str) -> tuple[int, ...]:
    """The message's non-negative integer fields called `names`.

    Raises:
        Rejection: one is missing, or is no such number.
    """
    values = []
    for name in names:
        value = getattr(message, name, None)
        if not isinstance(value, (int, np.integer)) or value < 0:
            text = f"{name} is {reprlib.repr(value)}; expected a whole number >= 0"
            raise Rejection(Fault.FORMAT, text)
        values.append(int(value))
    return tuple(values)


def word(message: Any, name: str) -> str:
    """The message's text field called `name`.

    Raises:
        Rejection: it is missing, is no text, or is too long for a name.
    """
    value = getattr(message, name, None)
    if not isinstance(value, str) or len(value) > LONGEST_WORD:
        expected = f"expected text of at most {LONGEST_WORD} characters"
        raise Rejection(Fault.FORMAT, f"{name} is {reprlib.repr(value)}; {expected}")
    return value


def header(message: Any) -> tuple[int, str]:
    """(stamp in nanoseconds, frame_id without ROS 1's leading slash) of a message with a header.

    Raises:
        Rejection: it has none, or that is none: a damaged definition can make anything of it.
    """
    found = getattr(message, "header", None)
    stamp = getattr(found, "stamp", None)
    parts = getattr(stamp, "sec", None), getattr(stamp, "nanosec", None)
    if not all(isinstance(part, (int, np.integer)) and abs(int(part)) < 1 << 32 for part in parts):
        text = f"header.stamp is {reprlib.repr(stamp)}; expected sec and nanosec of 32 bits"
        raise Rejection(Fault.FORMAT, text)
    return nanoseconds(stamp), word(found, "frame_id").lstrip("/")


def nanoseconds(stamp: Any) -> int:
    """builtin_interfaces/Time, rclpy's or rosbags', as nanoseconds; a duration, too."""
    return int(stamp.sec) * SECOND + int(stamp.nanosec)


def stamp_of(message: Any) -> int:
    """Header stamp in nanoseconds.

    Raises:
        Rejection: it has none.
    """
    return header(message)[0]


def byte_order(message: Any) -> str:
    """NumPy's sign for the message's endianness: `>` if it says big, else `<`.

    Raises:
        Rejection: `is_bigendian` is neither a number nor missing.
    """
    value = getattr(message, "is_bigendian", False)
    if not isinstance(value, (int, np.integer, np.bool_)):
        text = f"is_bigendian is {reprlib.repr(value)}; expected true or false"
        raise Rejection(Fault.FORMAT, text)
    return ">" if value else "<"


def most_pixels(payload_bytes: int) -> int:
    """How many pixels a compressed picture of that many bytes may claim.

    Any size up to 4 million; beyond that, 2048 a byte: deflate and jpeg cannot hold more, and what
    codes a solid picture in even less shows nothing.
    """
    return min(MAX_PIXELS, max(_BELIEVED, _DENSEST * payload_bytes))


def fingerprint(payload: Any) -> int:
    """A crc32 that equals only if the sensor repeats itself: 4 KiB of every 64, at fixed places.

    A whole 7 MB image would take 1.7 ms; its noise alone changes every one of these blocks. Short
    payloads, compressed images among them, are read in full.

    Raises:
        Rejection: `payload` is not a buffer of bytes.
    """
    data = as_bytes(payload)
    if len(data) <= _SHORT:  # in pieces so small that zlib keeps the interpreter's lock
        digest = len(data)
        for start in range(0, len(data), _PIECE):
            digest = zlib.crc32(data[start : start + _PIECE].data, digest)
        return digest
    if len(data) <= 4 * _STRIDE:
        return zlib.crc32(data.data, len(data))
    whole = len(data) // _STRIDE * _STRIDE
    blocks = np.ascontiguousarray(data[:whole].reshape(-1, _STRIDE)[:, :_BLOCK])
    return zlib.crc32(data[whole:][:_BLOCK].data, zlib.crc32(blocks.data, len(data)))


class Compiled(Generic[P, R]):
    """A loop that numba compiles at its first call, and keeps on disk where the robot allows it.

    Importing this costs nothing; a read-only or full disk costs one compilation per process. In
    such a loop, widen bytes with `np.int64`: numba's `int` of a uint8 stays unsigned, and unsigned
    with signed makes a float.
    """

    nogil: ClassVar[bool] = True
    """Whether other threads run meanwhile."""

    def __init__(self, function: Callable[P, R]) -> None:
        self.python = function
        self._native: Callable[P, R] | None = None

    def __call__(self, *arguments: P.args, **named: P.kwargs) -> R:
        """What the function returns for `arguments`."""
        if self._native is None:
            self._native = self._compile(arguments)
        return self._native(*arguments, **named)

    def _compile(self, arguments: tuple[Any, ...]) -> Callable[P, R]:
        import numba  # half a second that only its users pay

        # For coverage, fuzzing and debuggers; numba reads it from the environment
        if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
            return self.python
        kinds = tuple(numba.typeof(a) for a in arguments)  # type: ignore[no-untyped-call]  # numba
        try:
            native = numba.njit(cache=True, nogil=self.nogil)(self.python)
            native.compile(kinds)
        except (RuntimeError, OSError):  # numba found no folder that it may write to
            native = numba.njit(nogil=self.nogil)(self.python)
            native.compile(kinds)
        compiled: Callable[P, R] = native
        return compiled


class Brief(Compiled[P, R]):
    """One whose calls take microseconds: others wait for less than it costs to let them run.

    Where two threads share the interpreter, whoever gives it up gets it back when the other one's
    turn is over (`sys.setswitchinterval`), a thousand times later than such a call would end.
    """

    nogil: ClassVar[bool] = False

    def __init__(self, function: Callable[P, R]) -> None:
        # A name of its own: numba keeps one file for all that is compiled of one name.
        own = FunctionType(function.__code__, function.__globals__, f"{function.__name__}_brief")
        own.__module__ = function.__module__
        own.__qualname__ = own.__name__
        super().__init__(own)
