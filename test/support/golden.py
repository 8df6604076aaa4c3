"""Weights and inputs by formula, and the figures that the published code computed from them.

Everything is made of one integer hash (splitmix64), so it is the same bits on every machine: the
recorded figures in `test/data/golden/` need neither weights nor pictures beside them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from support import ROOT

FOLDER = ROOT / "test" / "data" / "golden"
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Golden:
    """One set of recorded figures."""

    arrays: Mapping[str, NDArray[Any]]
    """Of the .npz; empty if there is none."""
    facts: dict[str, Any]
    """Of the .json; empty if there is none."""


def golden(name: str) -> Golden:
    """The figures of `test/data/golden/<name>.npz` and `.json`; one of the two may be missing."""
    arrays: dict[str, NDArray[Any]] = {}
    facts: dict[str, Any] = {}
    packed, told = FOLDER / f"{name}.npz", FOLDER / f"{name}.json"
    if not packed.exists() and not told.exists():
        raise FileNotFoundError(f"no golden figures called {name!r} in {FOLDER}")
    if packed.exists():
        with np.load(packed, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    if told.exists():
        facts = json.loads(told.read_text())
    return Golden(arrays, facts)


def bits(seed: int, n: int) -> NDArray[np.uint64]:
    """(n,) words of 64 bits; arithmetic wraps."""
    u = np.uint64
    z = ((u(seed) << u(32)) + np.arange(1, n + 1, dtype=u)) * u(0x9E3779B97F4A7C15)
    z = (z ^ (z >> u(30))) * u(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> u(27))) * u(0x94D049BB133111EB)
    return z ^ (z >> u(31))


def unit(seed: int, shape: Shape) -> NDArray[np.float64]:
    """Numbers in [0, 1)."""
    return ((bits(seed, int(np.prod(shape))) >> np.uint64(11)) * 2.0**-53).reshape(shape)


def ints(seed: int, shape: Shape, k: int) -> NDArray[np.int64]:
    """Integers in [0, k)."""
    return (bits(seed, int(np.prod(shape))) % np.uint64(k)).astype(np.int64).reshape(shape)


def bell(seed: int, shape: Shape) -> NDArray[np.float64]:
    """About normal, variance 1: four numbers of `unit` summed."""
    total = np.zeros(shape)
    for j in range(4):
        total = total + unit(16 * seed + j, shape)
    return total * np.sqrt(3.0) - 2 * np.sqrt(3.0)


def picture(seed: int, shape: Shape) -> NDArray[np.float32]:
    """(..., H, W): blocks of 16 pixels plus grain."""
    *lead, H, W = shape
    blocks = 2 * unit(seed, (*lead, -(-H // 16), -(-W // 16))) - 1
    blocks = blocks.repeat(16, -2).repeat(16, -1)[..., :H, :W]
    return (1.5 * blocks + 0.5 * (2 * unit(seed + 1, shape) - 1)).astype(np.float32)


def fill(shapes: Mapping[str, Sequence[int]], base: int) -> dict[str, NDArray[Any]]:
    """Weights of a network, by the kind that the official name of each tensor tells.

    Args:
        shapes: official name -> shape.
        base: seed of the first tensor in the order of the names.
    """
    state: dict[str, NDArray[Any]] = {}
    for i, (name, sides) in enumerate(sorted(shapes.items())):
        shape = tuple(sides)
        if name.endswith("num_batches_tracked"):
            state[name] = np.ones(shape, np.int64)
            continue
        u = unit(base + i, shape)
        v = 2 * u - 1
        if name.endswith("running_var"):
            w = 0.75 + 0.5 * u
        elif name.endswith("running_mean") or (len(shape) == 1 and name.endswith("bias")):
            w = 0.1 * v
        elif len(shape) == 1:  # weights of norms, scales of layers
            w = 1 + 0.2 * v
        else:  # uniform, variance 1 / fan_in
            w = v * np.sqrt(3.0 / np.prod(shape[1:]))
        if name.endswith("linear_pred.weight"):
            w[:, 1::2] = -w[:, 0::2]  # rows sum to 0, or one class would win everywhere
        state[name] = w.astype(np.float32)
    return state


def sha256_of_fill(state: Mapping[str, NDArray[Any]]) -> str:
    """Digest of all tensors' little-endian bytes, one after the other, sorted by name."""
    digest = hashlib.sha256()
    for _, tensor in sorted(state.items()):
        digest.update(np.ascontiguousarray(tensor, tensor.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()


def blocky(
    seed: int, H: int, W: int, C: int, side: int, grain: int, top: int = 256
) -> NDArray[np.int64]:
    """(H, W, C) integers in [0, top): blocks of `side` pixels plus grain."""
    b = ints(seed, (-(-H // side), -(-W // side), C), top - grain)
    return b.repeat(side, 0).repeat(side, 1)[:H, :W] + ints(seed + 1, (H, W, C), grain)


def sparse(seed: int, H: int, W: int, C: int, share: float, top: int) -> NDArray[np.int64]:
    """(H, W, C): 1..top-1 in a share of the pixels, else 0."""
    values = 1 + ints(seed + 1, (H, W, C), top - 1)
    return np.where((unit(seed, (H, W)) < share)[..., None], values, 0)


def ids(seed: int, H: int, W: int, side: int, values: Sequence[int]) -> NDArray[np.int64]:
    """(H, W): blocks of `side` pixels, each with one of the values."""
    v = np.asarray(values)[ints(seed, (-(-H // side), -(-W // side)), len(values))]
    return v.repeat(side, 0).repeat(side, 1)[:H, :W]
