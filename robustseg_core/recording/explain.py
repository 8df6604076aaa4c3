"""`robustseg explain`: a fault's file through its gate once more, and a page that says why."""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
import matplotlib.pyplot as plt
import numpy as np
import yaml
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from numpy.typing import NDArray

from robustseg_core import modalities
from robustseg_core.blackbox.account import text, to_finding
from robustseg_core.blackbox.again import Again, Fault, Result, read
from robustseg_core.codecs.fields import stamp_of
from robustseg_core.modalities import Modality
from robustseg_core.output import page
from robustseg_core.output.draw import state_color
from robustseg_core.segmenter import Outcome, Segmenter, encode
from robustseg_core.storage.output_folder import staged
from robustseg_core.text import visible
from robustseg_core.types import MS, SECOND, LabelMap, Reading, State, kind_of, sentence, streams_of

BECAME = {
    State.DEAD: "fell out of use",
    State.WAITING: "could not be placed any more",
    State.DEGRADED: "became suspect, and counted for less",
}
WORDS = (
    ("decision", "of which sensors a mask was made, of which not, and why"),
    ("to the bit", "no number differs, however little"),
    ("LIVE, DEGRADED", "a sensor that masks are made of; DEGRADED: in doubt, and still used"),
    ("DEAD, RECOVERING", "one that is left out; RECOVERING: it is back, and not yet believed"),
    ("WAITING", "one that has not said enough, or that nobody can place"),
    ("quality", "what the content checks leave of a sensor, 1 to 0: the network is told"),
)
"""Of the page."""
EARLY_NS = SECOND
"""So long before the fault is "before"."""
KEPT_NS, KEPT = 60 * MS, 200
"""Messages that a picture is made of: an event camera's are many and short."""
_NEW_NS = SECOND // 2
"""What came longer ago is no picture of now."""
APART_S = 1.0
"""What was not told for longer than this is told anew."""
_HEIGHT = 180
"""Pixels of a picture."""
_FEWEST_VALUES, _MOST_CURVES, _MOST_LABELS = 4, 6, 5


@dataclass(slots=True)
class _Moment:
    """A set that is shown."""

    title: str
    at_ns: int
    label_map: LabelMap
    messages: Mapping[str, list[Any]]
    """stream -> what a sensor that is not used said of late."""


@dataclass(slots=True)
class Story:
    """What is collected while the file is done again."""

    fault: Fault
    sets: list[tuple[int, Mapping[str, Any]]] = field(default_factory=list)
    """(time, decision) as they are in the file."""
    states: list[tuple[int, Mapping[str, Any]]] = field(default_factory=list)
    moments: dict[str, _Moment] = field(default_factory=dict)
    _heard: dict[str, deque[tuple[int, Any]]] = field(
        default_factory=lambda: defaultdict(lambda: deque(maxlen=KEPT))
    )

    @property
    def zero_ns(self) -> int:
        """When the first fault struck."""
        strikes = self.fault.head.get("faults") or [{"at_ns": self.fault.head["begins_ns"]}]
        return int(strikes[0]["at_ns"])

    def heard(self, modality: str, message: Any, now_ns: int) -> None:
        """A sensor's message."""
        self._heard[modality].append((now_ns, message))

    def watch(
        self, now_ns: int, outcome: Outcome, then: Mapping[str, Any], gate: Segmenter
    ) -> None:
        """A step."""
        if (decision := then.get("decision")) is not None:
            self.sets.append((now_ns, decision))
        if (states := then.get("states")) is not None:
            self.states.append((now_ns, states))
        if not isinstance(outcome, LabelMap):
            return
        since_ns = now_ns - self.zero_ns
        if since_ns <= -EARLY_NS:
            self._show("before", now_ns, outcome)
        elif since_ns < 0:
            self._show("right before", now_ns, outcome)
        else:
            if "when it was found" not in self.moments:
                self._show("when it was found", now_ns, outcome)
            self._show("at the end", now_ns, outcome)

    def _show(self, title: str, now_ns: int, label_map: LabelMap) -> None:
        messages = {}
        for name, heard in self._heard.items():
            if name in label_map.used or now_ns - heard[-1][0] > _NEW_NS:
                continue
            newest_ns = heard[-1][0]
            messages[name] = [m for came_ns, m in heard if newest_ns - came_ns <= KEPT_NS]
        self.moments[title] = _Moment(title, now_ns, label_map, messages)


@dataclass(frozen=True, slots=True)
class Explained:
    """What came of it."""

    result: Result
    account: Mapping[str, Any]
    """The content of `explain.json`."""


def explain(path: Path, out: Path) -> Explained:
    """Do a fault's file again, and write `report.html` and `explain.json`.

    Args:
        path: of the black box.
        out: folder of the results.

    Raises:
        RobustsegError: it is no such file, too much of it is missing, or `out` cannot be written.
    """
    fault = read(path)
    story = Story(fault)
    again = Again(fault, watch=story.watch, heard=story.heard)
    result = again.run()
    account = _account(path, story, result)
    with staged(out, command="explain", inputs=[path]) as folder:
        (folder / "report.html").write_text(_page(path, story, again, account), encoding="utf-8")
        whole = json.dumps(json.loads(text(account)), indent=1)
        (folder / "explain.json").write_text(whole + "\n", encoding="utf-8")
    return Explained(result, account)


def _account(path: Path, story: Story, result: Result) -> dict[str, Any]:
    first = result.first
    return {
        "file": visible(path.name),
        "reproduced": result.compared > 0 and first is None,
        "decisions": result.decisions,
        "states": result.states,
        "differences": len(result.differences),
        "first_difference": None if first is None else str(first),
        "conclusion": conclusion(result),
        "faults": [_strike(one, story) for one in story.fault.head.get("faults", [])],
        "changes": changes(story),
        "findings": findings(story),
        "notices": [*story.fault.notices, *_cut(story), *_versions(result)],
    }


def conclusion(result: Result) -> str:
    """One sentence: whether it was reproduced."""
    if not result.compared:
        return "nothing could be made again, for the file holds no decision; how it was is lost"
    counted = f"{result.decisions} decisions and {result.states} looks at the sensors' states"
    if (first := result.first) is None:
        return f"{counted} were made again: all are equal, to the bit"
    return f"{len(result.differences)} of {counted} differ; the first: {first}"


def _cut(story: Story) -> list[str]:
    cut = story.fault.head.get("cut")
    return [f"the file ends early: {cut}"] if cut else []


def _versions(result: Result) -> list[str]:
    return [f"other versions than then: {'; '.join(result.versions)}"] if result.versions else []


def _strike(one: Mapping[str, Any], story: Story) -> dict[str, Any]:
    finding = one.get("finding")
    found = to_finding(finding) if finding else None
    at_ns = int(one["at_ns"]) + int(story.fault.head.get("offset_ns", 0))
    at = datetime.fromtimestamp(at_ns / SECOND, timezone.utc)
    return {
        "at": f"{at:%Y-%m-%d %H:%M:%S}.{at_ns // 10**8 % 10} UTC",
        "at_s": _seconds(int(one["at_ns"]), story),
        "modality": one["modality"],
        "state": one["state"],
        "fault": found.fault.value if found else "",
        "words": f"{one['modality']} {BECAME[State(one['state'])]}"
        + (f": {found}" if found else ""),
    }


def _seconds(at_ns: int, story: Story) -> float:
    return round((at_ns - story.zero_ns) / SECOND, 3)


def changes(story: Story) -> list[dict[str, Any]]:
    """The decisions at which the sensors that are used change, or what is said of one."""
    found: list[dict[str, Any]] = []
    last: Any = None
    for at_ns, decision in story.sets:
        used = decision.get("used", [])
        why = {name: [f["fault"] for f in told] for name, told in decision.get("why", {}).items()}
        if (now := (decision["kind"], used, why)) == last:
            continue
        last = now
        reasons = {
            name: sentence(to_finding(one) for one in told)
            for name, told in decision.get("why", {}).items()
        }
        found.append(
            {
                "at_s": _seconds(at_ns, story),
                "kind": decision["kind"],
                "stamp_ns": decision.get("stamp_ns"),
                "used": used,
                "reasons": reasons,
            }
        )
    return found


def findings(story: Story) -> list[dict[str, Any]]:
    """Of each sensor and fault, from when to when it was told, and its measured values."""
    every: list[dict[str, Any]] = []
    newest: dict[tuple[str, str], dict[str, Any]] = {}
    for at_ns, sensors in story.states:
        at_s = _seconds(at_ns, story)
        for name, health in sensors.items():
            for one in health["findings"]:
                key = name, one["fault"]
                entry = newest.get(key)
                if entry is None or at_s - entry["to_s"] > APART_S:
                    entry = {"modality": name, "fault": one["fault"], "from_s": at_s, "values": []}
                    newest[key] = entry
                    every.append(entry)
                entry |= {"to_s": at_s, "text": to_finding(one).told}
                entry |= {"limit": one["limit"], "unit": one["unit"]}
                if one["value"] is not None:
                    entry["values"].append([at_s, one["value"], one["limit"]])
    return every


# -- the page ---------------------------------------------------------------------------------


def _page(path: Path, story: Story, again: Again, account: Mapping[str, Any]) -> str:
    head, robot = story.fault.head, story.fault.robot
    faults = account["faults"]
    begins_s = _seconds(int(head["begins_ns"]), story)
    ends_ns = max([int(head["begins_ns"]), *(at for at, _ in story.states)])
    first = faults[0]["words"] if faults else path.name
    if camera := head.get("camera"):
        first = f"camera {camera}: {first}"
    return page.render(
        "robustseg_core.recording",
        title=f"What happened: {visible(first)}",
        template="explain.html.j2",
        words=WORDS,
        account=account,
        maker=head.get("made") or "",
        then=head.get("robustseg", ""),
        begins_s=begins_s,
        ends_s=_seconds(ends_ns, story),
        before_after=_before_after(story),
        timeline=page.embed(timeline(story, faults)),
        curves=page.embed(drawn) if (drawn := _curves(account["findings"])) else "",
        moments=_pictures(story, again),
        config=yaml.safe_dump(robot.model_dump(mode="json"), sort_keys=False),
    )


def _before_after(story: Story) -> dict[str, str]:
    """What masks were made of before the fault, and after it."""
    before = [d for at, d in story.sets if at < story.zero_ns and d["kind"] == "mask"]
    after = [d for at, d in story.sets if at >= story.zero_ns and d["kind"] == "mask"]
    found = {}
    if before:
        found["before"] = ", ".join(before[-1]["used"])
    if after:
        found["after"], found["end"] = (", ".join(after[k]["used"]) for k in (0, -1))
    return found


def _pictures(story: Story, again: Again) -> list[dict[str, Any]]:
    """Row by row: a moment, and what each sensor showed."""
    rows = []
    for title in ("before", "right before", "when it was found", "at the end"):
        moment = story.moments.get(title)
        if moment is None:
            continue
        cells = [_cell(name, moment, again) for name in again.gate.streams]
        rows.append({"title": title, "at_s": _seconds(moment.at_ns, story), "cells": cells})
    return rows


def _cell(name: str, moment: _Moment, again: Again) -> dict[str, str]:
    label_map = moment.label_map
    state = label_map.states[name].value
    why = sentence(label_map.reasons.get(name, ()))
    if name in label_map.used:
        frame = label_map.bundle.frames[kind_of(name)]  # of several LiDARs, what they show together
        array, told = frame.array, f"used, {state}, quality {frame.quality:.2f}"
        told += f"; {why}" if why else ""
    else:
        found = _seen(name, moment, again)
        told = f"not used, {state}" + (f": {why}" if why else "")
        if found is None:
            said = "what came cannot be shown" if name in moment.messages else "nothing came"
            return {"picture": "", "told": told, "said": said, "name": name}
        array = found
    decoder = _decoder(name, again)
    return {"picture": page.embed(_png(decoder.picture(array))), "told": told, "name": name}


def _seen(name: str, moment: _Moment, again: Again) -> NDArray[np.float32] | None:
    """What a sensor that is not used would have shown; None: that cannot be said."""
    messages = moment.messages.get(name)
    if not messages:
        return None
    decoder = _decoder(name, again)
    try:
        readings = []
        for message in messages if decoder.accumulates else messages[-1:]:
            stamp_ns = stamp_of(message)
            data = decoder.decode(message, stamp_ns)
            readings.append(Reading(name, stamp_ns, message.header.frame_id, data))
        # It is drawn when all is done, so that the gate's own tables are as they were.
        frame = encode(decoder, readings, again.gate.intake.view, readings[-1].stamp_ns)
    except Exception:  # it is broken, and only a picture for people
        return None
    return frame.array


def _decoder(name: str, again: Again) -> Modality:
    """A fresh one of a stream."""
    kind = kind_of(name)
    return modalities.load(kind)(encoding=again.gate.spec.encodings.get(kind), stream=name)


def _png(picture: NDArray[np.uint8]) -> bytes:
    height, width = picture.shape[:2]
    if height < _HEIGHT:
        size = (round(width * _HEIGHT / height), _HEIGHT)
        picture = np.asarray(
            cv2.resize(picture, size, interpolation=cv2.INTER_NEAREST), picture.dtype
        )
    return page.picture_png(picture)


@page.plain_text
def timeline(story: Story, faults: Sequence[Mapping[str, Any]]) -> bytes:
    """A PNG: the state of each sensor, what each mask was made of, and the qualities."""
    present = dict.fromkeys(name for _, sensors in story.states for name in sensors)
    names = [n for n in streams_of(story.fault.spec.modalities, present) if n in present]
    figure, (above, below) = plt.subplots(
        2,
        1,
        sharex=True,
        figsize=(10, 2.2 + 0.45 * len(names)),
        layout="constrained",
        height_ratios=[2, 1],
    )
    times_s = [_seconds(at, story) for at, _ in story.states]
    end_s = max([*times_s, *(_seconds(at, story) for at, _ in story.sets), 0.1])
    for lane, name in enumerate(names):
        _lane(above, lane, name, story, end_s)
        quality = [sensors.get(name, {}).get("score", np.nan) for _, sensors in story.states]
        below.plot(times_s, quality, linewidth=1.2, label=visible(name), drawstyle="steps-post")
    for axes in (above, below):
        for fault in faults:
            axes.axvline(fault["at_s"], color="black", linewidth=1, linestyle="--")
    for row, fault in enumerate(faults[:_MOST_LABELS]):
        label = f" {visible(fault['modality'])} {fault['fault']}"
        above.text(fault["at_s"], -0.55 - 0.4 * row, label, fontsize=8, va="bottom")
    above.set_yticks(range(len(names)), list(map(visible, names)))
    above.set_ylim(len(names) - 0.5, -0.7 - 0.4 * min(len(faults), _MOST_LABELS))
    seen = {h["state"] for _, sensors in story.states for h in sensors.values()}
    patches = [Patch(color=state_color(s), label=s.value) for s in State if s.value in seen]
    above.legend(handles=patches, loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)
    above.set_title("state of each sensor; the solid band is what each mask was made of", size=9)
    below.set_ylim(-0.05, 1.05)
    below.set_ylabel("quality", fontsize=8)
    below.set_xlabel("seconds since the fault was found", fontsize=8)
    if names:  # nothing was written down of a file that ends early
        below.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)
    return page.figure_png(figure)


def _lane(axes: Axes, lane: int, name: str, story: Story, end_s: float) -> None:
    times = [_seconds(at, story) for at, _ in story.states] + [end_s]
    for (_, sensors), begin, end in zip(story.states, times, times[1:], strict=False):
        if name in sensors:
            color = state_color(State(sensors[name]["state"]))
            spans = [(begin, max(0.0, end - begin))]
            axes.broken_barh(spans, (lane - 0.4, 0.8), color=color, alpha=0.45, linewidth=0)
    masks = [(_seconds(at, story), d) for at, d in story.sets]
    ends = [at for at, _ in masks[1:]] + [end_s]
    usual = float(np.median(np.diff([at for at, _ in masks]))) if len(masks) > 1 else 0.1
    for (begin, decision), end in zip(masks, ends, strict=True):
        if name in decision.get("used", ()):
            state = State(decision["states"][name])
            spans = [(begin, min(end - begin, 2.5 * usual))]
            axes.broken_barh(spans, (lane - 0.22, 0.44), color=state_color(state), linewidth=0)


@page.plain_text
def _curves(found: Sequence[Mapping[str, Any]]) -> bytes:
    """A PNG of measured values beside their limits; empty: nothing was measured for long."""
    known = [one for one in found if one["limit"] is not None]
    shown = [one for one in known if len(one["values"]) >= _FEWEST_VALUES]
    shown = sorted(shown, key=lambda one: abs(one["from_s"]))[:_MOST_CURVES]  # the fault's first
    if not shown:
        return b""
    figure, panels = plt.subplots(
        len(shown),
        1,
        sharex=True,
        squeeze=False,
        figsize=(10, 0.6 + 1.2 * len(shown)),
        layout="constrained",
    )
    for axes, one in zip(panels[:, 0], shown, strict=True):
        at_s, values, limits = np.array(one["values"], float).T
        axes.plot(at_s, values, color="#0969da", marker=".", label="measured")
        axes.plot(at_s, limits, color="#cf222e", linestyle="--", label="limit")
        axes.axvline(0, color="black", linewidth=1, linestyle="--")
        axes.set_ylabel(f"{visible(one['modality'])}\n{one['fault']}\n{one['unit']}", fontsize=8)
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)
    panels[-1, 0].set_xlabel("seconds since the fault was found", fontsize=8)
    return page.figure_png(figure)
