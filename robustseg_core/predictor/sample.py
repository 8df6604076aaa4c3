"""Something to try it on: what four sensors say at one moment."""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from robustseg_core.models import checkpoint

EXAMPLE = checkpoint.SHIPPED.with_name("example.npz")


class Example(NamedTuple):
    """What the sensors of a robot say at one moment, and how they are mounted."""

    arrays: dict[str, Any]
    """modality -> what `Predictor.predict` takes."""
    camera: dict[str, Any]
    extrinsics: dict[str, NDArray[np.float64]]


def example() -> Example:
    """A moment in a simulated street, seen by camera, depth camera, LiDAR and event camera.

    It comes with the package, to try things on; `training/make_example.py` made it. 640x400 pixels,
    events 320x240.
    """
    with np.load(EXAMPLE) as stored:
        bgr = cv2.imdecode(stored["rgb"], cv2.IMREAD_COLOR)
        centimetres = cv2.imdecode(stored["depth"], cv2.IMREAD_UNCHANGED)
        assert bgr is not None and centimetres is not None, "the package is damaged"
        count = len(stored["x"])
        events = {
            "size": tuple(stored["size_event"].tolist()),
            "x": stored["x"],
            "y": stored["y"],
            "t_us": stored["t_us"].astype(np.int64),
            "polarity": np.unpackbits(stored["polarity"], count=count).astype(bool),
        }
        lens = {
            name: {"K": stored[f"K_{name}"], "size": tuple(stored[f"size_{name}"].tolist())}
            for name in ("rgb", "event")
        }
        return Example(
            {
                "rgb": np.ascontiguousarray(bgr[..., ::-1]),
                "depth": centimetres / np.float32(100),
                "lidar": stored["lidar"].astype(np.float32),
                "event": events,
            },
            {**lens, "depth": lens["rgb"]},
            {name: stored[f"T_{name}"] for name in ("depth", "event", "lidar")},
        )
