"""`robustseg label`: a teacher's masks, where it is sure of them, as labels for recordings.

A checkpoint of ours looks at all its sensors; any other teacher at the camera alone.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from robustseg_core import config
from robustseg_core.bag import Bag, Recorded
from robustseg_core.errors import RobustsegError, what_is
from robustseg_core.extraction import recording
from robustseg_core.extraction.label_source import ACCOUNT
from robustseg_core.extraction.once import once
from robustseg_core.extraction.teachers import Teacher, TeacherSource
from robustseg_core.jobs import Workers
from robustseg_core.output import draw
from robustseg_core.recording.notices import absent, notices
from robustseg_core.recording.robot import check_streams, robot_for
from robustseg_core.recording.scene import fingerprint, scene_of
from robustseg_core.robot.config import RobotConfig
from robustseg_core.shards.levels import label_png
from robustseg_core.storage.digest import sha256
from robustseg_core.storage.output_folder import check_apart
from robustseg_core.types import IGNORE, LabelMap
from robustseg_core.version import __version__

if TYPE_CHECKING:
    from robustseg_core.segmenter import Segmenter


def label_bags(
    paths: Sequence[Path],
    checkpoint: Path | Teacher | TeacherSource,
    out: Path,
    *,
    params: Path | None = None,
    overrides: Iterable[str] = (),
    confidence_threshold: float = 0.7,
    every: int = 1,
    jobs: int = 1,
    ray: str = "",
    overwrite: bool = False,
    on_progress: recording.Progress = lambda share, masks: None,
) -> dict[str, Any]:
    """A teacher's masks of recordings: `out/NAME/`, which `extract` takes as `labels=out`.

    Each folder has `masks/STAMP.png` (class ids in the camera's size, 255 where the teacher is less
    sure than the threshold; the classes' colors as palette), `confidence/STAMP.png` (probability of
    the winning class, 0..255) and `labels.json`. A recording that was labelled before by equal
    means is not labelled again.

    Args:
        paths: recordings, each for itself.
        checkpoint: of a trained network (.safetensors), which sees all its sensors; or a teacher,
            which sees the camera alone, and of which other processes need the source.
        out: made if missing.
        params: robot.yaml; without it the streams are guessed from each recording.
        overrides: `key=value` words; they win over `params`.
        confidence_threshold: in [0, 1]; 0 keeps every pixel.
        every: label every n-th set only.
        jobs: processes; one recording is one task.
        ray: address of a Ray cluster instead, or `local`.
        overwrite: replace what was made by other means.
        on_progress: called with the share done and the masks so far.

    Returns:
        `samples` (masks), `labelled_share` (of all their pixels), and `recordings`: for each its
        `name`, the same two, `made` (False: it was there), `notices`.

    Raises:
        RobustsegError: a recording, the checkpoint or `out` cannot be used, or no mask came of a
            recording; the others are labelled all the same.
    """
    if not 0 <= confidence_threshold <= 1:
        raise RobustsegError(
            f"confidence threshold is {confidence_threshold:g}; a probability lies in [0, 1]"
        )
    if every < 1:
        raise RobustsegError(f"every is {every}; 1 labels every set, 2 every second one")
    words = tuple(overrides)
    tree = config.override(config.read_file(params) if params else {}, words)
    means = {
        "robot": {key: value for key, value in tree.items() if key != "device"},
        "confidence_threshold": confidence_threshold,
        "every": every,
        "version": __version__,
    }
    inputs = [*paths, *([params] if params else [])]
    if isinstance(checkpoint, Path):
        if not checkpoint.is_file():
            raise RobustsegError(
                f"{checkpoint} {what_is(checkpoint)}; give a checkpoint of `robustseg train`"
            )
        inputs.append(checkpoint)
        words = (*words, f"weights={config.scalar(str(checkpoint))}")
        means["checkpoint"] = sha256(checkpoint).hexdigest()
    else:
        teacher = checkpoint.teacher() if isinstance(checkpoint, TeacherSource) else checkpoint
        means |= {"teacher": teacher.digest, "classes": list(teacher.spec.classes)}
    check_apart(out, inputs)
    source = None if isinstance(checkpoint, Path) else checkpoint
    job = partial(_label_one, _Labelling(out, params, words, means, source, overwrite))
    rows = recording.for_each(job, paths, Workers(jobs, ray), on_progress=on_progress)
    masks = sum(row["samples"] for row in rows)
    share = sum(row["samples"] * row["labelled_share"] for row in rows) / masks
    return {"samples": masks, "labelled_share": round(share, 4), "recordings": rows}


@dataclass(frozen=True, slots=True)
class _Labelling:
    """What all tasks share."""

    out: Path
    params: Path | None
    words: tuple[str, ...]
    means: dict[str, Any]
    teacher: Teacher | TeacherSource | None
    overwrite: bool


def _label_one(
    shared: _Labelling,
    path: Path,
    on_progress: recording.Progress = lambda share, masks: None,
) -> dict[str, Any]:
    """The row of one recording; idempotent, so fit to be a cluster task."""
    teacher = shared.teacher
    if isinstance(teacher, TeacherSource):
        teacher = teacher.teacher()
    recipe = {"recording": fingerprint(path), **shared.means}
    account, made = once(
        shared.out / scene_of(path),
        recipe,
        partial(_write, path, shared.params, shared.words, recipe, teacher, on_progress),
        command="label",
        account=ACCOUNT,
        inputs=[path],
        overwrite=shared.overwrite,
    )
    masks = account["masks"]
    share = sum(mask["labelled_share"] for mask in masks) / len(masks)
    return {
        "name": scene_of(path),
        "samples": len(masks),
        "labelled_share": round(share, 4),
        "made": made,
        "notices": account["notices"],
    }


def _write(
    path: Path,
    params: Path | None,
    words: Sequence[str],
    recipe: dict[str, Any],
    teacher: Teacher | None,
    on_progress: recording.Progress,
    folder: Path,
) -> None:
    """Masks, confidences and account of one recording."""
    rows: list[dict[str, Any]] = []
    used: Counter[str] = Counter()
    for name in ("masks", "confidence"):
        (folder / name).mkdir()
    with Bag(path) as bag:
        if not bag.message_count:
            raise RobustsegError(f"{path} holds no message; record it again")
        robot = robot_for(bag, params, words)
        check_streams(bag, robot)
        segmenter = _segmenter(path, robot, teacher)
        colors = draw.lookup(segmenter.spec.palette)
        read = 0

        def seen(_recorded: Recorded) -> None:
            nonlocal read
            read += 1
            on_progress(min(1.0, read / bag.message_count), len(rows))

        sets = recording.sets(bag, segmenter, every=recipe["every"], on_message=seen)
        for number, label_map in sets:
            ids = _sure(label_map, recipe["confidence_threshold"])
            name = f"{number:06d}_{label_map.stamp_ns}.png"
            (folder / "masks" / name).write_bytes(label_png(ids, colors))
            (folder / "confidence" / name).write_bytes(label_png(label_map.confidence))
            used.update(label_map.used)
            rows.append(
                {
                    "file": name,
                    "stamp_ns": label_map.stamp_ns,
                    "used": list(label_map.used),
                    "labelled_share": round(float((ids != IGNORE).mean()), 4),
                }
            )
        told = notices(bag, segmenter, absent(bag, segmenter, used))
    if not rows:
        raise RobustsegError(f"no mask came of {path}; {'; '.join(told) or 'no set closed'}")
    spec = segmenter.spec
    if teacher is not None:
        told = [*teacher.notices, *told]
    elif not spec.trained:
        told.append("the checkpoint is untrained: these labels mean nothing")
    account = {
        "robustseg": __version__,
        "recipe": recipe,
        **spec.model_dump(mode="json", include={"classes", "palette", "trained", "provenance"}),
        "notices": told,
        "masks": rows,
    }
    (folder / ACCOUNT).write_text(json.dumps(account, indent=1) + "\n")


def _segmenter(path: Path, robot: RobotConfig, teacher: Teacher | None) -> Segmenter:
    """Who makes the masks: the robot as it is, or a teacher in its place, before the camera alone.

    Raises:
        RobustsegError: the robot has no camera, or the checkpoint cannot be used.
    """
    from robustseg_core.segmenter import Segmenter  # torch takes a second to load

    if teacher is None:
        return Segmenter.from_config(robot)
    (camera,) = [name for name in teacher.spec.modalities if name == "rgb"]
    if camera not in robot.topics:
        raise RobustsegError(
            f"{path} has no camera that {teacher.name} could look at (it has "
            f"{', '.join(robot.topics)}); set streams.{camera}.topic, or take another recording"
        )
    alone = robot.model_copy(update={"streams": {camera: robot.streams[camera]}})
    return Segmenter(alone, teacher.spec, teacher)


def _sure(label_map: LabelMap, threshold: float) -> NDArray[np.uint8]:
    """(H, W) ids, `IGNORE` where the confidence is below the threshold."""
    sure = label_map.confidence >= np.ceil(threshold * 255)
    return np.where(sure, label_map.ids, np.uint8(IGNORE))
