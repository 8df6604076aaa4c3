"""EMM, RMM, E(p) and the rules of the mean, on recorded pictures and a network of one layer."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import count, product

import numpy as np
from numpy.typing import NDArray

from robustseg_core.evaluation.figures import headline, trial_scores
from robustseg_core.evaluation.noise import drop_elements
from robustseg_core.evaluation.protocols import INTACT, ZERO, Trial, Variant, plan
from robustseg_core.metrics import confusion, mean_iou
from support.golden import golden, ints, unit
from support.parity import Row

TITLE = "Evaluation"
NOTE = """\
mIoU in percent, with the published code's random numbers in place of ours. The numbers are the
first ones (all sensors; the mean), the difference is the greatest of all. As printed: the published
scripts round each combination to two decimals before they take means and expectations; ours,
rounded in the same place, are the same numbers."""
ALLOWED = 1e-11
SENSORS = ("rgb", "depth", "event", "lidar")
SHORT = {"RGB": "rgb", "D": "depth", "E": "event", "L": "lidar"}
CLASSES, SAMPLES, SIZE = 25, 3, (24, 40)
FIGURES = ("mean", "E(0.2)", "E(0.1)", "E(0.05)")
SEEDS = {0.25: 3000, 0.5: 4000, 0.75: 5000}
"""Of RMM's random numbers, by its rate."""


class Told:
    """A generator that says what the published code drew."""

    def __init__(self, drawn: NDArray[np.float64]) -> None:
        self._drawn = drawn

    def random(self, shape: tuple[int, ...], dtype: object = None) -> NDArray[np.float64]:
        """The drawn numbers."""
        assert shape == self._drawn.shape
        return self._drawn


@cache
def pictures() -> NDArray[np.float32]:
    """(samples, sensors, 3, H, W), with gaps."""
    shape = (SAMPLES, len(SENSORS), 3, *SIZE)
    gaps = unit(2001, (SAMPLES, len(SENSORS), 1, *SIZE)) < 0.15
    return np.where(gaps, 0, ints(2000, shape, 17) - 8).astype(np.float32)


def labels() -> NDArray[np.uint8]:
    """(samples, H, W)."""
    found: NDArray[np.uint8] = golden("evaluation").arrays["labels"]
    return found


def predict(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(sensors, 3, H, W) to (H, W): the network of one layer; exact in float32."""
    weights = (ints(2002, (CLASSES, len(SENSORS), 3), 15) - 7).astype(np.float32)
    bias = np.arange(CLASSES, dtype=np.float32)[:, None, None] / 64
    return (np.einsum("kmc,mchw->khw", weights, image) + bias).argmax(0).astype(np.uint8)


@cache
def counts(protocol: str) -> tuple[list[Trial], NDArray[np.int64]]:
    """Trials of `emm` or `rmm 0.5`, and their (15, K, K + 1) counts."""
    kind, _, rate = protocol.partition(" ")
    trials = plan(SENSORS, protocols=[kind], rates=[float(rate or 0.5)])
    draws = _draws(float(rate)) if rate else {}
    table = np.zeros((len(trials), CLASSES, CLASSES + 1), np.int64)
    for t, trial in enumerate(trials):
        for i in range(SAMPLES):
            shown = np.stack([_shown(trial, i, m, draws) for m in range(len(SENSORS))])
            table[t] += confusion(labels()[i], predict(shown), CLASSES)
    return trials, table


Draws = dict[tuple[frozenset[str], int, str], int]


def _draws(rate: float) -> Draws:
    """(missing sensors, sample, sensor) -> seed, in the order in which they were drawn."""
    combinations = golden("evaluation").facts["missing_in_order"]
    number, found = count(SEEDS[rate] + 1), {}
    for missing, i in product(combinations, range(SAMPLES)):
        gone = frozenset(SHORT[name] for name in missing)
        found |= {(gone, i, SHORT[name]): next(number) for name in missing}
    return found


def _shown(trial: Trial, sample: int, column: int, draws: Draws) -> NDArray[np.float32]:
    name, image = SENSORS[column], pictures()[sample, column]
    variant: Variant | None = trial.shown if name in trial.subset else trial.others
    assert variant is not None
    if variant == INTACT:
        return image
    if variant == ZERO:
        return np.zeros_like(image)
    gone = frozenset(SENSORS) - set(trial.subset)
    drawn = unit(draws[gone, sample, name], (1, *image.shape))[0]
    return drop_elements(image, float(variant.level), Told(drawn))  # type: ignore[arg-type]


def in_order(trials: list[Trial], scores: NDArray[np.float64]) -> list[float]:
    """Scores in the order of the published combinations."""
    by_missing = {
        frozenset(SENSORS) - set(t.subset): s for t, s in zip(trials, scores, strict=True)
    }
    combinations = golden("evaluation").facts["missing_in_order"]
    return [float(by_missing[frozenset(SHORT[n] for n in names)]) for names in combinations]


def rows() -> Iterator[Row]:
    """Four for each protocol; then the counts, and the two rules of the mean."""
    facts = golden("evaluation").facts
    for protocol in ("emm", *(f"rmm {rate}" for rate in SEEDS)):
        record = facts[protocol.replace(" ", "_")]
        trials, table = counts(protocol)
        scores = 100 * trial_scores(table, absent="zero")
        name, printed = protocol.upper(), record["printed"]
        unrounded = in_order(trials, scores), record["mIoU_unrounded"]
        yield _greatest(f"{name}, 15 combinations", *unrounded)
        rounded = [round(score, 2) for score in unrounded[0]]
        yield _greatest(f"{name}, 15 combinations, as printed", rounded, printed[:15])
        own = _figures(protocol, trials, scores)
        yield _greatest(f"{name}, mean and E(p)", own, [record["unrounded"][f] for f in FIGURES])
        own = _figures(protocol, trials, scores.round(2))
        yield _greatest(f"{name}, mean and E(p), as printed", own, printed[15:])
    counted, official = counts("emm")[1][-1][:, :CLASSES], golden("evaluation").arrays
    apart = float(np.abs(counted - official["confusion_full"]).max())
    there = [float(np.trace(table)) for table in (official["confusion_full"], counted)]
    yield Row("counts of all sensors, hits", *there, apart, 0)
    yield from _absent()


def _figures(protocol: str, trials: list[Trial], scores: NDArray[np.float64]) -> list[float]:
    found = headline(scores, trials, SENSORS)
    return [float(found[f"{protocol} {figure.replace('(0', '(')}"]) for figure in FIGURES]


def _greatest(what: str, ours: list[float], official: list[float]) -> Row:
    worst = max(abs(a - b) for a, b in zip(ours, official, strict=True))
    return Row(what, official[0], ours[0], worst, ALLOWED)


def _absent() -> Iterator[Row]:
    """A class that is neither in the truth nor predicted, under both rules."""
    record = golden("evaluation").facts["absent"]
    table = sum(
        confusion(truth, np.where(ids == CLASSES - 1, 0, ids).astype(np.uint8), CLASSES)
        for truth, ids in zip(labels(), map(predict, pictures()), strict=True)
    )
    assert isinstance(table, np.ndarray)
    for rule, key in (("zero", "counts_as_0"), ("skip", "left_out")):
        official = record[f"mIoU_absent_{key}_unrounded"]
        ours = 100 * mean_iou(table, absent=rule)
        what = f"`absent={rule}`, one class absent"
        yield Row(what, official, ours, abs(ours - official), ALLOWED)
