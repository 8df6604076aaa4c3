"""What an adaptation is worth: before and after, with and without each sensor, on held-out frames.

The truth there is the teacher's opinion where nobody else has one; a drive that carries labels is
judged by them, too, and so is the teacher itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from robustseg_core import metrics
from robustseg_core.datasets import Dataset, Sample
from robustseg_core.datasets.shards import Shards
from robustseg_core.engines.eager import EagerEngine, pick_device
from robustseg_core.errors import RobustsegError
from robustseg_core.evaluation.figures import trial_scores
from robustseg_core.evaluation.frames import picture
from robustseg_core.evaluation.run import evaluate
from robustseg_core.extraction.label_source import Labels, Pictures
from robustseg_core.extraction.teachers import CAMERA
from robustseg_core.models import checkpoint
from robustseg_core.models.classes import CITYSCAPES, ClassSet
from robustseg_core.models.subsets import short, subsets
from robustseg_core.output.draw import lookup
from robustseg_core.output.page import embed, figure_png, letters, picture_png, plain_text, render
from robustseg_core.recording.labels import Truth
from robustseg_core.recording.scene import scene_of
from robustseg_core.types import IGNORE, Bundle, Frame

Masks = Mapping[str, NDArray[np.uint8]]
"""Sample id -> (H, W) class ids at the sample's size."""
ABSENT = "skip"
"""A drive shows few of the classes: those that are neither there nor said are left out."""
PANELS, PANEL_WIDTH = 4, 320
"""Frames of the report, and the pixels of each picture."""


WORDS = (
    ("mIoU", "mean over the classes of intersection over union"),
    ("before, after", "the student that was begun with, and what became of it"),
    ("cost", "points of mIoU that are lost with the sensor"),
)
"""Of the report."""


class Relabelled(Dataset):
    """Those samples of which somebody else says what they show.

    Args:
        whole: all samples.
        labels: of some of them.
    """

    def __init__(self, whole: Shards, labels: Masks) -> None:
        self._whole, self._labels = whole, labels
        self._index = [place for place, name in enumerate(whole.ids) if name in labels]
        self.name, self.split, self.size = whole.name, whole.split, whole.size
        self.classes, self.modalities = whole.classes, whole.modalities
        self.encodings = whole.encodings

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: int) -> Sample:
        found = self._whole[self._index[index]]
        return Sample(found.id, found.images, self._labels[found.id], found.tags)

    def tags(self, index: int) -> Mapping[str, str]:
        """As the whole's."""
        return self._whole.tags(self._index[index])

    @property
    def shape(self) -> tuple[int, int]:
        """As the whole's."""
        return self._whole.shape


def label_shares(part: Dataset) -> NDArray[np.float64]:
    """(K,) share of all pixels that are labelled with each class."""
    counts, pixels = np.zeros(IGNORE + 1, np.int64), 0
    for place in range(len(part)):
        sample = part[place]
        if sample.label is not None:
            counts += np.bincount(sample.label.ravel(), minlength=IGNORE + 1)
            pixels += sample.label.size
    shares: NDArray[np.float64] = counts[: len(part.classes.names)] / max(1, pixels)
    return shares


def truths(drive: Path, apart: Shards, classes: Sequence[str]) -> Masks:
    """What the drive's own label topic says of its samples; nothing if it has none.

    Label topics are in Cityscapes' 19 ids: a student of other classes cannot be judged by them.
    """
    if tuple(classes) != CITYSCAPES.names:
        return {}
    found = {}
    with Labels(drive, "auto", size=apart.shape) as labels:
        if not isinstance(labels.source, Truth):
            return {}
        scene = scene_of(drive)
        for name in apart.ids:
            if name.partition("/")[0] == scene and (ids := labels.at(_stamp(name))) is not None:
                found[name] = ids
    return found


def masks(folder: Path, apart: Shards) -> Masks:
    """What the teacher said of each sample, sure or not."""
    found: dict[str, NDArray[np.uint8]] = {}
    opened: dict[str, Pictures] = {}
    high, wide = apart.shape
    for name in apart.ids:
        scene = name.partition("/")[0]
        if scene not in opened:
            opened[scene] = Pictures(folder / scene)
        ids = opened[scene].at(_stamp(name))
        if ids is not None:
            found[name] = metrics.at_size(ids, (high, wide))
    return found


def judge(
    before: Path,
    after: Path,
    apart: Shards,
    said: Masks,
    truth: Masks,
    *,
    device: str = "auto",
    on_progress: Callable[[float], None] = lambda share: None,
) -> dict[str, Any]:
    """mIoU of both students with each subset of the sensors, and what each lost sensor costs.

    Args:
        before: the student that was begun with.
        after: what became of it.
        apart: held-out samples, labelled by the teacher where it was sure.
        said: all that the teacher said of them.
        truth: of those samples of which more is known.
        device: auto, cpu, cuda, ...
        on_progress: called with the share done.
    """
    sides: list[tuple[str, Dataset]] = [("teacher", apart)]
    if truth:
        sides.append(("truth", Relabelled(apart, truth)))
    total, done = 2 * sum(len(data) for _, data in sides), 0
    against: dict[str, Any] = {}
    for side, data in sides:
        table: dict[str, Any] = {"frames": len(data), "rule": metrics.ABSENT[ABSENT]}
        for when, path in (("before", before), ("after", after)):
            results = evaluate(
                path,
                data,
                protocols=("subsets",),
                missing=("skip",),
                absent=ABSENT,
                device=device,
                worst=0,
                allow_missing=True,
                on_progress=lambda n, _, start=done: on_progress((start + n) / total),  # type: ignore[misc]
            )
            done += len(data)
            scores = trial_scores(results.counts.sum(1), absent=ABSENT)
            miou = {
                trial.subset: float(score)
                for trial, score in zip(results.trials, scores, strict=True)
            }
            table[when] = _figures(miou, apart.modalities)
        if side == "truth":
            table["teacher"] = _number(_score(said, truth, len(apart.classes.names)))
        against[side] = table
    return {"against": against}


def doubts(against: Mapping[str, Any]) -> list[str]:
    """What the drives' own labels say against the teacher, a sentence each."""
    known = against.get("truth")
    if (
        known is None
        or known["teacher"] is None
        or known["teacher"] >= (known["before"]["full"] or 0)
    ):
        return []
    return [
        f"by the drives' labels the teacher ({100 * known['teacher']:.1f} % mIoU, camera alone) "
        f"is worse than the student was with all sensors ({100 * known['before']['full']:.1f} %), "
        "so that there was little to learn; take a better teacher"
    ]


def _figures(miou: Mapping[tuple[str, ...], float], names: Sequence[str]) -> dict[str, Any]:
    every = tuple(names)
    lost = {name: tuple(other for other in every if other != name) for name in every}
    return {
        "miou": {short(subset): _number(miou[subset]) for subset in subsets(every)},
        "full": _number(miou[every]),
        "mean": _number(float(np.mean([miou[subset] for subset in subsets(every)]))),
        "lost": {
            name: {
                "miou": _number(miou[rest]),
                "cost": _number(miou[every] - miou[rest]),
            }
            for name, rest in lost.items()
            if rest
        },
    }


def _score(said: Masks, truth: Masks, classes: int) -> float:
    """mIoU of the teacher's masks, by the same rule and at the same size."""
    counts = np.zeros((classes, classes + 1), np.int64)
    for name, ids in truth.items():
        counts += (
            metrics.confusion(ids, said[name], classes)
            if name in said
            else metrics.missed(ids, classes)
        )
    return float(metrics.mean_over_classes(*metrics.hits_and_unions(counts), absent=ABSENT))


def panels(
    after: Path, apart: Shards, truth: Masks, *, device: str = "auto"
) -> list[dict[str, Any]]:
    """Some held-out frames: camera, teacher, the student with all sensors and without the camera.

    Args: as `judge`.
    """
    count = len(apart)
    chosen = np.unique(np.linspace(0, count - 1, min(PANELS, count)).round().astype(int))
    engine = EagerEngine(checkpoint.load(after), pick_device(device))
    colors = lookup(tuple(apart.classes.palette))
    found = []
    for place in chosen.tolist():
        sample = apart[place]
        rows = [("camera", picture(_only(sample, CAMERA), engine.spec.encodings))]
        label = sample.label
        if label is not None:
            rows.append(("teacher (black: unsure)", colors[label]))
        for title, names in (
            ("student, all sensors", tuple(sample.images)),
            ("student, no camera", tuple(n for n in sample.images if n != CAMERA)),
        ):
            rows.append((title, colors[_mask(engine, sample, names)] if names else None))
        if sample.id in truth:
            rows.append(("truth", colors[truth[sample.id]]))
        pictures = [(title, embed(_png(drawn))) for title, drawn in rows if drawn is not None]
        found.append({"caption": sample.id, "pictures": pictures})
    return found


def page(
    account: Mapping[str, Any], frames: Sequence[Mapping[str, Any]], classes: ClassSet = CITYSCAPES
) -> str:
    """The HTML report; nothing is loaded from anywhere else.

    Args:
        account: what was done, and what became of it.
        frames: from `panels`.
        classes: the student's.
    """
    sides = account["against"]
    charts = {side: embed(bars(table)) for side, table in sides.items()}
    return render(
        "robustseg_core.learn",
        title=f"A student for {', '.join(account['drives'])}",
        checkpoint=str(account["student"]["began_with"]),
        classes=list(zip(classes.names, classes.palette, strict=True)),
        words=[*letters(account["sensors"]), *WORDS],
        account=account,
        charts=charts,
        frames=frames,
    )


@plain_text
def bars(table: Mapping[str, Any]) -> bytes:
    """PNG: mIoU of every subset before and after, and the teacher's where it is known."""
    names = list(table["after"]["miou"])
    place = np.arange(len(names))
    figure = plt.figure(figsize=(max(5.0, 1.6 + 0.55 * len(names)), 3.2), layout="constrained")
    axes = figure.subplots()
    for shift, when, color in ((-0.2, "before", "#8b949e"), (0.2, "after", "#1a7f37")):
        miou = (table[when]["miou"][name] for name in names)
        values = [math.nan if value is None else 100 * value for value in miou]
        axes.bar(place + shift, values, 0.38, color=color, label=when)
    if table.get("teacher") is not None:
        axes.axhline(100 * table["teacher"], color="#0969da", linewidth=1.2, label="teacher")
    axes.set_xticks(place, names, fontsize=8)
    axes.set_ylabel("mIoU, %")
    axes.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False)
    return figure_png(figure)


def _mask(engine: EagerEngine, sample: Sample, names: Sequence[str]) -> NDArray[np.uint8]:
    frames = {name: Frame(name, 0, sample.images[name]) for name in names}
    try:
        return engine(Bundle(0, frames))[0]
    except RobustsegError:  # a network that makes no mask of these
        return np.full(engine.spec.size, IGNORE, np.uint8)


def _only(sample: Sample, name: str) -> Sample:
    images = {n: image for n, image in sample.images.items() if n == name} or sample.images
    return Sample(sample.id, images, sample.label, sample.tags)


def _stamp(name: str) -> int:
    return int(name.rpartition("_")[2])


def _png(drawn: NDArray[np.uint8]) -> bytes:
    high, wide = drawn.shape[:2]
    size = (PANEL_WIDTH, max(1, round(high * PANEL_WIDTH / wide)))
    shown = cv2.resize(drawn, size, interpolation=cv2.INTER_NEAREST)
    return picture_png(np.asarray(shown, np.uint8))


def _number(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
