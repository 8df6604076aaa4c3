"""What a network gets to see of a window of events: counts, the latest moments, or slices of time.

Histogram of ON and OFF counts; time surface (Lagorce et al., HOTS, TPAMI 2017, equation 3: each
pixel's latest event, fading exponentially); voxel grid (Zhu et al., CVPR 2019, equations 1 and 2:
polarities shared between the two nearest of B moments).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

FORMS = "histogram|time_surface|voxel_grid"


class Part(NamedTuple):
    """Events of one packet that lie in the window and on the grid, N of them."""

    cell: NDArray[np.intp]
    """(N,) flat places on the grid."""
    on: NDArray[np.bool_]
    age_us: NDArray[np.int64]
    """(N,) microseconds before the end of the window, from 0 on; empty for a histogram."""
    stride: int
    """How many events each stands for."""


def histogram(parts: Iterable[Part], size: tuple[int, int], clip: float) -> NDArray[np.float32]:
    """(3, H, W) in [0, 1]: counts of ON, of OFF, up to `clip`, and 0."""
    cells = size[0] * size[1]
    counts = np.zeros(2 * cells, np.float32)
    spots: dict[int, list[NDArray[np.intp]]] = {}
    for part in parts:
        spots.setdefault(part.stride, []).append(np.where(part.on, part.cell, part.cell + cells))
    for stride, found in spots.items():
        counts += stride * np.bincount(np.concatenate(found), minlength=2 * cells)
    array = np.zeros((3, *size), np.float32)
    array[:2] = np.minimum(counts / np.float32(clip), 1).reshape(2, *size)
    return array


def time_surface(
    parts: Iterable[Part], size: tuple[int, int], decay_ms: float
) -> NDArray[np.float32]:
    """(3, H, W) in [0, 1]: exp(-age / decay) of each pixel's latest ON, latest OFF, and 0."""
    cells = size[0] * size[1]
    surface = np.zeros(2 * cells, np.float32)
    for part in parts:
        fresh = np.exp(part.age_us / np.float32(-1000 * decay_ms)).astype(np.float32)
        np.maximum.at(surface, np.where(part.on, part.cell, part.cell + cells), fresh)
    array = np.zeros((3, *size), np.float32)
    array[:2] = surface.reshape(2, *size)
    return array


def voxel_grid(
    parts: Iterable[Part], size: tuple[int, int], clip: float, bins: int, window_us: float
) -> NDArray[np.float32]:
    """(B, H, W) in [-1, 1], oldest first: ON less OFF around B moments, up to `clip` of either."""
    cells = size[0] * size[1]
    sums = np.zeros(bins * cells)
    for part in parts:
        moment = (bins - 1) * (1 - part.age_us / window_us)
        before = np.minimum(moment.astype(np.intp), bins - 2)
        later = moment - before
        sign = np.where(part.on, part.stride, -part.stride)
        at = before * cells + part.cell
        sums += np.bincount(at, sign * (1 - later), bins * cells)
        sums += np.bincount(at + cells, sign * later, bins * cells)
    scaled = (sums / clip).reshape(bins, *size)
    return np.clip(scaled, -1, 1).astype(np.float32)


def grown(array: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Each event painted as a square; of two that meet, the stronger is seen."""
    kernel = np.ones((side, side), np.uint8)
    for channel in array:
        brighter = cv2.dilate(channel, kernel)
        darker = cv2.erode(channel, kernel)
        channel[:] = np.where(brighter >= -darker, brighter, darker)
    return array
