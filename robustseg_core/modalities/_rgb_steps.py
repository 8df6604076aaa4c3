"""What an image tells beside those before it: exchanged colors, a part that stands still."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from robustseg_core.health.stillness import Stillness

_SMALL = 32, 24
"""Columns and rows to which images are reduced before their colors are compared."""
_COLORED = 4.0
"""Gray levels between red and blue below which an exchange cannot be seen."""
_ALIKE = 0.5
"""Share of that by which an image may differ from the one before, exchanged."""
_LATEST = 1 / 20
"""Weight of the newest image in the colors of the last ones, ..."""
_SETTLED = 8
"""... and images after which these are known."""
_FITS = 1.1
"""Share of their strength by which colors that are those of the last images differ from them, at
most: lamps of a tunnel are another color, and not the sky's the other way round."""


class Steps:
    """Compares each image of one camera with those before it."""

    def __init__(self) -> None:
        self._stillness = Stillness()
        self.reset()

    def reset(self) -> None:
        """Nothing is known of the images before."""
        self._small: NDArray[np.float32] | None = None
        self._colors = np.zeros(_SMALL[::-1], np.float32)
        """Red less blue of the last images, each as it should have been."""
        self._images = 0
        self._exchanged = 0.0
        self._sample: NDArray[np.uint8] | None = None
        self._stillness.clear()

    def exchanged(self, sample: NDArray[np.uint8], limit: float) -> float:
        """How many times nearer an image is to those before it with red and blue exchanged than as
        it is; 0: they are not exchanged, or nobody knows.

        The sky is above and the road below: where red exceeds blue changes less than the light. In
        a scene without such an order, the image before it tells since when they are exchanged, and
        since when not any more.

        Args:
            sample: (H, W, 3).
            limit: an exchange has more.
        """
        small = cv2.resize(sample, _SMALL, interpolation=cv2.INTER_AREA).astype(np.float32)
        before, self._small = self._small, small
        colors = small[..., 0] - small[..., 2]
        if (ratio := self._beside_the_last(colors, limit)) is not None:
            self._exchanged = ratio
        elif before is not None and (step := _step(before, small)) > limit:
            self._exchanged = 0.0 if self._exchanged else step
        self._images += 1
        newest = -colors if self._exchanged else colors
        self._colors += max(_LATEST, 1 / self._images) * (newest - self._colors)
        return self._exchanged

    def _beside_the_last(self, colors: NDArray[np.float32], limit: float) -> float | None:
        """As `exchanged`, by (h, w) red less blue of the last images; None: they do not tell."""
        strength = float(np.abs(self._colors).mean())
        if self._images < _SETTLED or strength < _COLORED:
            return None
        as_is = float(np.abs(colors - self._colors).mean())
        exchanged = float(np.abs(colors + self._colors).mean())
        if min(as_is, exchanged) > _FITS * strength:
            return None
        if as_is > limit * exchanged:
            return min(as_is / max(exchanged, 0.1), 9.9)
        return 0.0 if exchanged > limit * as_is else None

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


def _step(before: NDArray[np.float32], small: NDArray[np.float32]) -> float:
    """The step from one (h, w, 3) image to the next over the step from it with red and blue
    exchanged; 0 where it is another scene, or a gray one."""
    other = before[..., ::-1]
    apart = float(np.abs(before - other).mean())
    step, exchanged = (float(np.abs(small - image).mean()) for image in (before, other))
    if apart <= _COLORED or exchanged >= _ALIKE * apart:
        return 0.0
    return min(step / max(exchanged, 0.1), 9.9)
