"""What a run leaves behind: label PNGs, a film, an MCAP for Foxglove and `result.json`.

One recorder serves `robustseg run` and the live demo, so the two can be compared file by file.
Seconds, rates and gaps are those of the whole recording, from its first message to its last one,
whether masks came or not (`timeline`).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustseg_core.bag import BagWriter
from robustseg_core.config import PointsConfig
from robustseg_core.errors import RobustsegError
from robustseg_core.geometry.view import moved
from robustseg_core.output import draw, messages, topics
from robustseg_core.output.cloud import labelled
from robustseg_core.output.cloud_picture import cloud_picture
from robustseg_core.output.film import VideoWriter
from robustseg_core.output.reasons import ReasonLog, Sentences, entries, faults, in_words
from robustseg_core.output.rerun_file import RerunFile
from robustseg_core.output.screen import Screen
from robustseg_core.output.timeline import Places, Timeline, coverage, gaps, silences
from robustseg_core.output.transforms import TransformLog
from robustseg_core.shards.levels import label_png
from robustseg_core.types import SECOND, LabelMap, ModelSpec, Reasons, State, streams_of
from robustseg_core.version import __version__

MOMENTS = 12
"""Pictures kept for the report."""
UNUSED_S = 2.0
"""A sensor that is believed and that no mask used for longer than this is worth a notice."""
NOTICES = 3
"""Silences that are told one by one, the longest first; the others in a sentence together."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A picture for the report."""

    at_s: float
    """Since the start of the recording."""
    used: tuple[str, ...]
    overlay: NDArray[np.uint8]
    """(H, W, 3) RGB."""
    whose: str = ""
    """Of a labelled cloud, whose points they are."""

    @property
    def caption(self) -> str:
        """When, and made of what."""
        points = f"points of {self.whose}, mask of " if self.whose else ""
        return f"{self.at_s:.2f} s: {points}{', '.join(self.used)}"


class Recorder:
    """Writes a folder of results while masks come in; a context manager.

    Args:
        folder: fresh, as `output_folder.staged` gives it.
        spec: the network's.
        bag: the MCAP that gets every mask; open, and closed by who made it, as several share it.
        start_ns: when the recording began, on its own clock.
        timeline: of the recording.
        video: whether there is a film.
        points: the robot's; whether the MCAP holds them is among it.
        streams: the robot's, where they have names of their own.
        camera: which of several cameras it is.
        rerun: gets every mask, too; open, and closed by who made it.
        transforms: what is heard of them joins the MCAP; several cameras share one.

    Raises:
        RobustsegError: the folder cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        spec: ModelSpec,
        *,
        bag: BagWriter,
        start_ns: int,
        timeline: Timeline,
        video: bool = True,
        points: PointsConfig | None = None,
        streams: Collection[str] = (),
        camera: str = "",
        rerun: RerunFile | None = None,
        transforms: TransformLog | None = None,
    ) -> None:
        self.folder = folder
        self.streams = streams_of(spec.modalities, streams)
        """In the order of the network's modalities; one that the robot has none of is there."""
        self.rows: list[dict[str, Any]] = []
        self.moments: list[Moment] = []
        """Where a mask is made of others than the one before it; the first few of them only, so
        that memory stays bounded."""
        self.cloud: Moment | None = None
        """The labelled cloud of the first mask that most sensors made, of those that have one."""
        self.spec = spec
        self._points = points
        self._start_ns = start_ns
        self._timeline = timeline
        self._places = Places(timeline)
        self._reasons = ReasonLog()
        self._screen = Screen(spec, timeline.duration_s)
        film = folder / "overlay.webm"
        self._video = VideoWriter(film, idle=self._screen.idle) if video else None
        self._masks = folder / "masks"
        try:
            self._masks.mkdir(parents=True)
        except OSError as error:
            raise RobustsegError(
                f"cannot write to {folder}: {error.strerror}; choose another --out"
            ) from None
        self._camera = camera
        self._rerun = rerun
        self._transforms = transforms or TransformLog()
        self._bag = bag

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        if self._video is None:
            return
        if kind is None:
            self._video.finish(self._timeline.duration_s)
        else:
            self._video.abandon()

    @property
    def wants_seen(self) -> bool:
        """Whether it shows what sensors say that no mask is made of."""
        return self._video is not None or self._rerun is not None

    @property
    def reasons(self) -> list[dict[str, Any]]:
        """What was wrong with each sensor so far, and while which masks were made."""
        return self._reasons.to_json()

    def place_ns(self, label_map: LabelMap) -> int:
        """Where a mask lies on the timeline; to be asked once for each, before `add`."""
        return self._places.place_ns(label_map)

    def add(
        self,
        label_map: LabelMap,
        overlay: NDArray[np.uint8],
        at_ns: int,
        miou: float | None = None,
        heard: Mapping[str, bytes] | None = None,
        seen: Mapping[str, NDArray[np.uint8]] | None = None,
    ) -> None:
        """Keep one mask.

        Args:
            label_map: the mask.
            overlay: (H, W, 3) RGB, as `draw.overlay` makes it.
            at_ns: its place, from `place_ns`.
            miou: of this mask alone, where the truth is known.
            heard: as `topics.recorded` takes it.
            seen: as `Screen.frame` takes it.

        Raises:
            RobustsegError: the disk is full.
        """
        at_s = at_ns / SECOND
        row = {"at_s": round(at_s, 6), **row_of(label_map)}
        self._reasons.add(row["at_s"], label_map.reasons)
        if miou is not None:
            row["miou"] = round(miou, 4)
        changed = not self.rows or self.rows[-1]["used"] != row["used"]
        if changed and len(self.moments) < MOMENTS:
            self.moments.append(Moment(at_s, label_map.used, overlay))
        self._see_points(label_map, at_s)
        self.rows.append(row)
        name = f"{len(self.rows) - 1:06d}_{label_map.stamp_ns}.png"
        png = label_png(label_map.ids, draw.lookup(self.spec.palette))
        try:
            (self._masks / name).write_bytes(png)
        except OSError as error:
            raise RobustsegError(
                f"cannot write {self._masks / name}: {error.strerror}; make room, or choose "
                "another --out"
            ) from None
        if self._video is not None:
            self._video.add(self._screen.frame(label_map, overlay, at_s, seen), at_s)
        mask = topics.Mask(label_map, self.spec, picture=overlay, points=self._points)
        if self._rerun is not None:
            self._rerun.add(mask, at_ns, seen)
        first, stamp_ns = len(self.rows) == 1, label_map.stamp_ns
        self._transforms.write(self._bag, stamp_ns)
        for name, kind, said, latched in topics.recorded(mask, first=first, heard=heard):
            topic = topics.recorded_topic(name, self._camera)
            if latched and self._bag.has(topic):  # another camera has said it
                continue
            if isinstance(said, bytes):
                self._bag.write_raw(topic, kind, said, stamp_ns, latched=latched)
                continue
            message = messages.to_rosbags(kind, said)
            self._bag.write(topic, kind, message, stamp_ns, latched=latched)

    def _see_points(self, label_map: LabelMap, at_s: float) -> None:
        """Draw its cloud, if more sensors made this mask than the one that is drawn."""
        if self.cloud is not None and len(label_map.used) <= len(self.cloud.used):
            return
        points = self._points or PointsConfig()
        if (found := labelled(label_map, points)) is None or not len(found.ids):
            return
        xyz = moved(found.xyz, found.camera_from_points)
        picture = cloud_picture(xyz, found.ids, self.spec)
        whose = found.placed.reading.modality
        self.cloud = Moment(at_s, label_map.used, picture, whose)

    def write_result(self, **more: Any) -> dict[str, Any]:
        """Write `result.json`; `more` joins its top level. Returns what was written."""
        result = {
            "robustseg": __version__,
            "trained": self.spec.trained,
            "provenance": self.spec.provenance,
            "modalities": list(self.streams),
            "start_ns": self._start_ns,
            **more,
            "reasons": self.reasons,
            "masks": self.rows,
        }
        text = json.dumps(result, indent=1)
        (self.folder / "result.json").write_text(text + "\n")
        return result


def row_of(label_map: LabelMap) -> dict[str, Any]:
    """A mask's line in `result.json`."""
    return {
        "stamp_ns": label_map.stamp_ns,
        "used": list(label_map.used),
        "reasons": faults(label_map.reasons),
        "states": {name: state.value for name, state in label_map.states.items()},
        "held_ms": _rounded(label_map.held_ms),
        "latency_ms": _rounded(label_map.latency_ms),
    }


def totals(
    rows: Sequence[Mapping[str, Any]],
    duration_s: float,
    *,
    labels: float | None = None,
    why: Mapping[float, Reasons] | None = None,
) -> dict[str, Any]:
    """Sums over a run: masks, rate, coverage, use of each modality, latency percentiles.

    The run reaches from the first message of the recording to its last one: its ends count as ends
    of gaps. `coverage` is the share of that time in which the newest mask was at most 2.5 usual
    periods old, `label_coverage` the share of the labels that have a mask.

    Args:
        rows: lines of `result.json`, with `at_s`.
        duration_s: of the recording.
        labels: share of the labels that have a mask; None: there is no truth.
        why: beginning of a silence -> what was wrong then, where it is known.
    """
    times_s = [row["at_s"] for row in rows]
    latency = [row["latency_ms"]["total"] for row in rows if "total" in row["latency_ms"]]
    used: dict[str, int] = {}
    for row in rows:
        for name in row["used"]:
            used[name] = used.get(name, 0) + 1
    longest_s = max((b - a for a, b in gaps(times_s, duration_s)), default=0.0)
    found: dict[str, Any] = {
        "masks": len(rows),
        "duration_s": round(duration_s, 3),
        "rate_hz": round(len(rows) / duration_s, 2) if duration_s > 0 else 0.0,
        "longest_gap_ms": round(longest_s * 1000, 1),
        "coverage": round(coverage(times_s, duration_s), 4),
        "silences": [
            {"from_s": round(a, 3), "to_s": round(b, 3), "why": entries((why or {}).get(a, {}))}
            for a, b in silences(times_s, duration_s)
        ],
        "used": used,
        "latency_ms": {
            f"p{q}": round(float(np.percentile(latency, q)), 1) for q in (50, 95, 99) if latency
        },
    }
    if labels is not None:
        found["label_coverage"] = round(labels, 4)
    return found


def silence_notices(sums: Mapping[str, Any]) -> list[str]:
    """Where no mask came, of what `totals` returned; a sentence each, oldest first."""
    found = sorted(sums["silences"], key=lambda silence: silence["from_s"] - silence["to_s"])
    told = sorted(found[:NOTICES], key=lambda silence: silence["from_s"])
    notices = [
        f"no mask from {silence['from_s']:.2f} s to {silence['to_s']:.2f} s"
        + (f": {in_words(silence['why'])}" if silence["why"] else "")
        for silence in told
    ]
    if rest := found[NOTICES:]:
        seconds = sum(silence["to_s"] - silence["from_s"] for silence in rest)
        notices.append(
            f"no mask in {len(rest)} other pause{'s' * (len(rest) > 1)} either, at most "
            f"{rest[0]['to_s'] - rest[0]['from_s']:.2f} s long and {seconds:.2f} s in all"
        )
    return notices


def unused_notices(
    rows: Sequence[Mapping[str, Any]], reasons: Sequence[Mapping[str, Any]] = ()
) -> list[str]:
    """Sensors that were believed, and not in the masks all the same, for long: a sentence each.

    A dead sensor has its state; this one speaks, and what it says never fits. One that was never
    used at all is told elsewhere (`offline.notices`).

    Args:
        rows: lines of `result.json`, with `at_s`.
        reasons: its `reasons`.
    """
    sentences = Sentences(reasons)
    longest: dict[str, tuple[float, float, str]] = {}
    since: dict[str, float] = {}
    ever = {name for row in rows for name in row["used"]}
    for row in rows:
        for name, state in row["states"].items():
            if name not in ever or name in row["used"] or not State(state).usable:
                since.pop(name, None)
                continue
            start_s = since.setdefault(name, row["at_s"])
            before_s = longest[name][1] - longest[name][0] if name in longest else UNUSED_S
            if row["at_s"] - start_s > before_s:
                longest[name] = start_s, row["at_s"], sentences.of(row).get(name, "")
    return [
        f"{name} was believed, and in no mask from {start_s:.2f} s to {end_s:.2f} s"
        + (f": {reason}" if reason else "")
        for name, (start_s, end_s, reason) in longest.items()
    ]


def masks_line(result: Mapping[str, Any]) -> str:
    """How many masks there are, how often, and how much of the recording they cover."""
    sums = result["totals"]
    return (
        f"{sums['masks']} masks at {sums['rate_hz']} Hz, in {100 * sums['coverage']:.1f} % of "
        f"{sums['duration_s']:.2f} s"
    )


def score_line(result: Mapping[str, Any]) -> str:
    """The score, and the rule that it follows; empty where there is no truth."""
    truth = result.get("truth")
    if truth is None:
        return ""
    score = f"{100 * result['miou']:.1f} %" if "miou" in result else "nothing labelled"
    height, width = truth["scored_at"]
    missed = ", the others are missed" if truth["with_mask"] < truth["labels"] else ""
    return (
        f"mIoU against the recording's truth: {score} ({truth['with_mask']} of {truth['labels']} "
        f"labels have a mask{missed}; mean over the {truth['classes_occurring']} of "
        f"{truth['classes']} classes that occur; scored at {height}x{width}"
        + (
            f"; a mask that ignores every sensor, painted from these very labels: "
            f"{100 * truth['position_prior']:.1f} %"
            if "position_prior" in truth
            else ""
        )
        + ")"
    )


def confidence_line(result: Mapping[str, Any]) -> str:
    """What confidence is worth; empty where nothing is known of it."""
    said = result.get("confidence")
    if said is None:
        return ""
    line = str(said["note"])
    if "ece" not in said:
        return line
    line += (
        f": {100 * said['right']:.1f} % of the pixels are right at a mean confidence of "
        f"{100 * said['mean']:.1f} % (expected calibration error {said['ece']:.3f})"
    )
    for row in said["promises"]:
        right = "nothing" if row["right"] is None else f"{100 * row['right']:.1f} % of them right"
        line += f"; alpha {row['alpha']:g} keeps {100 * row['kept']:.1f} %, {right}"
    return line


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 2) for name, value in values.items()}
