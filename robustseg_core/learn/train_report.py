"""A training run as a page: the curves of `log.csv`, and what the best weights are worth.

Nothing is computed for it: all was noted and kept while the run was validated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

from robustseg_core.evaluation.report import panels
from robustseg_core.evaluation.tables import confusion_matrix
from robustseg_core.learn import journal, seen
from robustseg_core.output.page import embed, figure_png, letters, plain_text, render
from robustseg_core.storage.output_folder import replacing
from robustseg_core.text import visible
from robustseg_core.types import ModelSpec

NAME = "report.html"
VALIDATED = "val"
"""Column of the figure by which the best weights are chosen; `val/RDE` is that of one subset."""
WORDS = (
    ("step", "one update of the weights"),
    ("loss", "what is minimized: the sum of its terms, each with its weight"),
    (
        "ce",
        "of the loss, cross-entropy with the labels; other terms have their distiller's name",
    ),
    ("lr", "learning rate"),
    (
        "rule",
        "what chooses the best weights: full, mIoU of all sensors; four, the mean of the first "
        "alone, the first two, the last two and all; mean, the mean of all sets of sensors",
    ),
    ("val", "mIoU on the validation data by the rule that chooses the best weights"),
    ("mIoU", "mean over the classes of intersection over union with the labels"),
)
"""Of the report."""
MASKS = "Black is unlabelled. The score is the mean IoU over the classes in the frame's truth."
_NOT_TERMS = ("step", "lr", "epoch", "loss")


def write(out: Path, result: Mapping[str, Any], spec: ModelSpec) -> None:
    """`report.html` in the folder of a run, beside its `log.csv` and `recipe.yaml`.

    Args:
        out: the folder.
        result: the content of `result.json`.
        spec: of the network.

    Raises:
        RobustsegError: the disk is full.
    """
    rows = journal.read(out / "log.csv")
    validated = result.get("best") is not None
    shown = seen.load(out, int(result["best_step"]), len(spec.classes)) if validated else None
    html = render(
        "robustseg_core.learn",
        template="train.html.j2",
        title=f"Training: {result.get('system') or out.resolve().name}",
        checkpoint="best.safetensors",
        classes=list(zip(spec.classes, spec.palette, strict=True)),
        words=[*letters(spec.modalities), *WORDS],
        result=result,
        curves=embed(curves(rows)),
        table=best_row(rows, result),
        validated=validated,
        kept=seen.NAME,
        matrix=None if shown is None else confusion_matrix(shown.counts, spec.classes),
        galleries=galleries(shown, spec),
        recipe=(out / "recipe.yaml").read_text(encoding="utf-8").splitlines(),
    )
    with replacing(out / NAME) as path:
        path.write_text(html, encoding="utf-8")


def galleries(shown: seen.Seen | None, spec: ModelSpec) -> list[tuple[str, str, Any]]:
    """(heading, note, what `_frames.html.j2` shows); empty: nothing was kept."""
    if shown is None:
        return []
    told = (
        (
            "Some frames",
            "Chosen by chance, the same ones in every validation. " + MASKS,
            shown.some,
        ),
        (
            "Worst frames",
            "The lowest-scoring frame of each of the lowest-scoring scenes.",
            shown.worst,
        ),
        (
            "Best frames",
            "The highest-scoring frame of each of the highest-scoring scenes.",
            shown.best,
        ),
    )
    return [(title, note, panels(frames, spec.palette)) for title, note, frames in told]


def best_row(
    rows: Sequence[Mapping[str, str]], result: Mapping[str, Any]
) -> list[tuple[str, float]]:
    """(subset, mIoU) of the validation that chose the weights; empty where there was none."""
    step = str(result.get("best_step"))
    chosen = next((row for row in rows if row["step"] == step), {})
    found = ((name, _number(chosen[name])) for name in chosen if name.startswith(VALIDATED))
    return [
        (name.partition("/")[2] or "the rule that chooses", value)
        for name, value in found
        if math.isfinite(value)
    ]


@plain_text
def curves(rows: Sequence[Mapping[str, str]]) -> bytes:
    """A PNG: loss and its terms, the validation of each subset, and the learning rate, by step."""
    names = list(rows[0]) if rows else []
    terms = [n for n in names if n not in _NOT_TERMS and not n.startswith(VALIDATED)]
    judged = [n for n in names if n.startswith(VALIDATED)]
    parts = [["loss", *terms], *([judged] if judged else []), ["lr"]]
    heights = [3.0, *([3.0] if judged else []), 1.2]
    figure = plt.figure(figsize=(10, sum(heights)), layout="constrained")
    panels = figure.subplots(len(parts), 1, sharex=True, height_ratios=heights, squeeze=False)
    for axes, columns in zip(panels[:, 0], parts, strict=True):
        scale = 100 if columns is judged else 1
        for name in columns:
            points = [(_number(row["step"]), scale * _number(row.get(name, ""))) for row in rows]
            known = np.array([p for p in points if math.isfinite(p[1])]).reshape(-1, 2)
            main = name in ("loss", VALIDATED, "lr")
            axes.plot(
                *known.T,
                label=visible(name),
                color="black" if main else None,
                linewidth=1.6 if main else 0.8,
                marker="." if len(known) < 50 else None,
                zorder=3 if main else 2,
            )
        axes.grid(color="#eaeef2")
        axes.legend(fontsize=7, loc="lower left", bbox_to_anchor=(0, 1), ncols=8, frameon=False)
    panels[0, 0].set_ylabel("loss")
    if judged:
        panels[1, 0].set_ylabel("validation: mIoU, %")
    panels[-1, 0].set_ylabel("learning rate")
    panels[-1, 0].set_xlabel("step")
    panels[-1, 0].xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure_png(figure)


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan
