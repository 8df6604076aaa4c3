"""A sonar as somebody would add one: the text of one file, and messages to feed it with."""

from __future__ import annotations

from typing import Any

import numpy as np

from support import makers

FILE = '''
"""Sonars: targets with a speed, projected into the camera's view. For tests."""
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from robustseg_core.codecs.fields import fingerprint
from robustseg_core.codecs.points import decode_points
from robustseg_core.modalities._base import Modality, moment
from robustseg_core.modalities._corruptions import Corruption, sector
from robustseg_core.modalities._guess import Guess
from robustseg_core.types import Fault, Finding


class Sonar(Modality):
    """A sonar that says what it sees as PointCloud2."""

    rank: ClassVar = 50
    initial: ClassVar = "N"
    messages: ClassVar = ("sensor_msgs/msg/PointCloud2",)
    content: ClassVar = "points"
    overlooks: ClassVar = frozenset({Fault.COVERED, Fault.NOISY, Fault.SPARSE_CLOUD})
    needs_view: ClassVar = True
    guess: ClassVar = Guess(name="sonar")
    corruptions: ClassVar = {"sector": Corruption(sector, 0.1, 0.5)}

    class Encoding(Modality.Encoding):
        """Closeness of the targets, in bins of range."""

        bins: int = Field(CHANNELS, ge=1, le=16, description="How many.")
        max_range_m: float = Field(100.0, gt=0, description="Farthest target.")

        @property
        def channels(self) -> int:
            return self.bins

    def decode(self, message: Any, stamp_ns: int) -> Any:
        return decode_points(message)

    def digest(self, message: Any) -> int:
        return fingerprint(getattr(message, "data", None))

    def check(self, data: Any) -> list[Finding]:
        if len(data.xyz):
            return []
        return [Finding(Fault.EMPTY_CLOUD, fatal=True, text="0 targets, expected 1 or more")]

    def encode(self, readings, view, stamp_ns):
        reading = readings[-1]
        at = moment(reading, stamp_ns)
        points = view.place(self.name, reading.frame_id, reading.data.xyz, at)
        found = view.project(points)
        near = np.clip(1 - found.depth_m / self.encoding.max_range_m, 0, 0.999)
        array = np.zeros((self.encoding.bins, *view.size), np.float32)
        array[(near * self.encoding.bins).astype(int), found.rows, found.cols] = near
        return array

    def picture(self, array):
        level = (array.max(0) * 255).astype(np.uint8)
        return np.repeat(level[..., None], 3, axis=2)
'''


def file(channels: int = 3) -> str:
    """`sonar.py` of a sonar whose images have so many channels, unless told otherwise."""
    return FILE.replace("CHANNELS", str(channels))


def message(stamp_ns: int, *, targets: int = 40, seed: int = 0) -> Any:
    """A cloud of targets ahead, in the frame `sonar`."""
    points = np.random.default_rng([seed, stamp_ns % 2**32]).uniform(
        [-3, -2, 2], [3, 2, 90], (targets, 3)
    )
    return makers.xyz(points, stamp_ns=stamp_ns, frame_id="sonar")
