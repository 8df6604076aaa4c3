"""One pass over the data, every protocol: what the network is worth when sensors are missing.

samples -> Forward -> logits per trial -> labels at the truth's size -> confusion counts
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as MapStyle

from robustseg_core.datasets import Dataset, Sample
from robustseg_core.engines.eager import pick_device
from robustseg_core.errors import RobustsegError, did_you_mean
from robustseg_core.evaluation import protocols as plans
from robustseg_core.evaluation.counting import Counts
from robustseg_core.evaluation.frames import WorstFrames
from robustseg_core.evaluation.matching import expect_encodings, shared_modalities
from robustseg_core.evaluation.results import About, Results, tally
from robustseg_core.evaluation.shared import forward_of
from robustseg_core.metrics import ABSENT, BINS
from robustseg_core.models import checkpoint
from robustseg_core.models.network import Network


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
        batch: samples at once; changes nothing but speed (beyond rounding).
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
    if absent not in ABSENT:
        raise RobustsegError(f"absent is {absent!r}; {did_you_mean(absent, ABSENT)}")
    if batch < 1:
        raise RobustsegError(f"batch is {batch}; expected at least 1")
    where = pick_device(device)
    name, digest = "a network in memory", ""
    if not isinstance(model, Network):
        path = Path(model)
        model = checkpoint.load(path, classes=dataset.classes.names)
        name, digest = path.name, hashlib.sha256(path.read_bytes()).hexdigest()
    spec = model.spec
    checkpoint.expect_classes(spec, dataset.classes.names)
    shared = shared_modalities(spec, dataset, allow_missing=allow_missing)
    if dataset.protocol_size:
        dataset.network_shape()
    if not allow_encodings:
        expect_encodings(spec, dataset, shared)
    trials = plans.plan(shared, protocols=protocols, missing=missing, rates=rates)
    frames = WorstFrames(worst, spec.encodings or dataset.encodings)
    counter = count(
        model,
        dataset,
        trials,
        shared,
        frames,
        device=where,
        batch=batch,
        seed=seed,
        workers=workers,
        on_progress=on_progress,
        sureness=True,
    )
    if not counter.ids:
        raise RobustsegError(
            f"none of the {len(dataset)} samples of {dataset.name} {dataset.split} has a label; "
            "give labels (a topic or a folder), or another split"
        )

    groups, sizes = tally(counter.sizes)
    sureness, prior = counter.sureness, counter.prior.counts()
    assert sureness is not None, "it was asked for"
    known = spec.calibration
    alphas = 0 if known is None else len(known.alphas)
    nothing = (
        np.zeros((len(trials), BINS, 3)),
        np.zeros((len(trials), alphas, len(spec.classes), 2), np.int64),
    )
    about = About(
        checkpoint=name,
        checkpoint_sha256=digest,
        provenance=spec.provenance,
        trained=spec.trained,
        dataset=dataset.name,
        split=dataset.split,
        size=counter.size,
        label_size=counter.label_size,
        samples=len(counter.ids),
        unlabelled=counter.unlabelled,
        samples_sha256=hashlib.sha256("\n".join(sorted(counter.ids)).encode()).hexdigest(),
        modalities=shared,
        present={m: counter.present[m] for m in shared},
        protocols=tuple(p for p in plans.PROTOCOLS if p in {t.protocol.split()[0] for t in trials}),
        missing=tuple(m for m in plans.MISSING if m in missing),
        rates=tuple(rates),
        absent=absent,
        seed=seed,
        calibrated=known is not None,
        alphas=() if known is None else known.alphas,
        prior_of="these labels" if counter.prior.own else "other scenes",
    )
    return Results(
        about=about,
        classes=tuple(spec.classes),
        palette=tuple(spec.palette),
        trials=tuple(trials),
        groups=groups,
        sizes=sizes,
        counts=np.stack([counter.counts[group] for group in groups], axis=1),
        blind=counter.blind,
        worst=frames.worst(),
        bins=np.stack([sureness.bins.get(g, nothing[0]) for g in groups], axis=1),
        kept=np.stack([sureness.kept.get(g, nothing[1]) for g in groups], axis=1),
        prior=np.stack([prior[group] for group in groups]),
    )


def count(
    model: Network,
    dataset: Dataset,
    trials: Sequence[plans.Trial],
    shared: Sequence[str],
    frames: WorstFrames,
    *,
    device: torch.device,
    batch: int,
    seed: int = 0,
    workers: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
    sureness: bool = False,
) -> Counts:
    """The pass itself: every labelled sample in every trial.

    Args:
        model: left as it is; a folded copy of it runs.
        dataset: fits the network (`shared_modalities`, `expect_encodings`).
        trials: what is done to the sensors.
        shared: the sensors that are shown.
        frames: gets what is worth looking at.
        device: where it runs.
        batch: samples at once.
        seed: of damage.
        workers: processes that read samples ahead.
        on_progress: called with samples done and their total.
        sureness: count the network's confidence, too, and the position prior.

    Raises:
        RobustsegError: as `evaluate`.
    """
    with torch.random.fork_rng(devices=[]):  # the folded head is born with random weights
        folded = model.folded()
    forward = forward_of(folded.to(device), seed=seed)
    spec = model.spec
    counter = Counts(trials, len(spec.classes), device, spec if sureness else None)
    done = 0
    for samples in batches(dataset, batch, workers):
        counter.add(forward, [only(s, shared) for s in samples if s.label is not None], frames)
        done += len(samples)
        counter.unlabelled += sum(s.label is None for s in samples)
        if on_progress is not None:
            on_progress(done, len(dataset))
    return counter


def only(sample: Sample, names: Sequence[str]) -> Sample:
    """A sample with these sensors alone."""
    images = {name: sample.images[name] for name in names if name in sample.images}
    return Sample(sample.id, images, sample.label, sample.tags, sample.quality)


def batches(dataset: Dataset, batch: int, workers: int = 0) -> Iterator[list[Sample]]:
    """Samples in order. The loader has its own generator, so the global random state stays."""
    loader: Iterable[list[Sample | RobustsegError]] = DataLoader(
        _Reader(dataset),
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
