"""`robustseg adapt`: recordings without labels in, a student of their robot out.

    labels/    what a camera-only teacher sees in each drive
    shards/    what the node would have seen at those moments, with the labels
    run/       the training, from the shipped student on
    student.safetensors, report.html, report.json

Each part is made once: killed at any time and called again, it goes on. The last part of each drive
is held out, and there, before and after, it is told what each lost sensor costs.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robustseg_core.bag import Bag
from robustseg_core.config import Strict
from robustseg_core.datasets.shards import Shards
from robustseg_core.errors import RobustsegError, not_installed
from robustseg_core.extraction.class_names import Matched, load_by_hand, match
from robustseg_core.extraction.extract import Extraction, extract
from robustseg_core.extraction.label import label_bags
from robustseg_core.extraction.teachers import CAMERA, Teacher, open_teacher
from robustseg_core.learn import adapt_report
from robustseg_core.learn.calibrate import calibrate_file
from robustseg_core.learn.fit import fit
from robustseg_core.learn.recipe import Recipe, load_recipe
from robustseg_core.models import checkpoint
from robustseg_core.models.classes import ClassSet
from robustseg_core.models.network import PackedNetwork
from robustseg_core.recording.robot import check_streams, robot_for
from robustseg_core.recording.scene import scene_of
from robustseg_core.shards.archive import read_index
from robustseg_core.storage.budget import read_json
from robustseg_core.storage.digest import sha256
from robustseg_core.storage.output_folder import claimed, replacing
from robustseg_core.types import ModelSpec
from robustseg_core.version import __version__

FORMAT = "robustseg-adapt/1"
TRAINED, CALIBRATED, HELD_OUT = (0.0, 0.65), (0.65, 0.75), (0.8, 1.0)
"""Parts of each drive's time: learned from, for the confidence, and to be judged by. What lies
before the last is neither: the last picture that anything was made of looks like the next one."""
FEWEST = 4
"""Frames without which a part is too short to learn from, or to be judged by."""
CAMERA_KEPT = 0.3
"""Weight of keeping the camera in a subset, over that of any other sensor: it is what the labels
come from, and what the others must learn to do without."""

Report = Callable[[float, str], None]
"""Called with the share of the stage that is done, in [0, 1], and a word on it."""


class Adaptation(Strict):
    """Everything but drives, teacher and student."""

    params: Path | None = Field(None, description="robot.yaml; null: the streams are guessed.")
    confidence: float = Field(
        0.7, ge=0, le=1, description="Pixels of which the teacher is less sure teach nothing."
    )
    frames: int = Field(
        600, ge=1, description="About as many are learned from, evenly spread over all drives."
    )
    class_map: Path | None = Field(
        None, description="YAML, lines `theirs: ours`, names or ids; wins over the names' match."
    )
    classes: Path | None = Field(
        None, description="YAML list of class names, of an ONNX teacher that tells none."
    )
    teacher_size: tuple[int, int] | None = Field(
        None, description="(H, W) of the teacher's pictures; null: what it was made for."
    )
    words: tuple[str, ...] = Field((), description="`key=value` words over the recipe `adapt`.")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N.")


@dataclass(frozen=True, slots=True)
class _Part:
    """One part of all drives' time."""

    bounds: tuple[float, float]
    data: Shards
    shares: NDArray[np.float64]
    """(K,) of all its pixels, labelled with each class."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is decided before anything is written."""

    drives: tuple[Path, ...]
    out: Path
    how: Adaptation
    student: Path
    spec: ModelSpec
    teacher: Teacher
    matched: Matched
    every: int
    notices: tuple[str, ...]


def adapt(
    drives: Sequence[Path],
    teacher: str | Path,
    out: Path,
    how: Adaptation | None = None,
    *,
    student: Path | None = None,
    jobs: int = 1,
    ray: str = "",
    on_stage: Callable[[str], None] = lambda name: None,
    on_progress: Report = lambda share, word: None,
) -> dict[str, Any]:
    """Adapt a student to the robot that recorded these drives, with no labels but a teacher's.

    Args:
        drives: recordings of different names, each with a camera and at least one more sensor.
        teacher: as `open_teacher` takes it; it sees the camera alone.
        out: made if missing; an unfinished one goes on.
        how: options; None: all defaults.
        student: the checkpoint to begin with; None: the shipped one.
        jobs: processes that extract.
        ray: address of a Ray cluster that labels and extracts instead, or `local`.
        on_stage: called with the name of each stage before it begins.
        on_progress: within the stage.

    Returns:
        The content of `report.json`.

    Raises:
        RobustsegError: a drive, the teacher, the class map, the student or `out` cannot be used;
            the teacher knows no class of the student's or is sure of nothing; the drives are too
            short.
    """
    on_stage("reading")
    plan = _plan(drives, teacher, out, how or Adaptation(), student or checkpoint.SHIPPED)
    inputs = [*drives, plan.student, *filter(None, (plan.how.params, plan.how.class_map))]
    inputs += [Path(teacher)] if Path(teacher).exists() else []
    with claimed(out, command="adapt", inputs=inputs) as held:
        held.open()
        on_stage("labelling")
        labelled = label_bags(
            drives,
            plan.teacher,
            out / "labels",
            params=plan.how.params,
            confidence_threshold=0.0,
            every=plan.every,
            ray=ray,
            on_progress=lambda share, masks: on_progress(share, f"{masks} masks"),
        )
        on_stage("extracting")
        extracted = extract(
            drives,
            out / "shards",
            Extraction(
                params=plan.how.params,
                labels=str(out / "labels"),
                sure=plan.how.confidence,
                unlabelled="skip",
                size=plan.spec.size,
                modalities=plan.spec.modalities,
                encodings={k: dict(v) for k, v in plan.spec.encodings.items()},
            ),
            jobs=jobs,
            ray=ray,
            on_progress=lambda share, samples: on_progress(share, f"{samples} samples"),
        )
        told = [
            f"{row['name']}: {text}"
            for made in (labelled, extracted)
            for row in made["recordings"]
            for text in row["notices"]
        ]
        trained, apart = _parts(plan)
        on_stage("learning")
        result = fit(
            _recipe(plan, trained.data),
            out / "run",
            device=plan.how.device,
            quiet=True,
            on_progress=lambda done, steps, numbers: on_progress(
                done / steps, f"loss {numbers['loss']:.3f}" if numbers else ""
            ),
        )
        best = out / "student.safetensors"
        on_stage("calibrating")
        if not best.exists():
            _calibrate(plan, out / "run" / "best.safetensors", best, on_progress)
        if checkpoint.spec_of(best).calibration is None:
            told.append("the drives are too short to calibrate the student's confidence by")
        on_stage("judging")
        notices = list(dict.fromkeys([*plan.notices, *told]))
        return _reported(plan, trained, apart, result, notices, on_progress)


def _plan(
    drives: Sequence[Path], teacher: str | Path, out: Path, how: Adaptation, student: Path
) -> _Plan:
    """Everything that can be refused before hours of work, is."""
    if find_spec("lightning") is None:
        raise RobustsegError(not_installed("lightning"))
    spec = checkpoint.spec_of(student)
    if CAMERA not in spec.modalities:
        raise RobustsegError(
            f"the student {student} knows {', '.join(spec.modalities)} and no camera, which the "
            "teacher labels; begin with another one (--from)"
        )
    cameras = sum(_camera_messages(path, how.params, spec) for path in drives)
    by_hand = {} if how.class_map is None else load_by_hand(how.class_map)
    found = open_teacher(teacher, device=how.device, size=how.teacher_size, classes=how.classes)
    matched = match(found.spec.classes, spec.classes, by_hand)
    notices = [*found.notices]
    if text := matched.notice(spec.classes):
        notices.append(text)
    if not spec.trained:
        notices.append(f"the student {student.name} is untrained: all that it knows is learned now")
    return _Plan(
        drives=tuple(drives),
        out=out,
        how=how,
        student=student,
        spec=spec,
        teacher=found.speaking(matched.table, ClassSet(spec.classes, spec.palette)),
        matched=matched,
        every=max(1, round(cameras / how.frames)),
        notices=tuple(notices),
    )


def _camera_messages(path: Path, params: Path | None, spec: ModelSpec) -> int:
    """How many pictures a drive has, if it can be learned from.

    Raises:
        RobustsegError: it has no camera, or nothing beside it that the student knows.
    """
    with Bag(path) as bag:
        if not bag.message_count:
            raise RobustsegError(f"{path} holds no message; record it again")
        robot = robot_for(bag, params, ())
        check_streams(bag, robot)
        recorded = {topic.name: topic.count for topic in bag.topics}
    counts = {name: recorded.get(topic, 0) for name, topic in robot.topics.items()}
    if not counts.get(CAMERA):
        raise RobustsegError(
            f"{path} has no camera for the teacher to look at (it has "
            f"{', '.join(name for name, n in counts.items() if n) or 'nothing'}); set "
            f"streams.{CAMERA}.topic in a robot.yaml (--params), or take another drive"
        )
    others = [name for name, n in counts.items() if n and name in spec.modalities]
    if others == [CAMERA]:
        raise RobustsegError(
            f"{path} has a camera and no other sensor that the student knows "
            f"({', '.join(n for n in spec.modalities if n != CAMERA)}), so there is nobody to "
            "learn what the camera sees; record one of them beside it"
        )
    return counts[CAMERA]


def _parts(plan: _Plan) -> tuple[_Part, _Part]:
    """What is learned from and what is held out, with the sensors that any sample has.

    Raises:
        RobustsegError: one is too short, no sensor but the camera was believed, or the teacher is
            sure of nothing.
    """
    folders = [plan.out / "shards" / scene_of(path) for path in plan.drives]
    indexes = [read_index(folder) for folder in folders]
    used: Counter[str] = Counter()
    for index in indexes:
        used.update(index.counts.used)
    sensors = [name for name in plan.spec.modalities if used[name]]
    if sensors == [CAMERA]:
        why = next((text for index in indexes for text in index.unused.values()), "")
        raise RobustsegError(
            "no sensor but the camera was believed in these drives"
            f"{f' ({why})' if why else ''}, so there is nobody to learn what the camera sees; look "
            "at `robustseg doctor DRIVE`"
        )
    return (
        _part(plan, folders, sensors, TRAINED, "learned from"),
        _part(plan, folders, sensors, HELD_OUT, "held out"),
    )


def _part(
    plan: _Plan,
    folders: Sequence[Path],
    sensors: Sequence[str],
    bounds: tuple[float, float],
    name: str,
) -> _Part:
    try:
        data = Shards(folders, modalities=sensors, options={"part": bounds})
        count = len(data)
    except RobustsegError:
        count = 0
    if count < FEWEST:
        raise RobustsegError(
            f"the part of the drives that is {name} ({100 * bounds[0]:.0f} to "
            f"{100 * bounds[1]:.0f} % of their time) has too few labelled frames: {count}, at "
            f"least {FEWEST} are needed; give longer drives, or more --frames"
        )
    shares = adapt_report.label_shares(data)
    if not shares.any():
        raise RobustsegError(
            f"the teacher {plan.teacher.name} is {plan.how.confidence:g} sure of no pixel of a "
            f"class of the student's in what is {name}; lower --confidence, map its classes "
            "(--class-map), or take another teacher"
        )
    return _Part(bounds, data, shares)


def _recipe(plan: _Plan, trained: Shards) -> Recipe:
    """The recipe `adapt` for this student and these drives."""
    spec = plan.spec
    began = checkpoint.load(plan.student)
    fragile = [CAMERA_KEPT if name == CAMERA else 1.0 for name in spec.modalities]
    network = {
        name: getattr(spec, name)
        for name in ("architecture", "backbone", "head_width", "fusion", "stem", "norm")
    }
    student = str(plan.student)
    words = {
        "data.train": [str(path) for path in trained.paths],
        "data.options": {"part": list(TRAINED), "labelled": True},
        **{f"network.{name}": value for name, value in network.items()},
        "network.options": dict(spec.options),
        "network.head": began.head_form,
        "network.init": student,
        "teacher": student,
        "student.fragile": fragile,
        "student.together": isinstance(began, PackedNetwork),
    }
    told = [f"{key}={json.dumps(value)}" for key, value in words.items()]
    return load_recipe(["adapt"], [*told, *plan.how.words])


def _calibrate(plan: _Plan, trained: Path, out: Path, on_progress: Report) -> None:
    """The student that is handed over: what was trained, its confidence made true.

    By a part of the drives that is neither learned from nor held out; where that is too short, the
    student stays uncalibrated.
    """
    folders = [plan.out / "shards" / scene_of(path) for path in plan.drives]
    try:
        part = Shards(folders, options={"part": CALIBRATED, "labelled": True})
    except RobustsegError:  # no frame is left
        with replacing(out) as path:
            shutil.copyfile(trained, path)
        return
    calibrate_file(
        trained,
        part,
        out,
        device=plan.how.device,
        on_progress=lambda done, total: on_progress(done / total, ""),
    )


def _reported(
    plan: _Plan,
    trained: _Part,
    held_out: _Part,
    result: dict[str, Any],
    notices: list[str],
    on_progress: Report,
) -> dict[str, Any]:
    """`report.json` and `report.html`; judged once for the same student on the same frames."""
    best, path = plan.out / "student.safetensors", plan.out / "report.json"
    apart = held_out.data
    identity = {
        "version": __version__,
        "student": sha256(best).hexdigest(),
        "before": sha256(plan.student).hexdigest(),
        "teacher": plan.teacher.digest,
        "held_out": apart.fingerprint(),
    }
    if known := _known(path, identity):
        return known
    truths = {
        sample: label
        for drive in plan.drives
        for sample, label in adapt_report.truths(drive, apart, plan.spec.classes).items()
    }
    said = adapt_report.masks(plan.out / "labels", apart)
    judged = adapt_report.judge(
        plan.student,
        best,
        apart,
        said,
        truths,
        device=plan.how.device,
        on_progress=lambda share: on_progress(share, ""),
    )
    classes = plan.spec.classes
    account = {
        "format": FORMAT,
        "recipe": identity,
        "drives": [scene_of(drive) for drive in plan.drives],
        "teacher": {
            "name": plan.teacher.name,
            "classes": plan.matched.pairs,
            "ignored": list(plan.matched.unknown),
            "confidence": plan.how.confidence,
        },
        "student": {
            "began_with": plan.student.name,
            "steps": result["steps"],
            "seconds": result["seconds"],
        },
        "sensors": list(apart.modalities),
        "parts": {
            name: {
                "from": part.bounds[0],
                "to": part.bounds[1],
                "frames": len(part.data),
                "labelled": {
                    classes[k]: round(float(share), 4)
                    for k, share in enumerate(part.shares)
                    if share
                },
            }
            for name, part in (("learned_from", trained), ("held_out", held_out))
        },
        **judged,
        "notices": [*notices, *adapt_report.doubts(judged["against"])],
    }
    panels = adapt_report.panels(best, apart, truths, device=plan.how.device)
    html = adapt_report.page(account, panels, apart.classes)
    with replacing(plan.out / "report.html") as unfinished:
        unfinished.write_text(html, encoding="utf-8")
    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps(account, indent=1, allow_nan=False) + "\n")
    return account


def _known(path: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """The account that is there, if it is of the same student and frames."""
    try:
        known: dict[str, Any] = read_json(path) if path.exists() else {}
    except (OSError, ValueError):
        return None
    whole = path.with_name("report.html").exists() and known.get("recipe") == identity
    return known if whole else None
