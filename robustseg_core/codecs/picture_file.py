"""Pictures of public collections, read exactly as stored: depth, channel order, no surprises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robustseg_core.codecs.picture import check_claim, picture_size
from robustseg_core.errors import RobustsegError
from robustseg_core.storage import budget
from robustseg_core.types import Rejection

MOST_BYTES = 1 << 30
"""Of one file of a sample."""

_PNG_SIZE = slice(16, 24)
"""Width and height in the IHDR chunk, which every PNG begins with (ISO/IEC 15948, 11.2.2)."""
_PNG_END = b"IEND"


def read_picture(path: Path) -> NDArray[Any]:
    """(H, W) or (H, W, 3) in RGB order, of the type that the file has (uint8, uint16).

    Alpha is dropped; 16 bits stay 16 bits.

    Raises:
        RobustsegError: the file is missing or damaged.
    """
    data = read_bytes(path)
    # OpenCV fills up what is missing of a truncated PNG, and says nothing that we could catch.
    whole = path.suffix.lower() != ".png" or _PNG_END in data[-12:]
    try:
        picture = decoded(data) if whole else None
    except Rejection as rejection:
        raise RobustsegError(f"{path}: {rejection}; unpack it from the archive again") from None
    if picture is None:
        raise RobustsegError(
            f"{path} is no readable picture ({len(data)} bytes); unpack it from the archive again"
        )
    if picture.ndim == 2:
        return picture
    if picture.shape[2] < 3:
        return np.ascontiguousarray(picture[..., 0])
    return np.ascontiguousarray(picture[..., 2::-1])


def decoded(data: bytes) -> NDArray[Any] | None:
    """(H, W[, C]) uint8 or uint16 of a png, jpeg or webp; None: it is none.

    Raises:
        Rejection: it claims more pixels than its bytes can hold, or more than the budget allows.
    """
    raw = np.frombuffer(data, np.uint8)
    if picture_size(raw) is None:
        return None
    check_claim(raw, "picture")
    try:
        picture = cv2.imdecode(raw, cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    return picture if picture is not None and picture.dtype in (np.uint8, np.uint16) else None


def read_bytes(path: Path) -> bytes:
    """What is in the file.

    Raises:
        RobustsegError: it is missing, larger than any file of a sample, or cannot be read.
    """
    try:
        _expect_bytes(path, MOST_BYTES)
        return path.read_bytes()
    except (OSError, ValueError) as error:  # a name with a NUL in it is a ValueError
        text = getattr(error, "strerror", None) or error
        raise RobustsegError(
            f"cannot read {path}: {text}; unpack it from the archive again"
        ) from None


def read_json(path: Path) -> Any:
    """What a JSON file says.

    Raises:
        RobustsegError: it cannot be read, is too large, or is no JSON.
    """
    try:
        return budget.read_json(path)
    except OSError as error:
        raise RobustsegError(f"cannot read {path}: {error.strerror}; make it again") from None
    except ValueError as error:  # a name with a NUL in it is one, too
        raise RobustsegError(f"{path} cannot be read as JSON ({error}); make it again") from None


def _expect_bytes(path: Path, most: int) -> None:
    if (size := path.stat().st_size) > most:
        raise RobustsegError(
            f"{path} has {size} bytes; expected at most {most}; make or unpack it again"
        )


def png_size(path: Path) -> tuple[int, int]:
    """(H, W) of a PNG, from its first bytes.

    Raises:
        RobustsegError: it is missing, or no PNG.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_PNG_SIZE.stop)
    except OSError as error:
        raise RobustsegError(
            f"cannot read {path}: {error.strerror}; unpack it from the archive again"
        ) from None
    if len(head) < _PNG_SIZE.stop or head[1:4] != b"PNG":
        raise RobustsegError(f"{path} is no PNG; unpack it from the archive again")
    width, height = np.frombuffer(head[_PNG_SIZE], ">u4").tolist()
    return height, width


def read_array(path: Path) -> NDArray[np.float32]:
    """(H, W) numbers of a `.npy` file; nothing that a file says is executed.

    Raises:
        RobustsegError: it is missing, damaged, or not two-dimensional.
    """
    try:
        _expect_bytes(path, MOST_BYTES)
        array = np.load(path, mmap_mode="r", allow_pickle=False)  # no more than the file has
    except FileNotFoundError:
        raise RobustsegError(f"cannot read {path}: no such file; unpack it again") from None
    except RobustsegError:
        raise
    except Exception as error:  # a damaged header may raise anything at all
        text = " ".join(str(error).split())
        raise RobustsegError(f"{path} is no readable array: {text}; unpack it again") from None
    if not isinstance(array, np.ndarray):
        raise RobustsegError(f"{path} is an archive of arrays; expected one; unpack it again")
    array = array[..., 0] if array.ndim == 3 and array.shape[2] else array
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise RobustsegError(
            f"{path} holds {array.dtype} of shape {array.shape}; expected (H, W) numbers"
        )
    return array.astype(np.float32)


def unit(picture: NDArray[Any]) -> NDArray[np.float32]:
    """The picture in [0, 1], by the full scale of its type (uint8 or uint16)."""
    return picture.astype(np.float32) / np.float32(np.iinfo(picture.dtype).max)


def levels(picture: NDArray[Any]) -> NDArray[Any]:
    """The picture on the 0..255 scale: uint8 as it is, uint16 as float32 without rounding."""
    return picture if picture.dtype == np.uint8 else picture.astype(np.float32) / np.float32(257)


def planes(picture: NDArray[Any]) -> NDArray[np.float32]:
    """(3, H, W) float32 of (H, W, 3), or of (H, W) three times."""
    if picture.ndim == 2:
        return np.repeat(picture[None].astype(np.float32, copy=False), 3, axis=0)
    return np.ascontiguousarray(picture.transpose(2, 0, 1), dtype=np.float32)


def resize(picture: NDArray[Any], size: tuple[int, int], *, nearest: bool) -> NDArray[Any]:
    """The picture, brought to (H, W); unchanged if it has that size.

    `nearest` is for labels and for sparse pictures, where blending with "nothing here" makes
    values that nobody measured. All ways keep pixel centers in place.
    """
    if picture.shape[:2] == size:
        return picture
    shrinks = picture.shape[0] >= size[0] and picture.shape[1] >= size[1]
    smooth = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(
        np.ascontiguousarray(picture),
        size[::-1],
        interpolation=cv2.INTER_NEAREST_EXACT if nearest else smooth,
    )
