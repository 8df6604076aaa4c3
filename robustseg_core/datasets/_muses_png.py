"""The PNG form of MUSES: pictures of events and LiDAR that the data set's SDK projected.

The SDK writes arrays with OpenCV, so array channel 0 is the file's blue; LiDAR is 16 bits,
stored = (value + 100) * 150. Read as 8 bits, it would be a picture of rounding errors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustseg_core.codecs.picture_file import planes, read_picture, resize, unit
from robustseg_core.errors import RobustsegError
from robustseg_core.modalities._corruptions import FLOOR
from robustseg_core.modalities.event import Event
from robustseg_core.modalities.lidar import Lidar

_SHIFT, _SCALE = 100.0, 150.0
_INTENSITY = 255.0
"""Full scale of the LiDAR's intensity."""
_NEAREST_M = 0.5
"""Half of the nearest range that the SDK keeps: below it, a pixel shows no return."""


class PngReader:
    """Pictures scaled like the raw form: counts / clip, ranges / max_range_m, heights."""

    def __init__(self, event: Event.Encoding, lidar: Lidar.Encoding) -> None:
        self.event = event
        self.lidar = lidar

    def encodings(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """(event, lidar). Heights are the LiDAR's own, so they are no live sensor's encoding."""
        lidar = self.lidar.model_dump(mode="json", exclude={"grow"})
        return (
            {"representation": "muses_png", "clip": self.event.clip},
            {"representation": "muses_png", **lidar},
        )

    def read(self, modality: str, path: Path, size: tuple[int, int]) -> NDArray[np.float32]:
        """(3, H, W) of `event` or `lidar`.

        Raises:
            RobustsegError: the file is missing or damaged, or has no three channels.
        """
        picture = read_picture(path)
        if modality == "lidar" and picture.dtype == np.uint8:
            return planes(resize(unit(picture), size, nearest=True))  # somebody's own rendering
        if picture.ndim != 3:
            raise RobustsegError(
                f"{path} has one channel; expected the SDK's three (written as .png)"
            )
        array = planes(resize(picture[..., ::-1], size, nearest=True))
        return self._returns(array) if modality == "lidar" else self._counts(array)

    def _counts(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        counts: NDArray[np.float32] = np.minimum(array / np.float32(self.event.clip), np.float32(1))
        counts[2] = 0
        return counts

    def _returns(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        range_m, intensity, height_m = array / np.float32(_SCALE) - np.float32(_SHIFT)
        span_m = self.lidar.highest_m - self.lidar.lowest_m
        channels = [
            np.clip(range_m / self.lidar.max_range_m, FLOOR, 1),
            np.clip(intensity / _INTENSITY, 0, 1),
            np.clip((height_m - self.lidar.lowest_m) / span_m, FLOOR, 1),
        ]
        return np.where(range_m > _NEAREST_M, np.stack(channels), 0).astype(np.float32)
