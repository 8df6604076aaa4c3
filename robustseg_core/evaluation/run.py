"""One pass over the data, every protocol: what the network is worth when sensors are missing.

samples -> Forward -> logits per trial -> labels at the truth's size -> confusion counts
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Subset
from torch.utils.data import Dataset as MapStyle

from robustseg_core.datasets import Dataset, Sample
from robustseg_core.engines.eager import pick_device
from robustseg_core.errors import RobustsegError, did_you_mean
from robustseg_core.evaluation import protocols as plans
from robustseg_core.evaluation.counting import Counts
from robustseg_core.evaluation.forward import Forward
from robustseg_core.evaluation.frames import Frames, RankedFrames
from robustseg_core.evaluation.matching import expect_encodings, shared_modalities
from robustseg_core.evaluation.parts import Part, together
from robustseg_core.evaluation.results import About, Results
from robustseg_core.evaluation.shared import forward_of
from robustseg_core.metrics import ABSENT, PositionPrior
from robustseg_core.models import checkpoint
from robustseg_core.models.network import Network
from robustseg_core.storage.digest import sha256


def evaluate(
    model: Network | Path | str,
    dataset: Dataset,
    *,
    protocols: Sequence[str] = plans.PROTOCOLS,
    missing: Sequence[str] = plans.MISSING,
    rates: Sequence[float] = plans.RATES,
    batch: int = 8,
    device: str = "auto",
    absent: str = "zero",
    seed: int = 0,
    workers: int = 0,
    worst: int = 6,
    allow_missing: bool = False,
    allow_encodings: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Results:
    """Count the confusions of a network in every trial of the protocols.

    Runs with the folded head, in the weights' own precision. Logits are enlarged bilinearly to the
    label's size. Samples without a label are left out; what a sample's sensors lack is skipped in
    `subsets` and `nm` and zero in `emm` and `rmm`; where nothing remains, all pixels are misses.

    Args:
        model: a checkpoint's path, or a network.
        dataset: one split.
        protocols: of `PROTOCOLS`.
        missing: of `MISSING`; protocols that represent missing sensors otherwise are left out.
        rates: drop rates of RMM.
        batch: samples at once, of one part of the data set (`Dataset.parts`); changes nothing but
            speed (beyond rounding).
        device: auto, cpu, cuda, ...
        absent: what a class that occurs nowhere counts as, zero or skip.
        seed: of RMM's and NM's damage.
        workers: processes that read samples ahead; 0 reads in this one.
        worst: frames to keep for looking at.
        allow_missing: take the subsets of those sensors that the data has, though the network
            knows more.
        allow_encodings: evaluate though the data is encoded otherwise than the network was told.
        on_progress: called with samples done and their total.

    Raises:
        RobustsegError: other classes or encodings than the network's, sensors that the data lacks,
            no label anywhere, unknown words, or images that do not fit.
    """
    how = How(
        tuple(protocols),
        tuple(missing),
        tuple(rates),
        batch,
        device,
        absent,
        seed,
        worst,
        allow_missing=allow_missing,
        allow_encodings=allow_encodings,
    )
    entry = Entry(model, dataset, how)
    parts: list[Part] = []
    done = 0

    def show(so_far: int) -> None:
        if on_progress is not None:
            on_progress(done + so_far, len(dataset))

    for part in dataset.parts():
        parts.append(entry.count(part, workers=workers, on_progress=show))
        done += len(part)
    return entry.results(parts)


@dataclass(frozen=True, slots=True)
class How:
    """What is done, as `evaluate` takes it."""

    protocols: tuple[str, ...] = plans.PROTOCOLS
    missing: tuple[str, ...] = plans.MISSING
    rates: tuple[float, ...] = plans.RATES
    batch: int = 8
    device: str = "auto"
    absent: str = "zero"
    seed: int = 0
    worst: int = 6
    _: KW_ONLY
    allow_missing: bool = False
    allow_encodings: bool = False


class Entry:
    """A network and a data set that fit each other, and what is done with them.

    Args:
        model, dataset: as `evaluate`.
        how: what is done.

    Raises:
        RobustsegError: as `evaluate`, as far as it can be told before a sample is read.
    """

    def __init__(self, model: Network | Path | str, dataset: Dataset, how: How) -> None:
        if how.absent not in ABSENT:
            raise RobustsegError(f"absent is {how.absent!r}; {did_you_mean(how.absent, ABSENT)}")
        if how.batch < 1:
            raise RobustsegError(f"batch is {how.batch}; expected at least 1")
        self.dataset, self.how = dataset, how
        self._device = pick_device(how.device)
        self.name, self.digest = "a network in memory", ""
        if not isinstance(model, Network):
            path = Path(model)
            model = checkpoint.load(path, classes=dataset.classes.names)
            self.name = path.name
            self.digest = sha256(path).hexdigest()
        spec = model.spec
        checkpoint.expect_classes(spec, dataset.classes.names)
        self.shared = shared_modalities(spec, dataset, allow_missing=how.allow_missing)
        if dataset.protocol_size:
            dataset.network_shape()
        if not how.allow_encodings:
            expect_encodings(spec, dataset, self.shared)
        self.trials = plans.plan(
            self.shared, protocols=how.protocols, missing=how.missing, rates=how.rates
        )
        self._model, self._spec = model, spec
        self._forward: Forward | None = None

    def count(
        self,
        part: Sequence[int],
        *,
        workers: int = 0,
        on_progress: Callable[[int], None] = lambda done: None,
    ) -> Part:
        """Count some samples, in batches of their own.

        Args:
            part: one of `Dataset.parts`.
            workers: processes that read samples ahead.
            on_progress: called with the samples done.

        Raises:
            RobustsegError: as `evaluate`.
        """
        spec = self._spec
        frames = RankedFrames(self.how.worst, spec.encodings or self.dataset.encodings)
        counter = Counts(self.trials, len(spec.classes), self._device, spec)
        self._forward = self._forward or _ready(self._model, self._device, self.how.seed)
        read = batches(self.dataset, self.how.batch, workers, part)
        _add(counter, self._forward, read, self.shared, frames, on_progress)
        return counter.part(frames)

    def results(self, parts: Sequence[Part]) -> Results:
        """What they come to, together.

        Raises:
            RobustsegError: no label anywhere, or images or labels of two sizes.
        """
        how, spec, dataset = self.how, self._spec, self.dataset
        found = together(parts)
        if not found.ids:
            raise RobustsegError(
                f"none of the {len(dataset)} samples of {dataset.name} {dataset.split} has a "
                "label; give labels (a topic or a folder), or another split"
            )
        frames = RankedFrames(how.worst, {})
        frames.add(found.worst)
        prior = PositionPrior(len(spec.classes))
        for group, cells in zip(found.groups, found.cells, strict=True):
            prior.add_cells(cells, group.scene, group)
        painted = prior.counts()
        known = spec.calibration
        about = About(
            checkpoint=self.name,
            checkpoint_sha256=self.digest,
            provenance=spec.provenance,
            trained=spec.trained,
            dataset=dataset.name,
            split=dataset.split,
            size=found.size,
            label_size=found.label_size,
            samples=len(found.ids),
            unlabelled=found.unlabelled,
            samples_sha256=hashlib.sha256("\n".join(sorted(found.ids)).encode()).hexdigest(),
            modalities=self.shared,
            present={m: found.present.get(m, 0) for m in self.shared},
            protocols=tuple(
                p for p in plans.PROTOCOLS if p in {t.protocol.split()[0] for t in self.trials}
            ),
            missing=tuple(m for m in plans.MISSING if m in how.missing),
            rates=how.rates,
            absent=how.absent,
            seed=how.seed,
            calibrated=known is not None,
            alphas=() if known is None else known.alphas,
            prior_of="these labels" if prior.own else "other scenes",
        )
        return Results(
            about=about,
            classes=tuple(spec.classes),
            palette=tuple(spec.palette),
            trials=tuple(self.trials),
            groups=found.groups,
            sizes=found.sizes,
            counts=found.counts,
            blind=found.blind,
            worst=frames.ranked(),
            bins=found.bins,
            kept=found.kept,
            prior=np.stack([painted[group] for group in found.groups]),
        )


def count(
    model: Network,
    dataset: Dataset,
    trials: Sequence[plans.Trial],
    shared: Sequence[str],
    frames: Frames,
    *,
    device: torch.device,
    batch: int,
    workers: int = 0,
) -> Counts:
    """The pass itself: every labelled sample in every trial, labels alone.

    Args:
        model: left as it is; a folded copy of it runs.
        dataset: fits the network (`shared_modalities`, `expect_encodings`).
        trials: what is done to the sensors.
        shared: the sensors that are shown.
        frames: gets what is worth looking at.
        device: where it runs.
        batch: samples at once.
        workers: processes that read samples ahead.

    Raises:
        RobustsegError: as `evaluate`.
    """
    counter = Counts(trials, len(model.spec.classes), device)
    forward = _ready(model, device, seed=0)
    _add(counter, forward, batches(dataset, batch, workers), shared, frames, lambda done: None)
    return counter


def _ready(model: Network, device: torch.device, seed: int) -> Forward:
    with torch.random.fork_rng(devices=[]):  # the folded head is born with random weights
        folded = model.folded()
    return forward_of(folded.to(device), seed=seed)


def _add(
    counter: Counts,
    forward: Forward,
    read: Iterable[list[Sample]],
    shared: Sequence[str],
    frames: Frames,
    told: Callable[[int], None],
) -> None:
    done = 0
    for samples in read:
        counter.add(forward, [only(s, shared) for s in samples if s.label is not None], frames)
        done += len(samples)
        counter.unlabelled += sum(s.label is None for s in samples)
        told(done)


def only(sample: Sample, names: Sequence[str]) -> Sample:
    """A sample with these sensors alone."""
    images = {name: sample.images[name] for name in names if name in sample.images}
    return Sample(sample.id, images, sample.label, sample.tags, sample.quality)


def batches(
    dataset: Dataset, batch: int, workers: int = 0, some: Sequence[int] | None = None
) -> Iterator[list[Sample]]:
    """Samples in order, all or some. The loader has its own generator, so the global random state
    stays."""
    reader = _Reader(dataset)
    loader: Iterable[list[Sample | RobustsegError]] = DataLoader(
        reader if some is None else Subset(reader, some),
        batch_size=batch,
        collate_fn=list,
        num_workers=workers,
        generator=torch.Generator(),
    )
    for found in loader:
        samples = []
        for sample in found:
            if isinstance(sample, RobustsegError):
                raise sample
            samples.append(sample)
        yield samples


class _Reader(MapStyle[Sample | RobustsegError]):
    """A data set whose errors come home as values: raised in a worker, they bury their text."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Sample | RobustsegError:
        try:
            return self._dataset[index]
        except RobustsegError as error:
            return RobustsegError(str(error))
