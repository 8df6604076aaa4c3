"""The frames that went best and worst, and some by chance, kept small while the data streams by."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from robustseg_core import modalities
from robustseg_core.datasets import Sample
from robustseg_core.errors import RobustsegError
from robustseg_core.evaluation.protocols import Trial
from robustseg_core.evaluation.results import ScoredFrame
from robustseg_core.metrics import iou

PICTURE_WIDTH = 400
"""Pixels; enough to see what went wrong, and small enough for one file."""


class Frames(Protocol):
    """Whoever keeps frames."""

    def wants(self, sample: Sample, trial: Trial, *, full: bool) -> bool:
        """Whether to `offer` what was predicted; `full`: the trial is the one with all sensors."""

    def offer(
        self, sample: Sample, trial: Trial, labels: NDArray[np.uint8], counts: NDArray[np.int64]
    ) -> None:
        """Keep it if it is worth it.

        Args:
            sample: with its label.
            trial: in which it was predicted.
            labels: (H, W) what was predicted.
            counts: (K, K + 1) of this frame.
        """


class RankedFrames:
    """Collects the lowest-scoring frame of each of the lowest-scoring scenes, or the highest.

    Neighbors in a drive fail alike; one frame per scene shows more.

    Args:
        keep: how many scenes; 0: none.
        encodings: modality -> options of its encoding, for drawing.
        best: the highest-scoring instead.
    """

    def __init__(
        self, keep: int, encodings: Mapping[str, Mapping[str, Any]], *, best: bool = False
    ) -> None:
        self._keep = keep
        self._encodings = encodings
        self._sign = -1 if best else 1
        self._found: dict[str, ScoredFrame] = {}

    def wants(self, sample: Sample, trial: Trial, *, full: bool) -> bool:
        """As `Frames`: what was predicted with all sensors."""
        return full and self._keep > 0

    def offer(
        self, sample: Sample, trial: Trial, labels: NDArray[np.uint8], counts: NDArray[np.int64]
    ) -> None:
        """As `Frames`."""
        score = frame_score(counts)
        scene = sample.tags.get("scene", "")
        if score is not None and self._makes_room(scene, sample.id, score):
            self._found[scene] = framed(sample, trial, labels, score, self._encodings)

    def add(self, frames: Iterable[ScoredFrame]) -> None:
        """Keep those of these that are among the worst, or best, so far."""
        for frame in frames:
            if self._keep and self._makes_room(frame.scene, frame.id, frame.score):
                self._found[frame.scene] = frame

    def _rank(self, score: float, name: str) -> tuple[float, str]:
        """Small of what is to be kept."""
        return self._sign * score, name

    def _makes_room(self, scene: str, name: str, score: float) -> bool:
        """Whether a frame is to be kept; the one that it replaces is gone then."""
        last = self._found.get(scene)
        if last is None and len(self._found) == self._keep:
            last = self.ranked()[-1]
        if last is None:
            return True
        ahead = self._rank(score, name) < self._rank(last.score, last.id)
        if ahead:
            del self._found[last.scene]
        return ahead

    def ranked(self) -> tuple[ScoredFrame, ...]:
        """Worst, or best, first."""
        return tuple(sorted(self._found.values(), key=lambda f: self._rank(f.score, f.id)))


class Gallery:
    """Best and worst frames, and some that chance chose: of these also what fewer sensors say.

    Chance is a digest of the sample's name, so the same samples are shown in every validation,
    whoever sees them, and in whatever order. Frames are shrunk to `PICTURE_WIDTH`.

    Args:
        keep: frames of each kind.
        encodings: modality -> options of its encoding, for drawing.
        fewer: subsets of the sensors.
    """

    def __init__(
        self,
        keep: int,
        encodings: Mapping[str, Mapping[str, Any]],
        fewer: Sequence[tuple[str, ...]] = (),
    ) -> None:
        self._keep, self._encodings, self._fewer = keep, encodings, tuple(fewer)
        self._best = RankedFrames(keep, encodings, best=True)
        self._worst = RankedFrames(keep, encodings)
        self._others: dict[str, dict[tuple[str, ...], NDArray[np.uint8]]] = {}
        self._some: dict[str, ScoredFrame] = {}

    def wants(self, sample: Sample, trial: Trial, *, full: bool) -> bool:
        """As `Frames`."""
        return full or (trial.subset in self._fewer and self._chosen(sample.id))

    def offer(
        self, sample: Sample, trial: Trial, labels: NDArray[np.uint8], counts: NDArray[np.int64]
    ) -> None:
        """As `Frames`."""
        if trial.subset in self._fewer:
            there = tuple(name for name in trial.subset if name in sample.images)
            self._others.setdefault(sample.id, {})[there] = _small(labels)
            return
        for ends in (self._best, self._worst):
            ends.offer(sample, trial, labels, counts)
        score = frame_score(counts)
        if score is not None and self._chosen(sample.id):
            self._some[sample.id] = framed(sample, trial, labels, score, self._encodings)
        self._forget()

    def _chosen(self, name: str) -> bool:
        """Whether a sample is one of those, as far as is known."""
        if name in self._some or len(self._some) < self._keep:
            return True
        return _lot(name) < max(map(_lot, self._some), default="")

    def _forget(self) -> None:
        """Drop those that were chosen too early; of a batch, some are not offered whole yet."""
        kept = sorted(self._some, key=_lot)[: self._keep]
        self._some = {name: self._some[name] for name in kept}
        self._others = {n: masks for n, masks in self._others.items() if self._chosen(n)}

    def add(
        self,
        best: Iterable[ScoredFrame],
        worst: Iterable[ScoredFrame],
        some: Iterable[ScoredFrame],
    ) -> None:
        """What another gallery kept of other samples."""
        self._best.add(best)
        self._worst.add(worst)
        self._some |= {frame.id: frame for frame in some}
        self._forget()

    @property
    def best(self) -> tuple[ScoredFrame, ...]:
        """Best first, one for each scene."""
        return tuple(map(_shrunk, self._best.ranked()))

    @property
    def worst(self) -> tuple[ScoredFrame, ...]:
        """Worst first, one for each scene."""
        return tuple(map(_shrunk, self._worst.ranked()))

    @property
    def some(self) -> tuple[ScoredFrame, ...]:
        """In order of name."""
        frames = (self._some[name] for name in sorted(self._some))
        return tuple(
            _shrunk(replace(f, others={**f.others, **self._others.get(f.id, {})})) for f in frames
        )


def frame_score(counts: NDArray[np.int64]) -> float | None:
    """Mean IoU over the classes that the frame's truth holds, of (K, K + 1); None: it has none."""
    there = counts.sum(1) > 0
    return float(iou(counts)[there].mean()) if there.any() else None


def framed(
    sample: Sample,
    trial: Trial,
    labels: NDArray[np.uint8],
    score: float,
    encodings: Mapping[str, Mapping[str, Any]],
) -> ScoredFrame:
    """A sample with its picture, and with what was predicted of it."""
    return ScoredFrame(
        sample.id,
        sample.tags.get("scene", ""),
        score,
        picture(sample, encodings),
        sample.label,
        labels,
        tuple(name for name in trial.subset if name in sample.images),
    )


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


def _lot(name: str) -> str:
    """By which chance ranks a sample."""
    return hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()


def _shrunk(frame: ScoredFrame) -> ScoredFrame:
    picture, truth, labels = (
        None if image is None else _small(image)
        for image in (frame.picture, frame.truth, frame.labels)
    )
    return replace(frame, picture=picture, truth=truth, labels=labels)


def _small(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W) ids or (H, W, 3) RGB, at most `PICTURE_WIDTH` wide."""
    height, width = image.shape[:2]
    if width <= PICTURE_WIDTH:
        return image
    size = (PICTURE_WIDTH, max(1, round(height * PICTURE_WIDTH / width)))
    how = cv2.INTER_AREA if image.ndim == 3 else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(image, size, interpolation=how), np.uint8)
