"""What a mask was made in: its camera, and the points of its sensors, as they were known then.

A `View` learns on while a mask is on its way to whoever draws or sends it; a scene stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from robustseg_core.geometry._nearest import Nearest, nearest
from robustseg_core.geometry.camera import Camera
from robustseg_core.geometry.view import Projection, moved, project
from robustseg_core.types import Reading


@dataclass(frozen=True, slots=True)
class Placed:
    """A reading that knows distances, and where they lie."""

    reading: Reading
    camera: Camera
    """The mask's."""
    camera_from_sensor: NDArray[np.float64]
    """(4, 4)."""
    lens: Camera | None = None
    """Whose pixels the distances belong to; None: they are points already."""
    turned: NDArray[np.float64] | None = None
    """(4, 4) the sensor's frame at the mask's stamp, from what it was when the sensor saw; None:
    its mount stands."""

    def lands(self, points: NDArray[np.float32], size: tuple[int, int]) -> Projection:
        """Where (N, 3) points in the sensor's frame land on a mask of `size` (H, W)."""
        return project(moved(points, self.camera_from_sensor), self.camera, size)

    def now(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, 3) points in the sensor's frame, as it is at the mask's stamp."""
        return points if self.turned is None else moved(points, self.turned)

    def nearest(self, points: NDArray[np.float32], size: tuple[int, int]) -> Nearest:
        """Which of (N, 3) points in the sensor's frame each pixel of a mask shows."""
        return nearest(points, self.camera_from_sensor, self.camera, size)


@dataclass(frozen=True, slots=True)
class Scene:
    """Of one mask."""

    camera: Camera | None = None
    """Whose image it labels; None: nothing is known of its lens."""
    placed: Mapping[str, Placed] = field(default_factory=dict)
    """modality -> the newest of what the mask was made of, of sensors that know distances."""
