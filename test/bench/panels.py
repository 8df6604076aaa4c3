"""Draws the panels of config/view/foxglove.json from the MCAP of a run, to look at the layout.

    python test/bench/panels.py RUN/mcap PNG [--at SECONDS] [--layout JSON]

No Foxglove is needed: each panel shows what its topics and message paths reach in the recording,
where it lies in the layout, at the size of a window of 1600 x 1000 pixels. `--at` is the playhead.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robustseg_core.bag import Bag
from robustseg_core.codecs.image import decode_compressed, decode_image
from robustseg_core.codecs.points import table_of
from robustseg_core.geometry.transforms import TransformTree
from robustseg_core.geometry.view import moved
from robustseg_core.robot.topics import TF, TF_STATIC, TF_TOPICS
from robustseg_core.types import SECOND
from support import ROOT
from support.panels import cells, paths_of, topic_of, values

Said = dict[str, list[tuple[float, Any]]]
"""topic -> (seconds since the start, message), by time."""
WIDE_IN, HIGH_IN, TITLE = 16.0, 10.0, 0.022
LEVELS = {0: "#2e8b57", 1: "#d9a400", 2: "#d33f3f", 3: "#8a8f98"}
"""Of a DiagnosticStatus, as the panel colors them."""
STALE_S = 5.0
"""A status that is older than this is stale."""
COLORS = ("#4e98e2", "#f5774d", "#5fbf73", "#c77dff", "#e6c229")


def read(path: Path, topics: set[str]) -> Said:
    """All messages of these topics."""
    said: Said = defaultdict(list)
    with Bag(path) as bag:
        for found in bag.messages(topics):
            said[found.topic].append((found.time_ns / SECOND, found.message()))
    start_s = min((rows[0][0] for rows in said.values()), default=0.0)
    return {name: [(at - start_s, one) for at, one in rows] for name, rows in said.items()}


def latest(said: Said, topic: str, at_s: float) -> Any:
    """The last message until then, or None."""
    return next((one for t, one in reversed(said.get(topic, [])) if t <= at_s), None)


def draw_image(axes: Axes, panel: dict[str, Any], said: Said, at_s: float) -> None:
    """As large as the panel lets it be."""
    message = latest(said, panel["imageMode"]["imageTopic"], at_s)
    if message is None:
        raise LookupError("no image yet")
    compressed = hasattr(message, "format")
    axes.imshow(decode_compressed(message) if compressed else decode_image(message))


def draw_3d(axes: Axes, panel: dict[str, Any], said: Said, at_s: float) -> None:
    """Points in the frame that is followed, seen from above; frames are written into a corner."""
    tree, followed = TransformTree(), panel["followTf"]
    for topic, learn in ((TF_STATIC, tree.add), (TF, tree.move)):
        for t, message in said.get(topic, []):
            if t <= at_s:
                learn(message)
    for topic, how in panel["topics"].items():
        message = latest(said, topic, at_s)
        if message is None:
            raise LookupError(f"no {topic} yet")
        frame = message.header.frame_id
        matrix = tree.way(followed, frame)
        if matrix is None:
            raise LookupError(f"no transform from {frame} to {followed}")
        wanted = ("x", "y", "z", how["colorField"])
        table = table_of(message, tuple((name, (name,)) for name in wanted))[0]
        packed = np.ascontiguousarray(table[how["colorField"]], "<f4").view("<u4")
        rgb = np.stack([packed >> 16 & 255, packed >> 8 & 255, packed & 255], -1) / 255
        xyz = moved(np.stack([table[axis] for axis in "xyz"], -1), matrix)
        axes.scatter(-xyz[:, 1], xyz[:, 0], s=how.get("pointSize", 2) / 4, c=rgb, linewidths=0)
        text = f"{frame} in {followed}"
        axes.text(0.02, 0.03, text, color="w", transform=axes.transAxes, size=8)
    axes.set_aspect("equal", adjustable="datalim")


def draw_summary(axes: Axes, panel: dict[str, Any], said: Said, at_s: float) -> None:
    """The statuses at the playhead, the worst first."""
    found: dict[str, tuple[int, str]] = {}
    for t, message in said[panel["topicToRender"]]:
        if t <= at_s:
            for status in message.status:
                if panel["hardwareIdFilter"] in status.hardware_id:
                    level = 3 if at_s - t > STALE_S else int(status.level)
                    found[status.name] = level, status.message
    rows = sorted(found.items(), key=lambda row: -row[1][0] if panel["sortByLevel"] else 0)
    if not rows:
        raise LookupError("no status yet")
    for place, (name, (level, text)) in enumerate(rows):
        y = 1 - (place + 0.5) / max(len(rows), 5)
        axes.text(0.02, y, f"{name}: {text}"[:110], color=LEVELS[level], size=9, va="center")


def draw_transitions(axes: Axes, panel: dict[str, Any], said: Said, at_s: float) -> None:
    """A lane for each path, a bar for each state, its name at its beginning."""
    paths = panel["paths"]
    for lane, path in enumerate(paths):
        rows = [(t, values(path["value"], m)) for t, m in said[topic_of(path["value"])]]
        states = [(t, found[0]) for t, found in rows if len(found) == 1]
        if not states:
            raise LookupError(f"nothing at {path['value']}")
        begun = [states[0], *(b for a, b in pairwise(states) if a[1] != b[1])]
        ends = [*(t for t, _ in begun[1:]), states[-1][0]]
        for (start, state), end in zip(begun, ends, strict=True):
            color = COLORS[sum(map(ord, str(state))) % len(COLORS)]
            axes.barh(-lane, end - start, left=start, height=0.45, color=color)
            axes.text(start, -lane + 0.26, state, color=color, size=6, clip_on=True)
    axes.set_yticks([-lane for lane in range(len(paths))], [path["label"] for path in paths])
    _timeline(axes, at_s)


def draw_plot(axes: Axes, panel: dict[str, Any], said: Said, at_s: float) -> None:
    """A curve for each path; NaN breaks it."""
    for color, path in zip(COLORS, panel["paths"], strict=False):
        rows = [(t, values(path["value"], m)) for t, m in said[topic_of(path["value"])]]
        curve = [(t, float(found[0])) for t, found in rows if found]
        if not curve:
            raise LookupError(f"nothing at {path['value']}")
        axes.plot(*zip(*curve, strict=True), color=color, lw=1, label=path["label"])
    axes.set_ylim(panel.get("minYValue"), panel.get("maxYValue"))
    axes.legend(loc="center left", fontsize=7, facecolor="#20242a", labelcolor="w")
    _timeline(axes, at_s)


def _timeline(axes: Axes, at_s: float) -> None:
    axes.axvline(at_s, color="w", lw=0.8)
    axes.margins(x=0.005)
    axes.tick_params(colors="#c9ccd1", labelsize=7)


DRAWN = {
    "Image": draw_image,
    "3D": draw_3d,
    "DiagnosticSummary": draw_summary,
    "StateTransitions": draw_transitions,
    "Plot": draw_plot,
}
"""By the kind of a panel, which its id begins with."""


def picture(layout: dict[str, Any], said: Said, at_s: float) -> Figure:
    """All panels in place; one that has nothing to show says so."""
    figure = Figure((WIDE_IN, HIGH_IN), facecolor="#101317")
    for name, (left, top, width, height) in cells(layout["layout"]):
        panel, kind = layout["configById"][name], name.partition("!")[0]
        timed = kind in ("StateTransitions", "Plot")
        inset = (0.045, 0.02) if timed else (0.002, 0.002)
        place = (left + inset[0], 1 - top - height + inset[1])
        size = (width - inset[0] - 0.004, height - TITLE - inset[1] - 0.004)
        axes = figure.add_axes((*place, *size), facecolor="#181c21")
        if not timed:
            axes.set_xticks([])
            axes.set_yticks([])
        figure.text(left + 0.004, 1 - top - TITLE * 0.75, panel["foxglovePanelTitle"], color="w")
        try:
            DRAWN[kind](axes, panel, said, at_s)
        except LookupError as error:
            axes.text(0.5, 0.5, str(error), color="#d33f3f", ha="center", transform=axes.transAxes)
    return figure


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mcap", type=Path)
    parser.add_argument("png", type=Path)
    parser.add_argument("--at", type=float, help="seconds; default: the middle")
    parser.add_argument("--layout", type=Path, default=ROOT / "config" / "view" / "foxglove.json")
    given = parser.parse_args()
    layout = json.loads(given.layout.read_text())
    topics = {topic_of(p) for panel in layout["configById"].values() for p in paths_of(panel)}
    said = read(given.mcap, topics | set(TF_TOPICS))
    last_s = max((rows[-1][0] for rows in said.values()), default=0.0)
    matplotlib.rcParams["font.size"] = 9
    picture(layout, said, last_s / 2 if given.at is None else given.at).savefig(given.png, dpi=100)
    print(given.png)


if __name__ == "__main__":
    main()
