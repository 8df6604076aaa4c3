"""Inputs of the recorded figures in `test/data/golden`: the same bits on every machine."""

from __future__ import annotations

import numpy as np


def bits(seed: int, n: int) -> np.ndarray:
    """(n,) uint64: splitmix64."""
    u = np.uint64
    z = ((u(seed) << u(32)) + np.arange(1, n + 1, dtype=u)) * u(0x9E3779B97F4A7C15)
    z = (z ^ (z >> u(30))) * u(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> u(27))) * u(0x94D049BB133111EB)
    return z ^ (z >> u(31))


def unit(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """float64 in [0, 1)."""
    return ((bits(seed, int(np.prod(shape))) >> np.uint64(11)) * 2.0**-53).reshape(shape)


def ints(seed: int, shape: tuple[int, ...], k: int) -> np.ndarray:
    """int64 in [0, k)."""
    return (bits(seed, int(np.prod(shape))) % np.uint64(k)).astype(np.int64).reshape(shape)
