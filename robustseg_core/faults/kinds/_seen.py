"""One fault, done to whatever a sensor sees: a picture, depth, events or points."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustseg_core import modalities
from robustseg_core.faults._base import FaultModel, FaultState
from robustseg_core.faults.kinds import depth, events, image, lidar
from robustseg_core.faults.kinds.events import Columns
from robustseg_core.faults.kinds.lidar import Points
from robustseg_core.modalities import Content


def content_of(message: Any, state: FaultState) -> Content:
    """What a message holds: by its fields, and where two look alike by what its topic carries."""
    if hasattr(message, "events"):
        return "events"
    if hasattr(message, "point_step"):
        return "points"
    depth = state.modality is not None and modalities.content_of(state.modality) == "depth"
    return "depth" if depth else "picture"


class Seen(FaultModel):
    """A fault of what is seen; each content that it is done to has its method here."""

    def observe(self, message: Any, state: FaultState) -> None:
        """Read events along, so that their clock is known when the fault begins."""
        if hasattr(message, "events"):
            events.follow(message, state)

    def change(self, message: Any, state: FaultState) -> Any:
        """The message of which another thing is seen."""
        content = content_of(message, state)
        if content == "events":
            size = (message.height, message.width)
            return events.edited(message, state, lambda seen: self.brightness(seen, size, state))
        if content == "points":
            points = Points(message)
            return self.points(points, state) if points.view("x").size else message
        if content == "depth":
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
