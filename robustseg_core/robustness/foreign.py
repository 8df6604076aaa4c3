"""Any segmentation node as a black box: judged by its masks alone, whatever made them.

Nothing of it is known but what it publishes: class ids with stamps. Who plays and listens is the
ROS layer (`robustseg_ros.foreign`); what came is worth what is said here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustseg_core import metrics
from robustseg_core.output import page
from robustseg_core.robustness.case import START_S, Case
from robustseg_core.robustness.figures import percentile, rounded
from robustseg_core.robustness.files import write_csv, write_json
from robustseg_core.robustness.matrix import cases
from robustseg_core.robustness.score import Label, sum_counts
from robustseg_core.types import IGNORE, SECOND

ROWS = (1,)
"""Of the matrix, what is done if nothing else is asked for: each sensor falls silent for good."""
TAIL_S = 0.15
"""The last labels of a window are left out, as in the matrix: their masks are still to come."""
COLUMNS = (
    "case",
    "faults",
    "sensor",
    "masks",
    "mask_rate",
    "longest_gap_s",
    "age_p50_s",
    "age_p95_s",
    "stalest_s",
    "miou",
    "miou_clean",
    "died",
)
WORDS = (
    ("mask rate", "masks in the window, of the images that came with a label in that time"),
    ("longest gap", "longest time in the window without a mask, its edges included"),
    ("age", "of a mask when it arrives: the recording's time then, less the mask's stamp"),
    ("stalest", "how old the newest mask gets at most before another one replaces it"),
    (
        "mIoU",
        "each labelled image of the window with the mask nearest by stamp, at most half a period "
        "away; without one all of its pixels are missed",
    ),
    ("clean", "the same window of the drive in which nothing is broken"),
)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A mask as it came, without its pixels."""

    at_s: float
    """Seconds of the recording's time since its start."""
    stamp_s: float
    """What its header says, likewise."""


class Ear:
    """Keeps when masks came, and of each label the nearest one.

    Args:
        truth: the drive's labels, oldest first.
        start_ns: the recording's first moment, which seconds count from.
    """

    def __init__(self, truth: Sequence[Label], *, start_ns: int) -> None:
        self.heard: list[Arrival] = []
        self._truth, self._start_ns = truth, start_ns
        self._stamps = np.array([label.stamp_ns for label in truth], np.int64)
        steps = np.diff(self._stamps)
        self.period_ns = int(np.median(steps)) if steps.size else SECOND // 30
        """Between two labelled images."""
        self._best: dict[int, tuple[int, NDArray[np.uint8]]] = {}

    def add(self, now_ns: int, stamp_ns: int, ids: NDArray[np.uint8]) -> None:
        """A mask came.

        Args:
            now_ns: the recording's time.
            stamp_ns: of the mask.
            ids: (H, W) class ids, 255 unlabelled.
        """
        at_s, stamp_s = ((t - self._start_ns) / SECOND for t in (now_ns, stamp_ns))
        self.heard.append(Arrival(at_s, stamp_s))
        if not self._stamps.size:
            return
        number = int(np.abs(self._stamps - stamp_ns).argmin())
        away_ns = abs(int(self._stamps[number]) - stamp_ns)
        if away_ns <= self.period_ns // 2 and away_ns < self._best.get(number, (math.inf,))[0]:
            self._best[number] = (away_ns, ids)

    def figures(self, from_s: float, until_s: float) -> dict[str, Any]:
        """What the masks of a window are worth.

        Args:
            from_s: its beginning, in seconds since the recording's start.
            until_s: its end.
        """
        inside = [mask for mask in self.heard if from_s <= mask.at_s < until_s]
        due = (until_s - from_s) * SECOND / self.period_ns
        edges = [from_s, *(mask.at_s for mask in inside), until_s]
        ages = [mask.at_s - mask.stamp_s for mask in inside]
        return {
            "masks": len(inside),
            "mask_rate": round(len(inside) / due, 4),
            "longest_gap_s": round(max(b - a for a, b in pairwise(edges)), 4),
            "age_p50_s": rounded(percentile(ages, 50)),
            "age_p95_s": rounded(percentile(ages, 95)),
            "stalest_s": rounded(self._stalest_s(from_s, until_s)),
            "miou": rounded(self._miou(from_s, until_s - TAIL_S)),
        }

    def _stalest_s(self, from_s: float, until_s: float) -> float | None:
        """None: there never was a mask by then."""
        newest: float | None = None
        oldest = 0.0
        for mask in sorted(self.heard, key=lambda mask: mask.at_s):
            if mask.at_s >= until_s:
                break
            if newest is not None and mask.at_s >= from_s:
                oldest = max(oldest, mask.at_s - newest)
            newest = mask.stamp_s if newest is None else max(newest, mask.stamp_s)
        return None if newest is None else max(oldest, until_s - newest)

    def _miou(self, from_s: float, until_s: float) -> float | None:
        first, last = (self._start_ns + round(t * SECOND) for t in (from_s, until_s))
        counts = []
        for number, label in enumerate(self._truth):
            if first <= label.stamp_ns < last:
                _, ids = self._best.get(number, (0, np.full_like(label.ids, IGNORE)))
                ids = metrics.at_size(ids, label.ids.shape)
                counts.append(metrics.confusion(label.ids, ids, IGNORE))
        return metrics.mean_iou(sum_counts(counts, IGNORE)) if counts else None


def asked(rows: Sequence[int]) -> list[Case]:
    """The cases of these rows of the matrix (none: `ROWS`) that one play of a drive can show.

    Raises:
        RobustsegError: no such row.
    """
    return [case for case in cases(rows or ROWS) if case.passes == 1]


def window(case: Case | None, duration_s: float) -> tuple[float, float]:
    """When a case is looked at, in seconds; without one: the drive from its first good moment."""
    if case is None:
        return START_S, duration_s
    return case.begins_s, min(duration_s, case.begins_s + case.lasts_s)


def line(case: Case, faults: Sequence[str], ear: Ear, clean: Ear, end_s: float) -> dict[str, Any]:
    """What came of a case, beside the same window of the clean play.

    Args:
        case: what was done.
        faults: as the player was told.
        ear: what was heard.
        clean: what was heard when nothing was broken.
        end_s: length of the drive.
    """
    found = ear.figures(*window(case, end_s))
    return {
        "case": case.id,
        "faults": list(faults),
        "sensor": case.target,
        **found,
        "miou_clean": clean.figures(*window(case, end_s))["miou"],
    }


def write(out: Path, summary: Mapping[str, Any]) -> None:
    """`node.json`, `node.csv` and `node.html` (one file).

    Args:
        out: a folder that exists.
        summary: `node`, `mask`, `drive`, `clean` (the figures of the clean play) and `cases`.
    """
    write_json(out / "node.json", summary)
    rows = ({**row, "faults": " ".join(row["faults"])} for row in summary["cases"])
    write_csv(out / "node.csv", COLUMNS, rows)
    html = page.render(
        "robustseg_core.robustness",
        title="A node as a black box",
        template="node.html.j2",
        words=WORDS,
        summary=summary,
    )
    (out / "node.html").write_text(html, encoding="utf-8")
