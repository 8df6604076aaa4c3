"""`robustness.json` for people: the table, and the plot that decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from robustseg_core.output import page
from robustseg_core.robustness import safety
from robustseg_core.robustness.table import passes

WORDS = (
    ("case", "one fault, done to one sensor of one drive"),
    ("deadline, limit", "until when the fault is to be named"),
    ("delay p50, p95", "half of the faults, and 95 % of them, were named after so long"),
    ("missed", "cases in which it was not named in time"),
    ("others accused", "cases in which a healthy sensor was called dead"),
    ("wrong bit", "masks that use a broken sensor, or leave out a sound one, after the deadline"),
    ("mask rate", "masks while the fault lasts, of those due; the least of all cases"),
    ("ours, ungated, oracle, all or nothing", "mIoU by policy, as told below the picture"),
    ("DEAD", "a sensor that is left out"),
)
"""Of the report."""
STYLES = {
    "all_or_nothing": ("x", "#8b949e", "all or nothing (message_filters)"),
    "ungated": ("s", "#cf222e", "everything is believed"),
    "oracle": ("D", "#0969da", "an oracle removes the broken sensor"),
    "ours": ("o", "#1a7f37", "robustseg"),
}
"""Marker, color and words of each policy, the most important drawn last."""


def write(folder: Path, summary: dict[str, Any], judged: Mapping[str, Any] | None = None) -> Path:
    """`report.html` (one file), `robustness.md`, and `robustness.png` if masks were scored.

    Args:
        folder: exists.
        summary: the content of `robustness.json`.
        judged: the safety table (`safety.table`), which is shown, too.
    """
    scored = any(row["miou"]["ours"] is not None for row in summary["rows"])
    return write_page(
        folder / "report.html",
        folder / "robustness.md",
        summary,
        judged,
        markdown=markdown(summary),
        png=plot(summary) if scored else None,
        title=f"The fault matrix: {passes(summary)}",
        words=WORDS,
    )


def write_page(
    path: Path,
    beside: Path,
    summary: Mapping[str, Any],
    judged: Mapping[str, Any] | None,
    *,
    markdown: str,
    png: bytes | None,
    words: Sequence[tuple[str, str]],
    **about: Any,
) -> Path:
    """A page of this room, its table in Markdown, and its plot.

    Args:
        path: of the page, one file.
        beside: of the table; the plot has its name, too.
        summary: what the page shows.
        judged: the safety table (`safety.table`), which it shows, too.
        markdown: the table.
        png: the plot; None: no masks were scored.
        words: what its words mean.
        about: title, template and what that names (`page.render`).
    """
    if png is not None:
        beside.with_suffix(".png").write_bytes(png)
    beside.write_text(markdown, encoding="utf-8")
    html = page.render(
        "robustseg_core.robustness",
        words=(*words, *(safety.WORDS if judged else ())),
        found=judged,
        passes=safety.passes(judged) if judged else "",
        summary=summary,
        chart="" if png is None else page.embed(png),
        **about,
    )
    path.write_text(html, encoding="utf-8")
    return path


def markdown(summary: dict[str, Any]) -> str:
    """The table row by row, for a README or an issue."""
    head = ("#", "fault", "expected", "deadline", "cases", "p50, p95 s", *STYLES)
    lines = [f"| {' | '.join(head)} |", "|---:|---|---|---|---|---|" + "---:|" * len(STYLES)]
    for row in summary["rows"]:
        words = [str(row["row"]), row["fault"], row["expected"], row["deadline"]]
        if row["cases"]:
            delays = (row["delay_p50_s"], row["delay_p95_s"])
            words.append(f"{row['cases_passed']} of {row['cases']}")
            words.append(", ".join(f"{d:.2f}" for d in delays if d is not None))
            scores = (row["miou"][name] for name in STYLES)
            words += ["" if score is None else f"{100 * score:.1f}" for score in scores]
        else:
            proofs = {row["proofs"].get(test, "not run") for test in row["elsewhere"]}
            words += [f"tests: {', '.join(sorted(proofs)) or 'none'}", "", *("" for _ in STYLES)]
        lines.append(f"| {' | '.join(words)} |")
    return "\n".join(lines) + "\n"


@page.plain_text
def plot(summary: dict[str, Any]) -> bytes:
    """A PNG: mIoU under fault, row by row, of us, of others and of an oracle."""
    rows = [row for row in summary["rows"] if row["miou"]["ours"] is not None]
    figure, axes = plt.subplots(figsize=(9, 1.6 + 0.27 * len(rows)), layout="constrained")
    places = range(len(rows), 0, -1)
    for place, row in zip(places, rows, strict=True):
        known = [value for value in row["miou"].values() if value is not None]
        axes.plot([min(known), max(known)], [place, place], color="#d1d9e0", zorder=1)
    for name, (marker, color, words) in STYLES.items():
        values = [row["miou"][name] for row in rows]
        size = 60 if name == "oracle" else 34
        face = "none" if name == "oracle" else color
        marks = axes.scatter(
            values, places, s=size, marker=marker, label=words, zorder=3, clip_on=False, c=color
        )
        if marker != "x":
            marks.set(edgecolors=color, facecolors=face)
    if (healthy := summary["miou"].get("clean")) is not None:
        axes.axvline(healthy, color="black", linewidth=0.8, linestyle=":", label="no fault")
    if (blind := summary.get("position_prior")) is not None:
        axes.axvline(blind, color="#8b949e", linewidth=0.8, linestyle="--", label="no sensor")
    axes.set_yticks(list(places), [f"{row['row']}  {row['fault']}" for row in rows], fontsize=8)
    axes.set_xlim(left=0)
    axes.set_ylim(0.4, len(rows) + 0.6)
    axes.set_xlabel("mIoU while the fault lasts (an image without a mask counts as missed)")
    axes.grid(axis="x", color="#eaeef2")
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles[::-1], labels[::-1], ncols=3, fontsize=8, loc="outside upper center", frameon=False
    )
    if not summary["trained"]:
        axes.set_title("UNTRAINED: random weights; plumbing only", color="#cf222e", fontsize=9)
    return page.figure_png(figure)
