"""A label map as the segmenter makes it, its network, and one output topic more than there are."""

from __future__ import annotations

from typing import Any

import numpy as np

from robustseg_core.output import messages
from robustseg_core.output.topics import IMAGE, Output
from robustseg_core.types import (
    SECOND,
    Bundle,
    Fault,
    Finding,
    LabelMap,
    ModelSpec,
    State,
)

STAMP = 12 * SECOND + 34
UNSURE = Output(
    "unsure",
    IMAGE,
    "where nobody knows",
    "mono8",
    lazy=True,
    make=lambda mask: messages.confidence(mask.label_map),
)


def a_spec(**options: Any) -> ModelSpec:
    return ModelSpec(
        modalities=("rgb", "depth", "event", "lidar"),
        classes=("road", "tree"),
        palette=((0, 0, 255), (0, 255, 0)),
        **options,
    )


def a_map(**options: Any) -> LabelMap:
    values: dict[str, Any] = {
        "ids": np.arange(12, dtype=np.uint8).reshape(3, 4),
        "confidence": np.full((3, 4), 200, np.uint8),
        "stamp_ns": STAMP,
        "frame_id": "camera_optical",
        "used": ("rgb", "depth"),
        "reasons": {
            "event": (
                Finding(
                    Fault.LATE,
                    fatal=False,
                    text="80 ms, limit 40",
                    value=80.1,
                    limit=40.0,
                    unit="ms",
                ),
                Finding(Fault.POLARITY, fatal=False, text="one-sided", value=1 / 3),
            ),
            "lidar": (Finding(Fault.SILENT, fatal=True, text="1.2 s without a message"),),
        },
        "states": {
            "rgb": State.LIVE,
            "depth": State.DEGRADED,
            "event": State.LIVE,
            "lidar": State.DEAD,
        },
        "held_ms": {"rgb": 0.0, "depth": 33.3},
        "latency_ms": {"fuse": 4.5, "total": 21.0},
        "bundle": Bundle(STAMP, {}),
    }
    return LabelMap(**values | options)
