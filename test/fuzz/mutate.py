"""Seeded damage: to the bytes of a message, and to the fields of one that was parsed.

Bytes are damaged as cables and disks do it, and as a liar would: lengths that promise gigabytes.
Fields are set to what the wire could never carry as well, because a damaged definition in a bag
turns any field into any other.
"""

from __future__ import annotations

import copy
import dataclasses
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from robustseg_core.codecs.image import FORMATS

WHOLE = (0, 1, -1, 2, 3, 7, 255, 256, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**63,
         2**64 - 1, -(2**63), 10**30)  # fmt: skip
REAL = (0.0, -0.0, float("nan"), float("inf"), float("-inf"), 1e300, -1e300, 1e-300, 3.4e38,
        1.8446743e19, 1e18, -1.0, 0.5)  # fmt: skip
WRONG = (None, True, "text", b"bytes", 1.5, float("nan"), [], {}, [None], (1, 2), object(),
         np.zeros(3), np.array(2.5), np.array(["a"]), 3 + 4j)  # fmt: skip
WORDS = ("", "/", "\0", "rgb8", "nv12", "16UC1", "32FC1", "bayer_rggb16", "evt2", "plumb_bob",
         "equidistant", "16UC1; compressedDepth rvl", "32FC1; compressedDepth", "png", "jpeg",
         "x" * 100_000, "a/b/" * 99, "\ud800", "caméra ", "%s{0}", "camera", "lidar",
         *FORMATS)  # fmt: skip
LENGTHS = (0, 1, 0x7F, 0xFF, 0xFFFF, 0x10000, 0xFFFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)

Random = np.random.Generator


def damaged(data: bytes, random: Random, *, head: int = 160) -> bytes:
    """`data` after a few accidents; most of them near the front, where lengths and sizes are."""
    out = bytearray(data)
    for _ in range(int(random.geometric(0.6))):
        if out:
            near = random.random() < 0.6
            at = int(random.integers(0, min(len(out), head) if near else len(out)))
            _ACCIDENTS[int(random.integers(len(_ACCIDENTS)))](out, at, random)
    return bytes(out)


def _flip(out: bytearray, at: int, random: Random) -> None:
    out[at] ^= 1 << int(random.integers(8))


def _set(out: bytearray, at: int, random: Random) -> None:
    out[at] = int(random.integers(256))


def _lie(out: bytearray, at: int, random: Random) -> None:
    """A wrong length or size, where one may be: CDR aligns them to four bytes."""
    at = at // 4 * 4
    out[at : at + 4] = struct.pack("<I", LENGTHS[int(random.integers(len(LENGTHS)))])


def _real(out: bytearray, at: int, random: Random) -> None:
    """An impossible number, where one may be."""
    value = REAL[int(random.integers(len(REAL)))]
    with np.errstate(all="ignore"):
        raw = np.array([value], "<f8" if random.random() < 0.5 else "<f4").tobytes()
    at = at // len(raw) * len(raw)
    out[at : at + len(raw)] = raw


def _truncate(out: bytearray, at: int, random: Random) -> None:
    del out[at + int(random.integers(0, len(out) - at)) :]


def _insert(out: bytearray, at: int, random: Random) -> None:
    out[at:at] = random.integers(0, 256, int(random.integers(1, 40)), np.uint8).tobytes()


def _delete(out: bytearray, at: int, random: Random) -> None:
    del out[at : at + int(random.integers(1, 40))]


def _repeat(out: bytearray, at: int, random: Random) -> None:
    out[at:at] = out[at : at + int(random.integers(1, 200))]


def _overwrite(out: bytearray, at: int, random: Random) -> None:
    block = random.integers(0, 256, int(random.integers(1, 64)), np.uint8).tobytes()
    out[at : at + len(block)] = block


_ACCIDENTS: tuple[Callable[[bytearray, int, Random], None], ...] = (
    _flip, _flip, _set, _lie, _lie, _real, _truncate, _insert, _delete, _repeat, _overwrite,
)  # fmt: skip


def tampered(message: Any, random: Random) -> Any:
    """`message`, changed in place, with one to three of its fields set to something else."""
    for _ in range(int(random.integers(1, 4))):
        owner, name = _spot(message, random)
        value = getattr(owner, name)
        new = pick(random, WRONG) if random.random() < 0.15 else _other(value, random)
        setattr(owner, name, new)
    return message


def pick(random: Random, values: Any) -> Any:
    """One of `values`."""
    return values[int(random.integers(len(values)))]


def _spot(message: Any, random: Random) -> tuple[Any, str]:
    """A random field: each level of nesting is a choice among its siblings."""
    owner = message
    while True:
        names = [f.name for f in dataclasses.fields(owner) if f.name != "__msgtype__"]
        name = pick(random, names)
        value = getattr(owner, name)
        if isinstance(value, list) and value and random.random() < 0.7:
            value = pick(random, value)
        if not dataclasses.is_dataclass(value) or random.random() < 0.03:
            return owner, name
        owner = value


def _other(value: Any, random: Random) -> Any:
    if isinstance(value, np.ndarray):
        return _array(value, random)
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return pick(random, WORDS) if random.random() < 0.8 else value[::-1] + value
    if isinstance(value, (int, np.integer)):
        near = (int(value) - 1, int(value) + 1, int(value) * 2, int(value) // 2)
        return pick(random, near) if random.random() < 0.4 else pick(random, WHOLE)
    if isinstance(value, float):
        return pick(random, REAL)
    if isinstance(value, list):
        return _list(value, random)
    return pick(random, WRONG)


def _list(value: list[Any], random: Random) -> list[Any]:
    way = int(random.integers(5))
    if way == 0 or not value:
        return []
    if way == 1:
        return value[: int(random.integers(len(value)))]
    if way == 2:
        return [*value, copy.deepcopy(pick(random, value))]
    if way == 3:
        return value * 50
    return [*value, pick(random, WRONG)]


def _array(value: np.ndarray, random: Random) -> np.ndarray:
    if value.ndim != 1 or value.dtype != np.uint8:
        return _numbers(value, random)
    way = int(random.integers(5))
    if way == 0:
        return np.frombuffer(damaged(value.tobytes(), random, head=40), np.uint8)
    if way == 1:
        return np.full_like(value, pick(random, (0, 255, 0x7F, 0x5A)))
    if way == 2:
        return random.integers(0, 256, value.size, np.uint8)
    if way == 3:  # as numbers in the middle of a payload
        out = value.copy()
        wide = out[: out.size // 4 * 4].view("<f4")
        if wide.size:
            spots = random.integers(0, wide.size, max(1, wide.size // 20))
            with np.errstate(all="ignore"):
                wide[spots] = np.array([pick(random, REAL) for _ in spots], np.float64)
        return out
    return np.append(value, value[: int(random.integers(1, 50))])


def _numbers(value: np.ndarray, random: Random) -> np.ndarray:
    if value.ndim != 1 or value.dtype.kind != "f":
        return value.ravel()[:-1]  # what an earlier change put there
    if value.size and random.random() < 0.7:
        out = value.astype(np.float64)
        out[int(random.integers(out.size))] = pick(random, REAL)
        return out
    return pick(random, (value[:-1], np.append(value, 1.0), value[:0], np.zeros(9, np.int32)))
