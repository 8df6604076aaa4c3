"""`robustseg robustness` without the terminal: drives in, a folder with the table out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from robustseg_core import metrics
from robustseg_core.bag import Bag
from robustseg_core.errors import RobustsegError
from robustseg_core.jobs import ALONE, Workers, each
from robustseg_core.recording.robot import check_streams, robot_for
from robustseg_core.robot.config import RobotConfig
from robustseg_core.robustness import report, safety, severities, severity_report, table
from robustseg_core.robustness.case import Case
from robustseg_core.robustness.files import write_csv, write_json
from robustseg_core.robustness.matrix import cases, pairs
from robustseg_core.robustness.observe import rates
from robustseg_core.robustness.perform import (
    Options,
    Task,
    digest,
    fits,
    perform,
    spec_of,
    weights_digest,
    weights_id,
)
from robustseg_core.robustness.proofs import named_tests, prove
from robustseg_core.robustness.safety import Interval
from robustseg_core.robustness.score import labels
from robustseg_core.robustness.severities import Injection
from robustseg_core.sim.produce import Recipe, simulate_all
from robustseg_core.sim.weather import CONDITIONS
from robustseg_core.types import ModelSpec
from robustseg_core.version import __version__

SIM_SECONDS = 7.0
SIM_SEED, LONG_SEED = 4100, 4200
"""Of the first simulated drives; no study's training drive has it."""


def simulated(
    folder: Path,
    *,
    seconds: float = SIM_SECONDS,
    preset: str = "default",
    seed: int = SIM_SEED,
    workers: Workers = ALONE,
    on_drive: Callable[[int, int], None] = lambda done, total: None,
) -> list[Path]:
    """One drive for each of the five conditions; those that are there are kept.

    Raises:
        RobustsegError: an impossible preset or length, or no room.
    """
    recipes = {
        folder / f"{condition}.mcap": Recipe(seed + number, seconds, (condition,), preset)
        for number, condition in enumerate(CONDITIONS)
    }
    return simulate_all(recipes, workers, on_drive=on_drive)


def long_drives(
    folder: Path,
    minutes: float,
    *,
    workers: Workers = ALONE,
    on_drive: Callable[[int, int], None] = lambda done, total: None,
) -> list[Path]:
    """Healthy driving in the five conditions, to be watched for false alarms; small cameras.

    Args:
        folder: drives that are there are kept.
        minutes: in all, an equal share of each condition.
        workers: who makes them; one drive is one task.
        on_drive: called with (drives done, drives in all).

    Raises:
        RobustsegError: no room.
    """
    recipes = {
        folder / f"long_{condition}.mcap": Recipe(
            LONG_SEED + number, 60 * minutes / len(CONDITIONS), (condition,), "tiny"
        )
        for number, condition in enumerate(CONDITIONS)
    }
    return simulate_all(recipes, workers, on_drive=on_drive)


def run(
    drives: Sequence[Path],
    out: Path,
    *,
    healthy: Sequence[Path] = (),
    params: Path | None = None,
    overrides: Iterable[str] = (),
    rows: Iterable[int] = (),
    paired: bool = True,
    score: bool = True,
    seed: int = 0,
    jobs: int = 1,
    ray: str = "",
    fresh: bool = False,
    checkout: Path | None = None,
    interval: Interval | None = None,
    on_task: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Do the matrix to every drive; `robustness.json`, `.csv`, `.png` and `report.html` in `out`.

    What was done before, to the same drives with the same options, is not done again.

    Args:
        drives: recordings of healthy robots; with truth, if masks are to be scored.
        out: folder of the results, as `output_folder.claimed` holds it; the cases lie in `cases/`
            below it.
        healthy: more recordings of healthy robots, watched for false alarms; nothing is done to
            them, and they need no truth.
        params: robot.yaml; without it the streams are guessed from each recording.
        overrides: `key=value` words; they win over `params`.
        rows: numbers of the rows; none: all that are measured on drives.
        paired: each case also together with another silent sensor, on one of the drives in turn.
        score: run the network, and hold the masks against the truth.
        seed: of the faults.
        jobs: processes.
        ray: address of a Ray cluster instead, or `local`.
        fresh: do again what was done before.
        checkout: whose tests are run for the rows that no drive shows; None: they are only named.
        interval: into which detection and reaction must fit; `safety.json` and `.csv`.
        on_task: called with (cases done, cases in all).

    Returns:
        The content of `robustness.json`, and `safety`, that of `safety.json`.

    Raises:
        RobustsegError: a drive, the configuration, the checkpoint or a row cannot be used.
    """
    _expect_names([*drives, *healthy])
    robot, options = _opened(drives[0], params, overrides, seed, score=score)
    tasks, skipped = _tasks(drives, out, options, cases(rows), jobs, paired=paired)
    tasks = _watched(healthy, out, options, jobs) + tasks  # the longest first
    results = _done(tasks, Workers(jobs, ray), on_task, fresh=fresh)
    broken, clean = _apart(results)
    proofs = {} if checkout is None else prove(checkout, named_tests(rows))
    summary = table.summarize(
        broken,
        clean,
        proofs,
        robustseg=__version__,
        drives=[path.name for path in drives],
        healthy=[path.name for path in healthy],
        seed=seed,
        scored=score,
        skipped=skipped,
        position_prior=_position_prior(drives, len(spec_of(robot).classes)) if score else None,
        trained=spec_of(robot).trained,
        provenance=spec_of(robot).provenance,
    )
    judged = _judged(out, interval, broken, safety.of_matrix)
    _write(out / "robustness.json", summary, table.COLUMNS, table.lines(broken))
    report.write(out, summary, judged)
    return {**summary, "safety": judged} if judged else summary


def run_severities(
    drives: Sequence[Path],
    out: Path,
    *,
    done: Sequence[Injection],
    healthy: Sequence[Path] = (),
    params: Path | None = None,
    overrides: Iterable[str] = (),
    exposure: Callable[[ModelSpec], Mapping[str, Mapping[str, str]]] = lambda spec: {},
    score: bool = True,
    seed: int = 0,
    jobs: int = 1,
    ray: str = "",
    fresh: bool = False,
    interval: Interval | None = None,
    on_task: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Do every severity to every drive; `severities.json`, `.csv`, `.png` and `.html` in `out`.

    Args:
        drives, out, healthy, params, overrides, score, seed, jobs, ray, fresh, interval, on_task:
            as `run`.
        done: what is done (`severities.injections`).
        exposure: of the configured network: fault -> sensor -> whether training has seen it.

    Returns:
        The content of `severities.json`, and `safety`, that of `safety.json`.

    Raises:
        RobustsegError: a drive, the configuration or the checkpoint cannot be used.
    """
    _expect_names([*drives, *healthy])
    robot, options = _opened(drives[0], params, overrides, seed, score=score)
    spec = spec_of(robot)
    first = done[0].case
    control = replace(severities.CONTROL, lasts_s=first.lasts_s, after_s=first.after_s)
    unique = {injection.case.id: injection.case for injection in done}
    asked = [control, *unique.values()]
    tasks, skipped = _tasks(drives, out, options, asked, jobs, paired=False)
    unscored = replace(options, score=False)
    tasks = [replace(t, options=unscored) if t.case is None else t for t in tasks]
    tasks += _watched(healthy, out, options, jobs)
    results = _done(tasks, Workers(jobs, ray), on_task, fresh=fresh)
    broken, clean = _apart(results)
    told = exposure(spec)
    summary = severities.summarize(
        done,
        broken,
        clean,
        told,
        robustseg=__version__,
        drives={path.name: digest(path) for path in drives},
        healthy={path.name: digest(path) for path in healthy},
        seed=seed,
        scored=score,
        skipped=skipped,
        lasts_s=first.lasts_s,
        after_s=first.after_s,
        trained=spec.trained,
        provenance=spec.provenance,
        weights_sha256=weights_digest(robot),
    )
    judged = _judged(out, interval, results, safety.of_severities(done))
    lines = severities.lines(done, results, told)
    _write(out / "severities.json", summary, severities.COLUMNS, lines)
    severity_report.write(out, summary, judged)
    return {**summary, "safety": judged} if judged else summary


def _opened(
    drive: Path, params: Path | None, overrides: Iterable[str], seed: int, *, score: bool
) -> tuple[RobotConfig, Options]:
    """The robot that the first drive is of, and how its cases are done."""
    overrides = tuple(overrides)
    with Bag([drive]) as bag:
        robot = robot_for(bag, params, overrides)
    return robot, Options(str(params or ""), overrides, seed, score, weights_id(robot))


def _watched(healthy: Sequence[Path], out: Path, options: Options, jobs: int) -> list[Task]:
    """Drives that nothing is done to, and that nobody scores."""
    unscored = replace(options, score=False)
    return [Task(str(path), None, unscored, str(out / "cases"), jobs) for path in healthy]


def _apart(
    results: Sequence[dict[str, Any]],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(results of the cases, those of drives that nothing was done to)."""
    broken = [r for r in results if r["id"] != "clean"]
    return broken, [r for r in results if r["id"] == "clean"]


def _write(
    path: Path, summary: dict[str, Any], columns: Sequence[str], lines: Iterable[dict[str, Any]]
) -> None:
    """The JSON file at `path`, whose folder is made, and the CSV file of its cases beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, summary)
    write_csv(path.with_suffix(".csv"), columns, lines)


def _done(
    tasks: Sequence[Task],
    workers: Workers,
    on_task: Callable[[int, int], None],
    *,
    fresh: bool,
) -> list[dict[str, Any]]:
    """The results of all tasks, in one order whoever was first.

    Raises:
        RobustsegError: some could not be done; the others are kept.
    """
    tasks = [replace(task, fresh=fresh) for task in tasks]
    results: list[dict[str, Any]] = []
    failed: list[str] = []
    with closing(each(perform, tasks, workers)) as outcomes:
        for outcome in outcomes:
            if outcome.result is None:
                failed.append(f"{Path(tasks[outcome.number].drive).name}: {outcome.error}")
            else:
                results.append(outcome.result)
            on_task(len(results) + len(failed), len(tasks))
    if failed:
        raise RobustsegError(
            f"{len(failed)} of {len(tasks)} cases could not be done, the others are kept; "
            f"{min(failed)}"
            if len(tasks) > 1
            else failed[0]
        )
    return sorted(results, key=lambda r: (r["id"], r["drive"]))


def _judged(
    out: Path, interval: Interval | None, results: Sequence[dict[str, Any]], label: safety.Label
) -> dict[str, Any] | None:
    """The safety table, written; None: nobody gave an interval."""
    if interval is None:
        return None
    found = safety.table(results, label, interval)
    safety.write(out, found)
    return found


def _expect_names(paths: Sequence[Path]) -> None:
    names = [path.stem for path in paths]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise RobustsegError(f"two drives are called {twice[0]!r}; rename one")


def _position_prior(drives: Sequence[Path], classes: int) -> float | None:
    """mIoU of a mask that ignores all sensors (`metrics.PositionPrior`), over whole drives."""
    prior = metrics.PositionPrior(classes)
    for path in drives:
        for label in labels(path):
            prior.add(label.ids, scene=path.stem)
    counts = sum(prior.counts().values(), np.zeros((classes, classes + 1), np.int64))
    return round(metrics.mean_iou(counts), 4) if counts.any() else None


def _tasks(
    drives: Sequence[Path],
    out: Path,
    options: Options,
    singles: list[Case],
    jobs: int,
    *,
    paired: bool,
) -> tuple[list[Task], list[str]]:
    """What there is to do, drive after drive; and what cannot be done, with the reason."""
    tasks, skipped = [], []
    params = Path(options.params) if options.params else None
    for number, drive in enumerate(drives):
        with Bag([drive]) as bag:
            robot = robot_for(bag, params, options.overrides)
            check_streams(bag, robot)
            spec = spec_of(robot)
            rates_hz = rates(bag, robot)
            due = [*singles, *(pairs(singles)[number :: len(drives)] if paired else [])]
            for case in due:
                if why := fits(case, bag, robot, spec, rates_hz):
                    skipped.append(f"{drive.stem} {case.id}: {why}")
                    continue
                tasks.append(Task(str(drive), case, options, str(out / "cases"), jobs))
        tasks.append(Task(str(drive), None, options, str(out / "cases"), jobs))
    if not any(task.case for task in tasks):
        raise RobustsegError(f"nothing of the matrix can be done to these drives: {skipped[0]}")
    return tasks, skipped
