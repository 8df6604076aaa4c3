"""`result.json` as pictures: who was believed when, and how long each mask took."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from jinja2 import Environment, PackageLoader
from matplotlib.patches import Patch
from numpy.typing import NDArray

from robustseg_core.draw import STATE_COLORS
from robustseg_core.kills import Kill
from robustseg_core.types import SECOND, State


def write(
    folder: Path,
    result: dict[str, Any],
    *,
    title: str,
    pictures: Sequence[tuple[str, NDArray[np.uint8]]] = (),
    kills: Sequence[Kill] = (),
) -> Path:
    """`report.html` (one file, nothing to load beside the video) and `timeline.png` in `folder`.

    Args:
        folder: where `overlay.webm` lies too.
        result: what `Recorder.write_result` returned.
        title: names the run.
        pictures: (caption, (H, W, 3) RGB), oldest first.
        kills: what was taken away on purpose; drawn as hatched spans.
    """
    (folder / "timeline.png").write_bytes(timeline(result, kills))
    page = Environment(
        loader=PackageLoader("robustseg_core", "."), autoescape=True, trim_blocks=True
    ).get_template("report.html.j2")
    html = page.render(
        title=title,
        result=result,
        kills=[str(kill) for kill in kills],
        timeline=_embed((folder / "timeline.png").read_bytes()),
        pictures=[(caption, _embed(_png(picture))) for caption, picture in pictures],
        changes=changes(result["masks"]),
        has_video=(folder / "overlay.webm").exists(),
    )
    path = folder / "report.html"
    path.write_text(html)
    return path


def changes(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows at which the set of used modalities changes; with seconds since the first row."""
    found: list[dict[str, Any]] = []
    last: list[str] | None = None
    for row in rows:
        if row["used"] != last:
            seconds = (row["stamp_ns"] - rows[0]["stamp_ns"]) / SECOND
            found.append({**row, "at_s": seconds})
            last = row["used"]
    return found


def timeline(result: dict[str, Any], kills: Sequence[Kill] = ()) -> bytes:
    """A PNG: one lane per modality, colored by state, dark where used; below it the latency."""
    rows, names = result["masks"], result["modalities"]
    start_ns = rows[0]["stamp_ns"] if rows else 0
    at_s = np.array([(row["stamp_ns"] - start_ns) / SECOND for row in rows])
    figure, (lanes, below) = plt.subplots(
        2, 1, figsize=(10, 1.6 + 0.5 * len(names)), sharex=True,
        gridspec_kw={"height_ratios": [len(names), 2]}, layout="constrained",
    )  # fmt: skip
    step_s = float(np.median(np.diff(at_s))) if len(at_s) > 1 else 0.1
    # A mask speaks until the next one, but a pause stays visible as a pause.
    ends_s = np.minimum(np.append(at_s[1:], np.inf), at_s + 2.5 * step_s)
    widths_s = np.where(ends_s > at_s, ends_s - at_s, step_s)  # a looped bag's stamps go back
    for lane, name in enumerate(names):
        for state in State:
            here = [r["states"].get(name, State.DISABLED.value) == state.value for r in rows]
            spans = [(t, w) for t, w, yes in zip(at_s, widths_s, here, strict=True) if yes]
            color = np.array(STATE_COLORS[state]) / 255
            lanes.broken_barh(spans, (lane - 0.4, 0.8), color=color, alpha=0.45, linewidth=0)
            used = [
                (t, w)
                for t, w, yes, r in zip(at_s, widths_s, here, rows, strict=True)
                if yes and name in r["used"]
            ]
            lanes.broken_barh(used, (lane - 0.22, 0.44), color=color, linewidth=0)
        for kill in kills:
            if kill.target == name:
                end_s = at_s[-1] + step_s if len(at_s) else 0.0
                width = end_s - kill.start_s if kill.duration_s is None else kill.duration_s
                lanes.broken_barh(
                    [(kill.start_s, width)], (lane - 0.4, 0.8), facecolor="none",
                    edgecolor="black", hatch="//", linewidth=0.8,
                )  # fmt: skip
    lanes.set_yticks(range(len(names)), names)
    lanes.invert_yaxis()
    shown = [s for s in State if any(s.value in r["states"].values() for r in rows)]
    handles = [Patch(color=np.array(STATE_COLORS[s]) / 255, label=s.value) for s in shown]
    if kills:
        handles.append(Patch(facecolor="none", edgecolor="black", hatch="//", label="killed"))
    lanes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)
    lanes.set_title("state of each sensor; the solid band is what each mask was made of", size=9)
    total = [row["latency_ms"].get("total", np.nan) for row in rows]
    below.plot(at_s, total, color="black", linewidth=0.8)
    below.set_ylim(bottom=0)
    below.set_ylabel("latency, ms", fontsize=8)
    below.set_xlabel("seconds since the first mask", fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    plt.close(figure)
    return buffer.getvalue()


def _png(picture: NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()


def _embed(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
