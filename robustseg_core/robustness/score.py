"""mIoU under fault: every labelled image of the fault's time counts, with a mask or without.

A label is compared with the mask nearest to it, at most half a reference period away. Without one
all of its pixels are missed, which is what a robot without a mask has. The rule is the same for
everybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robustseg_core import metrics
from robustseg_core.bag import Bag
from robustseg_core.codecs.fields import stamp_of
from robustseg_core.codecs.image import pixels
from robustseg_core.engines import Engine, LackingError
from robustseg_core.errors import RobustsegError
from robustseg_core.recording.labels import open_truth
from robustseg_core.types import Bundle, Rejection


@dataclass(frozen=True, slots=True)
class Label:
    """What the scene was at one image."""

    stamp_ns: int
    arrival_ns: int
    ids: NDArray[np.uint8]
    """(H, W) class ids, 255 unknown."""


def labels(path: Path) -> list[Label]:
    """All labels of a drive, oldest first.

    Raises:
        RobustsegError: it carries no truth.
    """
    topic = open_truth([path]).topic
    found = []
    with Bag([path]) as bag:
        for recorded in bag.messages({topic}) if topic else ():
            try:
                message = recorded.message()
                ids = pixels(message, 1, np.dtype(np.uint8))[..., 0]
            except Rejection:
                continue
            found.append(Label(stamp_of(message), recorded.time_ns, ids.copy()))
    if not found:
        raise RobustsegError(
            f"{path.name} carries no label images (mono8, a topic named like label); the matrix is "
            "scored on drives with truth, e.g. of `robustseg sim`; or give --no-score"
        )
    return found


class Scorer:
    """Holds masks against labels as they come; only the nearest to a label is ever made.

    Args:
        truth: the labels that count, oldest first.
        half_ns: half a reference period.
        engine: runs the network.
        classes: K.
    """

    def __init__(
        self, truth: Sequence[Label], *, half_ns: int, engine: Engine, classes: int
    ) -> None:
        self.counts: dict[int, NDArray[np.int64]] = {}
        """Stamp of the label -> (K, K + 1) pixels, as `metrics.confusion` has them."""
        self._truth = {label.stamp_ns: label.ids for label in truth}
        self._stamps = np.array([label.stamp_ns for label in truth], np.int64)
        self._half_ns, self._engine, self._classes = half_ns, engine, classes
        self._best: dict[int, tuple[int, Bundle]] = {}

    def offer(self, stamp_ns: int, bundle: Bundle) -> None:
        """A mask was made of this; the network runs when it is known to be the nearest."""
        if not self._stamps.size:
            return
        label_ns = int(self._stamps[np.abs(self._stamps - stamp_ns).argmin()])
        away_ns = abs(label_ns - stamp_ns)
        if away_ns <= self._half_ns and bundle.frames:
            known = self._best.get(label_ns)
            if known is None or away_ns < known[0]:
                self._best[label_ns] = (away_ns, bundle)
        for old_ns in [at_ns for at_ns in self._best if at_ns + self._half_ns < stamp_ns]:
            self._settle(old_ns)

    def total(self) -> NDArray[np.int64]:
        """(K, K + 1) pixels over all labels; those without a mask are missed."""
        for at_ns in list(self._best):
            self._settle(at_ns)
        return sum_counts([self.at(int(stamp_ns)) for stamp_ns in self._stamps], self._classes)

    def at(self, stamp_ns: int) -> NDArray[np.int64]:
        """(K, K + 1) pixels of one label."""
        return self.counts[stamp_ns] if stamp_ns in self.counts else self.missed(stamp_ns)

    def missed(self, stamp_ns: int) -> NDArray[np.int64]:
        """(K, K + 1) pixels of one label for which there is no mask."""
        return metrics.missed(self._truth[stamp_ns], self._classes)

    def _settle(self, at_ns: int) -> None:
        _, bundle = self._best.pop(at_ns)
        if at_ns in self.counts:
            return  # stamps went back; the first pass counts
        truth = self._truth[at_ns]
        try:
            ids, _ = self._engine(bundle)
        except LackingError:
            return  # no mask of these sensors: missed
        ids = metrics.at_size(ids, truth.shape)
        self.counts[at_ns] = metrics.confusion(truth, ids, self._classes)


def sum_counts(counts: Sequence[NDArray[np.int64]], classes: int) -> NDArray[np.int64]:
    """(K, K + 1) pixels of all."""
    return sum(counts, np.zeros((classes, classes + 1), np.int64))
