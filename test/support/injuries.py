"""What is done to a sensor's sights, as a knocked mount or a wrong stream would do it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np

from robustseg_core.evidence.sight import Sight

Injury = Callable[[Sight], Sight]


def turned(down: float, across: float, deg: float = 0.0) -> Injury:
    """A knocked mount: what it shows lies elsewhere, in cells, or leans, in degrees."""

    def injure(sight: Sight) -> Sight:
        height, width = sight.outlines.shape
        matrix = cv2.getRotationMatrix2D((width / 2 - 0.5, height / 2 - 0.5), deg, 1)
        matrix[:, 2] += across, down
        shown = cv2.warpAffine(sight.outlines, matrix, (width, height))
        length = float(np.linalg.norm(shown))
        metres = sight.range_m
        if metres is not None:
            metres = cv2.warpAffine(
                metres, matrix, (width, height), flags=cv2.INTER_NEAREST, borderValue=math.nan
            )
        return replace(sight, outlines=shown / length if length else shown, range_m=metres)

    return injure


def mirrored(sight: Sight) -> Sight:
    """Left and right exchanged."""
    metres = None if sight.range_m is None else sight.range_m[:, ::-1].copy()
    return replace(sight, outlines=sight.outlines[:, ::-1].copy(), range_m=metres)


def scaled(factor: float) -> Injury:
    """Another unit."""

    def injure(sight: Sight) -> Sight:
        if sight.range_m is None:
            return sight
        return replace(sight, range_m=sight.range_m * np.float32(factor))

    return injure


def farther(metres: float) -> Injury:
    """Ranges that are so much longer."""

    def injure(sight: Sight) -> Sight:
        if sight.range_m is None:
            return sight
        return replace(sight, range_m=sight.range_m + np.float32(metres))

    return injure
