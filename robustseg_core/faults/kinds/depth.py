"""What goes wrong with depth: holes, blindness, and metres taken for millimetres.

The numbers are changed as they lie in the message (raw, png, or png behind a compressedDepth
header), so that encoding and compression stay.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robustseg_core.codecs.fields import as_bytes
from robustseg_core.codecs.image import inflate, pixels
from robustseg_core.faults._base import NOTABLE_SHARE, FaultModel, FaultState, with_payload
from robustseg_core.types import Fault, Rejection

_CONFIG_HEADER = 12
"""Bytes before the png of a compressedDepth payload: int32 codec, float32 A and B."""


def edited(message: Any, edit: Callable[[NDArray[Any]], NDArray[Any]]) -> Any:
    """A copy of a depth image whose (H, W) numbers, in the message's own unit, went through `edit`.

    Raises:
        Rejection: RVL, which is only read here; an unknown encoding; sizes that contradict.
    """
    if hasattr(message, "format"):
        head, raw = _open(message)
        raw = np.ascontiguousarray(edit(raw)).astype(np.uint16)
        return with_payload(message, head + cv2.imencode(".png", raw)[1].tobytes())
    order = ">" if message.is_bigendian else "<"
    kinds = {"16UC1": "u2", "mono16": "u2", "32FC1": "f4"}
    if message.encoding not in kinds:
        text = f"depth encoding {message.encoding!r} is unknown; have {', '.join(kinds)}"
        raise Rejection(Fault.FORMAT, text)
    kind = np.dtype(order + kinds[message.encoding])
    raw = pixels(message, 1, kind)[..., 0].copy()
    lines = np.ascontiguousarray(edit(raw)).astype(kind)
    data = np.frombuffer(bytes(message.data), np.uint8).copy().reshape(message.height, -1)
    data[:, : message.width * kind.itemsize] = lines.view(np.uint8).reshape(message.height, -1)
    return with_payload(message, data)


def edited_metres(message: Any, edit: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Any:
    """A copy of a depth image whose (H, W) metres, NaN where there are none, went through `edit`.

    Raises:
        Rejection: as `edited`.
    """
    scale_shift = None
    if hasattr(message, "format") and message.format.startswith("32FC1"):  # quantized inverse
        scale_shift = np.frombuffer(as_bytes(message.data)[4:12].tobytes(), "<f4")

    def changed(raw: NDArray[Any]) -> NDArray[Any]:
        if raw.dtype.kind == "f":
            return edit(raw.astype(np.float64))
        with np.errstate(all="ignore"):
            if scale_shift is None:
                metres = np.where((raw == 0) | (raw == 65535), np.nan, raw / 1000)
                raw = np.rint(edit(metres) * 1000)
            else:
                metres = scale_shift[0] / np.where(raw == 0, np.nan, raw - scale_shift[1])
                raw = np.rint(scale_shift[0] / edit(metres) + scale_shift[1])
        return np.asarray(np.nan_to_num(raw.clip(1, 65534), nan=0))

    return edited(message, changed)


def _open(message: Any) -> tuple[bytes, NDArray[np.uint16]]:
    """What precedes the png, and the numbers in it."""
    data = as_bytes(message.data)
    head = _CONFIG_HEADER if "compressedDepth" in message.format else 0
    if "rvl" in message.format.lower():
        raise Rejection(Fault.FORMAT, f"{message.format!r} is read, not written; use png or raw")
    raw = inflate(data[head:], cv2.IMREAD_UNCHANGED, message.format)
    return data[:head].tobytes(), raw


def _nothing(raw: NDArray[Any]) -> Any:
    """How this kind of number says "no depth here"."""
    return np.nan if raw.dtype.kind == "f" else 0


class _DepthFault(FaultModel):
    contents: ClassVar = ("depth",)

    def change(self, message: Any, state: FaultState) -> Any:
        """The message with other numbers in it."""
        return edited(message, lambda raw: self.edit(raw, state.rng))

    def edit(self, raw: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
        """(H, W) numbers with the fault in them; `raw` may be overwritten."""
        raise NotImplementedError


class Holes(_DepthFault):
    """Blocks of pixels without depth (glass, black paint, sunlight)."""

    finds: ClassVar = frozenset({Fault.INVALID_DEPTH})
    share: float = Field(0.3, gt=0, le=1, description="Share of the pixels, roughly.")
    side: int = Field(16, ge=1, le=4096, description="Side of a hole in pixels.")

    def expects(self, modality: str) -> frozenset[Fault]:
        """Fewer holes come and go in any scene."""
        return self.finds if self.share >= NOTABLE_SHARE else frozenset()

    def edit(self, raw: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
        """Numbers with holes."""
        rows, columns = (-(-n // self.side) for n in raw.shape)
        holes = rng.random((rows, columns)) < self.share
        holes = holes.repeat(self.side, 0).repeat(self.side, 1)[: raw.shape[0], : raw.shape[1]]
        raw[holes] = _nothing(raw)
        return raw


class InvalidDepth(_DepthFault):
    """No pixel has a depth: the projector is dead, or the lens covered."""

    finds: ClassVar = frozenset({Fault.INVALID_DEPTH})
    value: Literal["none", "zero"] = Field(
        "none", description="none: NaN of metres, 0 of millimetres; zero: always 0."
    )

    def edit(self, raw: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
        """Nothing but invalid numbers."""
        return np.full_like(raw, 0 if self.value == "zero" else _nothing(raw))


class DepthUnit(_DepthFault):
    """A driver that mixes up metres and millimetres (REP 118)."""

    finds: ClassVar = frozenset({Fault.DEPTH_UNIT})

    def change(self, message: Any, state: FaultState) -> Any:
        """Metres become a thousand times larger; millimetres a thousand times smaller."""
        if hasattr(message, "format") and message.format.startswith("32FC1"):
            head, raw = _open(message)
            codec, scale = head[:4], np.frombuffer(head[4:8], "<f4") * np.float32(1000)
            png = cv2.imencode(".png", raw)[1].tobytes()
            return with_payload(message, codec + scale.tobytes() + head[8:] + png)
        return super().change(message, state)

    def edit(self, raw: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
        """The numbers in the other unit."""
        if raw.dtype.kind == "f":
            return raw * np.float32(1000)
        valid = (raw > 0) & (raw < 65535)
        return np.where(valid, np.maximum(raw // 1000, 1), 0)
