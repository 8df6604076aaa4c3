"""One sensor's share of the view at one moment, reduced to what can be compared with another's.

A picture, a depth image, events and a scan have no values in common, but the same outlines: where a
thing ends, the picture steps, the depth jumps, events fire and the range jumps.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy import fft
from numpy.typing import NDArray

WIDEST = 128
"""Columns of the grid of the comparison, at most: a camera of 80 degrees has 0.6 in each."""
_BLUR = 15
"""Side of the square that is "around here", in cells: what is broader is no outline."""
_BRIGHTEST = 3.0
"""An outline counts for no more than this many times the mean of its picture."""
_LEAST = 0.004
"""Share of the cells that must hold an outline, or it says nothing of where it is."""
_TOLERANCE = 0.12
"""Two ranges agree if their logarithms differ by less."""
_RELIEF = 0.15
"""Deviation of the logarithm of the distance around a cell that makes its point count in full: on
a wall that fills the view, every displacement agrees."""
_ROAD = 0.25
"""What relief along a column counts, beside that along a row."""


Spectrum = NDArray[np.complexfloating[Any, Any]]
"""(h, w / 2 + 1) of single precision where NumPy has it (2.0), else of double."""


def step_of(size: tuple[int, int]) -> int:
    """Pixels of a view of `size` (H, W) that become one cell, down and across."""
    return max(1, -(-size[1] // WIDEST))


def mean_of_cells(array: NDArray[np.float32], step: int) -> NDArray[np.float32]:
    """(H, W) -> (H // step, W // step), without what is left over at the edges."""
    height, width = (n // step for n in array.shape)
    whole = array[: height * step, : width * step]
    return np.asarray(cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA))


def most_of_cells(array: NDArray[np.float32], step: int) -> NDArray[np.float32]:
    """(H, W) -> (H // step, W // step) maxima, without what is left over at the edges."""
    height, width = (n // step for n in array.shape)
    rows = array[: height * step].reshape(height, step, -1).max(axis=1)
    most: NDArray[np.float32] = rows[:, : width * step : step].copy()
    for offset in range(1, step):
        np.maximum(most, rows[:, offset : width * step : step], out=most)
    return most


@dataclass(frozen=True)
class Sight:
    """What one sensor shows, on the grid of the comparison."""

    stamp_ns: int
    outlines: NDArray[np.float32]
    """(h, w), of zero mean and unit length; all 0 where too little is seen."""
    range_m: NDArray[np.float32] | None = None
    """(h, w) metres along the ray, NaN where unknown; None: it knows no distances."""
    amount: float = 0.0
    """Mean strength of what the outlines are made of, in a unit of the sensor's own."""
    light: NDArray[np.float32] | None = None
    """(h, w) logarithm of the brightness; None: it sees no light."""
    brighter: NDArray[np.float32] | None = None
    """(h, w) how much brighter it has become in the moments before the stamp, and below 0 how much
    darker; None: it does not tell."""

    @classmethod
    def of(
        cls,
        stamp_ns: int,
        strength: NDArray[np.float32],
        range_m: NDArray[np.float32] | None = None,
        *,
        light: NDArray[np.float32] | None = None,
        brighter: NDArray[np.float32] | None = None,
    ) -> Sight:
        """A sight by the (h, w) strength of its outlines, from 0 on."""
        amount = float(strength.mean())
        return cls(stamp_ns, outlined(strength), range_m, amount, light, brighter)

    @cached_property
    def tells(self) -> bool:
        """Whether there is enough to be compared."""
        return bool(self.outlines.any())

    @property
    def road_m(self) -> float | None:
        """Middle range of the lowest third of the view, which changes least; None: not known."""
        if self.range_m is None:
            return None
        low = self.range_m[-(len(self.range_m) // 3) :]
        known = low[np.isfinite(low)]
        return float(np.median(known)) if known.size else None

    @cached_property
    def log_range(self) -> NDArray[np.float32]:
        """(h, w) logarithms of the ranges, NaN where unknown."""
        if self.range_m is None:
            return np.full(self.outlines.shape, np.nan, np.float32)
        with np.errstate(all="ignore"):
            return np.log(self.range_m)

    @cached_property
    def points(self) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
        """Rows, columns and logarithms of the ranges that are known."""
        rows, columns = np.nonzero(np.isfinite(self.log_range))
        return rows, columns, self.log_range[rows, columns]

    @cached_property
    def expected(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(h, w) least and greatest logarithm of a range that agrees; where nothing does, the least
        is the greater one.

        Where a thing ends, nobody knows to a cell which of two distances a sensor sees.
        """
        known, kernel = np.isfinite(self.log_range), np.ones((3, 3), np.uint8)
        least = cv2.erode(np.where(known, self.log_range, np.float32(np.inf)), kernel)
        greatest = cv2.dilate(np.where(known, self.log_range, np.float32(-np.inf)), kernel)
        return least - np.float32(_TOLERANCE), greatest + np.float32(_TOLERANCE)

    @cached_property
    def relief(self) -> NDArray[np.float32]:
        """(h, w) in [0, 1]: how much a displacement would be noticed there."""
        beside, above = _deviation(self.log_range, (9, 1)), _deviation(self.log_range, (1, 5))
        # A road's distance changes from row to row, and says nothing of what is beside.
        return np.minimum(beside + _ROAD * above, 1)

    @cached_property
    def spectra(self) -> tuple[Spectrum, Spectrum]:
        """Spectra of its left and of its right half, softly parted."""
        width = self.outlines.shape[1]
        left = np.clip(0.5 - (np.arange(width) - (width - 1) / 2) / (width / 4), 0, 1)
        halves = np.stack([self.outlines * left, self.outlines * (1 - left)]).astype(np.float32)
        both = fft.rfft2(halves)
        return both[0], both[1]

    @cached_property
    def spectrum(self) -> Spectrum:
        """Of all of it."""
        return self.spectra[0] + self.spectra[1]

    @cached_property
    def mirrored(self) -> Spectrum:
        """The spectrum of what a mirror would show."""
        height, width = self.outlines.shape
        # Column c becomes w - 1 - c: of a real picture, X(k, l) becomes X*(-k, l) e^(2 pi i l / w).
        turn = np.exp(2j * np.pi * np.arange(width // 2 + 1) / width).astype(np.complex64)
        return np.asarray(self.spectrum[-np.arange(height)].conj() * turn)


def outlined(strength: NDArray[np.float32]) -> NDArray[np.float32]:
    """(h, w) outlines of zero mean and unit length, of (h, w) strengths from 0 on.

    What is broad is taken out, and what is strong is held down: every outline counts alike.
    """
    mean = float(strength.mean())
    seen = np.count_nonzero(strength > 0.5 * mean) if mean > 0 else 0
    if seen < _LEAST * strength.size:
        return np.zeros_like(strength)
    even = np.minimum(strength / np.float32(mean), np.float32(_BRIGHTEST))
    around = cv2.blur(even, (_BLUR, _BLUR), borderType=cv2.BORDER_REFLECT)
    sharp = even - around
    sharp -= sharp.mean()
    length = float(np.linalg.norm(sharp))
    return np.asarray(sharp / length if length > 0 else sharp, np.float32)


def steps(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """(h, w) how fast a picture changes there."""
    across = cv2.Sobel(image, cv2.CV_32F, 1, 0, ksize=3)
    down = cv2.Sobel(image, cv2.CV_32F, 0, 1, ksize=3)
    return np.sqrt(across * across + down * down)


def jumps(near: NDArray[np.float32], *, unknown: float = 0.0) -> NDArray[np.float32]:
    """(h, w) how far inverse distances are from those of a plane, along the row.

    On a plane the inverse distance is linear in the image, so that a road's is no outline.

    Args:
        near: (h, w) 1 / m; 0 where nobody knows.
        unknown: what is taken instead of 0; above it, the edge of the unknown is an outline: most
            often that is the sky.
    """
    if unknown:
        near = np.where(near > 0, near, np.float32(unknown))
    here, left, right = near[:, 1:-1], near[:, :-2], near[:, 2:]
    known = (here > 0) & (left > 0) & (right > 0)
    bend = np.abs(left + right - 2 * here) / np.maximum(left + right, 1e-6)
    strength = np.zeros_like(near)
    strength[:, 1:-1] = np.sqrt(np.where(known, np.minimum(bend, 0.3), 0))
    return strength


def _deviation(log_range: NDArray[np.float32], box: tuple[int, int]) -> NDArray[np.float32]:
    """(h, w) in [0, 1]: of what is known in a box (width, height) around each known cell."""
    known = np.isfinite(log_range)
    filled = np.where(known, log_range, 0).astype(np.float32)
    count = cv2.blur(known.astype(np.float32), box)
    mean = cv2.blur(filled, box) / np.maximum(count, 1e-3)
    square = cv2.blur(filled * filled, box) / np.maximum(count, 1e-3)
    deviation = np.sqrt(np.maximum(square - mean * mean, 0))
    return np.where(known, np.minimum(deviation / _RELIEF, 1), 0).astype(np.float32)
