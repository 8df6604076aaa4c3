"""An evaluation as files: figures for programs, tables for notes, a page with pictures to read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from robustseg_core.evaluation.bootstrap import RESAMPLES, intervals
from robustseg_core.evaluation.confidence import (
    agreement,
    of_subsets,
    prior_miou,
    sureness,
)
from robustseg_core.evaluation.figures import figures, trial_scores, worst_subset
from robustseg_core.evaluation.frames import PICTURE_WIDTH
from robustseg_core.evaluation.protocols import TITLES
from robustseg_core.evaluation.results import Results, ScoredFrame
from robustseg_core.evaluation.tables import (
    Table,
    class_ious,
    confusion_matrix,
    markdown,
    tables,
)
from robustseg_core.models.subsets import short
from robustseg_core.output.draw import lookup
from robustseg_core.output.page import embed, figure_png, letters, picture_png, plain_text, render
from robustseg_core.text import visible
from robustseg_core.types import IGNORE

WORDS = (
    ("mIoU", "mean over the classes of intersection over union with the truth"),
    ("subsets", "every subset of the sensors, the others left out"),
    ("EMM", "every subset of the sensors, the others zero: entire modality missing"),
    ("RMM", "parts of the pictures of random sensors are zero: random modality missing"),
    ("NM", "noise on all sensors: noisy modality"),
    ("ECE", "expected calibration error: how far confidence is from the share that is right"),
    ("position prior", "a mask that ignores every sensor: the commonest class of each place"),
)
"""Of the report."""


def write(results: Results, out: Path | str, *, resamples: int = RESAMPLES) -> Path:
    """`results.json` with `counts.npz`, `table.md` and `report.html` (one file) in a folder.

    Args:
        results: from `evaluate`, or read back (then without worst frames as pictures).
        out: the folder, as `output_folder.staged` gives it; made where it does not exist.
        resamples: of the bootstrap intervals.

    Returns:
        The path of results.json.

    Raises:
        OSError: the folder cannot be written.
    """
    out = Path(out)
    spans = intervals(results, resamples=resamples)
    out.mkdir(parents=True, exist_ok=True)
    path = results.save(out, derived(results, spans))
    (out / "table.md").write_text(markdown(results, spans), encoding="utf-8")
    (out / "report.html").write_text(page(results, spans), encoding="utf-8")
    return path


def derived(results: Results, spans: Mapping[str, tuple[float, float]]) -> dict[str, Any]:
    """What programs want from `results.json` without counting: fractions; null where none."""
    own = figures(results)
    scores = trial_scores(results.counts.sum(1), absent=results.about.absent)
    protocols = list(dict.fromkeys(trial.protocol for trial in results.trials))
    by = {}
    for attribute in ("condition", "case"):
        parts = {}
        for value in results.values(attribute):
            counts, size = results.pick(attribute, value)
            parts[value] = {"samples": size, "figures": _plain(figures(results, counts))}
        by[f"by_{attribute}"] = parts
    return {
        "caption": results.about.caption(),
        "figures": {
            name: {
                "value": _number(value),
                "low": _number(spans.get(name, (math.nan,) * 2)[0]),
                "high": _number(spans.get(name, (math.nan,) * 2)[1]),
            }
            for name, value in own.items()
        },
        "position_prior": _number(prior_miou(results)),
        "confidence": {
            "rank_correlation": _number(agreement(sureness(results))),
            "trials": [row.plain() for row in sureness(results)],
            "by_condition": {
                value: {
                    row.name: _number(row.error) for row in sureness(results, "condition", value)
                }
                for value in results.values("condition")
            },
        },
        "worst_subset": {p: worst_subset(results, p) for p in protocols if p[:2] != "nm"},
        "miou": {
            p: {
                short(t.subset): _number(scores[i])
                for i, t in enumerate(results.trials)
                if t.protocol == p
            }
            for p in protocols
        },
        "iou": {
            p: {
                s: dict(zip(results.classes, map(_number, values), strict=True))
                for s, values in class_ious(results, p).items()
            }
            for p in protocols
        },
        **by,
    }


def page(results: Results, spans: Mapping[str, tuple[float, float]]) -> str:
    """The HTML report; nothing is loaded from anywhere else."""
    full = [trial.subset for trial in results.trials].index(results.about.modalities)
    charts = []
    for protocol in dict.fromkeys(trial.protocol for trial in results.trials):
        if protocol in ("subsets", "emm"):
            charts.append((f"Class by subset: {TITLES[protocol]}", class_heat(results, protocol)))
            if results.values("condition"):
                title = f"Condition by subset: {TITLES[protocol]}"
                charts.append((title, condition_heat(results, protocol)))
    if len(results.about.modalities) > 1:
        charts.insert(0, ("By the number of sensors", by_number(results)))
    charts.insert(0, (f"Classes, {results.trials[0].protocol}", class_bars(results)))
    if of_subsets(sureness(results)):
        charts.append(("Reliability: how often what is so sure is right", diagrams(results)))
    return render(
        "robustseg_core.evaluation",
        title=f"What {results.about.checkpoint} is worth when sensors are missing",
        checkpoint=" ".join(
            filter(None, (results.about.checkpoint, results.about.checkpoint_sha256[:12]))
        ),
        classes=list(zip(results.classes, results.palette, strict=True)),
        words=[*letters(results.about.modalities), *WORDS],
        about=results.about,
        caption=results.about.caption(),
        tables=[_captioned_above(table, results) for table in tables(results, spans)],
        charts=[(title, embed(png)) for title, png in charts],
        confusion=confusion_matrix(results.counts[full].sum(0), results.classes),
        frames=panels(results.worst, results.palette),
    )


def _captioned_above(table: Table, results: Results) -> Table:
    """The table with a note that leaves out what the page says once at its top."""
    return replace(table, note=table.note.replace(f"{results.about.caption()}.", "").strip())


def class_heat(results: Results, protocol: str) -> bytes:
    """PNG: IoU of every class (rows) under every subset (columns); white: does not occur."""
    own = class_ious(results, protocol)
    return _heat(np.stack(list(own.values()), axis=1), results.classes, list(own))


def condition_heat(results: Results, protocol: str) -> bytes:
    """PNG: mIoU of every condition (rows) under every subset (columns)."""
    places = [t for t, trial in enumerate(results.trials) if trial.protocol == protocol]
    names = results.values("condition")
    rows = [
        trial_scores(results.pick("condition", n)[0][places], absent=results.about.absent)
        for n in names
    ]
    columns = [short(results.trials[t].subset) for t in places]
    return _heat(np.stack(rows), [n or "unknown" for n in names], columns)


def scores_by_number(results: Results, protocol: str) -> dict[int, list[float]]:
    """How many sensors are there -> mIoU of each subset of so many."""
    scores = trial_scores(results.counts.sum(1), absent=results.about.absent)
    found: dict[int, list[float]] = {}
    for score, trial in zip(scores.tolist(), results.trials, strict=True):
        if trial.protocol == protocol:
            found.setdefault(len(trial.subset), []).append(score)
    return dict(sorted(found.items()))


@plain_text
def by_number(results: Results) -> bytes:
    """PNG: mIoU over how many sensors are there; the mean of all subsets of so many, and each."""
    figure = plt.figure(figsize=(10, 3.2), layout="constrained")
    axes = figure.subplots()
    for protocol in dict.fromkeys(trial.protocol for trial in results.trials):
        own = scores_by_number(results, protocol)
        if protocol in ("subsets", "emm") and len(own) > 1:
            mean = [100 * float(np.mean(some)) for some in own.values()]
            (line,) = axes.plot(list(own), mean, marker="o", label=f"{protocol}, mean")
            at = [number for number, some in own.items() for _ in some]
            each = [100 * score for some in own.values() for score in some]
            axes.scatter(at, each, s=14, alpha=0.5, color=line.get_color())
    prior = 100 * prior_miou(results)
    if np.isfinite(prior):
        axes.axhline(prior, color="gray", linestyle=":", label="position prior, no sensor")
    axes.set_xticks(range(1, len(results.about.modalities) + 1))
    axes.margins(y=0.15)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("sensors that are there; small dots: each subset of so many", fontsize=9)
    axes.set_ylabel("mIoU, %")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8, loc="lower right")
    return figure_png(figure)


@plain_text
def class_bars(results: Results) -> bytes:
    """PNG: IoU per class with everything alive, and the mean over subsets as a tick."""
    own = class_ious(results, results.trials[0].protocol)
    full = own[short(results.about.modalities)]  # (K,), NaN: it does not occur, and has no bar
    mean = np.stack(list(own.values())).mean(0)  # (K,)
    place = np.arange(len(results.classes))
    figure = plt.figure(figsize=(10, 0.8 + 0.26 * len(place)), layout="constrained")
    axes = figure.subplots()
    colors = np.array(results.palette) / 255
    axes.barh(place, 100 * full, color=colors, edgecolor="black", linewidth=0.4)
    axes.plot(100 * mean, place, "k|", markersize=11)
    axes.set_yticks(place, list(map(visible, results.classes)), fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("IoU, %; bar: all sensors, tick: mean of subsets")
    return figure_png(figure)


@plain_text
def diagrams(results: Results) -> bytes:
    """PNG: for each subset the share that is right over confidence, above the share of pixels."""
    rows = of_subsets(sureness(results))
    assert results.bins is not None
    places = [results.trials.index(row.trial) for row in rows]
    across = min(5, len(rows))
    down = -(-len(rows) // across)
    size = (2.1 * across + 0.4, 2.1 * down + 0.4)
    figure = plt.figure(figsize=size, layout="constrained")
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    for axes in grid.flat[len(rows) :]:
        axes.set_axis_off()
    for axes, row, place in zip(grid.flat, rows, places, strict=False):
        pixels, right, sure = results.bins[place].sum(0).T  # (BINS,) each
        there = pixels > 0
        axes.plot([0, 1], [0, 1], color="#8b949e", linewidth=0.8)
        x = (np.arange(len(pixels)) + 0.5) / len(pixels)
        axes.bar(x, pixels / pixels.sum(), width=1 / len(pixels), color="#d1d9e0")
        axes.plot(sure[there] / pixels[there], right[there] / pixels[there], "o-", markersize=3)
        axes.set_title(f"{visible(row.name)}: ECE {100 * row.error:.1f} %", fontsize=8)
        axes.set(xlim=(0, 1), ylim=(0, 1))
        axes.tick_params(labelsize=7)
    figure.supxlabel("confidence; gray: share of the pixels", fontsize=8)
    figure.supylabel("share that is right", fontsize=8)
    return figure_png(figure)


@plain_text
def _heat(
    values: NDArray[np.float64], rows: list[str] | tuple[str, ...], columns: list[str]
) -> bytes:
    size = (1.8 + 0.55 * len(columns), 1.0 + 0.28 * len(rows))
    figure = plt.figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.imshow(100 * values, vmin=0, vmax=100, cmap="viridis", aspect="auto")
    axes.set_xticks(range(len(columns)), list(map(visible, columns)), fontsize=8)
    axes.set_yticks(range(len(rows)), list(map(visible, rows)), fontsize=8)
    for (y, x), value in np.ndenumerate(100 * values):
        if np.isfinite(value):
            axes.text(
                x,
                y,
                f"{value:.0f}",
                ha="center",
                va="center",
                fontsize=7,
                color="black" if value > 60 else "white",
            )
    return figure_png(figure)


def panels(frames: Iterable[ScoredFrame], palette: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
    """What `_frames.html.j2` shows: pictures with what each is of; frames without any are left out.

    Args:
        frames: to look at.
        palette: RGB of each class.
    """
    colors = lookup(tuple((red, green, blue) for red, green, blue in palette))
    found = []
    for frame in frames:
        if frame.picture is None or frame.truth is None or frame.labels is None:
            continue
        masks = {frame.sensors: frame.labels, **frame.others}
        unscored = frame.truth == IGNORE
        shown = [("picture", _png(frame.picture, cv2.INTER_LINEAR))]
        shown.append(("truth", _png(colors[frame.truth], cv2.INTER_NEAREST)))
        for sensors, labels in masks.items():
            drawn = colors[np.where(unscored, IGNORE, labels)]  # nobody scored the rest
            title = f"predicted from {', '.join(sensors)}" if sensors else "predicted"
            shown.append((title, _png(drawn, cv2.INTER_NEAREST)))
        found.append(
            {
                "caption": f"{100 * frame.score:.1f} %: {frame.id}",
                "pictures": [(title, embed(png)) for title, png in shown],
            }
        )
    return found


def _png(drawn: NDArray[np.uint8], enlarge: int) -> bytes:
    """Of `PICTURE_WIDTH` pixels, whatever size it had."""
    height, width = drawn.shape[:2]
    size = (PICTURE_WIDTH, max(1, round(height * PICTURE_WIDTH / width)))
    shrink = cv2.INTER_AREA if enlarge == cv2.INTER_LINEAR else enlarge
    how = shrink if width > PICTURE_WIDTH else enlarge
    return picture_png(np.asarray(cv2.resize(drawn, size, interpolation=how), np.uint8))


def _number(value: float) -> float | None:
    return round(float(value), 6) if math.isfinite(value) else None


def _plain(table: Mapping[str, float]) -> dict[str, float | None]:
    return {name: _number(value) for name, value in table.items()}
