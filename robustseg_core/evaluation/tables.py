"""The tables of an evaluation, once: Markdown and HTML are two ways of writing the same rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robustseg_core.evaluation.bootstrap import FEW, SHARE
from robustseg_core.evaluation.confidence import agreement, of_subsets, prior_miou, sureness
from robustseg_core.evaluation.figures import (
    FAILURES,
    KEY,
    figures,
    trial_scores,
    worst_subset,
)
from robustseg_core.evaluation.protocols import TITLES
from robustseg_core.evaluation.results import Results
from robustseg_core.metrics import iou
from robustseg_core.models.subsets import short, subsets
from robustseg_core.text import visible

PRIOR = "position prior"
OWN = "these labels"
"""`About.prior_of`, where there is but one scene."""

Spans = Mapping[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Table:
    """Words in rows; the first column names the row."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def markdown(self) -> str:
        """The table, its title above it and its note below."""
        lines = [f"### {visible(self.title)}", "", _line(self.head)]
        lines.append(_line(["---"] + ["---:"] * (len(self.head) - 1)))
        lines += [_line(row) for row in self.rows]
        return "\n".join([*lines, *(["", visible(self.note)] if self.note else [])]) + "\n"


@dataclass(frozen=True, slots=True)
class Confused:
    """A true class, and what its pixels were called."""

    name: str
    shares: tuple[float, ...]
    """Of its pixels that were called each of `Confusion.columns`, in [0, 1]."""
    iou: float
    pixels: float
    """Its share of all pixels that have a label."""


@dataclass(frozen=True, slots=True)
class Confusion:
    """A confusion matrix whose rows are the truth, each divided by its sum."""

    columns: tuple[str, ...]
    """Classes that are in the truth or were predicted; `NOTHING`, if pixels got no label."""
    rows: tuple[Confused, ...]
    absent: tuple[str, ...]
    """Classes that no truth holds: they have no row."""


NOTHING = "no label"
"""Column of pixels for which nothing was predicted."""


def confusion_matrix(counts: NDArray[np.int64], classes: Sequence[str]) -> Confusion:
    """Of (K, K + 1) counts, as `metrics.confusion` returns them."""
    names = (*classes, NOTHING)
    truth = counts.sum(1)  # (K,)
    shown = [k for k in range(len(names)) if counts[:, k].any() or truth[k : k + 1].any()]
    own = iou(counts)
    rows = [
        Confused(
            classes[k],
            tuple(float(share) for share in counts[k, shown] / truth[k]),
            float(own[k]),
            float(truth[k] / truth.sum()),
        )
        for k in np.flatnonzero(truth).tolist()
    ]
    return Confusion(
        tuple(names[k] for k in shown),
        tuple(rows),
        tuple(name for name, pixels in zip(classes, truth, strict=True) if not pixels),
    )


def tables(results: Results, spans: Spans) -> list[Table]:
    """All tables that the evaluation allows; each is captioned with what its numbers hold for.

    Args:
        results: the evaluation.
        spans: interval of each figure; empty: there are too few scenes.
    """
    found = [
        _headline(results, spans),
        _protocols(results),
        _subsets(results),
        _noise(results),
        _parts(results, "condition"),
        _parts(results, "case"),
        _classes(results),
        _confidence(results),
        _confidence_by_condition(results),
        _sensors(results),
    ]
    return [table for table in found if table is not None and table.rows]


def markdown(results: Results, spans: Spans) -> str:
    """All tables as one document."""
    title = f"## Evaluation of {visible(results.about.checkpoint)}\n"
    return "\n".join([title, *(table.markdown() for table in tables(results, spans))])


def percent(value: float) -> str:
    """Two decimals, as the papers print; a dash where there is no value."""
    return "-" if math.isnan(value) else f"{100 * value:.2f}"


def class_ious(results: Results, protocol: str) -> dict[str, NDArray[np.float64]]:
    """(K,) IoU by the column head of each subset of a protocol, in the papers' order."""
    values = iou(results.counts.sum(1))  # (T, K)
    return {
        short(trial.subset): values[t]
        for t, trial in enumerate(results.trials)
        if trial.protocol == protocol
    }


def _headline(results: Results, spans: Spans) -> Table:
    table = figures(results)
    rows = []
    for name in (name for name in KEY if name in table):
        low, high = spans.get(name, (math.nan, math.nan))
        span = "too few scenes" if math.isnan(low) else f"{percent(low)} to {percent(high)}"
        rows.append((name, percent(table[name]), span))
    rows += [(PRIOR, percent(value), "") for value in _prior(results)]
    scenes = len(results.values("scene"))
    note = f"Intervals: bootstrap over {scenes} scenes"
    note += f"; fewer than {FEW} scenes make them too narrow. " if 1 < scenes < FEW else ". "
    note += "`rmm mean` is over all subsets and rates, `nm mean` over the levels, "
    note += f"`robustness mean` over those of emm, rmm and nm. {_prior_words(results)}"
    note += _note(results)
    return Table(
        "Headline, mIoU in %", ("figure", "mIoU", f"{SHARE:g} % interval"), tuple(rows), note
    )


def _protocols(results: Results) -> Table:
    table = figures(results)
    rows = []
    for protocol in _with_subsets(results):
        names = [f"{protocol} {part}" for part in ("mean", "full", "worst", *FAILURES)]
        cells = [percent(table[name]) for name in names]
        cells[2] += f" ({worst_subset(results, protocol)})"
        rows.append((protocol, *cells))
    head = ("protocol", "mean", "all sensors", "worst", *FAILURES)
    rows += _prior_rows(results, len(head) - 1, rows)
    ways = "; ".join(f"{name}: {TITLES[name]}" for name in results.about.protocols)
    note = f"{ways}. E(p): each sensor fails with probability p. {_note(results)}"
    return Table("Protocols", head, tuple(rows), note)


def _subsets(results: Results) -> Table:
    scores = trial_scores(results.counts.sum(1), absent=results.about.absent)
    columns = subsets(results.about.modalities)
    rows = []
    for protocol in _with_subsets(results):
        own = {t.subset: scores[i] for i, t in enumerate(results.trials) if t.protocol == protocol}
        mean = float(np.mean(list(own.values())))
        rows.append((protocol, *(percent(own[s]) for s in columns), percent(mean)))
    head = ("protocol", *(short(s) for s in columns), "mean")
    rows += _prior_rows(results, len(head) - 1, rows)
    return Table("Every subset of the sensors", head, tuple(rows), _note(results))


def _noise(results: Results) -> Table:
    names = [n for n in figures(results) if n.startswith("nm ")]
    table = figures(results)
    head = ("protocol", *(name.removeprefix("nm ") for name in names))
    rows = [("nm", *(percent(table[name]) for name in names))] if names else []
    rows += _prior_rows(results, len(names), rows)
    return Table("All sensors noisy", head, tuple(rows), _note(results))


def _parts(results: Results, attribute: str) -> Table | None:
    values = results.values(attribute)
    rows: list[tuple[str, ...]] = []
    columns = [name for name in KEY if name in figures(results)]
    for value in values:
        counts, size = results.pick(attribute, value)
        table = figures(results, counts)
        label = value or ("normal" if attribute == "case" else "unknown")
        prior = [percent(prior_miou(results, attribute, value)) for _ in _prior(results)]
        rows.append((label, str(size), *(percent(table[name]) for name in columns), *prior))
    head = (attribute, "samples", *columns, *(PRIOR for _ in _prior(results)))
    return Table(f"By {attribute}", head, tuple(rows), _note(results))


def _classes(results: Results) -> Table:
    protocols = _with_subsets(results)
    if not protocols:
        return Table("By class", (), ())
    own = class_ious(results, protocols[0])
    singles = [short((name,)) for name in results.about.modalities]
    full = short(results.about.modalities)
    columns = list(dict.fromkeys([full, *singles]))
    stack = np.nan_to_num(np.stack(list(own.values())))  # never there in any subset: 0
    share = results.counts[0].sum((0, 2)) / max(1, results.counts[0].sum())
    prior = [] if results.prior is None else [iou(results.prior.sum(0))]
    rows = []
    for k, name in enumerate(results.classes):
        cells = [share[k], *(own[column][k] for column in columns), stack[:, k].mean()]
        rows.append((name, *map(percent, cells), *(percent(values[k]) for values in prior)))
    head = ("class", "% of pixels", *columns, "mean of subsets", *(PRIOR for _ in prior))
    note = f"IoU under `{protocols[0]}`; a dash: neither there nor predicted. {_note(results)}"
    return Table("By class", head, tuple(rows), note)


def _confidence(results: Results) -> Table | None:
    """What confidence was worth, in every trial that it was counted in."""
    found, alphas = sureness(results), results.about.alphas
    if not found:
        return None
    rows = []
    for row in found:
        promises = zip(row.kept, row.kept_right, strict=True)
        cells = [percent(share) for pair in promises for share in pair]
        rows.append((row.name, percent(row.right), percent(row.mean), percent(row.error), *cells))
    head: tuple[str, ...] = ("sensors", "right", "mean confidence", "ECE")
    for alpha in alphas:
        head += (f"alpha {alpha:g}: kept", "of these right")
    note = "In % of the labelled pixels. ECE: expected calibration error, 15 bins of equal width. "
    if not math.isnan(own := agreement(found)):
        note += f"Rank correlation of mean confidence with right, over the subsets: {own:.2f}. "
    note += "The share promised for alpha is 1 - alpha, or more. " if alphas else ""
    note += "" if results.about.calibrated else "The checkpoint's confidence is not calibrated. "
    return Table("Confidence", head, tuple(rows), note + _note(results))


def _confidence_by_condition(results: Results) -> Table | None:
    """Calibration error where the scenes differ."""
    rows: list[tuple[str, ...]] = []
    for value in results.values("condition"):
        own = of_subsets(sureness(results, "condition", value))
        if own:
            worst = max(own, key=lambda row: row.error)
            mean = float(np.mean([row.error for row in own]))
            cells = (percent(own[-1].error), percent(mean), percent(worst.error), worst.name)
            rows.append((value or "unknown", *cells))
    head = ("condition", "all sensors", "mean of subsets", "worst subset", "which")
    return Table("Calibration error by condition", head, tuple(rows), f"In %. {_note(results)}")


def _prior(results: Results) -> list[float]:
    """The position prior's mIoU; empty where it was not counted."""
    return [] if results.prior is None else [prior_miou(results)]


def _prior_rows(
    results: Results, cells: int, rows: Sequence[tuple[str, ...]]
) -> list[tuple[str, ...]]:
    """A row of the position prior below `rows`, if there are any: all sensors are one to it."""
    return [(PRIOR, *[percent(value)] * cells) for value in _prior(results) if rows]


def _prior_words(results: Results) -> str:
    """What the position prior is."""
    words = f"`{PRIOR}` is a mask that ignores every sensor and paints the commonest class of each "
    words += f"place in the labels of {results.about.prior_of}"
    words += ", so an upper bound of such masks. " if results.about.prior_of == OWN else ". "
    return words if results.prior is not None else ""


def _sensors(results: Results) -> Table | None:
    about = results.about
    blind = {
        f"{t.protocol} {short(t.subset)}": int(n)
        for t, n in zip(results.trials, results.blind, strict=True)
        if n
    }
    if not blind and all(n == about.samples for n in about.present.values()):
        return None
    rows = [(f"{name} is there", str(about.present[name])) for name in about.modalities]
    rows += [(f"nothing is left in {name}", str(count)) for name, count in blind.items()]
    note = (
        f"Of {about.samples} samples. What a sample lacks is skipped in `subsets` and `nm` and "
        "zero in `emm` and `rmm`; where nothing is left, every pixel is a miss."
    )
    return Table("Samples that lack sensors", ("what", "samples"), tuple(rows), note)


def _with_subsets(results: Results) -> list[str]:
    """Protocols that have a score per subset, as listed."""
    return [p for p in dict.fromkeys(t.protocol for t in results.trials) if p[:2] != "nm"]


def _note(results: Results) -> str:
    return f"{results.about.caption()}."


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(visible(cell).replace("|", "/") for cell in cells) + " |"
