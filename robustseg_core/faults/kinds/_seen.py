"""One fault, done to whatever a sensor sees: a picture, depth, events or points."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustseg_core.faults._base import FaultModel, FaultState
from robustseg_core.faults.kinds import depth, events, image, lidar
from robustseg_core.faults.kinds.events import Columns
from robustseg_core.faults.kinds.lidar import Points


def modality_of(message: Any, state: FaultState) -> str:
    """The modality that a message is of: by its fields, and where two look alike by its topic."""
    if hasattr(message, "events"):
        return "event"
    if hasattr(message, "point_step"):
        return "lidar"
    return "depth" if state.modality == "depth" else "rgb"


class Seen(FaultModel):
    """A fault of what is seen; a kind of sensor that it is done to has its method here."""

    def observe(self, message: Any, state: FaultState) -> None:
        """Read events along, so that their clock is known when the fault begins."""
        if hasattr(message, "events"):
            events.follow(message, state)

    def change(self, message: Any, state: FaultState) -> Any:
        """The message of which another thing is seen."""
        kind = modality_of(message, state)
        if kind == "event":
            size = (message.height, message.width)
            return events.edited(message, state, lambda seen: self.brightness(seen, size, state))
        if kind == "lidar":
            points = Points(message)
            return self.points(points, state) if points.view("x").size else message
        if kind == "depth":
            return depth.edited_metres(message, lambda metres: self.metres(metres, state))
        return image.edited(message, lambda rgb: self.picture(rgb, state))

    def picture(self, rgb: NDArray[np.uint8], state: FaultState) -> NDArray[np.uint8]:
        """(H, W, 3) with the fault in it; `rgb` may be overwritten."""
        raise NotImplementedError

    def metres(self, metres: NDArray[np.float64], state: FaultState) -> NDArray[np.float64]:
        """(H, W) depth with the fault in it, NaN: none; `metres` may be overwritten."""
        raise NotImplementedError

    def brightness(self, seen: Columns, size: tuple[int, int], state: FaultState) -> Columns:
        """Events with the fault in them, of a sensor of this (H, W); in the order of time."""
        raise NotImplementedError

    def points(self, points: lidar.Points, state: FaultState) -> Any:
        """The message of these points."""
        raise NotImplementedError


def hit(share: float, state: FaultState) -> bool:
    """Whether the present message is one of this share of them, evenly spread."""
    return int(state.count * share + 1e-9) > int((state.count - 1) * share + 1e-9)
