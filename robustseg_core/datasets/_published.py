"""Resizing as the loaders of the published systems do it: on 8 bits, rounded, everything blended.

For figures that are to be compared with theirs. They blend depth, events and returns with the
"nothing here" beside them, and their nearest pixel is half a pixel off (it rounds down), so that
labels and images no longer lie on each other exactly.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from robustseg_core.errors import RobustsegError, not_installed


def eight_bits(picture: NDArray[Any]) -> NDArray[np.uint8]:
    """The high byte of each value, which is what Pillow reads of 16 bits in color."""
    if picture.dtype == np.uint8:
        return picture
    return (picture >> 8).astype(np.uint8)


def bilinear(picture: NDArray[Any], size: tuple[int, int], *, antialias: bool) -> NDArray[np.uint8]:
    """(H, W[, C]) uint8 brought to `size` and rounded, as torchvision resizes a tensor.

    `antialias` widens the filter where it shrinks: torchvision's default since 0.17.
    """
    planes = np.atleast_3d(eight_bits(picture)).transpose(2, 0, 1)
    blended = F.interpolate(
        torch.from_numpy(np.ascontiguousarray(planes)).float()[None],
        size,
        mode="bilinear",
        antialias=antialias,
    )
    made: NDArray[np.uint8] = blended[0].round().to(torch.uint8).numpy()
    return np.ascontiguousarray(made.transpose(1, 2, 0) if picture.ndim == 3 else made[0])


def bicubic(picture: NDArray[Any], size: tuple[int, int]) -> NDArray[np.uint8]:
    """(H, W[, C]) brought to `size` by Pillow, whose filter widens where it shrinks.

    Raises:
        RobustsegError: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError:
        raise RobustsegError(not_installed("pillow")) from None
    resized = Image.fromarray(eight_bits(picture)).resize(size[::-1], Image.Resampling.BICUBIC)
    return np.asarray(resized)


def nearest(picture: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """(H, W[, C]) brought to `size`; output row i is input row floor(i H / height)."""
    (high, wide), (height, width) = picture.shape[:2], size
    rows, columns = np.arange(height) * high // height, np.arange(width) * wide // width
    picked: NDArray[Any] = picture[rows[:, None], columns]
    return picked


def stretched(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """0 at its smallest value, 255 at its largest, over all channels; 0 where all are equal."""
    lowest, highest = int(picture.min()), int(picture.max())
    values = picture.astype(np.float32) - np.float32(lowest)
    scaled: NDArray[np.float32] = values / np.float32(max(highest - lowest, 1)) * np.float32(255)
    return scaled
