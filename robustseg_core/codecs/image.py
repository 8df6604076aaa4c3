"""sensor_msgs Image and CompressedImage to RGB: one table of encodings, one check of the sizes."""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from robustseg_core.codecs.fields import as_bytes, byte_order, sizes, word
from robustseg_core.codecs.picture import check_claim
from robustseg_core.types import Fault, Rejection


class _Format(NamedTuple):
    """How one encoding lies in memory, and OpenCV's way from it to RGB."""

    channels: int
    bits: int
    to_rgb: int | None
    """None: it is RGB already."""
    even: tuple[int, int] = (1, 1)
    """Height and width divide by these."""
    rows: tuple[int, int] = (1, 1)
    """Rows of payload per row of image, as a fraction (the chroma plane of NV12)."""


# sensor_msgs/image_encodings.hpp. OpenCV names a Bayer pattern by pixels (1, 1) and (1, 2), ROS by
# (0, 0) and (0, 1): ROS RGGB is OpenCV BG.
_BAYER = {
    "rggb": cv2.COLOR_BayerBG2RGB,
    "bggr": cv2.COLOR_BayerRG2RGB,
    "gbrg": cv2.COLOR_BayerGR2RGB,
    "grbg": cv2.COLOR_BayerGB2RGB,
}
_COLOR = {
    "rgb": (3, None),
    "bgr": (3, cv2.COLOR_BGR2RGB),
    "rgba": (4, cv2.COLOR_RGBA2RGB),
    "bgra": (4, cv2.COLOR_BGRA2RGB),
    "mono": (1, cv2.COLOR_GRAY2RGB),
}
_UYVY = _Format(2, 8, cv2.COLOR_YUV2RGB_UYVY, even=(1, 2))
_YUYV = _Format(2, 8, cv2.COLOR_YUV2RGB_YUY2, even=(1, 2))
FORMATS: dict[str, _Format] = {
    **{f"{n}{bits}": _Format(c, bits, code) for n, (c, code) in _COLOR.items() for bits in (8, 16)},
    **{
        f"bayer_{n}{bits}": _Format(1, bits, code, even=(2, 2))
        for n, code in _BAYER.items()
        for bits in (8, 16)
    },
    "8UC1": _Format(1, 8, cv2.COLOR_GRAY2RGB),
    "8UC3": _Format(3, 8, cv2.COLOR_BGR2RGB),  # untyped colour is OpenCV's, and that is BGR
    "8UC4": _Format(4, 8, cv2.COLOR_BGRA2RGB),
    "16UC1": _Format(1, 16, cv2.COLOR_GRAY2RGB),
    "yuv422": _UYVY,
    "uyvy": _UYVY,
    "yuv422_yuy2": _YUYV,
    "yuyv": _YUYV,
    "nv12": _Format(1, 8, cv2.COLOR_YUV2RGB_NV12, even=(2, 2), rows=(3, 2)),
    "nv21": _Format(1, 8, cv2.COLOR_YUV2RGB_NV21, even=(2, 2), rows=(3, 2)),
}
"""Encoding -> memory layout, of every raw image that `decode_image` reads."""

_ENDS = {b"\xff\xd8": b"\xff\xd9", b"\x89PNG": b"IEND"}
"""First and last bytes: OpenCV fills a picture that was cut short with gray, without a word."""


def pixels(
    message: Any, channels: int, kind: np.dtype[Any], *, rows: tuple[int, int] = (1, 1)
) -> NDArray[Any]:
    """(rows, W, channels) view of an Image's payload, row padding skipped, nothing copied.

    Raises:
        Rejection: height, width, step and the size of the payload contradict each other.
    """
    height, width, step = sizes(message, "height", "width", "step")
    data = as_bytes(getattr(message, "data", None))
    line = width * channels * kind.itemsize
    lines = height * rows[0] // rows[1]
    if not height or not width:
        raise Rejection(Fault.FORMAT, f"image is {height}x{width}; expected at least one pixel")
    if rows != (1, 1) and step * height == len(data) and step * rows[1] == line * rows[0]:
        step = line  # some drivers spread the chroma plane over the rows of the image
    if step < line:
        raise Rejection(Fault.FORMAT, f"step is {step} bytes; a row of {width} pixels needs {line}")
    if step * lines != len(data):
        raise Rejection(
            Fault.FORMAT,
            f"payload has {len(data)} bytes; step {step} x {lines} rows make {step * lines}",
        )
    return np.ndarray(
        (lines, width, channels),
        kind,
        data,
        strides=(step, channels * kind.itemsize, kind.itemsize),
    )


def decode_image(message: Any) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of a sensor_msgs/Image; `rgb8` is a view of the payload.

    Of 16-bit encodings the high byte is kept. Encodings: `FORMATS`.

    Raises:
        Rejection: the sizes contradict each other, or the encoding is none of `FORMATS`.
    """
    encoding = word(message, "encoding")
    form = FORMATS.get(encoding)
    if form is None:
        raise Rejection(
            Fault.FORMAT, f"unsupported encoding {encoding!r}; supported: {', '.join(FORMATS)}"
        )
    height, width = sizes(message, "height", "width")
    if height % form.even[0] or width % form.even[1]:
        raise Rejection(
            Fault.FORMAT,
            f"{encoding} image is {height}x{width}; its height and width must divide by "
            f"{form.even[0]} and {form.even[1]}",
        )
    kind = np.dtype(np.uint8) if form.bits == 8 else np.dtype(f"{byte_order(message)}u2")
    array = pixels(message, form.channels, kind, rows=form.rows)
    if form.bits == 16:
        array = (array >> 8).astype(np.uint8)
    if form.to_rgb is None:
        return array
    try:
        return np.asarray(cv2.cvtColor(np.ascontiguousarray(array), form.to_rgb), np.uint8)
    except cv2.error as error:  # a picture too small for OpenCV's demosaicing
        raise Rejection(
            Fault.FORMAT, f"{encoding} image of {height}x{width} cannot be converted: {error.err}"
        ) from None


def decode_compressed(message: Any) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of a sensor_msgs/CompressedImage holding jpeg, png or webp.

    `format` follows compressed_image_transport: "rgb8; jpeg compressed bgr8", or just "jpeg". Only
    "compressed rgb" says that red and blue were exchanged before compression. EXIF never rotates.

    Raises:
        Rejection: a depth image, a truncated jpeg, or bytes that no codec reads.
    """
    form = word(message, "format")
    data = as_bytes(getattr(message, "data", None))
    if "compressedDepth" in form:
        raise Rejection(Fault.FORMAT, f"format {form!r} is depth; give this topic to `depth`")
    bgr = inflate(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION, form)
    if "compressed rgb" in form:
        return bgr
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def inflate(data: NDArray[np.uint8], flags: int, form: str) -> NDArray[Any]:
    """What `cv2.imdecode` makes of `data`; `form` is the format that the message promised.

    Raises:
        Rejection: nothing, or the picture is cut short, or claims an impossible size.
    """
    check_claim(data, form)
    for start, end in _ENDS.items():
        if data[: len(start)].tobytes() == start and end not in data[len(data) // 2 :].tobytes():
            raise Rejection(
                Fault.FORMAT, f"{form!r} of {len(data)} bytes has no end marker: it is truncated"
            )
    try:
        array = cv2.imdecode(data, flags)
    except cv2.error:
        array = None
    if array is None:
        raise Rejection(
            Fault.FORMAT,
            f"payload of {len(data)} bytes does not decode as {form!r}; it is damaged",
        )
    return array
