"""`severities.json` for people: a page, a table in Markdown, and the plot by severity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from robustseg_core.output import page
from robustseg_core.robustness.report import STYLES, write_page

WORDS = (
    ("severity", "1 is hardly there, 5 the worst; amounts are in docs/specs/faults.md"),
    (
        "mCE",
        "mean corruption error (RoboBEV): 1 - mIoU summed over severities, over that of a "
        "baseline; a mean over faults; below 100 % is better than the baseline",
    ),
    (
        "mRR, mRA",
        "mIoU under a fault over the clean mIoU (RoboBEV; MultiCorrupt's mRA is the same)",
    ),
    ("mRRA", "mIoU under a fault over the baseline's, minus 1 (MultiCorrupt); above 0 is better"),
    ("detected", "something was said of the broken sensor while the fault lasted"),
    ("by name", "... and one of the names that are right for this fault"),
    ("right sensor", "of the cases in which anybody was accused: the broken sensor was the first"),
    ("delay", "from the fault's beginning to the first thing said of its sensor"),
    ("recovery", "from the fault's end until its sensor is LIVE for good"),
    ("mask rate", "masks while the fault lasts, of those due"),
    ("coverage", "share of the labelled pixels for which there was a mask"),
    (
        "exposure",
        "whether training, by the recipe that the weights name, has damaged pictures of this "
        "sensor like this: trained, held out (no recipe may), never (there is no such damage), "
        "unknown (no recipe is named)",
    ),
    ("ungated", "everything is believed: the newest message of each stream, whatever is in it"),
    ("all or nothing", "no mask unless every stream has a message within 100 ms (message_filters)"),
    ("EMM, RMM, NM", "missing and noisy modalities frame by frame: `robustseg eval --protocols`"),
)
"""Of the page."""


def write(
    folder: Path, summary: Mapping[str, Any], judged: Mapping[str, Any] | None = None
) -> Path:
    """`severities.html` (one file), `severities.md`, and `severities.png` if masks were scored.

    Args:
        folder: exists.
        summary: the content of `severities.json`.
        judged: the safety table (`safety.table`), which is shown, too.
    """
    scored = summary["clean_miou"]["ours"] is not None
    return write_page(
        folder / "severities.html",
        folder / "severities.md",
        summary,
        judged,
        markdown=markdown(summary),
        png=plot(summary) if scored else None,
        title=f"Faults by severity: {len(summary['faults'])} faults",
        template="severities.html.j2",
        words=WORDS,
        policies={name: words for name, (_, _, words) in STYLES.items()},
    )


def markdown(summary: Mapping[str, Any]) -> str:
    """A line a severity, for a README or an issue."""
    head = ("severity", "cases", "detected", "by name", "right sensor", "delay p50, p95, p99 s")
    lines = [f"| {' | '.join((*head, *STYLES))} |", "|---:" * (len(head) + len(STYLES)) + "|"]
    for row in summary["severities"]:
        delays = (row[f"delay_p{q}_s"] for q in (50, 95, 99))
        words = [
            str(row["severity"]),
            str(row["cases"]),
            _share(row["detected"], row["cases"]),
            _share(row["named"], row["cases"]),
            _share(row["right_sensor"], row["blamed"]),
            ", ".join(f"{d:.2f}" for d in delays if d is not None),
        ]
        words += [_percent(row["miou"][name]) for name in STYLES]
        lines.append(f"| {' | '.join(words)} |")
    return "\n".join(lines) + "\n"


@page.plain_text
def plot(summary: Mapping[str, Any]) -> bytes:
    """A PNG: mIoU of each policy over severity, and fault by fault what the gate gains or costs."""
    faults = summary["faults"]
    levels = [row["severity"] for row in summary["severities"]]
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(11, 2.6 + 0.26 * len(faults)), width_ratios=(1, 1.15), layout="constrained"
    )
    _lines(left, summary, levels)
    _distances(right, faults, levels)
    handles, names = left.get_legend_handles_labels()
    figure.legend(handles, names, ncols=4, fontsize=8, loc="outside upper center", frameon=False)
    if not summary["trained"]:
        left.set_title("UNTRAINED: random weights; plumbing only", color="#cf222e", fontsize=9)
    return page.figure_png(figure)


def _lines(axes: Axes, summary: Mapping[str, Any], levels: Sequence[int]) -> None:
    for name, (marker, color, words) in STYLES.items():
        scores = [summary["clean_miou"][name], *(r["miou"][name] for r in summary["severities"])]
        values = [np.nan if score is None else 100 * score for score in scores]
        axes.plot([0, *levels], values, marker=marker, color=color, label=words, linewidth=1.2)
    axes.set_xticks([0, *levels], ["none", *map(str, levels)])
    axes.set_xlabel("severity")
    axes.set_ylabel("mIoU, %, mean over faults")
    axes.set_ylim(bottom=0)
    axes.grid(color="#eaeef2")


def _distances(axes: Axes, faults: Sequence[Mapping[str, Any]], levels: Sequence[int]) -> None:
    """Points of mIoU that robustseg is above who believes everything."""
    table = np.full((len(faults), len(levels)), np.nan)
    for i, row in enumerate(faults):
        for level in row["levels"]:
            ours, ungated = level["miou"]["ours"], level["miou"]["ungated"]
            if ours is not None and ungated is not None:
                table[i, levels.index(level["severity"])] = 100 * (ours - ungated)
    most = max(1.0, float(np.nanmax(np.abs(table), initial=0.0)))
    axes.imshow(table, cmap="RdBu", vmin=-most, vmax=most, aspect="auto")
    for (i, j), value in np.ndenumerate(table):
        if np.isfinite(value):
            color = "white" if abs(value) > 0.75 * most else "black"
            axes.text(j, i, f"{value:+.1f}", ha="center", va="center", fontsize=8, color=color)
    axes.set_xticks(range(len(levels)), [str(level) for level in levels])
    axes.set_yticks(range(len(faults)), [row["fault"] for row in faults], fontsize=8)
    axes.set_xlabel("severity")
    axes.set_title("points of mIoU above who believes everything", fontsize=9)


def _share(part: int, whole: int) -> str:
    return f"{part} of {whole}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"
