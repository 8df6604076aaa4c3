"""`result.json` as pictures: who was believed when, and how long each mask took."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from numpy.typing import NDArray

from robustseg_core.faults import FaultSpec
from robustseg_core.output import lanes, page
from robustseg_core.output.draw import state_color
from robustseg_core.output.reasons import Sentences, in_words
from robustseg_core.output.recorder import Moment, confidence_line, masks_line, score_line
from robustseg_core.output.timeline import reach_s
from robustseg_core.text import visible
from robustseg_core.types import ModelSpec, State, kind_of

WORDS = (
    ("mIoU", "mean over the classes of intersection over union with the truth, 0 to 1"),
    ("p50, p95, p99", "half, 95 % and 99 % of the masks took at most so long"),
    ("coverage", "share of the time in which the newest mask was at most 2.5 usual periods old"),
    ("LIVE, DEGRADED", "a sensor that masks are made of; DEGRADED: in doubt, and still used"),
    ("DEAD, RECOVERING", "one that is left out; RECOVERING: it is back, and not yet believed"),
    ("WAITING, DISABLED", "one that has not said anything yet, and one that is not asked"),
)
"""Of the report."""
NO_MASK = "no mask"
EMPTY = "#d1d5da"
"""Color of the time in which no mask came."""


def write(
    folder: Path,
    result: dict[str, Any],
    *,
    title: str,
    spec: ModelSpec | None = None,
    moments: Sequence[Moment] = (),
    cloud: Moment | None = None,
    broken: Sequence[FaultSpec] = (),
) -> Path:
    """`report.html` (one file, nothing to load beside the video) and `poster.png` in `folder`.

    Args:
        folder: where `overlay.webm` lies too.
        result: what `Recorder.write_result` returned; with `start_ns`, `totals` and `rejected`.
        title: names the run.
        spec: the network's, for the legend.
        moments: pictures, oldest first.
        cloud: a labelled cloud, where a LiDAR or depth made a mask.
        broken: what was done to sensors on purpose; drawn as hatched spans.
    """
    (folder / "poster.png").write_bytes(poster(result, moments, broken))
    html = page.render(
        "robustseg_core.output",
        title=title,
        checkpoint=str(result.get("config", {}).get("weights") or ""),
        classes=list(zip(spec.classes, spec.palette, strict=True)) if spec else (),
        words=WORDS,
        result=result,
        broken=[fault.kill or str(fault) for fault in broken],
        lanes=lanes.lanes(result, broken),
        empty=lanes.empty(result),
        states=lanes.legend(result),
        end_s=lanes.end_s(result),
        curves=page.embed(curves(result)),
        pictures=[(one.caption, page.embed(page.picture_png(one.overlay))) for one in moments],
        cloud=(cloud.caption, page.embed(page.picture_png(cloud.overlay))) if cloud else None,
        changes=changes(result),
        no_mask=NO_MASK,
        masks=masks_line(result),
        score=score_line(result),
        confidence=confidence_line(result),
        has_video=(folder / "overlay.webm").exists(),
    )
    path = folder / "report.html"
    path.write_text(html, encoding="utf-8")
    return path


def write_cameras(
    folder: Path,
    result: dict[str, Any],
    *,
    title: str,
    spec: ModelSpec,
    moments: Mapping[str, Sequence[Moment]],
) -> Path:
    """`report.html` of a run with several cameras: all of them in short, and ways to their own.

    Args:
        folder: where the cameras' folders lie, too.
        result: of all of them, as `run` has it.
        title: names the run.
        spec: the network's, for the legend.
        moments: by camera, oldest first; the first that all its sensors made is shown.
    """
    shown = {
        name: max(some, key=lambda moment: len(moment.used))
        for name, some in moments.items()
        if some
    }
    html = page.render(
        "robustseg_core.output",
        title=title,
        template="cameras.html.j2",
        checkpoint=str(result["config"].get("weights") or ""),
        classes=list(zip(spec.classes, spec.palette, strict=True)),
        words=[word for word in WORDS if word[0] == "coverage"],
        result=result,
        pictures=[
            (name, moment.caption, page.embed(page.picture_png(moment.overlay)))
            for name, moment in shown.items()
        ],
    )
    path = folder / "report.html"
    path.write_text(html, encoding="utf-8")
    return path


def changes(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows at which the set of used modalities changes, or of those that are used in doubt.

    `at_s` is seconds from the start, `reasons` are sentences. Where no mask came for long, a row
    uses nothing, and its reason is what is known of that time.
    """
    sentences = Sentences(result.get("reasons", ()))
    rows = [
        {
            "at_s": s["from_s"],
            "used": [],
            "reasons": {"all": in_words(s["why"])} if s["why"] else {},
        }
        for s in result["totals"]["silences"]
    ]
    made = ({**row, "reasons": sentences.of(row)} for row in result["masks"])
    # Stable: the mask from which on none came stays before that silence.
    rows = sorted([*made, *rows], key=lambda row: round(row["at_s"], 3))
    found: list[dict[str, Any]] = []
    last: tuple[list[str], list[str]] | None = None
    for row in rows:
        now = row["used"], [name for name in row["used"] if name in row["reasons"]]
        if now != last:
            found.append(row)
            last = now
    return found


@page.plain_text
def poster(
    result: dict[str, Any], moments: Sequence[Moment] = (), broken: Sequence[FaultSpec] = ()
) -> bytes:
    """A PNG: typical moments, the state of each sensor over time, and the latency.

    Args:
        result: what `Recorder.write_result` returned.
        moments: those of the most common combinations of sensors are shown; none: no pictures.
        broken: drawn as hatched spans.
    """
    shown = _typical(result["masks"], moments)
    heights = [1.9] if shown else []
    heights.append(1.9 + 0.45 * len(result["modalities"]))
    figure = plt.figure(figsize=(10, sum(heights)), layout="constrained")
    panels = list(figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights).flat)
    if shown:
        pictures = panels[0].subplots(1, len(shown), squeeze=False)[0]
        for axes, moment in zip(pictures, shown, strict=True):
            axes.imshow(moment.overlay)
            axes.set_title(visible(moment.caption), size=7)
            axes.axis("off")
    ratios = [3, 1, 1] if _scored(result) else [3, 1]
    above, *below = panels[-1].subplots(len(ratios), 1, sharex=True, height_ratios=ratios)
    _draw_lanes(above, result, broken)
    _draw_curves([above, *below], below, result)
    return page.figure_png(figure)


@page.plain_text
def curves(result: dict[str, Any]) -> bytes:
    """A PNG of the latency over time and, where there is truth, of the score."""
    count = 2 if _scored(result) else 1
    figure, rows = plt.subplots(
        count, 1, figsize=(10, 1.2 * count + 0.2), sharex=True, squeeze=False, layout="constrained"
    )
    shown = list(rows[:, 0])
    _draw_curves(shown, shown, result)
    return page.figure_png(figure)


def _scored(result: dict[str, Any]) -> bool:
    return any("miou" in row for row in result["masks"])


def _draw_curves(every: Sequence[Axes], rows: Sequence[Axes], result: dict[str, Any]) -> None:
    """Latency and score in `rows`; in `every`, gray where no mask came."""
    for from_s, to_s, _ in lanes.pauses(result):
        for axes in every:
            axes.axvspan(from_s, to_s, color=EMPTY, linewidth=0, zorder=0)
    every[0].set_xlim(0, lanes.end_s(result))
    below, *score = rows
    _draw_curve(below, result, lambda row: row["latency_ms"].get("total"))
    below.set_ylim(bottom=0)
    below.set_ylabel("latency, ms", fontsize=8)
    for axes in score:
        _draw_curve(axes, result, lambda row: row.get("miou"))
        axes.set_ylim(0, 1)
        axes.set_ylabel("mIoU", fontsize=8)
    rows[-1].set_xlabel("seconds", fontsize=8)


def _typical(rows: Sequence[dict[str, Any]], moments: Sequence[Moment]) -> list[Moment]:
    """One moment each of the four commonest combinations, in order of time."""
    common = Counter(tuple(row["used"]) for row in rows)
    first: dict[tuple[str, ...], Moment] = {}
    for moment in moments:
        first.setdefault(moment.used, moment)
    chosen = sorted(first.values(), key=lambda moment: -common[moment.used])[:4]
    return sorted(chosen, key=lambda moment: moment.at_s)


def _seconds(result: dict[str, Any]) -> NDArray[np.float64]:
    """Time of each mask since the start, which faults are given in."""
    return np.array([row["at_s"] for row in result["masks"]], np.float64)


def _draw_curve(
    axes: Axes, result: dict[str, Any], value: Callable[[dict[str, Any]], float | None]
) -> None:
    """A value of each mask over time; the line breaks where it is not known for long."""
    rows = [(row["at_s"], v) for row in result["masks"] if (v := value(row)) is not None]
    limit_s = reach_s([at_s for at_s, _ in rows])
    line: list[tuple[float, float]] = []
    for at_s, v in rows:
        if line and at_s - line[-1][0] > limit_s:
            line.append((at_s, np.nan))
        line.append((at_s, v))
    axes.plot(
        *np.array(line).reshape(-1, 2).T, color="black", linewidth=0.8, marker=".", markersize=2
    )


def _draw_lanes(axes: Axes, result: dict[str, Any], broken: Sequence[FaultSpec]) -> None:
    """One lane per modality: pale in the color of its state, solid where masks are made of it."""
    rows, names, at_s = result["masks"], result["modalities"], _seconds(result)
    end_s = max(result["totals"]["duration_s"], *at_s[-1:], 0.0)
    # A mask speaks until the next one, but a pause stays visible as a pause.
    widths_s = np.minimum(np.diff(np.append(at_s, end_s)), reach_s(at_s.tolist()))
    for lane, name in enumerate(names):
        for state in State:
            here = [r["states"].get(name, State.DISABLED.value) == state.value for r in rows]
            used = [yes and name in r["used"] for yes, r in zip(here, rows, strict=True)]
            color = state_color(state)
            for flags, low, height, alpha in ((here, -0.4, 0.8, 0.45), (used, -0.22, 0.44, 1.0)):
                spans = _spans(at_s, widths_s, flags)
                axes.broken_barh(spans, (lane + low, height), color=color, alpha=alpha, linewidth=0)
        for fault in broken:
            if fault.target in (name, kind_of(name)) and fault.start_s < end_s:
                until_s = end_s if fault.duration_s is None else fault.start_s + fault.duration_s
                width_s = min(until_s, end_s) - fault.start_s
                axes.broken_barh(
                    [(fault.start_s, width_s)],
                    (lane - 0.4, 0.8),
                    facecolor="none",
                    edgecolor="black",
                    hatch="//",
                    linewidth=0.8,
                )
    axes.set_yticks(range(len(names)), list(map(visible, names)))
    axes.invert_yaxis()
    said = {r["states"].get(name, State.DISABLED.value) for r in rows for name in names}
    seen = [state for state in State if state.value in said]
    handles = [Patch(color=state_color(s), label=s.value) for s in seen]
    if broken:
        handles.append(
            Patch(facecolor="none", edgecolor="black", hatch="//", label="broken on purpose")
        )
    if result["totals"]["silences"]:
        handles.append(Patch(color=EMPTY, label=NO_MASK))
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)
    axes.set_title("state of each sensor; the solid band is what each mask was made of", size=9)


def _spans(
    at_s: NDArray[np.float64], widths_s: NDArray[np.float64], flags: Sequence[bool]
) -> list[tuple[float, float]]:
    """(begin, width) of the time in which a flag is set; masks in a row are one piece."""
    spans: list[tuple[float, float]] = []
    for t, width, yes in zip(at_s.tolist(), widths_s.tolist(), flags, strict=True):
        if not yes:
            continue
        if spans and t - sum(spans[-1]) <= 1e-9:
            spans[-1] = (spans[-1][0], t + width - spans[-1][0])
        else:
            spans.append((t, width))
    return spans
