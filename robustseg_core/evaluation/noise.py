"""Damage of the benchmark protocols, in the network's normalized space, repeatable per sample.

Every draw comes from the seed, the sample's id and the modality's name, never from a stream that
runs along the data: a sample is damaged in the same way whatever the batch, the order or the rank.
"""

from __future__ import annotations

import hashlib
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from robustseg_core.errors import RobustsegError


class Noise(NamedTuple):
    """A level of the noisy-modality protocol."""

    density: float
    """Share of the tensor's elements that salt and pepper hit, each half of it."""
    sigma: float
    """Standard deviation of the Gaussian noise, in normalized units."""


LEVELS = {"low": Noise(0.05, 0.1), "mid": Noise(0.1, 0.2), "high": Noise(0.2, 0.5)}
"""NM of arXiv 2503.18445."""
WITHOUT_GAUSSIAN = ("event",)
"""The benchmark adds no Gaussian noise to events."""


def generator(seed: int, *names: object) -> np.random.Generator:
    """The generator of one image of one sample: the same for the same seed and names."""
    key = "\0".join(map(str, (seed, *names))).encode()
    digest = hashlib.blake2b(key, digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))


def drop_elements(
    image: NDArray[np.float32], rate: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """RMM: every element (pixel and channel) becomes 0 with probability `rate`, independently.

    With equal generators a higher rate drops the same elements and more, so rates differ by nothing
    but the rate. Rate 1 drops everything and rate 0 nothing.

    Args:
        image: (C, H, W), normalized.
        rate: in [0, 1]; the drop rate, as in the benchmark's code (its README calls it retention).

    Raises:
        RobustsegError: the rate is outside [0, 1].
    """
    if not 0 <= rate <= 1:
        raise RobustsegError(f"rate is {rate}; the share of dropped elements lies in [0, 1]")
    kept = rng.random(image.shape, dtype=np.float32) >= rate
    return np.where(kept, image, image.dtype.type(0))


def add_noise(
    image: NDArray[np.float32], level: str, modality: str, rng: np.random.Generator
) -> NDArray[np.float32]:
    """NM: salt and pepper at the image's own extremes, then Gaussian noise except on events.

    ceil(density * elements / 2) random elements (with replacement) become the image's maximum, then
    as many its minimum, so pepper may cover salt: the benchmark at batch size 1.

    Args:
        image: (C, H, W), normalized; the extremes depend on the normalization.
        level: of `LEVELS`.
        modality: decides about the Gaussian part.

    Raises:
        RobustsegError: no such level.
    """
    if level not in LEVELS:
        raise RobustsegError(f"no noise level {level!r}; have {', '.join(LEVELS)}")
    density, sigma = LEVELS[level]
    noisy = image.copy().reshape(-1)
    hits = math.ceil(density * noisy.size / 2)
    noisy[rng.integers(noisy.size, size=hits)] = image.max()
    noisy[rng.integers(noisy.size, size=hits)] = image.min()
    if modality not in WITHOUT_GAUSSIAN:
        noisy += np.float32(sigma) * rng.standard_normal(noisy.size, dtype=np.float32)
    return noisy.reshape(image.shape)
