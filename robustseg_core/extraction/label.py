"""`robustseg label`: a teacher's masks, where it is sure of them, as labels for recordings."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustseg_core import config
from robustseg_core.bag import Bag, Recorded
from robustseg_core.errors import RobustsegError
from robustseg_core.extraction import recording
from robustseg_core.extraction.label_source import ACCOUNT
from robustseg_core.extraction.once import once
from robustseg_core.recording.run import absent, check_streams, notices, robot_for
from robustseg_core.shards.levels import label_png
from robustseg_core.storage.output_folder import check_apart
from robustseg_core.types import IGNORE, LabelMap
from robustseg_core.version import __version__


def label_bags(
    paths: Sequence[Path],
    checkpoint: Path,
    out: Path,
    *,
    params: Path | None = None,
    overrides: Iterable[str] = (),
    confidence_threshold: float = 0.7,
    every: int = 1,
    overwrite: bool = False,
    on_progress: recording.Progress = lambda share, masks: None,
) -> dict[str, Any]:
    """A teacher's masks of recordings: `out/NAME/`, which `extract` takes as `labels=out`.

    Each folder has `masks/STAMP.png` (class ids in the camera's size, 255 where the teacher is less
    sure than the threshold), `confidence/STAMP.png` (probability of the winning class, 0..255) and
    `labels.json`. A recording that was labelled before by equal means is not labelled again.

    Args:
        paths: recordings, each for itself.
        checkpoint: of a trained network (.safetensors).
        out: made if missing.
        params: robot.yaml; without it the streams are guessed from each recording.
        overrides: `key=value` words; they win over `params`.
        confidence_threshold: in [0, 1]; 0 keeps every pixel.
        every: label every n-th set only.
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
    if not checkpoint.is_file():
        raise RobustsegError(f"{checkpoint} does not exist; give a checkpoint of `robustseg train`")
    check_apart(out, [*paths, checkpoint, *([params] if params else [])])
    tree = config.override(config.read_file(params) if params else {}, overrides)
    means = {
        "checkpoint": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
        "robot": {key: value for key, value in tree.items() if key != "device"},
        "confidence_threshold": confidence_threshold,
        "every": every,
        "version": __version__,
    }
    words = (*overrides, f"weights={config.scalar(str(checkpoint))}")

    def label_one(path: Path, *, on_progress: recording.Progress) -> dict[str, Any]:
        account, made = once(
            out / recording.scene_of(path),
            recipe := {"recording": recording.fingerprint(path), **means},
            partial(_write, path, params, words, recipe, on_progress),
            command="label",
            account=ACCOUNT,
            inputs=[path],
            overwrite=overwrite,
        )
        masks = account["masks"]
        share = sum(mask["labelled_share"] for mask in masks) / len(masks)
        return {
            "name": recording.scene_of(path),
            "samples": len(masks),
            "labelled_share": round(share, 4),
            "made": made,
            "notices": account["notices"],
        }

    rows = recording.for_each(label_one, paths, on_progress=on_progress)
    masks = sum(row["samples"] for row in rows)
    share = sum(row["samples"] * row["labelled_share"] for row in rows) / masks
    return {"samples": masks, "labelled_share": round(share, 4), "recordings": rows}


def _write(
    path: Path,
    params: Path | None,
    words: Sequence[str],
    recipe: dict[str, Any],
    on_progress: recording.Progress,
    folder: Path,
) -> None:
    """Masks, confidences and account of one recording."""
    from robustseg_core.segmenter import Segmenter  # torch takes a second to load

    rows: list[dict[str, Any]] = []
    used: Counter[str] = Counter()
    for name in ("masks", "confidence"):
        (folder / name).mkdir()
    with Bag(path) as bag:
        if not bag.message_count:
            raise RobustsegError(f"{path} holds no message; record it again")
        robot = robot_for(bag, params, words)
        check_streams(bag, robot)
        segmenter = Segmenter.from_config(robot)
        read = 0

        def seen(_recorded: Recorded) -> None:
            nonlocal read
            read += 1
            on_progress(min(1.0, read / bag.message_count), len(rows))

        sets = recording.sets(bag, segmenter, every=recipe["every"], on_message=seen)
        for number, label_map in sets:
            ids = _sure(label_map, recipe["confidence_threshold"])
            name = f"{number:06d}_{label_map.stamp_ns}.png"
            (folder / "masks" / name).write_bytes(label_png(ids))
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
    if not spec.trained:
        told.append("the checkpoint is untrained: these labels mean nothing")
    account = {
        "robustseg": __version__,
        "recipe": recipe,
        **spec.model_dump(mode="json", include={"classes", "palette", "trained", "provenance"}),
        "notices": told,
        "masks": rows,
    }
    (folder / ACCOUNT).write_text(json.dumps(account, indent=1) + "\n")


def _sure(label_map: LabelMap, threshold: float) -> NDArray[np.uint8]:
    """(H, W) ids, `IGNORE` where the confidence is below the threshold."""
    sure = label_map.confidence >= np.ceil(threshold * 255)
    return np.where(sure, label_map.ids, np.uint8(IGNORE))
