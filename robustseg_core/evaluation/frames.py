"""The frames that went worst, one per scene, kept small while the data streams by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustseg_core import modalities
from robustseg_core.datasets import Sample
from robustseg_core.errors import RobustsegError
from robustseg_core.evaluation.results import BadFrame
from robustseg_core.metrics import iou


class WorstFrames:
    """Collects the lowest-scoring frame of each of the lowest-scoring scenes.

    Neighbors in a drive fail alike; one frame per scene shows more.

    Args:
        keep: how many scenes; 0: none.
        encodings: modality -> options of its encoding, for drawing.
    """

    def __init__(self, keep: int, encodings: Mapping[str, Mapping[str, Any]]) -> None:
        self._keep = keep
        self._encodings = encodings
        self._found: dict[str, BadFrame] = {}

    def offer(self, sample: Sample, labels: NDArray[np.uint8], counts: NDArray[np.int64]) -> None:
        """Keep this frame if it is among the worst so far.

        Args:
            sample: with its label.
            labels: (H, W) what was predicted with all sensors.
            counts: (K, K + 1) of this frame.
        """
        there = counts.sum(1) > 0
        if not self._keep or not there.any():
            return
        score = float(iou(counts)[there].mean())
        scene = sample.tags.get("scene", "")
        if self._makes_room(scene, score):
            seen = picture(sample, self._encodings)
            self._found[scene] = BadFrame(sample.id, scene, score, seen, sample.label, labels)

    def add(self, frames: Iterable[BadFrame]) -> None:
        """Keep those of these that are among the worst so far."""
        for frame in frames:
            if self._keep and self._makes_room(frame.scene, frame.score):
                self._found[frame.scene] = frame

    def _makes_room(self, scene: str, score: float) -> bool:
        """Whether a frame is to be kept; the one that it replaces is gone then."""
        worst = self._found.get(scene)
        if worst is None and len(self._found) == self._keep:
            worst = max(self._found.values(), key=lambda frame: frame.score)
        if worst is None:
            return True
        if score < worst.score:
            del self._found[worst.scene]
        return score < worst.score

    def worst(self) -> tuple[BadFrame, ...]:
        """Worst first."""
        return tuple(sorted(self._found.values(), key=lambda frame: (frame.score, frame.id)))


def picture(sample: Sample, encodings: Mapping[str, Mapping[str, Any]]) -> NDArray[np.uint8] | None:
    """(H, W, 3) RGB of the camera, or of the first sensor that there is; None: there is none.

    Sensors without a plug-in, or with an encoding that is not the plug-in's, are drawn from darkest
    to brightest.
    """
    if not sample.images:
        return None
    name = modalities.ranked(sample.images)[0]
    image = sample.images[name]
    if name in modalities.available():
        # A public collection's own encoding is drawn plainly, below.
        with suppress(RobustsegError), np.errstate(invalid="ignore"):
            return modalities.load(name)(encoding=encodings.get(name)).picture(image)
    low, high = float(image.min()), float(image.max())
    levels = (image - low) * (255 / max(high - low, 1e-6))
    return np.ascontiguousarray(levels.astype(np.uint8).transpose(1, 2, 0))
