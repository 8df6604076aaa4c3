"""Payload bytes to arrays: check the sizes first, then look at the bytes where they lie.

Messages are duck-typed (rclpy's `array.array`, rosbags' ndarray, plain `bytes`), payloads are never
copied to be read, and whatever does not fit together is a `Rejection` that says so.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustseg_core.types import Fault, Rejection

_BLOCK = 4096
_STRIDE = 16 * _BLOCK


def as_bytes(payload: Any) -> NDArray[np.uint8]:
    """(N,) uint8 view of a payload, without a copy.

    Raises:
        Rejection: it is not a buffer of bytes.
    """
    try:
        view = memoryview(payload)
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
            raise Rejection(Fault.FORMAT, f"{name} is {value!r}; expected a whole number >= 0")
        values.append(int(value))
    return tuple(values)


def word(message: Any, name: str) -> str:
    """The message's text field called `name`.

    Raises:
        Rejection: it is missing, or is no text.
    """
    value = getattr(message, name, None)
    if not isinstance(value, str):
        raise Rejection(Fault.FORMAT, f"{name} is {value!r}; expected text")
    return value


def fingerprint(payload: Any) -> int:
    """A crc32 that equals only if the sensor repeats itself: 4 KiB of every 64, at fixed places.

    A whole 7 MB image would take 1.7 ms; its noise alone changes every one of these blocks. Short
    payloads, compressed images among them, are read in full.

    Raises:
        Rejection: `payload` is not a buffer of bytes.
    """
    data = as_bytes(payload)
    if len(data) <= 4 * _STRIDE:
        return zlib.crc32(data, len(data))
    whole = len(data) // _STRIDE * _STRIDE
    blocks = np.ascontiguousarray(data[:whole].reshape(-1, _STRIDE)[:, :_BLOCK])
    return zlib.crc32(data[whole:][:_BLOCK], zlib.crc32(blocks, len(data)))


class Compiled:
    """A loop that numba compiles at its first call, and keeps on disk where the robot allows it.

    Importing this costs nothing; a read-only or full disk costs one compilation per process. In
    such a loop, widen bytes with `np.int64`: numba's `int` of a uint8 stays unsigned, and unsigned
    with signed makes a float.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.python = function
        self._native: Callable[..., Any] | None = None

    def __call__(self, *arguments: Any) -> Any:
        """What the function returns for `arguments`."""
        if self._native is None:
            self._native = self._compile(arguments)
        return self._native(*arguments)

    def _compile(self, arguments: tuple[Any, ...]) -> Callable[..., Any]:
        import numba  # half a second that only its users pay

        kinds = tuple(numba.typeof(a) for a in arguments)
        try:
            native = numba.njit(cache=True, nogil=True)(self.python)
            native.compile(kinds)
        except (RuntimeError, OSError):  # numba found no folder that it may write to
            native = numba.njit(nogil=True)(self.python)
            native.compile(kinds)
        return native
