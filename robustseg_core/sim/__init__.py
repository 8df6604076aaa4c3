"""A small procedural city that every sensor looks at: one world, one cast of rays, many devices.

Needs open3d (`pip install 'robustseg[sim]'`). Nothing here reads a clock or a file: a seed and a
time give the same bytes every time.
"""

from __future__ import annotations

import zlib

import numpy as np


def generator(seed: int, purpose: str, moment_s: float = 0.0) -> np.random.Generator:
    """Random numbers for one purpose: what one part draws never shifts what another one gets."""
    nanoseconds = round(moment_s * 1e9) & 0xFFFFFFFFFFFFFFFF
    return np.random.default_rng([seed & 0xFFFFFFFF, zlib.crc32(purpose.encode()), nanoseconds])
