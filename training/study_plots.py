"""The study's pictures, made of the JSON of its rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

LEVELS = ("low", "mid", "high")
OURS = "ours"
Found = Mapping[str, Mapping[int, dict[str, Any]]]


def draw(found: Found, folder: Path) -> dict[Path, str]:
    """All pictures that the rows allow; path -> title."""
    makers = {
        "mean_full.png": ("Mean of 15 against all sensors", mean_against_full),
        "noise.png": ("mIoU against noise", noise),
        "subsets.png": ("mIoU by subset of the sensors", subsets),
        "reliability.png": ("Reliability", reliability),
    }
    made = {}
    for name, (title, maker) in makers.items():
        figure = maker(found)
        if figure is None:
            continue
        figure.savefig(folder / name, dpi=100, metadata={"Software": None})
        pyplot.close(figure)
        made[folder / name] = title
    return made


def styles(found: Found) -> dict[str, dict[str, Any]]:
    """Color and marker of each system; ours is black."""
    colors = pyplot.get_cmap("tab10").colors
    made, others = {}, 0
    for name in found:
        if name.startswith(OURS):
            marker = {OURS: "*", "ours_swift": "D"}.get(name, "P")
            made[name] = {"color": "black", "marker": marker}
        else:
            marker = "os^v<>ph"[others % 8]
            made[name] = {"color": colors[others % len(colors)], "marker": marker}
            others += 1
    return made


def figure_of(found: Found, system: str, name: str) -> tuple[float, float, float]:
    """(value, low, high) of a figure in percent, each the mean over seeds; NaN where unknown."""
    rows = [row["figures"].get(name, {}) for row in found[system].values()]
    table = [[row.get(key) for key in ("value", "low", "high")] for row in rows]
    value, low, high = 100 * np.array(table, float).mean(0)
    return float(value), float(low), float(high)


def mean_against_full(found: Found) -> Figure:
    """A point for each system, with its intervals over scenes; seeds as small dots."""
    figure, axes = pyplot.subplots(figsize=(7, 4.6), layout="constrained")
    for name, style in styles(found).items():
        x, y = (figure_of(found, name, f"subsets {part}") for part in ("full", "mean"))
        spans = [[[v[0] - v[1]], [v[2] - v[0]]] for v in (x, y)]
        axes.errorbar(x[0], y[0], xerr=spans[0], yerr=spans[1], elinewidth=0.5, **_fine(style))
        axes.plot(x[0], y[0], linestyle="", markersize=9, label=name, **style)
        if len(found[name]) > 1:
            seeds = [
                [100 * row["figures"][f"subsets {part}"]["value"] for row in found[name].values()]
                for part in ("full", "mean")
            ]
            axes.plot(*seeds, linestyle="", marker=".", markersize=4, color=style["color"])
    axes.set_xlabel("mIoU with all sensors, %")
    axes.set_ylabel("mean of 15 subsets, %")
    _legend_beside(axes)
    return figure


def noise(found: Found) -> Figure:
    """A line for each system: clean, and the three levels of NM."""
    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    places = range(len(LEVELS) + 1)
    for name, style in styles(found).items():
        names = ["subsets full", *(f"nm {level}" for level in LEVELS)]
        values = [figure_of(found, name, figure)[0] for figure in names]
        axes.plot(places, values, linewidth=1.3, markersize=6, label=name, **style)
    axes.set_xticks(places, ["clean", *LEVELS])
    axes.set_xlabel("noise on all sensors (NM)")
    axes.set_ylabel("mIoU, %")
    axes.set_ylim(bottom=0)
    _legend_beside(axes)
    return figure


def subsets(found: Found) -> Figure:
    """Systems by subsets."""
    columns = list(next(iter(next(iter(found.values())).values()))["miou"]["subsets"])
    table = 100 * np.array(
        [
            [np.mean([row["miou"]["subsets"][c] for row in rows.values()]) for c in columns]
            for rows in found.values()
        ]
    )
    size = (1.9 + 0.52 * len(columns), 0.9 + 0.32 * len(table))
    figure, axes = pyplot.subplots(figsize=size, layout="constrained")
    image = axes.imshow(table, cmap="viridis", aspect="auto")
    axes.set_xticks(range(len(columns)), columns, fontsize=8)
    axes.set_yticks(range(len(table)), list(found), fontsize=8)
    middle = (table.min() + table.max()) / 2
    best = table.max(0)
    for (y, x), value in np.ndenumerate(table):
        color = "black" if value > middle else "white"
        weight = "bold" if value == best[x] else "normal"
        axes.text(
            x, y, f"{value:.1f}", ha="center", va="center", fontsize=7, color=color, weight=weight
        )
    figure.colorbar(image, ax=axes, pad=0.01, aspect=12).set_label("mIoU, %", fontsize=8)
    return figure


def reliability(found: Found) -> Figure | None:
    """For each system how often what is so sure is right; None: confidence was not evaluated."""
    known = {
        name: next(iter(rows.values()))["reliability"]
        for name, rows in found.items()
        if next(iter(rows.values())).get("reliability")
    }
    if not known:
        return None
    across = min(4, len(known))
    down = -(-len(known) // across)
    size = (2.2 * across + 0.4, 2.2 * down + 0.7)
    figure, grid = pyplot.subplots(
        down, across, figsize=size, sharex=True, sharey=True, squeeze=False, layout="constrained"
    )
    for axes in grid.flat[len(known) :]:
        axes.set_axis_off()
    lines: dict[str, Any] = {}
    for axes, (name, curves) in zip(grid.flat, known.items(), strict=False):
        axes.plot([0, 1], [0, 1], color="#8b949e", linewidth=0.8)
        for (what, bins), color in zip(curves.items(), ("C0", "C2", "C3"), strict=False):
            pixels, right, sure = np.array(bins).T
            there = pixels > 1e-4
            (lines[what],) = axes.plot(
                sure[there] / pixels[there], right[there] / pixels[there], ".-", color=color
            )
        axes.set_title(name, fontsize=8)
        axes.set(xlim=(0, 1), ylim=(0, 1))
        axes.tick_params(labelsize=7)
    figure.legend(
        lines.values(), lines.keys(), loc="outside upper center", ncols=3, fontsize=8, frameon=False
    )
    figure.supxlabel("confidence", fontsize=8)
    figure.supylabel("share that is right", fontsize=8)
    return figure


def _fine(style: Mapping[str, Any]) -> dict[str, Any]:
    return {"color": style["color"], "fmt": "none", "alpha": 0.7}


def _legend_beside(axes: Axes) -> None:
    axes.grid(linewidth=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8, frameon=False)
