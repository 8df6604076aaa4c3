"""Segmentation that keeps going when sensors die: everything that thinks. Never imports ROS.

    import robustseg_core

    seen = robustseg_core.example()
    predictor = robustseg_core.load("street")
    result = predictor.predict(seen.arrays, camera=seen.camera, extrinsics=seen.extrinsics)

The public names are loaded when they are first asked for: importing this imports no torch. A room
that takes one says whose it is, not `from robustseg_core import Segmenter`; below the rooms that
the names live in, that is linted.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robustseg_core.predictor import example, load
    from robustseg_core.rig import Rig
    from robustseg_core.robot.config import RobotConfig
    from robustseg_core.segmenter import Segmenter
    from robustseg_core.types import Fault, LabelMap, ModelSpec, State
    from robustseg_core.version import __version__

__all__ = [
    "Fault",
    "LabelMap",
    "ModelSpec",
    "Rig",
    "RobotConfig",
    "Segmenter",
    "State",
    "__version__",
    "example",
    "load",
]

_HOMES = {
    "Fault": "types",
    "LabelMap": "types",
    "ModelSpec": "types",
    "Rig": "rig",
    "RobotConfig": "robot.config",
    "Segmenter": "segmenter",
    "State": "types",
    "__version__": "version",
    "example": "predictor",
    "load": "predictor",
}
"""Public name -> the module that defines it."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value  # the next time, nobody asks here
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
