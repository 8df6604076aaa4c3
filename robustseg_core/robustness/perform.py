"""One case on one drive, from the recording to its line in the table; a process of its own does it.

What was done before, with the same everything, is read back instead: a run that was interrupted
goes on.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustseg_core import metrics
from robustseg_core.bag import Bag
from robustseg_core.engines.blank import blank
from robustseg_core.engines.eager import EagerEngine, pick_device, share_cores
from robustseg_core.engines.weights import UNTRAINED, network, weights_file
from robustseg_core.errors import RobustsegError, quiet
from robustseg_core.faults import ALL
from robustseg_core.models import checkpoint
from robustseg_core.recording.clip import Clip
from robustseg_core.recording.inject import FaultyBag
from robustseg_core.recording.replay import Player, replay
from robustseg_core.recording.robot import robot_for
from robustseg_core.robot.config import RobotConfig
from robustseg_core.robot.topics import calibrations
from robustseg_core.robustness.assess import assess_case, assess_clean
from robustseg_core.robustness.baselines import AllOrNothing, Oracle, Ungated
from robustseg_core.robustness.case import INFO, START_S, Case
from robustseg_core.robustness.observe import EVERY_NS, Watched, rates
from robustseg_core.robustness.score import Label, Scorer, labels, sum_counts
from robustseg_core.segmenter import Segmenter
from robustseg_core.storage.budget import read_json
from robustseg_core.storage.digest import sha256
from robustseg_core.storage.output_folder import replacing
from robustseg_core.types import SECOND, ModelSpec
from robustseg_core.version import __version__

POLICIES = ("ours", "ungated", "oracle", "all_or_nothing")
"""Who made the masks; names in `robustness.json`."""


RESULTS = 2
"""Version of what a case's file holds; what was kept in another one is done again."""


@dataclass(frozen=True, slots=True)
class Options:
    """What all tasks of a run share."""

    params: str = ""
    """robot.yaml; empty: guessed from the recording."""
    overrides: tuple[str, ...] = ()
    """`key=value` words; `weights` and `device` are among them."""
    seed: int = 0
    """Of the faults."""
    score: bool = True
    """Whether the network runs at all."""
    weights_id: str = ""
    """Of the checkpoint's file, so that another one of the same name is another one."""


@dataclass(frozen=True, slots=True)
class Task:
    """A drive, and what is done to it."""

    drive: str
    case: Case | None
    """None: nothing, it is the clean twin."""
    options: Options
    folder: str
    """Where the result is kept."""
    processes: int = 1
    """That share this machine."""
    fresh: bool = False
    """Do it again though it was done before."""

    @property
    def path(self) -> Path:
        """The file of the result."""
        name = "clean" if self.case is None else self.case.id
        return Path(self.folder) / Path(self.drive).stem / f"{name}.json"

    @property
    def key(self) -> str:
        """Equal keys promise equal results."""
        stat = Path(self.drive).stat()
        case = None if self.case is None else asdict(self.case)
        words = [
            __version__,
            RESULTS,
            self.drive,
            stat.st_size,
            stat.st_mtime_ns,
            case,
            asdict(self.options),
            POLICIES,
        ]
        # Sets have another order in every process.
        return hashlib.sha256(json.dumps(words, default=sorted).encode()).hexdigest()[:16]


def perform(task: Task) -> dict[str, Any]:
    """The result of a task, kept or new.

    Raises:
        RobustsegError: the drive, the robot or the network cannot be used.
    """
    try:
        kept = read_json(task.path)
        if kept["key"] == task.key and not task.fresh:
            return dict(kept["result"])
    except (OSError, ValueError, KeyError):
        pass
    share_cores(pick_device("cpu"), processes=task.processes)
    with quiet(logging.CRITICAL):  # damage is what is wanted here
        result = _clean(task) if task.case is None else _broken(task, task.case)
    result = {"drive": Path(task.drive).stem, **result}
    task.path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(task.path) as path:
        path.write_text(json.dumps({"key": task.key, "result": result}, indent=1) + "\n")
    return result


def fits(
    case: Case, bag: Bag, robot: RobotConfig, spec: ModelSpec, rates_hz: Mapping[str, float]
) -> str:
    """Why a case cannot be done to this drive, or nothing."""
    recorded = {topic.name for topic in bag.topics}
    streams = set(spec.modalities) & set(robot.topics)
    for span in case.spans:
        target = span.fault.target
        if target.startswith("/") and target not in recorded:
            return f"no {target} in the drive"
        if not target.startswith("/") and target not in (ALL, INFO, *streams):
            return f"no {target} on this robot"
    if case.target != ALL and case.target not in streams:
        return f"no {case.target} on this robot"
    if case.finds and case.target in rates_hz:
        limit_s = case.within.of(1 / rates_hz[case.target])
        if limit_s > case.lasts_s + case.after_s:
            return f"at {rates_hz[case.target]:.0f} Hz its deadline is {limit_s:.1f} s, too long"
    duration_s = bag.duration_ns / SECOND
    delayed = case.dark_s is not None and case.target == ALL
    needs_s = case.begins_s + (case.after_s if delayed else case.lasts_s + case.after_s)
    return "" if duration_s >= needs_s else f"{duration_s:.1f} s are too short for {needs_s:.1f}"


@lru_cache(maxsize=1)
def _engine_of(
    weights: str, device: str, streams: tuple[str, ...], size: tuple[int, int] | None
) -> EagerEngine:
    return EagerEngine(network(weights, streams, size=size), pick_device(device))


def weights_id(robot: RobotConfig) -> str:
    """Size and time of the configured checkpoint; nothing for an untrained network."""
    path = _weights(robot)
    return f"{path.stat().st_size} {path.stat().st_mtime_ns}" if path is not None else ""


def weights_digest(robot: RobotConfig) -> str:
    """SHA-256 of the configured checkpoint's file; nothing for an untrained network."""
    path = _weights(robot)
    return "" if path is None else digest(path)


def digest(path: Path) -> str:
    """SHA-256 of a file; of a folder, of its files' names and contents."""
    if path.is_dir():
        parts = [(p.name, digest(p)) for p in sorted(path.rglob("*")) if p.is_file()]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    return sha256(path).hexdigest()


def _weights(robot: RobotConfig) -> Path | None:
    if robot.weights == UNTRAINED:
        return None
    path = weights_file(robot.weights) if robot.weights else checkpoint.SHIPPED
    return path if path.exists() else None


def spec_of(robot: RobotConfig) -> ModelSpec:
    """What the configured network expects."""
    return _engine(robot).spec


def _engine(robot: RobotConfig) -> EagerEngine:
    streams = tuple(robot.topics)
    return _engine_of(robot.weights, robot.device, streams, robot.input_shape)


@lru_cache(maxsize=1)
def _labels(drive: str) -> list[Label]:
    return labels(Path(drive))


@lru_cache(maxsize=16)
def _robot(drive: str, options: Options) -> RobotConfig:
    """Of a drive; guessing it means to read the drive, so that is done once in a process."""
    params = Path(options.params) if options.params else None
    with Bag([Path(drive)]) as bag:
        return robot_for(bag, params, options.overrides)


def _clean(task: Task) -> dict[str, Any]:
    with Bag([Path(task.drive)]) as bag:
        robot = _robot(task.drive, task.options)
        spec = spec_of(robot)
        end_s = bag.duration_ns / SECOND
        window = task.drive, robot, bag.start_ns, START_S, end_s - 0.2
        scorer = _scorer(*window) if _scores(task) else None
        watched = Watched(robot, spec, start_ns=bag.start_ns)
        _replay(Clip(bag), watched.segmenter, scorer, every_ns=EVERY_NS)
        found = assess_clean(watched, START_S / 2, end_s, list(watched.segmenter.streams))
        if scorer is not None:
            found["counts"] = {"clean": scorer.total().tolist()}
    return {"id": "clean", **found}


def _broken(task: Task, case: Case) -> dict[str, Any]:
    with Bag([Path(task.drive)]) as bag:
        robot = _robot(task.drive, task.options)
        spec = spec_of(robot)
        topics = robot.topics
        specs = case.specs(calibrations(robot))
        late = case.dark_s is not None and case.target == ALL
        until_s = None if late or case.passes > 1 else case.needs_s + 0.05
        disturbed = FaultyBag(bag, specs, seed=task.options.seed, topics=topics)
        clip = Clip(disturbed, until_s, passes=case.passes)
        span_s = case.begins_s, case.begins_s + case.lasts_s
        scorer = (
            _scorer(task.drive, robot, bag.start_ns, span_s[0], span_s[1] - 0.15)
            if _scores(task) and case.scored and not case.partner
            else None
        )
        watched = Watched(robot, spec, start_ns=bag.start_ns)
        _replay(clip, watched.segmenter, scorer, every_ns=EVERY_NS)
        if disturbed.injector.refused:
            text = next(iter(disturbed.injector.refused))
            raise RobustsegError(f"{task.drive}: {text}; this drive cannot be broken like that")
        hz = {name: hz for name, hz in rates(bag, robot).items() if name in watched.states}
        found = assess_case(case, watched, hz)
        if scorer is not None:
            counts = {"ours": scorer.total(), **_baselines(task, case, robot, bag, clip)}
            found["counts"] = {name: counted.tolist() for name, counted in counts.items()}
            found["miou"] = {n: round(metrics.mean_iou(c), 4) for n, c in counts.items()}
    what = {"id": case.id, "row": case.row, "target": case.target, "partner": case.partner}
    return {**what, "faults": [str(spec) for spec in specs], **found}


def _baselines(
    task: Task, case: Case, robot: RobotConfig, bag: Bag, clip: Clip
) -> dict[str, NDArray[np.int64]]:
    """(K, K + 1) pixels of each baseline: the same messages, and the healthy ones to the oracle."""
    spec = spec_of(robot)
    span_s = case.begins_s, case.begins_s + case.lasts_s
    window = (task.drive, robot, bag.start_ns, span_s[0], span_s[1] - 0.15)
    naive = _scorer(*window)
    due = [(label.stamp_ns, label.arrival_ns) for label in _within(task.drive, *window[2:])]
    all_or_nothing = AllOrNothing(Segmenter(robot, spec, blank(spec)).streams)
    ungated = Ungated(robot, spec, due=due, on_bundle=naive.offer, observer=all_or_nothing)
    _replay(clip, ungated, None)
    whole = naive.total()
    # Where it has a set, its mask is the one that `Ungated` makes of the newest of each.
    rest = [naive.at(t) if all_or_nothing.has_set(t) else naive.missed(t) for t, _ in due]
    return {
        "ungated": whole,
        "oracle": _oracle(task.drive, task.options, case.broken, span_s, case.needs_s + 0.05),
        "all_or_nothing": sum_counts(rest, len(spec.classes)),
    }


@lru_cache(maxsize=64)
def _oracle(
    drive: str,
    options: Options,
    broken: frozenset[str],
    span_s: tuple[float, float],
    until_s: float,
) -> NDArray[np.int64]:
    """(K, K + 1) pixels of who leaves the broken sensors out: the same for all their faults."""
    with Bag([Path(drive)]) as bag:
        robot = _robot(drive, options)
        spec = spec_of(robot)
        scorer = _scorer(drive, robot, bag.start_ns, span_s[0], span_s[1] - 0.15)
        policy = Oracle(broken, span_s, start_ns=bag.start_ns)
        _replay(Clip(bag, until_s), Segmenter(robot, spec, blank(spec), policy=policy), scorer)
        return scorer.total()


def _replay(
    clip: Clip, player: Player, scorer: Scorer | None, *, every_ns: int | None = None
) -> None:
    """Play to the end; the masks go to the scorer."""
    for label_map in replay(clip, player, every_ns=every_ns):
        if scorer is not None:
            scorer.offer(label_map.stamp_ns, label_map.bundle)


def _scores(task: Task) -> bool:
    return task.options.score


def _within(drive: str, start_ns: int, from_s: float, until_s: float) -> list[Label]:
    span = (start_ns + round(from_s * SECOND), start_ns + round(until_s * SECOND))
    return [label for label in _labels(drive) if span[0] <= label.stamp_ns < span[1]]


def _scorer(drive: str, robot: RobotConfig, start_ns: int, from_s: float, until_s: float) -> Scorer:
    truth = _within(drive, start_ns, from_s, until_s)
    stamps = [label.stamp_ns for label in _labels(drive)]
    half_ns = int(np.median(np.diff(stamps)) / 2) if len(stamps) > 1 else SECOND // 60
    engine = _engine(robot)
    return Scorer(truth, half_ns=half_ns, engine=engine, classes=len(engine.spec.classes))
