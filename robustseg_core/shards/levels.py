"""An image of floats as an ordinary PNG: integer levels, and what they mean.

`value = offset + step * level`, per channel. Camera images and event counts lie on at most 256
evenly spaced values and come back exactly (to float rounding) from 8 bits; depth and ranges get 16
bits over their own span, an error of at most 1/131070 of it: far below any sensor's noise. Equal
channels are stored once, three as red, green and blue, and any other number of them one below the
other. Any viewer shows the file.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from robustseg_core.codecs.picture_file import decoded
from robustseg_core.errors import RobustsegError
from robustseg_core.types import CHANNELS, Rejection

Values = list[list[float]]
"""[offset, step] of each stored channel."""

_FAST = [cv2.IMWRITE_PNG_COMPRESSION, 1]
_PALETTE_LEVEL = 3
"""Of zlib: two thirds of what level 1 leaves of a mask, in the same time."""
_PNG_COLOR, _PALETTE = slice(25, 26), b"\x03"
"""The color type in the header of a PNG, and the one whose pixels are indices (ISO/IEC 15948)."""
_SAME = 1e-6
"""Values closer than this are one value that was rounded twice."""
_STRAY = 0.01
"""Share of a step that a value may lie off its level."""


def to_png(array: NDArray[np.float32]) -> tuple[bytes, Values]:
    """The PNG of a (C, H, W) array, and the meaning of its levels.

    Raises:
        RobustsegError: another shape, or a value that is not finite.
    """
    if array.ndim != 3:
        raise RobustsegError(f"image has shape {array.shape}; expected (C, H, W)")
    if not np.isfinite(array).all():
        raise RobustsegError("image has values that are not finite; mend the modality's `encode`")
    if all(np.array_equal(array[0], channel) for channel in array[1:]):
        array = array[:1]
    grids = [_grid(channel) for channel in array]
    even = [grid for grid in grids if grid is not None]
    deep = len(even) < len(grids)
    values = [_span(channel) for channel in array] if deep else even
    levels = np.empty((*array.shape[1:], len(array)), np.uint16 if deep else np.uint8)
    for k, (channel, (offset, step)) in enumerate(zip(array, values, strict=True)):
        levels[..., k] = np.rint((channel - np.float32(offset)) / np.float32(step or 1))
    if len(array) == 3:
        levels = levels[..., ::-1]  # OpenCV writes BGR
    elif len(array) > 1:
        levels = levels.transpose(2, 0, 1).reshape(-1, levels.shape[1])
    return label_png(levels), values


def stacked(values: Values) -> int:
    """How many channels lie one below the other in the PNG that has these levels."""
    return 1 if len(values) == 3 else len(values)


def from_png(data: bytes, values: Values, channels: int = CHANNELS) -> NDArray[np.float32]:
    """The (C, H, W) float32 array that `to_png` was given.

    Args:
        data: the PNG.
        values: the meaning of its levels.
        channels: C.

    Raises:
        RobustsegError: no PNG, or one of other channels than these.
    """
    picture, rows = _decoded(data), stacked(values)
    planes: Sequence[NDArray[Any]]
    if picture.ndim == 2 and len(values) > 1 and picture.shape[0] % rows == 0:
        planes = np.split(picture, rows)
    else:
        planes = cv2.split(picture)[::-1]  # whole planes are fast to compute with
    if len(planes) != len(values) or len(values) not in (1, channels):
        raise RobustsegError(
            f"image has {len(planes)} channels, and levels of {len(values)}; expected {channels}"
        )
    array = np.empty((channels, *planes[0].shape), np.float32)
    for k, (plane, (offset, step)) in enumerate(zip(planes, values, strict=True)):
        array[k] = plane
        array[k] *= np.float32(step)
        array[k] += np.float32(offset)
    array[len(values) :] = array[0]
    return array


def label_png(ids: NDArray[np.unsignedinteger], colors: NDArray[np.uint8] | None = None) -> bytes:
    """The PNG of class ids (H, W) uint8, or of levels as they are.

    Args:
        ids: the pixels of the file.
        colors: (256, 3) RGB by id, what viewers show for them; None: shades of gray.
    """
    if colors is None:
        return cv2.imencode(".png", ids, _FAST)[1].tobytes()
    picture = Image.fromarray(ids)
    picture.putpalette(colors.tobytes())  # of 256 colors always: then a pixel has 8 bits
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=_PALETTE_LEVEL)
    return buffer.getvalue()


def read_label_png(data: bytes) -> NDArray[np.uint8]:
    """(H, W) uint8 class ids: the pixels as the file has them, whatever color a palette gives them.

    Raises:
        RobustsegError: no PNG, or one of colors or of more bits.
    """
    ids = _decoded(data)
    if data[_PNG_COLOR] == _PALETTE:
        ids = _indices(data)
    if ids.ndim != 2 or ids.dtype != np.uint8:
        raise RobustsegError(
            f"is {ids.dtype} {ids.shape}; expected class ids in one channel of 8 bits"
        )
    return ids


def _indices(data: bytes) -> NDArray[np.uint8]:
    """(H, W) pixels of a palette PNG; OpenCV, which has seen it by now, gives its colors only.

    Raises:
        RobustsegError: it is damaged.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
            return np.array(picture, np.uint8)
    except Exception as error:  # Pillow's reader raises what it comes upon
        raise RobustsegError(f"its {len(data)} bytes are no whole picture ({error})") from None


def _decoded(data: bytes) -> NDArray[np.unsignedinteger]:
    try:
        picture = decoded(data)
    except Rejection as rejection:
        raise RobustsegError(f"{rejection}") from None
    if picture is None:
        raise RobustsegError(f"its {len(data)} bytes are no picture")
    return picture


def _grid(channel: NDArray[np.float32]) -> list[float] | None:
    """[offset, step] where all values lie on at most 256 evenly spaced ones; None: they do not."""
    ordered = np.sort(channel, axis=None)
    gaps = np.diff(ordered)
    gaps = gaps[gaps > _SAME]
    lowest, span = float(ordered[0]), float(ordered[-1] - ordered[0])
    if not len(gaps):
        return [lowest, 0.0]
    steps = round(span / float(gaps.min()))
    if steps > 255:
        return None
    levels = (channel - ordered[0]) / np.float32(span / steps)
    strays = float(np.abs(levels - np.rint(levels)).max())
    return [lowest, span / steps] if strays <= _STRAY else None


def _span(channel: NDArray[np.float32]) -> list[float]:
    lowest, highest = float(channel.min()), float(channel.max())
    return [lowest, (highest - lowest) / 65535]
