"""What the scene really was, where a recording carries it: label images beside the sensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustseg_core import metrics
from robustseg_core.bag import Bag
from robustseg_core.codecs.fields import stamp_of, word
from robustseg_core.codecs.image import pixels
from robustseg_core.errors import RobustsegError
from robustseg_core.models.calibration import UNCALIBRATED, mean_quality, thresholds, trust_of
from robustseg_core.output.timeline import Timeline
from robustseg_core.recording.guess import Candidate, is_truth
from robustseg_core.types import MS, SECOND, LabelMap, ModelSpec, Rejection, Thresholds

ENCODINGS = ("mono8", "8UC1")
TOLERANCE_NS = 20 * MS
"""What is learned from is a label of at most this far away: half a frame of a 25 Hz camera."""
REACH_NS = 50 * MS
"""A label is scored with the nearest mask, at most this far away: half a period of a 10 Hz sensor,
which opens sets while the camera is dead."""
APART = 0.8
"""Where the share of the labels that have a mask is less than this part of the share of the time
that has masks, it is not for want of masks."""
EARLY_NS, LATE_NS = SECOND // 2, 2 * SECOND
"""A label may be logged so long after its mask, and a mask may come so long after its label was
logged."""


@dataclass(slots=True, eq=False)
class Label:
    """What the scene was at one moment."""

    stamp_ns: int
    recording: int
    """Which of several recordings in a row it is of: stamps of two say nothing of each other."""
    logged_ns: int
    """When it was logged, in nanoseconds since the start (`timeline`)."""
    ids: NDArray[np.uint8]
    """(H, W) class ids, 255 unlabelled."""
    counts: NDArray[np.int64] | None = None
    """(K, K + 1) of the nearest mask so far; None: there is no mask yet."""
    away_ns: int = REACH_NS
    """How far away that mask is."""
    sureness: NDArray[np.int64] | None = None
    """(K, LEVELS, 2) of that mask, as `metrics.sureness`."""
    least: Thresholds = ()
    """(A, K) what its confidence is promised at."""


class Truth:
    """The label images of a recording, asked for by stamp as the masks come; a context manager.

    Args:
        paths: the recording, or several in a row.
        topic: of mono8 label images (class ids, 255 unlabelled), stamped like the camera's.
        on_passed: given every label once, when no later mask can be near it any more.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        topic: str,
        on_passed: Callable[[Label], None] = lambda label: None,
    ) -> None:
        self.topic = topic
        self.on_passed = on_passed
        self._bag = Bag(paths)
        self._near: list[Label] = []
        """Labels that have been read and have not passed."""
        self._newest: Label | None = None
        self._ended = False

    def __enter__(self) -> Truth:
        self._bag.__enter__()
        self._timeline = Timeline(self._bag.spans)
        self._messages = self._bag.messages({self.topic})
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bag.__exit__(kind, value, trace)

    def near(self, stamp_ns: int, recording: int = 0, at_ns: int | None = None) -> list[Label]:
        """The labels within `REACH_NS` of `stamp_ns`, the nearest first; asked in order.

        Args:
            stamp_ns: of a mask.
            recording: which of several in a row the mask is of.
            at_ns: the mask's place on the timeline. With it, stamps that jump lose no label.
        """
        while self._may_be_near(stamp_ns, recording, at_ns) and self._read():
            self._pass(stamp_ns, recording, at_ns)
        self._pass(stamp_ns, recording, at_ns)
        near = [
            label
            for label in self._near
            if label.recording == recording and abs(label.stamp_ns - stamp_ns) <= REACH_NS
        ]
        return sorted(near, key=lambda label: abs(label.stamp_ns - stamp_ns))

    def at(self, stamp_ns: int, recording: int = 0) -> NDArray[np.uint8] | None:
        """(H, W) class ids nearest to `stamp_ns`, at most `TOLERANCE_NS` away, or None; asked in
        order."""
        label = next(iter(self.near(stamp_ns, recording)), None)
        if label is None or abs(label.stamp_ns - stamp_ns) > TOLERANCE_NS:
            return None
        return label.ids

    def finish(self) -> None:
        """There is no later mask: all labels that are left have passed."""
        while self._near or self._read():
            self.on_passed(self._near.pop(0))

    def _may_be_near(self, stamp_ns: int, recording: int, at_ns: int | None) -> bool:
        """Whether a label that has not been read yet may be near."""
        if (newest := self._newest) is None:
            return True
        if at_ns is not None:
            return newest.logged_ns <= at_ns + EARLY_NS
        return (newest.recording, newest.stamp_ns) <= (recording, stamp_ns + REACH_NS)

    def _pass(self, stamp_ns: int, recording: int, at_ns: int | None) -> None:
        """Let go of the labels that no later mask can be near, if stamps go forward."""
        left = []
        for label in self._near:
            behind_ns = stamp_ns - REACH_NS - label.stamp_ns
            past = label.recording < recording
            if label.recording == recording:
                # Much behind: stamps have jumped, and masks of it may be to come.
                past = behind_ns > 0 and (at_ns is None or behind_ns <= SECOND)
            if past or (at_ns is not None and label.logged_ns < at_ns - LATE_NS):
                self.on_passed(label)
            else:
                left.append(label)
        self._near = left

    def _read(self) -> bool:
        """Take one more label; False: there is none."""
        for recorded in () if self._ended else self._messages:
            try:
                message = recorded.message()
                if (encoding := word(message, "encoding")) not in ENCODINGS:
                    raise RobustsegError(f"{self.topic} is {encoding!r}; expected mono8 class ids")
                ids = pixels(message, 1, np.dtype(np.uint8))[..., 0]
                stamp_ns, number = stamp_of(message), recorded.recording
            except Rejection:  # damaged
                continue
            logged_ns = self._timeline.within_ns(number, recorded.time_ns)
            self._newest = Label(stamp_ns, number, logged_ns, ids)
            self._near.append(self._newest)
            return True
        self._ended = True
        return False


class Score:
    """Masks against the truth of a recording: every label counts once, with a mask or without.

    A label is compared with the mask nearest to it, at most `REACH_NS` away, at the label's own
    size; one mask may serve several labels. Without one all of its pixels are missed, wherever in
    the recording it lies.

    Args:
        truth: open.
        classes: K.
        spec: of the network whose confidence is measured, too; None: it is not.
    """

    RULE = "skip"
    """What absent classes count as, see `metrics.ABSENT`."""

    def __init__(self, truth: Truth, classes: int, spec: ModelSpec | None = None) -> None:
        self.counts = np.zeros((classes, classes + 1), np.int64)
        self._spec = spec
        known = None if spec is None else spec.calibration
        self._alphas = () if known is None else known.alphas
        self._bins = np.zeros((metrics.BINS, 3))
        self._kept = np.zeros((len(self._alphas), 2), np.int64)
        self._prior = metrics.PositionPrior(classes)
        self.labels = self.with_mask = 0
        self._size: tuple[int, int] = (0, 0)
        self._truth, self._classes = truth, classes
        truth.on_passed = self._passed

    def add(self, label_map: LabelMap, at_ns: int | None = None) -> float | None:
        """The mIoU of this mask alone; None: no label is near, or it is all unlabelled.

        Args:
            label_map: the mask.
            at_ns: its place on the timeline (`timeline.Places`).

        Raises:
            RobustsegError: an id of the truth is no class of the network.
        """
        own: float | None = None
        for rank, label in enumerate(
            self._truth.near(label_map.stamp_ns, label_map.recording, at_ns)
        ):
            away_ns = abs(label.stamp_ns - label_map.stamp_ns)
            nearer = label.counts is None or away_ns < label.away_ns
            if rank and not nearer:
                continue
            ids = metrics.at_size(label_map.ids, label.ids.shape)
            counts = metrics.confusion(label.ids, ids, self._classes)
            if nearer:
                label.counts, label.away_ns = counts, away_ns
                self._look_at(label, label_map, ids)
            if not rank and counts.any() and away_ns <= TOLERANCE_NS:
                own = metrics.mean_iou(counts, absent=self.RULE)
        return own

    def finish(self) -> None:
        """There is no later mask: what is left of the truth is missed."""
        self._truth.finish()

    @property
    def coverage(self) -> float | None:
        """Share of the labels that have a mask; None: there is no label."""
        return self.with_mask / self.labels if self.labels else None

    def notices(self, masks: float) -> list[str]:
        """That labels have no mask though masks came; empty where those are enough.

        Args:
            masks: share of the time in which there were masks.
        """
        if self.coverage is None or self.coverage >= APART * masks:
            return []
        return [
            f"{self.labels - self.with_mask} of {self.labels} labels of {self._truth.topic} count "
            f"as missed: no mask is within {REACH_NS // MS} ms of their stamps, though masks "
            f"came in {100 * masks:.0f} % of the time; the labels have another clock or rate"
        ]

    def account(self) -> dict[str, Any]:
        """`miou` and `truth` for `result.json`; empty where the recording carries no truth."""
        if not self.labels:
            return {}
        height, width = self._size
        account: dict[str, Any] = {
            "truth": {
                "topic": self._truth.topic,
                "labels": self.labels,
                "with_mask": self.with_mask,
                "scored_at": [height, width],
                "absent": self.RULE,
                "classes": len(self.counts),
                "classes_occurring": metrics.occurring(self.counts),
                "rule": f"{metrics.ABSENT[self.RULE]}; a label without a mask within "
                f"{REACH_NS // MS} ms is missed",
            }
        }
        if self.counts.any():
            account["miou"] = round(metrics.mean_iou(self.counts, absent=self.RULE), 4)
            prior = sum(self._prior.counts().values(), np.zeros_like(self.counts))
            value = metrics.mean_iou(prior, absent=self.RULE)
            account["truth"]["position_prior"] = round(value, 4)
        return account

    def confidence(self) -> dict[str, Any]:
        """`confidence` for `result.json`: what was known of it, and what the truth says."""
        known = None if self._spec is None else self._spec.calibration
        said: dict[str, Any] = {
            "calibrated": known is not None,
            "note": UNCALIBRATED if known is None else f"calibrated on {known.data}",
        }
        pixels, right, sure = self._bins.sum(0).tolist()
        if pixels:
            said |= {
                "right": round(right / pixels, 4),
                "mean": round(sure / pixels, 4),
                "ece": round(float(metrics.calibration_error(self._bins)), 4),
                "promises": [
                    {
                        "alpha": alpha,
                        "kept": round(int(kept) / pixels, 4),
                        "right": round(int(good) / int(kept), 4) if kept else None,
                    }
                    for alpha, (kept, good) in zip(self._alphas, self._kept, strict=True)
                ],
            }
        return said

    def _look_at(self, label: Label, label_map: LabelMap, ids: NDArray[np.uint8]) -> None:
        """Note how sure a mask is, and what is promised of it."""
        if self._spec is None:
            return
        confidence = metrics.at_size(label_map.confidence, label.ids.shape)
        label.sureness = metrics.sureness(label.ids, ids, confidence, self._classes)
        quality = {name: frame.quality for name, frame in label_map.bundle.frames.items()}
        trust = trust_of(self._spec, quality)
        label.least = () if trust is None else thresholds(trust, mean_quality(quality))

    def _passed(self, label: Label) -> None:
        counts = label.counts
        self.labels += 1
        self.with_mask += counts is not None
        self._size = (int(label.ids.shape[0]), int(label.ids.shape[1]))
        self.counts += metrics.missed(label.ids, self._classes) if counts is None else counts
        self._prior.add(label.ids)
        if label.sureness is not None:
            self._bins += metrics.reliability(label.sureness)
            self._kept += metrics.kept(label.sureness, label.least).sum(1)


def open_truth(paths: Sequence[Path]) -> Truth:
    """The truth that a recording carries; without any, one that never knows.

    Topics are told by type and name, as in a survey, and by one message each: no pass over the bag.
    """
    ours = "robustseg"  # masks of an earlier run are no truth
    with Bag(paths) as bag:
        for topic in bag.topics:
            labels = is_truth(Candidate(topic.name, topic.type, topic.count)) and topic.decodable
            if labels and ours not in topic.name and _encoding(bag, topic.name) in ENCODINGS:
                return Truth(paths, topic.name)
    return Truth(paths, "")


def _encoding(bag: Bag, topic: str) -> str:
    """The image encoding of a topic's first good message; empty: it has none."""
    for recorded in bag.messages({topic}):
        try:
            return str(getattr(recorded.message(), "encoding", ""))
        except Rejection:
            continue
    return ""
