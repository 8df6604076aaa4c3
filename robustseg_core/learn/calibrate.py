"""Fit what a network's confidence means, on labelled data that it did not learn from.

Two passes: the first finds the temperatures, on some pixels of each sample, the second counts how
often a class that is so sure is right, and places the thresholds. Each sample is seen twice in a
pass, as it is and with sensors broken as in training. The mathematics: docs/specs/confidence.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustseg_core.datasets import Dataset, Sample
from robustseg_core.engines.eager import pick_device
from robustseg_core.errors import RobustsegError
from robustseg_core.evaluation.counting import Truth
from robustseg_core.evaluation.forward import Forward
from robustseg_core.evaluation.matching import expect_encodings, shared_modalities
from robustseg_core.evaluation.protocols import Trial
from robustseg_core.evaluation.run import batches, only
from robustseg_core.evaluation.shared import forward_of
from robustseg_core.learn.corrupt import CorruptConfig, corrupt
from robustseg_core.learn.validate import Picked
from robustseg_core.metrics import LEVELS
from robustseg_core.models import checkpoint
from robustseg_core.models.calibration import WELL, key, mean_quality, temperature_at
from robustseg_core.models.network import Network
from robustseg_core.models.novelty import describe, described, references
from robustseg_core.models.subsets import subsets
from robustseg_core.storage.output_folder import expect_free
from robustseg_core.types import (
    MOST_ALPHAS,
    MOST_REFERENCES,
    MOST_SUBSETS,
    SURE,
    Calibration,
    ModelSpec,
    References,
    Thresholds,
    Trust,
)

ALPHAS = (0.05, 0.1, 0.2)
"""Shares of wrong pixels that thresholds are placed for."""
PIXELS = 20_000
"""Of a subset, that its temperature is fitted on; as many again of broken sensors."""
BLOCKS = 40
"""Scenes that are told apart; of more, several make one."""
FEWEST = 5
"""Scenes below which nothing is promised of a class; of fewer in all, stretches of frames are taken
for scenes."""
STRETCHES = 10
DAMAGE = CorruptConfig(p=0.5, told=1.0)
"""How sensors are broken: each with that probability, and the network is told how badly."""
_SLOPES = np.linspace(-4, 4, 33)
_STEPS, _CLOSE = 60, 1e-10
"""Of the search for a temperature: most steps, and the relative change that ends it."""

Logits = tuple[Tensor, Tensor, Tensor]
"""(N, K) logits, (N,) int64 true ids and (N,) 1 - mean told quality."""


def calibrate_file(
    path: Path, dataset: Dataset, out: Path, *, alphas: Sequence[float] = ALPHAS, **how: object
) -> ModelSpec:
    """Write the checkpoint `path` to `out` with its calibration; `path` stays as it is.

    What is promised holds at the size at which it was measured: the network's input is of the
    size of the samples from then on.

    Args:
        path: a checkpoint, calibrated or not.
        dataset: as `calibrate`.
        out: another file.
        alphas: as `calibrate`.
        how: as `calibrate`.

    Returns:
        The spec that was written.

    Raises:
        RobustsegError: as `calibrate`; or `out` exists, has no folder or is named as an export.
    """
    expect_free(out)  # known now, not when all is done
    if Path(out).suffix == checkpoint.EXPORTED:
        raise RobustsegError(
            f"out is {out}, and a name that ends in {checkpoint.EXPORTED} is an export's; "
            "give one that ends in .safetensors"
        )
    size = dataset.network_shape()
    model = checkpoint.load(path, classes=dataset.classes.names, size=size)
    found = calibrate(model, dataset, alphas=alphas, **how)  # type: ignore[arg-type]
    known = known_pictures(model.spec, dataset)
    spec = model.spec.model_copy(update={"calibration": found, "references": known})
    checkpoint.save(out, model, spec, half=checkpoint.is_half(path))
    return spec


def calibrate(
    model: Network,
    dataset: Dataset,
    *,
    alphas: Sequence[float] = ALPHAS,
    damage: CorruptConfig | None = DAMAGE,
    samples: int = 0,
    batch: int = 8,
    device: str | torch.device = "auto",
    workers: int = 0,
    seed: int = 0,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Calibration:
    """The calibration of a network, for every subset of its sensors.

    Args:
        model: left as it is; its own calibration, if any, does not matter.
        dataset: labelled, and not what the network was trained on.
        alphas: shares of wrong pixels, each above 0 and at most 0.5.
        damage: how sensors are broken; None: they are not, and broken ones count as others do.
        samples: how many of the data set, evenly spread; 0: all.
        batch: samples at once.
        device: where it runs.
        workers: processes that read samples ahead.
        seed: of pixels and damage.
        on_progress: called with samples done and their total, over both passes.

    Raises:
        RobustsegError: the data does not fit the network or has no label, or an alpha is no such
            share.
    """
    if bad := [alpha for alpha in alphas if not 0 < alpha <= 0.5]:
        raise RobustsegError(f"alpha is {bad[0]:g}; give shares above 0, and at most 0.5")
    if not 1 <= len(set(alphas)) <= MOST_ALPHAS:
        raise RobustsegError(f"got {len(set(alphas))} alphas; give 1 to {MOST_ALPHAS}")
    spec = model.spec
    checkpoint.expect_classes(spec, dataset.classes.names)
    names = shared_modalities(spec, dataset, allow_missing=False)
    expect_encodings(spec, dataset, names)
    if 2 ** len(names) > MOST_SUBSETS:
        raise RobustsegError(
            f"the network has {len(names)} sensors, so {2 ** len(names) - 1} subsets; confidence "
            f"is calibrated of fewer than {MOST_SUBSETS}"
        )
    picked = Picked(dataset, samples)
    with torch.random.fork_rng(devices=[]):  # the folded head is born with random weights
        folded = model.folded()
    where = pick_device(device) if isinstance(device, str) else device
    forward = forward_of(folded.to(where))
    views = _Views(spec, forward, picked, names, damage, seed, batch, workers, where)
    total, done = 2 * len(picked), 0

    def tell(count: int) -> None:
        nonlocal done
        done += count
        on_progress(done, total)

    trusts, overall = _temperatures(views, tell)
    return _with_thresholds(views, trusts, overall, sorted(set(alphas)), tell)


def known_pictures(
    spec: ModelSpec, *collections: Dataset, samples: int = MOST_REFERENCES
) -> dict[str, References]:
    """Modality -> pictures that a network knows, for `ModelSpec.references`.

    Args:
        spec: the network's; pictures that it knows already count as one collection more.
        collections: what it learned from, or what it is calibrated on.
        samples: of each collection, evenly spread.
    """
    found: dict[str, list[NDArray[np.float64]]] = {
        name: described(known) for name, known in spec.references.items()
    }
    for collection in collections:
        picked = Picked(collection, samples)
        for index in range(len(picked)):
            for name, image in picked[index].images.items():
                if name in spec.modalities:
                    found.setdefault(name, []).append(describe(image))
    made = {name: references(each) for name, each in found.items()}
    return {name: known for name, known in made.items() if known is not None}


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the network says of one sample with some of its sensors."""

    sample: int
    """Its place in the data set."""
    scene: str
    subset: str
    """As `Calibration.subsets` names it."""
    quality: float
    """Mean of what was told."""
    intact: bool
    """Whether it is the sample as it was recorded."""
    logits: Tensor
    """(K, h, w)."""
    truth: Truth


@dataclass(frozen=True, slots=True)
class _Views:
    """Every labelled sample, whole and with broken sensors, in every subset of them."""

    spec: ModelSpec
    forward: Forward
    data: Dataset
    names: tuple[str, ...]
    damage: CorruptConfig | None
    seed: int
    batch: int
    workers: int
    device: torch.device

    def all(self, tell: Callable[[int], None]) -> Iterator[_Seen]:
        """The same in each pass."""
        place = 0
        for samples in batches(self.data, self.batch, self.workers):
            kept = [(place + i, only(s, self.names)) for i, s in enumerate(samples)]
            kept = [(i, sample) for i, sample in kept if sample.label is not None]
            truths = [Truth(s, len(self.spec.classes), self.device) for _, s in kept]
            for intact in (True, False) if self.damage is not None else (True,):
                shown = [s if intact else self._broken(i, s) for i, s in kept]
                if shown:
                    yield from self._subsets(shown, [i for i, _ in kept], truths, intact=intact)
            place += len(samples)
            tell(len(samples))

    def _subsets(
        self,
        shown: Sequence[Sample],
        places: Sequence[int],
        truths: Sequence[Truth],
        *,
        intact: bool,
    ) -> Iterator[_Seen]:
        self.forward.take(shown)
        trials = [Trial("subsets", subset) for subset in subsets(self.names)]
        for trial, (logits, seeing) in zip(trials, self.forward.answers(trials), strict=True):
            for row, i in enumerate(seeing):
                sample = shown[i]
                if any(name not in sample.images for name in trial.subset):
                    continue  # it counts with the subset that it has
                told = {name: sample.quality.get(name, 1.0) for name in trial.subset}
                quality = mean_quality(told)
                if not intact and quality >= WELL:
                    continue
                yield _Seen(
                    places[i],
                    sample.tags.get("scene", ""),
                    key(self.spec, trial.subset),
                    quality,
                    intact,
                    logits[row],
                    truths[i],
                )

    def _broken(self, place: int, sample: Sample) -> Sample:
        assert self.damage is not None
        rng = np.random.default_rng([self.seed, place])
        images, done = corrupt(
            sample.images, rng, self.damage, encodings=self.data.encodings or self.spec.encodings
        )
        told = {name: found.quality for name, found in done.items()}
        return replace(sample, images=images, quality={**sample.quality, **told})


def _temperatures(views: _Views, tell: Callable[[int], None]) -> tuple[dict[str, Trust], Trust]:
    """First pass: subset -> temperature and slope, and those of all subsets together."""
    each = max(1, PIXELS // len(views.data))
    kept: dict[tuple[str, bool], list[Logits]] = {}
    for seen in views.all(tell):
        if not seen.truth.labelled:
            continue
        rng = np.random.default_rng([views.seed, seen.sample, 1])
        places = rng.integers(seen.truth.labelled, size=each)
        logits, ids = seen.truth.at(seen.logits, places)
        ailing = torch.full((each,), 1 - seen.quality)
        well = seen.quality >= WELL
        kept.setdefault((seen.subset, well), []).append((logits.cpu().float(), ids.cpu(), ailing))
    if not kept:
        raise RobustsegError(
            f"none of the {len(views.data)} samples of {views.data.name} {views.data.split} "
            "has a label; give labelled data to calibrate on, or take more of it"
        )
    pixels = {name: _joined(parts) for name, parts in kept.items()}
    every = [_thinned([v for (_, w), v in pixels.items() if w is k]) for k in (True, False)]
    overall = _trust(every[0], every[1])
    names = dict.fromkeys(subset for subset, _ in pixels)
    return {
        name: _trust(pixels.get((name, True)), pixels.get((name, False)), overall) for name in names
    }, overall


def _trust(well: Logits | None, ailing: Logits | None, usual: Trust | None = None) -> Trust:
    """Temperature of pixels of sensors that are well, and slope of those of broken ones."""
    usual = usual or Trust()
    heat = usual.temperature if well is None else fit_temperature(well[0], well[1])
    slope = usual.slope if ailing is None else fit_slope(*ailing, temperature=heat)
    return Trust(temperature=round(heat, 4), slope=round(slope, 4))


def fit_temperature(logits: Tensor, ids: Tensor) -> float:
    """The temperature in [0.01, 100] with the least negative log-likelihood (arXiv 1706.04599).

    That is convex in 1 / T, with derivatives mean(E_p[z] - z_y) and mean(Var_p[z]): Newton's steps
    find where the first is zero, halving (of the logarithm) where they would leave the interval.

    Args:
        logits: (N, K) z.
        ids: (N,) int64 true classes y.
    """
    z = logits.double()
    right = z.gather(1, ids[:, None]).mean()

    def derivatives(sharpness: float) -> tuple[float, float]:
        weighted = (z * sharpness).softmax(1) * z
        expected = weighted.sum(1)
        variance = (weighted * z).sum(1) - expected.square()
        return float(expected.mean() - right), float(variance.mean())

    low, sharpness, high = 0.01, 1.0, 100.0  # 1 / T
    if derivatives(low)[0] > 0:
        return 1 / low
    if derivatives(high)[0] < 0:
        return 1 / high
    for _ in range(_STEPS):
        slope, curvature = derivatives(sharpness)
        if slope == 0:
            break
        if slope > 0:  # surer than it is right: warmer
            high = sharpness
        else:
            low = sharpness
        step = sharpness - slope / curvature if curvature > 0 else math.nan
        if not low < step < high:
            step = math.sqrt(low * high)
        moved, sharpness = abs(math.log(step / sharpness)), step
        if moved < _CLOSE:
            break
    return 1 / sharpness


def fit_slope(logits: Tensor, ids: Tensor, ailing: Tensor, *, temperature: float) -> float:
    """The slope of `Trust` with the least negative log-likelihood, on a grid that is refined once.

    Args:
        logits: (N, K).
        ids: (N,) int64 true classes.
        ailing: (N,) 1 - mean told quality.
        temperature: with all sensors well.
    """
    z = logits.double() / temperature

    def loss(slope: float) -> float:
        cooled = z * torch.exp(-slope * ailing.double())[:, None]
        return float(torch.nn.functional.cross_entropy(cooled, ids))

    grid, step = _SLOPES, float(_SLOPES[1] - _SLOPES[0])
    best = min(grid, key=loss)
    return float(min(best + np.linspace(-step, step, 17), key=loss))


def place_thresholds(table: NDArray[np.int64], alphas: Sequence[float]) -> Thresholds:
    """(A, K) least confidences, so that at most alpha of what is as sure, or surer, is wrong.

    The worst scene counts twice: the next one may be as bad (docs/specs/confidence.md).

    Args:
        table: (B, K, LEVELS, 2) pixels by scene, predicted class, confidence, and wrong or right.
        alphas: A of them.
    """
    above = table[:, :, ::-1].cumsum(2)[:, :, ::-1]  # (B, K, LEVELS, 2): as sure, or surer
    wrong, pixels = above[..., 0], above.sum(-1)  # (B, K, LEVELS)
    known = (pixels[:, :, 0] > 0).sum(0) >= FEWEST  # (K,)
    rows = []
    for alpha in alphas:
        excess = wrong - alpha * pixels
        fine = excess.sum(0) + excess.max(0).clip(min=0) <= 0  # (K, LEVELS)
        fine &= (pixels.sum(0) > 0) & known[:, None]
        least = np.where(fine.any(1), fine.argmax(1), SURE)  # (K,)
        rows.append(tuple(int(level) for level in least))
    return tuple(rows)


def _with_thresholds(
    views: _Views,
    trusts: Mapping[str, Trust],
    overall: Trust,
    alphas: Sequence[float],
    tell: Callable[[int], None],
) -> Calibration:
    """Second pass: the same trusts, with thresholds."""
    blocks, scenes = _blocks(views.data)
    classes = len(views.spec.classes)
    shape = (max(blocks) + 1, classes, LEVELS, 2)
    tables: dict[tuple[str, bool], NDArray[np.int64]] = {}
    for seen in views.all(tell):
        heat = temperature_at(trusts[seen.subset], seen.quality)
        place = seen.subset, seen.quality >= WELL
        if place not in tables:
            tables[place] = np.zeros(shape, np.int64)
        tables[place][blocks[seen.sample]] += seen.truth.sureness(seen.logits, heat)[1]

    def placed(trust: Trust, well: NDArray[np.int64], ailing: NDArray[np.int64] | None) -> Trust:
        rows = place_thresholds(well, alphas)
        broken = rows if ailing is None else place_thresholds(ailing, alphas)
        return trust.model_copy(update={"well": rows, "ailing": broken})

    nothing = np.zeros(shape, np.int64)
    found = {
        name: placed(trust, tables.get((name, True), nothing), tables.get((name, False)))
        for name, trust in trusts.items()
    }
    both = [sum((t for (_, w), t in tables.items() if w is k), nothing) for k in (True, False)]
    data = views.data
    return Calibration(
        alphas=tuple(alphas),
        subsets=found,
        overall=placed(overall, both[0], both[1] if both[1].any() else None),
        data=f"{data.name} {data.split}, {len(data)} samples of {scenes} scenes",
    )


def _blocks(data: Dataset) -> tuple[list[int], int]:
    """Scene of each sample, as a number below `BLOCKS`; and how many scenes there are.

    Of fewer than `FEWEST` scenes, stretches of frames take their place.
    """
    names = [data.tags(i).get("scene", "") for i in range(len(data))]
    scenes = {name: place for place, name in enumerate(dict.fromkeys(names))}
    if len(scenes) < FEWEST:
        return [i * STRETCHES // len(names) for i in range(len(names))], len(scenes)
    return [scenes[name] % BLOCKS for name in names], len(scenes)


def _joined(parts: Sequence[Logits]) -> Logits:
    logits, ids, ailing = (torch.cat(column) for column in zip(*parts, strict=True))
    return logits, ids, ailing


def _thinned(parts: Sequence[Logits]) -> Logits | None:
    """As many pixels as one subset has, evenly of all; None: there are none."""
    if not parts:
        return None
    logits, ids, ailing = _joined(parts)
    step = max(1, len(ids) // PIXELS)
    return logits[::step], ids[::step], ailing[::step]
