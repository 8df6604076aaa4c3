"""Many recordings, a run of its own for each: one task a recording, one table at the end."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from robustseg_core import config
from robustseg_core.engines.weights import UNTRAINED, weights_file
from robustseg_core.errors import RobustsegError, what_is
from robustseg_core.faults import FaultSpec
from robustseg_core.jobs import Workers, each
from robustseg_core.models import checkpoint
from robustseg_core.recording.run import no_mask, run_bags
from robustseg_core.recording.scene import expect_distinct, fingerprint, scene_of
from robustseg_core.storage.budget import read_json
from robustseg_core.storage.digest import sha256
from robustseg_core.storage.output_folder import OutputFolder, claimed
from robustseg_core.version import __version__

TABLE, ACCOUNT = "runs.json", "result.json"
COLUMNS = ("masks", "rate_hz", "coverage", "longest_gap_ms")
"""Of a row of the table, out of `totals`."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What all tasks share."""

    out: Path
    """Below it, a folder for each recording."""
    params: Path | None
    overrides: tuple[str, ...]
    faults: tuple[FaultSpec, ...]
    seed: int
    video: bool
    black_box: bool
    rerun: bool
    inputs: bool
    recipe: dict[str, Any]
    """Everything beside the recording that the results depend on; plain JSON."""
    threads: int
    """Of the network in each process."""


def run_each(
    paths: Sequence[Path],
    *,
    out: Path,
    workers: Workers,
    params: Path | None = None,
    overrides: Iterable[str] = (),
    faults: Sequence[FaultSpec] = (),
    seed: int = 0,
    video: bool = True,
    black_box: bool = False,
    rerun: bool = False,
    inputs: bool = False,
    on_done: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """`run_bags` of every recording, in `out/NAME`, and the table of all in `out/runs.json`.

    A recording that fails does not stop the others. What was done before with equal options is not
    done again: killed and started again, the work goes on where it was.

    Args:
        paths: recordings of different names, each for itself.
        out: made if missing; it is this command's, as the folders below it are `run`'s.
        workers: who does it; one recording is one task.
        params, overrides, faults, seed, video, black_box, rerun, inputs: as `run_bags`.
        on_done: called with (recordings done, recordings in all).

    Returns:
        The content of `runs.json`: `runs`, a row for each recording in the order of `paths`
        (`name`, `bag`, `made` (False: it was there), `error` (empty: none), and where there is a
        result masks, rates, coverage, `miou`, `notices`), and `failed`, how many have an error.

    Raises:
        RobustsegError: two recordings of one name, or the configuration, the checkpoint, the
            cluster or `out` cannot be used.
    """
    expect_distinct(paths)
    for path in paths:
        if scene_of(path) == TABLE:
            raise RobustsegError(f"{path} would take the place of the table, {TABLE}; rename it")
    words = tuple(overrides)
    tree = config.override(config.read_file(params) if params else {}, words)
    weights = _file_of(str(tree.get("weights", "")))
    recipe = {
        "robot": {k: v for k, v in tree.items() if k not in ("weights", "cpu_threads")},
        "weights": sha256(weights).hexdigest() if weights else UNTRAINED,
        "faults": [str(fault) for fault in faults],
        "seed": seed,
        "video": video,
        "black_box": black_box,
        "rerun": rerun,
        "inputs": inputs,
        "version": __version__,
    }
    share = max(1, (max(2, os.cpu_count() or 2) - 1) // workers.jobs)
    threads = int(tree.get("cpu_threads") or 0) or (1 if workers.ray else share)
    plan = Plan(
        out, params, words, tuple(faults), seed, video, black_box, rerun, inputs, recipe, threads
    )
    few = workers.for_tasks(len(paths))
    read = [*paths, *(file for file in (params, weights) if file)]
    with claimed(out, command="run --jobs", inputs=read) as held:
        held.open()
        rows: dict[int, dict[str, Any]] = {}
        with closing(each(partial(run_one, plan), paths, few)) as outcomes:
            for outcome in outcomes:
                path = paths[outcome.number]
                row = outcome.result or {"made": True, "error": outcome.error}
                rows[outcome.number] = {"name": scene_of(path), "bag": str(path), **row}
                on_done(len(rows), len(paths))
        ordered = [rows[number] for number in range(len(paths))]
        table = {
            "robustseg": __version__,
            "runs": ordered,
            "failed": sum(bool(row["error"]) for row in ordered),
        }
        (held.fresh() / TABLE).write_text(json.dumps(table, indent=1) + "\n")
        held.publish()
    return table


def run_one(plan: Plan, path: Path) -> dict[str, Any]:
    """The row of one recording; idempotent, so fit to be a cluster task.

    Raises:
        RobustsegError: as `run_bags`.
    """
    folder = plan.out / scene_of(path)
    recipe = {"recording": fingerprint(path), **plan.recipe}
    result = _known(folder, recipe)
    made = result is None
    if result is None:
        result = run_bags(
            [path],
            params=plan.params,
            overrides=[*plan.overrides, f"cpu_threads={plan.threads}"],
            out=folder,
            faults=plan.faults,
            seed=plan.seed,
            video=plan.video,
            black_box=plan.black_box,
            rerun=plan.rerun,
            inputs=plan.inputs,
            recipe=recipe,
        )
    elif not result["totals"]["masks"]:  # it was said then, too
        raise no_mask(result)
    sums = result["totals"]
    return {
        "made": made,
        "error": "",
        **{name: sums[name] for name in COLUMNS},
        "miou": result.get("miou"),
        "trained": result["trained"],
        "notices": len(result["notices"]),
    }


def _known(folder: Path, recipe: dict[str, Any]) -> dict[str, Any] | None:
    """The result that is there, if it is whole and of this recipe."""
    try:
        if not OutputFolder(folder, "run").is_whole():
            return None
        known: dict[str, Any] = read_json(folder / ACCOUNT)
        same = known["recipe"] == json.loads(json.dumps(recipe))
    except (OSError, ValueError, TypeError, KeyError, RobustsegError):
        return None  # what is wrong with the folder, the run says
    return known if same else None


def _file_of(weights: str) -> Path | None:
    """The checkpoint of that name; None: weights of chance.

    Raises:
        RobustsegError: there are none of that name.
    """
    if weights == UNTRAINED:
        return None
    file = weights_file(weights) if weights else checkpoint.SHIPPED
    if not file.is_file():
        raise RobustsegError(f"{file} {what_is(file)}; give a checkpoint of `robustseg train`")
    return file
