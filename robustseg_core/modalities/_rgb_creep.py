"""What creeps up on a camera: a light that goes out, a veil, drops, dirt.

Each image is hardly worse than the one before it, so all is held against what was usual minutes
ago. Scenes change as well; what lies on the lens changes all of a picture alike, or stays where it
is while the rest moves.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from robustseg_core.health.content import RunningMedian

_SMALL = 64, 48
"""Columns and rows to which an image is reduced: dirt that is smaller hides little."""
_BLOCKS = 20
"""Of one side: what has structure, and how much."""
_SPEAKS = 4.0
"""Deviation in a block, in gray levels, that is structure."""
_FEWEST = 20
"""Blocks with structure that tell how much of it is left everywhere."""
RARELY = 20
"""Of the messages after the first ones, one in so many teaches what is usual."""
_DARK = 0.05
"""Share of the pixels that are darker than what is called the dark of an image."""
_QUICK, _SLOW = 1 / 15, 1 / 3000
"""Weights of the newest image in how much a pixel changes now, and usually."""
_STAYS = 1 / 50
"""Weight of the newest image in how much of the image stands."""
_SETTLED = 60
"""Images after which it is known how much a pixel changes."""
_MOVES = 3.0
"""Gray levels by which a pixel changes that is looked at; and half of it, the whole image."""
_STANDS = 0.25
"""Of how much a pixel used to change, beside the others, below which it shows something else."""


@dataclass(frozen=True, slots=True)
class Look:
    """An image beside what is usual."""

    light: float = 1.0
    """Its mean level over the usual one, ..."""
    contrast: float = 1.0
    """... and its deviation."""
    veil: float = 0.0
    """Gray levels by which its dark is brighter."""
    detail: float = 1.0
    """How much of the structure of its blocks is left; the middle of all blocks that have some."""
    soiled: float = 0.0
    """Share of the pixels that stand while the others move, and used to move."""


class Creep:
    """Looks at each image of one camera.

    Args:
        most: images that the medians are taken of.
    """

    def __init__(self, most: int) -> None:
        self._level = RunningMedian(most, rarely=RARELY)
        self._structure = RunningMedian(most, rarely=RARELY)
        self.reset()

    def reset(self) -> None:
        """Forget how the images used to be."""
        self._level.clear()
        self._structure.clear()
        self._mean: NDArray[np.float32] | None = None
        self._now = self._usual = np.zeros(0, np.float32)
        self._images = 0
        self._soil = 0.0
        self._looks: NDArray[np.float64] | None = None
        self._seen = np.zeros(3)
        """Of the newest image: mean, deviation, dark, ..."""
        self._blocks = np.zeros((0, 0), np.float32)
        """... and the structure of its blocks."""

    def _smooth(self, look: Look) -> Look:
        """The mean of the latest ones: one image of a drive is unlike the next."""
        seen = np.array([look.light, look.contrast, look.veil, look.detail])
        if self._looks is None:
            self._looks = seen
        self._looks += _QUICK * (seen - self._looks)
        light, contrast, veil, detail = self._looks.tolist()
        return Look(light, contrast, veil, detail, look.soiled)

    def look(self, gray: NDArray[np.uint8], mean: float, deviation: float) -> Look:
        """An image beside what is usual; `learn` of it comes after.

        Args:
            gray: (H, W).
            mean: of it.
            deviation: of it.
        """
        self._seen = np.array([mean, deviation, _dark(gray)])
        self._blocks = structure(gray, _BLOCKS)
        soiled = self._soiled(gray)
        if not (self._level.known and self._structure.known):
            return Look(soiled=soiled)
        light, contrast, dark = self._level.values
        usual = self._structure.values
        speaks = usual >= _SPEAKS
        detail = 1.0
        if np.count_nonzero(speaks) >= _FEWEST:
            detail = float(np.median(self._blocks[speaks] / usual[speaks]))
        look = Look(
            light=mean / max(light, 1.0),
            contrast=deviation / max(contrast, 1.0),
            veil=float(self._seen[2] - dark),
            detail=detail,
            soiled=soiled,
        )
        return self._smooth(look)

    def learn(self, *, bad: bool) -> None:
        """The image that was looked at is one of the usual ones, or not."""
        self._level.learn(self._seen, bad=bad)
        self._structure.learn(self._blocks, bad=bad)

    def _soiled(self, gray: NDArray[np.uint8]) -> float:
        small = cv2.resize(gray, _SMALL, interpolation=cv2.INTER_AREA).astype(np.float32)
        if self._mean is None:
            self._mean = small
            self._now, self._usual = np.zeros_like(small), np.zeros_like(small)
            return 0.0
        self._images += 1
        quick, slow = (max(share, 1 / self._images) for share in (_QUICK, _SLOW))
        away = np.abs(small - self._mean)
        self._mean += quick * (small - self._mean)
        self._now += quick * (away - self._now)
        whole, before = float(np.median(self._now)), float(np.median(self._usual))
        moves = self._usual >= _MOVES
        soiled = 0.0
        if self._images >= _SETTLED and min(whole, before) >= _MOVES / 2:
            stands = moves & (self._now / whole < _STANDS * self._usual / before)
            # What stands up to the upper edge is the sky.
            stands[np.logical_and.accumulate(stands | ~moves, axis=0)] = False
            soiled = float(stands.mean())
        self._usual += slow * (away - self._usual)
        self._soil += _STAYS * (soiled - self._soil)  # a lorry ahead stands for a while as well
        return self._soil


def _dark(gray: NDArray[np.uint8]) -> float:
    counts = np.cumsum(cv2.calcHist([gray], [0], None, [256], [0, 256]))
    return float(np.searchsorted(counts, _DARK * counts[-1]))


def structure(gray: NDArray[np.uint8], blocks: int) -> NDArray[np.float32]:
    """(n, n) deviation within each block; n is `blocks`, or fewer where the image is tiny."""
    blocks = max(1, min(blocks, min(gray.shape) // 4))
    level = gray.astype(np.float32) - np.float32(128)
    both = cv2.merge((level, level * level))  # two channels cost hardly more than one
    moments = cv2.resize(both, (blocks, blocks), interpolation=cv2.INTER_AREA)
    mean, square = moments[..., 0], moments[..., 1]
    return np.asarray(np.sqrt(np.maximum(square - mean * mean, 0)), np.float32)
