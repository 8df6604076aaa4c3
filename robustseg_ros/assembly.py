"""A mask put together again of what a node published of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sensor_msgs.msg import Image

from robustseg_core.output import draw, messages
from robustseg_core.types import Bundle, LabelMap, ModelSpec, State

MADE_OF = {"label_mask", "status"}
"""What makes a mask: the others an overloaded node gives up."""


def assemble(
    parts: Mapping[str, Any], spec: ModelSpec, shed: Mapping[int, np.ndarray] | None = None
) -> tuple[LabelMap, np.ndarray]:
    """The label map that the node published as four messages, and its overlay.

    Of a node that gave them up, confidence is 0, and the overlay is drawn on the camera's picture,
    if `shed` has that, by its stamp, else on black.
    """
    row = messages.read_status(parts["status"])
    mask = parts["label_mask"]
    ids = _pixels(mask)
    label_map = LabelMap(
        ids=ids,
        confidence=_pixels(parts["confidence"]) if "confidence" in parts else np.zeros_like(ids),
        stamp_ns=row["stamp_ns"],
        frame_id=mask.header.frame_id,
        used=tuple(row["used"]),
        reasons=row["reasons"],
        states={name: State(state) for name, state in row["states"].items()},
        held_ms=row["held_ms"],
        latency_ms=row["latency_ms"],
        bundle=Bundle(row["stamp_ns"], {}),
    )
    overlay = parts.get("overlay")
    if overlay is None:
        return label_map, draw.overlay(label_map, spec, (shed or {}).get(row["stamp_ns"]))
    return label_map, _pixels(overlay).reshape(overlay.height, overlay.width, 3)


def _pixels(message: Image) -> np.ndarray:
    return np.frombuffer(message.data, np.uint8).reshape(message.height, -1)
