"""`robustseg extract`: recordings in, shards out; what is learned is what the node would have seen.

The node's own intake (health, synchronizer, modalities, view) plays the recording, and of every set
the encoded bundle is kept instead of a mask, beside the label of its moment.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from robustseg_core import config, modalities
from robustseg_core.bag import Bag, Recorded
from robustseg_core.config import Strict
from robustseg_core.errors import RobustsegError, did_you_mean
from robustseg_core.extraction import label_source, recording
from robustseg_core.extraction.calibration import calibration_of
from robustseg_core.extraction.class_map import load_class_map
from robustseg_core.extraction.label_source import Labels
from robustseg_core.extraction.once import once
from robustseg_core.jobs import Workers
from robustseg_core.recording.notices import absent, notices
from robustseg_core.recording.robot import check_streams, robot_for
from robustseg_core.recording.scene import fingerprint, scene_of
from robustseg_core.robot.config import RobotConfig
from robustseg_core.segmenter import Segmenter
from robustseg_core.shards.archive import FORMAT, INDEX, ShardWriter, read_index, write_index
from robustseg_core.shards.levels import label_png, to_png
from robustseg_core.storage.output_folder import check_apart
from robustseg_core.types import LabelMap, ModelSpec, sentence
from robustseg_core.version import __version__


class Material(Strict):
    """What is taken out of a recording; also the options of the data set `bag`."""

    params: Path | None = Field(None, description="robot.yaml; null: the streams are guessed.")
    overrides: tuple[str, ...] = Field((), description="`key=value` words; they win over params.")
    encodings: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="modality -> options of its encoding."
    )
    labels: str = Field(
        "auto",
        description="auto (a label topic, if there is one), required, none, a topic, or a folder "
        "of PNGs named by stamp.",
    )
    class_map: Path | None = Field(None, description="YAML: id in the labels -> id to learn.")
    sure: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Of labels that `robustseg label` made, keep the pixels that are as sure.",
    )
    unlabelled: str = Field(
        "keep", pattern="^(keep|skip)$", description="What becomes of sets without a label."
    )
    every: int = Field(1, ge=1, description="Keep every n-th set.")
    start_s: float = Field(0.0, ge=0, description="Keep sets from here on, ...")
    duration_s: float = Field(0.0, ge=0, description="... for so long; 0: to the end.")
    shard_size: int = Field(256, ge=1, description="Samples in each file.")


class Extraction(Material):
    """The same, and what the network wants."""

    size: tuple[int, int] = Field((192, 256), description="(H, W) of samples; divide by 32.")
    modalities: tuple[str, ...] = Field((), description="Columns; empty: the robot's streams.")


def extract(
    paths: Sequence[Path],
    out: Path,
    extraction: Extraction | None = None,
    *,
    jobs: int = 1,
    ray: str = "",
    overwrite: bool = False,
    on_progress: recording.Progress = lambda share, samples: None,
) -> dict[str, Any]:
    """One shard folder per recording, `out/NAME/`, for the data set `shards`.

    A recording that was extracted before with equal options is not extracted again. Interrupted,
    whole recordings are kept and nothing half is left. Every set is kept that has one sensor or
    more: a sensor that was not yet believed, or dead, is absent from the sample.

    Args:
        paths: recordings, each for itself.
        out: made if missing.
        extraction: options; None: all defaults.
        jobs: processes; one recording is one task.
        ray: address of a Ray cluster instead, or `local`.
        overwrite: replace what was extracted with other options.
        on_progress: called with the share done and the samples so far.

    Returns:
        `samples`, `labelled`, `complete` (no sensor missing), `bytes`, and `recordings`: for each
        its name, the same counts, how often each modality is `used`, `made` (False: it was there),
        and `notices`.

    Raises:
        RobustsegError: a recording, the configuration, a label or `out` cannot be used, or no
            sample came of a recording; the others are extracted all the same.
    """
    extraction = extraction or Extraction()
    check_apart(out, [*paths, *filter(None, (extraction.params, extraction.class_map))])
    job = partial(extract_one, out=out, extraction=extraction, overwrite=overwrite)
    accounts = recording.for_each(job, paths, Workers(jobs, ray), on_progress=on_progress)
    sums = {k: sum(a[k] for a in accounts) for k in ("samples", "labelled", "complete", "bytes")}
    return {**sums, "recordings": accounts}


def extract_one(
    path: Path,
    *,
    out: Path,
    extraction: Extraction,
    overwrite: bool = False,
    on_progress: recording.Progress = lambda share, samples: None,
) -> dict[str, Any]:
    """`extract` of one recording: its row of `recordings`; idempotent, so fit to be a cluster task.

    Raises:
        RobustsegError: as `extract`.
    """
    folder = out / scene_of(path)
    if (folder / INDEX).exists():
        read_index(folder)  # one that is damaged is said before anything is
    index, made = once(
        folder,
        _recipe(path, extraction),
        lambda folder: _write(path, folder, extraction, on_progress),
        command="extract",
        account=INDEX,
        inputs=[path],
        overwrite=overwrite,
    )
    return {
        "name": index["tags"]["scene"],
        **index["counts"],
        "bytes": sum(shard["bytes"] for shard in index["shards"]),
        "made": made,
        "notices": index["notices"],
    }


def _recipe(path: Path, extraction: Extraction) -> dict[str, Any]:
    """Everything that the shards of a recording depend on; equal recipes give equal shards."""
    robot = config.read_file(extraction.params) if extraction.params else {}
    class_map = load_class_map(extraction.class_map) if extraction.class_map else None
    plain = extraction.model_dump(mode="json", exclude={"params", "overrides"})
    for name in ("sure", "unlabelled"):  # shards that were made before these came stay known
        if plain[name] == Extraction.model_fields[name].default:
            del plain[name]
    return {
        **plain,
        "recording": fingerprint(path),
        "tags": recording.tags_of(path),
        "robot": config.override(robot, extraction.overrides),
        "labels": label_source.fingerprint(path, extraction.labels),
        "class_map": class_map.model_dump(mode="json") if class_map else None,
        "version": __version__,
    }


def _write(
    path: Path, folder: Path, extraction: Extraction, on_progress: recording.Progress
) -> None:
    """Shards and index of one recording."""
    class_map = load_class_map(extraction.class_map) if extraction.class_map else None
    with (
        Bag(path) as bag,
        Labels(
            path,
            extraction.labels,
            size=extraction.size,
            class_map=class_map,
            sure=extraction.sure,
        ) as labels,
        ShardWriter(folder, shard_size=extraction.shard_size) as writer,
    ):
        if not bag.message_count:
            raise RobustsegError(f"{path} holds no message; record it again")
        robot = robot_for(bag, extraction.params, extraction.overrides)
        check_streams(bag, robot)
        spec = _spec(robot, extraction, labels)
        blank = np.zeros(spec.size, np.uint8)
        wanted = {name: s for name, s in robot.streams.items() if name in spec.modalities}
        chosen = robot.model_copy(update={"streams": wanted})
        segmenter = Segmenter(chosen, spec, lambda bundle: (blank, blank))
        counts: Counter[str] = Counter()
        tags, read = recording.tags_of(path), 0
        frame_ids: dict[str, str] = {}
        skipped: list[int] = []
        topics = {robot.topics[name]: name for name in segmenter.streams}

        def seen(recorded: Recorded) -> None:
            nonlocal read
            read += 1
            name = topics.get(recorded.topic)
            if name and name not in frame_ids and (header := recorded.header()):
                frame_ids[name] = header[1]
            on_progress(min(1.0, read / bag.message_count), len(writer.rows))

        window = {k: getattr(extraction, k) for k in ("every", "start_s", "duration_s")}
        for number, label_map in recording.sets(bag, segmenter, **window, on_message=seen):
            label = labels.at(label_map.stamp_ns)
            if label is None and extraction.unlabelled == "skip":
                skipped.append(label_map.stamp_ns)
                continue
            key = f"{tags['scene']}/{number:06d}_{label_map.stamp_ns}"
            members = _members(key, label_map, tags)
            if label is not None:
                members["label.png"] = label_png(label)
            writer.add(key, label_map.stamp_ns, members)
            counts.update(label_map.used)
            counts["+label"] += label is not None
            counts["+complete"] += len(label_map.used) == len(spec.modalities)
        unused = absent(bag, segmenter, counts)
        told = notices(bag, segmenter, unused)
    if not writer.rows:
        reasons = [label_source.explain_none(labels, skipped)] if skipped else told
        raise RobustsegError(f"no sample came of {path}; {'; '.join(reasons) or 'no set closed'}")
    if not counts["+label"] and extraction.labels != "none":
        why = label_source.explain_none(labels, [row["stamp_ns"] for row in writer.rows])
        if extraction.labels != "auto":
            raise RobustsegError(f"no set of {path} has a label: {why}")
        told.append(f"no set has a label: {why}")
    index = {
        "format": FORMAT,
        "robustseg": __version__,
        "tags": tags,
        **spec.model_dump(mode="json", include={"modalities", "classes", "palette", "size"}),
        "encodings": spec.model_dump(mode="json")["encodings"],
        "counts": {
            "samples": len(writer.rows),
            "labelled": counts["+label"],
            "complete": counts["+complete"],
            "used": {name: counts[name] for name in spec.modalities},
        },
        "labels": Path(labels.name).name if Path(labels.name).is_dir() else labels.name,
        "calibration": calibration_of(segmenter.intake.view, frame_ids),
        "notices": told,
        "unused": {name: sentence(found) for name, found in unused.items()},
        "robot": robot.model_dump(mode="json"),
        "recipe": _recipe(path, extraction),
        "shards": writer.shards,
        "samples": writer.rows,
    }
    write_index(folder, index)


def _spec(robot: RobotConfig, extraction: Extraction, labels: Labels) -> ModelSpec:
    """What a network would have to be to be fed with these samples."""
    from robustseg_core.models.checkpoint import default_spec  # torch takes a second to load

    streams = list(robot.topics)
    names = extraction.modalities or modalities.ranked(sorted(streams))
    if strange := set(extraction.encodings) - set(names):
        name = min(strange)
        raise RobustsegError(f"encodings name {name!r}; {did_you_mean(name, names)}")
    encodings = {
        name: modalities.load(name)(encoding=extraction.encodings.get(name)).encoding
        for name in names
    }
    return default_spec(
        names,
        size=extraction.size,
        classes=labels.classes.names,
        palette=labels.classes.palette,
        encodings={name: encoding.model_dump(mode="json") for name, encoding in encodings.items()},
    )


def _members(key: str, label_map: LabelMap, tags: Mapping[str, str]) -> dict[str, bytes]:
    """Extension -> content of one sample, without its label."""
    members, values = {}, {}
    for name in label_map.used:
        try:
            members[f"{name}.png"], values[name] = to_png(label_map.bundle.frames[name].array)
        except RobustsegError as error:
            raise RobustsegError(f"{name} of {key}: {error}") from None
    account = {
        "id": key,
        "stamp_ns": label_map.stamp_ns,
        "tags": dict(tags),
        "quality": {n: round(label_map.bundle.frames[n].quality, 4) for n in label_map.used},
        "held_ms": {name: round(held, 3) for name, held in label_map.held_ms.items()},
        "values": values,
    }
    return {**members, "json": json.dumps(account).encode()}
