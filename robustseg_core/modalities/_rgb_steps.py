"""What an image tells beside the one before it: exchanged colors, a part that stands still."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from robustseg_core.health.stillness import Stillness

_SMALL = 32, 24
"""Columns and rows to which two images are reduced before their colors are compared."""
_COLORED = 4.0
"""Gray levels between red and blue below which an exchange cannot be seen."""
_ALIKE = 0.5
"""Share of that by which the image may differ from the one before, exchanged."""


class Steps:
    """Compares each image of one camera with the one before it."""

    def __init__(self) -> None:
        self._stillness = Stillness()
        self.reset()

    def reset(self) -> None:
        """Nothing is known of the image before."""
        self._colors: NDArray[np.float32] | None = None
        self._sample: NDArray[np.uint8] | None = None
        self._exchanged = 0.0
        self._stillness.clear()

    def exchanged(self, sample: NDArray[np.uint8], limit: float) -> float:
        """The step from the image before over the step from it with red and blue exchanged, at the
        moment since when they are; 0: they are not, or nobody knows.

        Args:
            sample: (H, W, 3).
            limit: an exchange has more, and so has being set right again.
        """
        small = cv2.resize(sample, _SMALL, interpolation=cv2.INTER_AREA).astype(np.float32)
        before, self._colors = self._colors, small
        if before is None:
            return self._exchanged
        other = before[..., ::-1]
        apart = float(np.abs(before - other).mean())
        step, swapped = (float(np.abs(small - image).mean()) for image in (before, other))
        if apart > _COLORED and swapped < _ALIKE * apart and step > limit * swapped:
            self._exchanged = 0.0 if self._exchanged else min(step / max(swapped, 0.1), 9.9)
        return self._exchanged

    def still(self, sample: NDArray[np.uint8], speaks: NDArray[np.bool_]) -> float:
        """Share of the image that has stood still to the last bit for some images, while the rest
        changed; whole columns or whole rows. A camera that stands, or a scene in which only some
        things move, has none.

        Args:
            sample: (H, W, 3).
            speaks: (n, n) blocks that hold more than one color.
        """
        before, self._sample = self._sample, sample
        if before is None or before.shape != sample.shape:
            self._stillness.clear()
            return 0.0
        red, green, blue = cv2.split(cv2.absdiff(sample, before))
        changed = (cv2.max(cv2.max(red, green), blue) > 0).astype(np.float32)
        blocks = cv2.resize(changed, speaks.shape[::-1], interpolation=cv2.INTER_AREA) > 0
        return self._stillness.share(blocks, speaks)
