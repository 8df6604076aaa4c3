"""Whether a sensor shows what the network knows: pictures against those that it learned from.

A mask of a street that is like no other is a guess, and confidence does not tell. So a checkpoint
holds short descriptions of pictures that its network knows, and a picture that is much farther from
all of them than they are from one another is new to it. That is the local outlier factor (Breunig
et al. 2000, doi 10.1145/342009.335388) in its plainest form, by the k-th neighbor:

    novelty = d(picture, k-th nearest known one) / mean over these k of d(it, its k-th nearest)

with d the root mean square of the differences between standardized descriptions. 1: as near as they
are to each other. It is of the picture alone, whatever the network is and whichever engine runs it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robustseg_core.metrics import correlation
from robustseg_core.models.calibration import WELL
from robustseg_core.types import MOST_REFERENCES, SECOND, Bundle, ModelSpec, References

NEIGHBORS = 5
BANDS = 5
"""Octaves of detail."""
THIRDS = 3
"""Of the picture's height: sky, horizon and road have their place."""
LIMIT = 1.4
"""Median novelty above which pictures are called new (docs/specs/confidence.md)."""
EVERY_NS = SECOND
"""Of the pictures' time, from one look to the next: what is new stays new for a while."""
LOOKS = 15
"""Newest ones that the median is of ..."""
FEWEST = 3
"""... and how many it needs."""
_FLOOR = 1e-4
_TENTHS = 10


def describe(image: NDArray[np.float32]) -> NDArray[np.float64]:
    """(D,) of a (C, H, W) picture as the network sees it; D depends on C alone.

    Mean and deviation of each channel, detail in five octaves and how spiky it is, means of three
    bands of the height; of a picture of three channels, how much these differ.
    """
    channels, height, _ = image.shape
    found = [*image.mean((1, 2)), *image.std((1, 2))]
    level: NDArray[Any] = np.ascontiguousarray(image.transpose(1, 2, 0), np.float32)
    for _ in range(BANDS):
        coarser = cv2.pyrDown(level)
        detail = level - cv2.pyrUp(coarser, dstsize=level.shape[1::-1]).reshape(level.shape)
        usual = np.log(_FLOOR + np.abs(detail).mean())
        found += [usual, np.log(_FLOOR + np.square(detail).mean()) / 2 - usual]
        level = coarser.reshape(*coarser.shape[:2], channels)
    for band in range(THIRDS):
        rows = slice(band * height // THIRDS, (band + 1) * height // THIRDS)
        found += list(image[:, rows].mean((1, 2)))
    if channels == 3:
        color = np.abs(image - image.mean(0)).mean()
        alike = (correlation(a, b, even=1.0) for a, b in pairwise(image))
        found += [*alike, np.log(1e-3 + color)]
    return np.array(found, np.float64)


def described(known: References) -> list[NDArray[np.float64]]:
    """The (D,) descriptions that `references` was given, as far as it kept them."""
    pictures = np.array(known.pictures, np.float64) / _TENTHS
    return list(np.array(known.mean) + np.array(known.scale) * pictures)


def references(descriptions: Iterable[NDArray[np.float64]]) -> References | None:
    """What a checkpoint holds of pictures that its network knows.

    Args:
        descriptions: (D,) each; of more than `MOST_REFERENCES`, some are left out, evenly.

    Returns:
        None: there are too few to say what is far.
    """
    given = np.array(list(descriptions), np.float64)  # (N, D)
    if len(given) <= 2 * NEIGHBORS:
        return None
    places = np.linspace(0, len(given) - 1, min(len(given), MOST_REFERENCES)).round().astype(int)
    kept = given[places]
    mean, scale = given.mean(0).round(4), (given.std(0) + 1e-3).round(4)
    tenths = np.rint(_TENTHS * (kept - mean) / scale).clip(-9999, 9999).astype(int)
    return References(
        mean=tuple(mean.tolist()),
        scale=tuple(scale.tolist()),
        pictures=tuple(tuple(row) for row in tenths.tolist()),
    )


class Novelty:
    """How new pictures of one sensor are, given those that the network knows."""

    def __init__(self, known: References) -> None:
        self._mean, self._scale = np.array(known.mean), np.array(known.scale)
        self._known = np.array(known.pictures, np.float64) / _TENTHS  # (N, D)
        k = min(NEIGHBORS, len(self._known) - 1)
        self._neighbors = k
        apart = np.stack([self._distances(one) for one in self._known])  # (N, N)
        self._apart = np.maximum(np.sort(apart, 1)[:, k], 1e-3)  # column 0 is itself

    def __call__(self, image: NDArray[np.float32]) -> float:
        """Of a (C, H, W) picture as the network sees it; 1: it is as those are."""
        return self.of((describe(image) - self._mean) / self._scale)

    def of(self, description: NDArray[np.float64]) -> float:
        """Of a (D,) standardized description."""
        distances = self._distances(description)
        nearest = np.argsort(distances)[: self._neighbors]
        return float(distances[nearest[-1]] / self._apart[nearest].mean())

    def _distances(self, description: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = np.sqrt(np.square(self._known - description).mean(1))
        return found


def novelty_of(spec: ModelSpec) -> dict[str, Novelty]:
    """Modality -> how new its pictures are, of those that the checkpoint says something of."""
    return {name: Novelty(known) for name, known in spec.references.items()}


class NoveltyMonitor:
    """Looks at a picture of each sensor now and then, and says when they are new to the network.

    A sensor that ails is passed over: health tells of it, and no picture of it is as it should be.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self._judges = novelty_of(spec)
        self._looks: dict[str, deque[float]] = {name: deque(maxlen=LOOKS) for name in self._judges}
        self._due_ns: int | None = None
        self._peaks: dict[str, float] = {}

    def look(self, bundle: Bundle) -> None:
        """See a set that made a mask.

        The first sets are looked at one by one, so that a short recording is judged as well, and
        then one in a second of their stamps, whichever way these go.
        """
        due = self._due_ns is None or not 0 <= self._due_ns - bundle.stamp_ns < EVERY_NS
        if due:
            self._due_ns = bundle.stamp_ns + EVERY_NS - 1
        for name, judge in self._judges.items():
            frame, looks = bundle.frames.get(name), self._looks[name]
            if frame is None or frame.quality < WELL or (len(looks) >= FEWEST and not due):
                continue
            looks.append(judge(frame.array))
            if len(looks) >= FEWEST:
                self._peaks[name] = max(float(np.median(looks)), self._peaks.get(name, 0.0))

    @property
    def peaks(self) -> Mapping[str, float]:
        """Modality -> the largest median so far of the newest looks, where there were enough."""
        return dict(self._peaks)

    def remarks(self) -> list[str]:
        """A sentence for each sensor whose pictures were new."""
        return [
            f"{name} looks unlike what the network learned from ({peak:.1f} times as far from it "
            f"as that is apart; limit {LIMIT:g}), so its masks may be worse than their confidence; "
            "`robustseg adapt` makes a student of such drives"
            for name, peak in self._peaks.items()
            if peak > LIMIT
        ]
