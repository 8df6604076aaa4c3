"""Predictions beside truths: each pixel of each trial is counted once, and nothing else is kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustseg_core.datasets import Sample
from robustseg_core.errors import RobustsegError
from robustseg_core.evaluation.forward import Forward
from robustseg_core.evaluation.frames import Frames, RankedFrames
from robustseg_core.evaluation.parts import Part
from robustseg_core.evaluation.protocols import Trial, rounds
from robustseg_core.evaluation.results import Group, tally
from robustseg_core.metrics import BINS, LEVELS, PRIOR_GRID, PositionPrior, kept, reliability
from robustseg_core.models.calibration import (
    mean_quality,
    on_levels,
    temperature,
    thresholds,
    trust_of,
    winner,
)
from robustseg_core.models.resize import resize_logits
from robustseg_core.types import IGNORE, ModelSpec


class Counts:
    """Confusion counts per trial and group, as the samples stream by.

    Args:
        trials: T of them.
        classes: K.
        device: where predictions are compared with truths.
        spec: of the network whose confidence is counted, too, and the position prior; None: labels
            alone are.
    """

    def __init__(
        self,
        trials: Sequence[Trial],
        classes: int,
        device: torch.device,
        spec: ModelSpec | None = None,
    ) -> None:
        self._trials, self._classes, self._device = trials, classes, device
        self._rounds = rounds(trials)
        self._full = max(range(len(trials)), key=lambda t: (len(trials[t].subset), -t))
        self.counts: dict[Group, NDArray[np.int64]] = {}
        self.sureness = None if spec is None else Sureness(trials, spec)
        self.prior = PositionPrior(classes)
        self.sizes: Counter[Group] = Counter()
        self.present: Counter[str] = Counter()
        self.blind = np.zeros(len(trials), np.int64)
        self.ids: list[str] = []
        self.unlabelled = 0
        self.size = self.label_size = (0, 0)

    def add(self, forward: Forward, samples: list[Sample], frames: Frames) -> None:
        """Run every trial on these labelled samples, and count."""
        if not samples:
            return
        forward.take(samples)
        truths = [Truth(sample, self._classes, self._device) for sample in samples]
        groups = [self._group(sample) for sample in samples]
        for places in self._rounds:
            answers = forward.answers([self._trials[t] for t in places])
            for t, (logits, seeing) in zip(places, answers, strict=True):
                row = dict(zip(seeing, logits, strict=False))
                self.blind[t] += len(samples) - len(seeing)
                for i, (truth, group) in enumerate(zip(truths, groups, strict=True)):
                    labels = None
                    if i in row and self.sureness is not None and self.sureness.wants(t):
                        labels = self.sureness.add(t, group, samples[i], truth, row[i])
                    elif i in row:
                        labels = truth.labels(row[i])
                    counts = truth.confusion(labels)
                    self.counts[group][t] += counts
                    trial, full = self._trials[t], t == self._full
                    if labels is not None and frames.wants(samples[i], trial, full=full):
                        ids = labels.to(torch.uint8).reshape(truth.shape).cpu().numpy()
                        frames.offer(samples[i], trial, ids, counts)
            forward.forget_damaged()

    def part(self, frames: RankedFrames) -> Part:
        """All that was counted, with the confidence."""
        assert self.sureness is not None, "it was asked for"
        groups, sizes = tally(self.sizes)
        trials, classes, sureness = len(self._trials), self._classes, self.sureness
        counts = np.zeros((trials, classes, classes + 1), np.int64)
        cells = np.zeros((PRIOR_GRID[0] * PRIOR_GRID[1], classes), np.int64)
        bins, kept = sureness.nothing
        return Part(
            groups=groups,
            sizes=sizes,
            counts=_stacked(self.counts, groups, 1, counts),
            blind=self.blind,
            bins=_stacked(sureness.bins, groups, 1, bins),
            kept=_stacked(sureness.kept, groups, 1, kept),
            cells=_stacked(self.prior.cells, groups, 0, cells),
            present=dict(self.present),
            ids=tuple(self.ids),
            unlabelled=self.unlabelled,
            size=self.size,
            label_size=self.label_size,
            worst=frames.ranked(),
        )

    def _group(self, sample: Sample) -> Group:
        """Book the sample, and say where its counts go."""
        tags = sample.tags
        group = Group(tags.get("scene", ""), tags.get("condition", ""), tags.get("case", ""))
        if group not in self.counts:
            classes = self._classes
            self.counts[group] = np.zeros((len(self._trials), classes, classes + 1), np.int64)
        assert sample.label is not None
        height, width = next((i.shape[1:] for i in sample.images.values()), self.size)
        size, label_size = (height, width), (sample.label.shape[0], sample.label.shape[1])
        for what, have, new in (
            ("images", self.size, size),
            ("labels", self.label_size, label_size),
        ):
            if have != (0, 0) and new != have:
                raise RobustsegError(
                    f"{what} of {sample.id} are {new[0]}x{new[1]} and earlier ones "
                    f"{have[0]}x{have[1]}; give the data set one size"
                )
        self.size, self.label_size = size, label_size
        self.sizes[group] += 1
        self.present.update(sample.images.keys())
        self.ids.append(sample.id)
        if self.sureness is not None:
            self.prior.add(sample.label, group.scene, group)
        return group


class Sureness:
    """How sure the network was, per trial and group, as the samples stream by.

    Counted are the trials in which missing sensors are skipped: where they are zero, the network is
    told that they are alive, and no confidence is calibrated for that.

    Args:
        trials: T of them.
        spec: of the network, with its calibration, if it has one.
    """

    def __init__(self, trials: Sequence[Trial], spec: ModelSpec) -> None:
        self._trials, self._spec = trials, spec
        self.bins: dict[Group, NDArray[np.float64]] = {}
        """Group -> (T, BINS, 3), as `metrics.reliability`."""
        self.kept: dict[Group, NDArray[np.int64]] = {}
        """Group -> (T, A, K, 2) pixels that keep their label, and right ones among them."""

    @property
    def nothing(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Bins and kept of a group in which nothing was counted."""
        known, trials = self._spec.calibration, len(self._trials)
        alphas = 0 if known is None else len(known.alphas)
        kept = np.zeros((trials, alphas, len(self._spec.classes), 2), np.int64)
        return np.zeros((trials, BINS, 3)), kept

    def wants(self, trial: int) -> bool:
        """Whether confidence is counted in that trial."""
        return self._trials[trial].others is None

    def add(self, trial: int, group: Group, sample: Sample, truth: Truth, logits: Tensor) -> Tensor:
        """Count (K, h, w) logits of a sample; its labels, as `Truth.labels`."""
        subset = self._trials[trial].subset
        quality = {n: sample.quality.get(n, 1.0) for n in subset if n in sample.images}
        labels, table = truth.sureness(logits, temperature(self._spec, quality))
        if group not in self.bins:
            self.bins[group], self.kept[group] = self.nothing
        self.bins[group][trial] += reliability(table)
        trust = trust_of(self._spec, quality)
        if trust is not None:
            least = thresholds(trust, mean_quality(quality))
            self.kept[group][trial] += kept(table, least)
        return labels


def _stacked(
    found: Mapping[Any, NDArray[Any]],
    groups: Sequence[Group],
    axis: int,
    nothing: NDArray[Any],
) -> NDArray[Any]:
    """The groups' arrays side by side along an axis; `nothing` of a group that has none."""
    if not groups:
        return np.stack([nothing], axis)[(slice(None),) * axis + (slice(0),)]
    return np.stack([found.get(group, nothing) for group in groups], axis)


class Truth:
    """One label, made ready to be compared with a prediction in every trial.

    Args:
        sample: with its label.
        classes: K.
        device: where the comparison runs.

    Raises:
        RobustsegError: an id that is neither a class nor `IGNORE`.
    """

    def __init__(self, sample: Sample, classes: int, device: torch.device) -> None:
        label = np.asarray(sample.label)
        strange = label[(label >= classes) & (label != IGNORE)]
        if strange.size:
            raise RobustsegError(
                f"the label of {sample.id} has the id {strange.flat[0]}; expected 0 to "
                f"{classes - 1} or {IGNORE}; check the class map"
            )
        self.shape = label.shape
        self._classes = classes
        flat = torch.from_numpy(label.astype(np.int64)).flatten().to(device)
        self._known = (flat != IGNORE).nonzero().squeeze(1)
        self._cells = flat[self._known] * (classes + 1)

    def labels(self, logits: Tensor) -> Tensor:
        """(H * W) int64 class ids of (K, h, w) logits."""
        with torch.inference_mode():
            return self._enlarged(logits).max(0).indices.flatten()

    def sureness(self, logits: Tensor, temperature: float) -> tuple[Tensor, NDArray[np.int64]]:
        """As `labels`, and (K, LEVELS, 2) as `metrics.sureness`, at a temperature."""
        with torch.inference_mode():
            ids, confidence = winner(self._enlarged(logits), temperature)
            labels = ids.flatten()
            own = labels[self._known]
            cells = (own * LEVELS + on_levels(confidence.flatten()[self._known])) * 2
            cells += own == self._cells // (self._classes + 1)
            counts = torch.bincount(cells, minlength=self._classes * LEVELS * 2)
            return labels, counts.reshape(self._classes, LEVELS, 2).cpu().numpy()

    def at(self, logits: Tensor, places: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """(n, K) logits and (n,) int64 true ids at some of the labelled pixels, by their place."""
        with torch.inference_mode():
            pixels = self._known[torch.from_numpy(places).to(self._known.device)]
            ids = self._cells[places] // (self._classes + 1)
            return self._enlarged(logits).flatten(1)[:, pixels].T, ids

    @property
    def labelled(self) -> int:
        """How many pixels have a label."""
        return len(self._known)

    def _enlarged(self, logits: Tensor) -> Tensor:
        """(K, H, W) of (K, h, w)."""
        # Channels last: a CPU does this and what follows in a quarter of the time. Of a batch
        # of one, PyTorch tells that by all strides, so they are made anew.
        small = logits.permute(1, 2, 0).contiguous()[None].permute(0, 3, 1, 2)
        return resize_logits(small, self.shape)[0]

    def confusion(self, labels: Tensor | None) -> NDArray[np.int64]:
        """(K, K + 1) as `metrics.confusion`; None: nothing was predicted, all are misses."""
        classes = self._classes
        column = classes if labels is None else labels[self._known]
        cells = torch.bincount(self._cells + column, minlength=classes * (classes + 1))
        return cells.reshape(classes, classes + 1).cpu().numpy()
