"""A label map as the segmenter makes it, its network, and one output topic more than there are."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np

from robustseg_core.codecs.message_types import IMAGE
from robustseg_core.codecs.points import Cloud
from robustseg_core.geometry.camera import Camera
from robustseg_core.geometry.scene import Placed, Scene
from robustseg_core.output import messages
from robustseg_core.output.topics import Mask, Output
from robustseg_core.types import (
    SECOND,
    Bundle,
    Fault,
    Finding,
    LabelMap,
    ModelSpec,
    Reading,
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


def counted(output: Output, made: Counter[str]) -> Output:
    """The same output, which notes that a message of it is made."""
    make = output.make
    if make is None:
        return output

    def count(mask: Mask) -> Any:
        made[output.name] += 1
        return make(mask)

    return replace(output, make=count)


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


def of_a_scan(**options: Any) -> LabelMap:
    """A mask of a LiDAR at the camera's place, of whose three returns two lie in the image."""
    points = np.array([[0, 0, 5], [1, 0, 5], [90, 0, 5]], np.float32)
    reading = Reading("lidar", STAMP, "lidar", Cloud(points, None, None, 3))
    camera = Camera(6, 8, 7.0, 7.0, 3.5, 2.5)
    scene = Scene(camera, {"lidar": Placed(reading, camera, np.eye(4))})
    return a_map(used=("lidar",), scene=scene, **options)
