"""What goes wrong with a sensor's place and optics: knocked, loose, mirrored, of another lens.

CameraInfo and TF stay as they were; that is what is wrong.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robustseg_core.faults._base import Creeping, FaultModel, FaultState, Graded, Sample
from robustseg_core.faults.kinds import depth, events
from robustseg_core.faults.kinds._seen import Seen, content_of, hit
from robustseg_core.faults.kinds.events import Columns
from robustseg_core.faults.kinds.lidar import Points, mirrored
from robustseg_core.types import Fault

FOCAL_WIDTHS = 0.596
"""Focal length in widths of the picture: 80 degrees, as the simulator's cameras have."""
_OPTICAL = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])
"""From body axes (x ahead, y left, z up) to a camera's (x right, y down, z ahead), REP 103."""

Matrix = NDArray[np.float64]


def rotation(deg: float, axis: str) -> Matrix:
    """(3, 3), body axes of REP 103: yaw turns to the left, pitch noses down, roll leans right."""
    c, s = math.cos(math.radians(deg)), math.sin(math.radians(deg))
    turns = {
        "yaw": [[c, -s, 0], [s, c, 0], [0, 0, 1]],
        "pitch": [[c, 0, s], [0, 1, 0], [-s, 0, c]],
        "roll": [[1, 0, 0], [0, c, -s], [0, s, c]],
    }
    return np.array(turns[axis], np.float64)


def _intrinsics(size: tuple[int, ...], focal_widths: float) -> Matrix:
    """K of a camera of (H, W) pixels that looks straight ahead."""
    height, width = size[:2]
    f = focal_widths * width
    return np.array([[f, 0, (width - 1) / 2], [0, f, (height - 1) / 2], [0, 0, 1]])


def _looked_up(rgb: NDArray[np.uint8], source: Matrix) -> NDArray[np.uint8]:
    """(H, W, 3) whose pixel p shows `source` p of the old picture; mirrored beyond its edges."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = rgb.shape[1::-1]
    shown = cv2.warpPerspective(rgb, source, size, flags=flags, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(shown, np.uint8)


def _nearest(metres: NDArray[np.float64], source: Matrix) -> NDArray[np.float64]:
    """(H, W), likewise, without mixing near and far; nothing is known beyond the edges."""
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    size = metres.shape[::-1]
    shown = cv2.warpPerspective(
        metres, source, size, flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=math.nan
    )
    return np.asarray(shown, np.float64)


def _moved(seen: Columns, target: NDArray[np.floating[Any]]) -> Columns:
    """Events whose pixels p have gone to `target` p."""
    x, y, p, t = seen
    places = target @ np.stack([x, y, np.ones(x.size)])
    columns, rows = np.rint(places[:2] / places[2]).astype(np.int64)
    return columns, rows, p, t


class _Turned(Seen):
    """The sensor is turned about its optical center."""

    contents: ClassVar = ("picture", "depth", "events", "points")
    may: ClassVar = frozenset({Fault.COVERED, Fault.INVALID_DEPTH, Fault.OUTSIDE})  # an edge
    axis: Literal["yaw", "pitch", "roll"] = Field(
        "yaw", description="About up (to the left), left (nose down) or ahead (leans right)."
    )
    focal: float = Field(
        FOCAL_WIDTHS, gt=0.05, le=20, description="Focal length in widths of the picture."
    )

    def turn(self, state: FaultState) -> Matrix:
        """(3, 3) sensor axes as they are in the axes that TF tells, x ahead."""
        raise NotImplementedError

    def _source(self, size: tuple[int, ...], state: FaultState) -> Matrix:
        """The homography K R K^-1 from pixels of the knocked camera to the old ones'."""
        k = _intrinsics(size, self.focal)
        return np.asarray(k @ _OPTICAL @ self.turn(state) @ _OPTICAL.T @ np.linalg.inv(k))

    def picture(self, rgb: NDArray[np.uint8], state: FaultState) -> NDArray[np.uint8]:
        """The picture of the knocked camera."""
        return _looked_up(rgb, self._source(rgb.shape, state))

    def metres(self, metres: NDArray[np.float64], state: FaultState) -> NDArray[np.float64]:
        """Its depth, along its new axis: a ray keeps its length."""
        source = self._source(metres.shape, state)
        rows, columns = np.indices(metres.shape)
        third = source[2, 0] * columns + source[2, 1] * rows + source[2, 2]  # z of R times the ray
        return np.asarray(_nearest(metres, source) / third)

    def brightness(self, seen: Columns, size: tuple[int, int], state: FaultState) -> Columns:
        """Its events."""
        return _moved(seen, np.linalg.inv(self._source(size, state)))

    def points(self, points: Points, state: FaultState) -> Any:
        """The scan in the axes of the knocked LiDAR."""
        points.put(np.einsum("ji,jhw->ihw", self.turn(state), points.xyz()))
        return points.message()


class Misaligned(_Turned, Graded):
    """A knocked mount: the sensor is turned about its optical center, and TF is not."""

    called: ClassVar = frozenset({Fault.MISALIGNED})
    measures: ClassVar = "deg"
    levels: ClassVar = (1.0, 3.0, 6.0, 10.0, 15.0)
    deg: float | None = Field(None, ge=-45, le=45, description="By how many degrees.")

    def turn(self, state: FaultState) -> Matrix:
        """The same all the time."""
        return rotation(self.amount, self.axis)


class Loosening(_Turned, Creeping):
    """A mount that comes loose: a misalignment that grows over minutes."""

    called: ClassVar = frozenset({Fault.MISALIGNED})
    looks_like: ClassVar = "misaligned"
    measures: ClassVar = "deg"
    levels: ClassVar = (1.0, 3.0, 6.0, 10.0, 15.0)
    deg: float | None = Field(None, ge=-45, le=45, description="By how many degrees in the end.")

    def turn(self, state: FaultState) -> Matrix:
        """More and more."""
        return rotation(self.grown(state), self.axis)


class WrongCalibration(Seen, Graded):
    """Another lens than CameraInfo says: the picture is larger, or smaller, about its middle."""

    contents: ClassVar = ("picture", "depth", "events")
    may: ClassVar = frozenset({Fault.COVERED, Fault.INVALID_DEPTH})  # an edge
    called: ClassVar = frozenset({Fault.MISALIGNED, Fault.RANGE_SCALE, Fault.UNRELATED})
    measures: ClassVar = "scale"
    levels: ClassVar = (1.02, 1.05, 1.1, 1.2, 1.4)
    scale: float | None = Field(
        None, ge=0.2, le=5, description="Focal length over the one that CameraInfo tells."
    )

    def _source(self, size: tuple[int, ...]) -> Matrix:
        x, y = (size[1] - 1) / 2, (size[0] - 1) / 2
        s = 1 / self.amount
        return np.array([[s, 0, x - s * x], [0, s, y - s * y], [0, 0, 1]])

    def picture(self, rgb: NDArray[np.uint8], state: FaultState) -> NDArray[np.uint8]:
        """The picture through the other lens."""
        return _looked_up(rgb, self._source(rgb.shape))

    def metres(self, metres: NDArray[np.float64], state: FaultState) -> NDArray[np.float64]:
        """Its depth, which a lens does not change."""
        return _nearest(metres, self._source(metres.shape))

    def brightness(self, seen: Columns, size: tuple[int, int], state: FaultState) -> Columns:
        """Its events."""
        return _moved(seen, np.linalg.inv(self._source(size)))


class _Sometimes(Graded):
    """A fault that is there or not; its severity is the share of the messages that have it."""

    measures: ClassVar = "share"
    levels: ClassVar = (0.25, 0.5, 1.0, 1.0, 1.0)
    share: float | None = Field(
        None, gt=0, le=1, description="Share of the messages, evenly spread."
    )

    def apply(self, sample: Sample, state: FaultState) -> list[Sample]:
        """The message, changed if it is its turn."""
        if hit(self.amount, state):
            return super().apply(sample, state)
        self.observe(sample.message, state)
        return [sample]


class Mirrored(_Sometimes, Seen):
    """Left and right are exchanged: a driver that flips the picture, a LiDAR upside down."""

    contents: ClassVar = ("picture", "depth", "events", "points")
    called: ClassVar = frozenset({Fault.MIRRORED})

    def picture(self, rgb: NDArray[np.uint8], state: FaultState) -> NDArray[np.uint8]:
        """The picture in a mirror."""
        return np.fliplr(rgb)

    def metres(self, metres: NDArray[np.float64], state: FaultState) -> NDArray[np.float64]:
        """Its depth."""
        return np.fliplr(metres)

    def brightness(self, seen: Columns, size: tuple[int, int], state: FaultState) -> Columns:
        """Its events."""
        x, y, p, t = seen
        return size[1] - 1 - x.astype(np.int64), y, p, t

    def points(self, points: Points, state: FaultState) -> Any:
        """The scan, left to right."""
        return mirrored(points)


class Wrong(FaultModel):
    """Plausible, but not the truth: a mirrored image, depth or cloud; exchanged polarities.

    No sensor can tell alone: the mirrored street is a street. Beside others it is found in seconds.
    """

    def change(self, message: Any, state: FaultState) -> Any:
        """The mirrored message."""
        if hasattr(message, "events"):
            return events.swapped_polarity(message)
        if content_of(message, state) == "depth":
            return depth.edited(message, np.fliplr)  # numbers that mean "none" stay as they are
        return Mirrored().change(message, state)


class SwappedChannels(_Sometimes, Seen):
    """Red and blue are exchanged: a driver that says rgb8 and sends bgr8."""

    contents: ClassVar = ("picture",)
    may: ClassVar = frozenset({Fault.DISCOLORED})
    called: ClassVar = frozenset({Fault.DISCOLORED})

    def picture(self, rgb: NDArray[np.uint8], state: FaultState) -> NDArray[np.uint8]:
        """The picture in the wrong colors; a gray one stays."""
        return rgb[..., ::-1]
