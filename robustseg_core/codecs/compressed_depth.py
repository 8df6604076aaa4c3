"""Every way that ROS carries depth, to metres: REP 118 images and compressedDepth (png, RVL).

Invalid is NaN. 65535 counts as invalid beside 0, because real recordings use both.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robustseg_core.codecs.fields import (
    FARTHEST_M,
    Compiled,
    as_bytes,
    byte_order,
    most_pixels,
    word,
)
from robustseg_core.codecs.image import inflate, pixels
from robustseg_core.types import Fault, Rejection


def decode_depth(message: Any) -> NDArray[np.float32]:
    """(H, W) metres, NaN where invalid, of a sensor_msgs Image or CompressedImage.

    Raw: `16UC1` or `mono16` millimetres, `32FC1` metres, either endianness. Compressed: the
    `compressedDepth` transport with png or RVL inside, and plain 16-bit png.

    Raises:
        Rejection: another encoding, sizes that contradict each other, or bytes that do not decode.
    """
    if hasattr(message, "format"):
        return _decode_compressed(message)
    encoding = word(message, "encoding")
    order = byte_order(message)
    if encoding in ("16UC1", "mono16"):
        return _from_millimetres(pixels(message, 1, np.dtype(f"{order}u2"))[..., 0])
    if encoding == "32FC1":
        return from_metres(pixels(message, 1, np.dtype(f"{order}f4"))[..., 0])
    raise Rejection(
        Fault.FORMAT,
        f"unsupported depth encoding {encoding!r}; supported: 16UC1, mono16 (mm), 32FC1 (m)",
    )


def _from_millimetres(raw: NDArray[np.uint16]) -> NDArray[np.float32]:
    depth_m = raw.astype(np.float32)
    depth_m *= np.float32(1e-3)
    depth_m[(raw == 0) | (raw == 65535)] = np.nan
    return depth_m


def from_metres(raw: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """float32 metres, NaN where the value is none that a sensor measures."""
    depth_m = raw.astype(np.float32)
    depth_m[~((depth_m > 0) & (depth_m < FARTHEST_M))] = np.nan
    return depth_m


def _decode_compressed(message: Any) -> NDArray[np.float32]:
    """compressed_depth_image_transport: 12 bytes of ConfigHeader, then png or RVL.

    The header is int32 codec, float32 A, float32 B; a quantized `32FC1` is A / (value - B).
    """
    form = word(message, "format")
    data = as_bytes(getattr(message, "data", None))
    if "compressedDepth" not in form:
        return _from_millimetres(_png(data, form))
    if len(data) < 12:
        raise Rejection(
            Fault.FORMAT,
            f"compressedDepth payload has {len(data)} bytes; its header has 12",
        )
    encoding = form.partition(";")[0].strip()
    raw = _rvl(data[12:]) if "rvl" in form.lower() else _png(data[12:], form)
    if encoding in ("16UC1", "mono16"):
        return _from_millimetres(raw)
    if encoding == "32FC1":
        scale, shift = np.frombuffer(data[4:12].tobytes(), "<f4")
        with np.errstate(all="ignore"):
            depth_m = from_metres(scale / (raw.astype(np.float32) - shift))
        depth_m[raw == 0] = np.nan
        return depth_m
    raise Rejection(
        Fault.FORMAT, f"unsupported depth format {form!r}; supported: 16UC1 and 32FC1; png and rvl"
    )


def _png(data: NDArray[np.uint8], form: str) -> NDArray[np.uint16]:
    array = inflate(data, cv2.IMREAD_UNCHANGED, form)
    if array.dtype != np.uint16 or array.ndim != 2:
        raise Rejection(
            Fault.FORMAT,
            f"{form!r} holds {array.dtype} of shape {array.shape}; depth is one 16-bit channel",
        )
    return array


def _rvl(data: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Run-length and variable-length coded depth (A. Wilson, "Fast lossless depth image
    compression", ISS 2017), behind uint32 width and uint32 height."""
    if len(data) < 8:
        raise Rejection(Fault.FORMAT, f"RVL payload has {len(data)} bytes; its sizes have 8")
    width, height = (int(n) for n in np.frombuffer(data[:8].tobytes(), "<u4"))
    limit = most_pixels(len(data))
    if not 0 < width * height <= limit:
        raise Rejection(
            Fault.FORMAT, f"RVL image is {height}x{width}; expected 1 to {limit} pixels"
        )
    image = np.zeros(width * height, np.uint16)
    done = _decode_rvl(np.frombuffer(data[8:].tobytes(), np.uint8), image)
    if done != image.size:
        raise Rejection(Fault.FORMAT, f"RVL payload breaks off after {done} of {image.size} pixels")
    return image.reshape(height, width)


def compile_rvl() -> None:
    """Compile the RVL loop now rather than at the first image."""
    _decode_rvl(np.frombuffer(bytes(4), np.uint8), np.zeros(1, np.uint16))


@Compiled
def _decode_rvl(data: NDArray[np.uint8], image: NDArray[np.uint16]) -> int:
    """Fill `image`; return how many pixels are good.

    Nibbles come from the top of 32-bit little-endian words; each carries three bits of a number,
    lowest first, and its own top bit says that the number goes on. The numbers are, in turn:
    length of a run of zeros, length of a run of others, then that many zigzag differences.
    """
    nibbles = data.size // 4 * 8
    at = 0
    done = 0
    previous = 0
    zeros = -1  # -1: the next number is a run of zeros; -2: a run of others
    left = 0
    while done < image.size or left > 0:
        number = 0
        shift = 0
        going = True
        while going:
            if at >= nibbles or shift > 30:
                return done
            byte = int(np.int64(data[at // 8 * 4 + 3 - at % 8 // 2]))
            nibble = (byte >> 4) if at % 2 == 0 else (byte & 15)
            at += 1
            number |= (nibble & 7) << shift
            shift += 3
            going = nibble >= 8
        if left > 0:
            previous = (previous + ((number >> 1) ^ -(number & 1))) & 0xFFFF
            image[done] = previous
            done += 1
            left -= 1
        elif zeros == -1:
            if number > image.size - done:
                return done
            done += number
            zeros = -2
        else:
            if number > image.size - done:
                return done
            left = number
            zeros = -1
    return done
