"""An evaluation by many: a part of the data is one task, and what was counted before is kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path

from robustseg_core import datasets
from robustseg_core.datasets import Dataset
from robustseg_core.engines.eager import pick_device, share_cores
from robustseg_core.errors import RobustsegError
from robustseg_core.evaluation.parts import Part, load
from robustseg_core.evaluation.results import Results
from robustseg_core.evaluation.run import Entry, How
from robustseg_core.jobs import Workers, each
from robustseg_core.storage.output_folder import replacing
from robustseg_core.version import __version__


@dataclass(frozen=True, slots=True)
class Data:
    """What opens a data set, in any process."""

    kind: str
    paths: tuple[Path, ...]
    split: str = "test"
    size: tuple[int, int] | None = None
    modalities: tuple[str, ...] | None = None
    options: str = "{}"
    """JSON."""

    def open(self) -> Dataset:
        """The data set.

        Raises:
            RobustsegError: as its class.
        """
        return datasets.load(self.kind)(
            self.paths,
            self.split,
            size=self.size,
            modalities=self.modalities,
            options=json.loads(self.options),
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """What all tasks share."""

    weights: Path
    data: Data
    how: How
    keep: Path
    """Where parts lie when they are counted, named by all that they depend on."""
    fresh: bool = False
    """Count again what was counted before."""


def evaluate_each(
    plan: Plan,
    workers: Workers,
    *,
    on_done: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Results, int]:
    """As `evaluate`, with the same results: each part of the data set is one task.

    Equal to the bit where the network has as many threads: on a CPU each process has an equal share
    of the cores but one, at least one thread, and one on a cluster.

    A part that fails does not stop the others. What is in `plan.keep` is not counted again: killed
    and started again, the work goes on where it was. In the end, `plan.keep` has these parts alone.

    Args:
        plan: what is done.
        workers: who does it.
        on_done: called with (parts done, parts in all).

    Returns:
        The results, and how many parts were there before.

    Raises:
        RobustsegError: as `evaluate`; or parts that failed, after all were tried.
    """
    _entry.cache_clear()  # data and weights may have changed since
    entry = _entry(plan)
    dataset, parts = entry.dataset, entry.dataset.parts()
    if getattr(dataset.options, "cache", plan.keep) is None:
        raise RobustsegError(
            f"{plan.data.kind} would be extracted by each process; keep it in a folder "
            "(--set cache=FOLDER), or leave out --jobs and --ray"
        )
    plan.keep.mkdir(parents=True, exist_ok=True)
    few = workers.for_tasks(len(parts))
    failed: dict[int, str] = {}
    there = 0
    job = partial(_count, plan, 1 if workers.ray else 0, few.jobs)
    with closing(each(job, range(len(parts)), few)) as outcomes:
        for done, outcome in enumerate(outcomes, 1):
            if outcome.result is None:
                failed[outcome.number] = outcome.error
            else:
                there += not outcome.result
            on_done(done, len(parts))
    if failed:
        number, text = min(failed.items())
        scene = dataset.tags(parts[number][0]).get("scene", "")
        more = f"{len(failed)} of {len(parts)} recordings failed, the others are kept; "
        raise RobustsegError(text if len(parts) == 1 else f"{more}{scene}: {text}")
    files = [_file(plan, entry, part) for part in parts]
    found = [_read(file) for file in files]
    results = entry.results(found)
    for file in set(plan.keep.iterdir()) - set(files):
        file.unlink()  # of other options, of recordings that are left out now, unfinished
    return results, there


def _count(plan: Plan, threads: int, processes: int, number: int) -> bool:
    """Count one part, unless it is there; idempotent, so fit to be a cluster task.

    Returns:
        Whether it was counted now.

    Raises:
        RobustsegError: as `Entry.count`.
    """
    entry = _entry(plan)
    part = entry.dataset.parts()[number]
    file = _file(plan, entry, part)
    if not plan.fresh and load(file) is not None:
        return False
    share_cores(pick_device(plan.how.device), threads=threads, processes=processes)
    counted = entry.count(part)
    with replacing(file) as unfinished:
        counted.save(unfinished)
    return True


@lru_cache(maxsize=1)
def _entry(plan: Plan) -> Entry:
    """Weights and data are opened once in each process."""
    return Entry(plan.weights, plan.data.open(), plan.how)


def _file(plan: Plan, entry: Entry, part: Sequence[int]) -> Path:
    """Where a part is kept: its name is a digest of all that its counts depend on."""
    how = {name: value for name, value in asdict(plan.how).items() if name != "absent"}
    recipe = [__version__, entry.digest, entry.shared, how, entry.dataset.part_fingerprint(part)]
    return plan.keep / f"{hashlib.sha256(json.dumps(recipe).encode()).hexdigest()}.npz"


def _read(file: Path) -> Part:
    part = load(file)
    if part is None:
        raise RobustsegError(
            f"{file} is not there, or damaged, though it was written; do the nodes see this folder "
            "under the same name?"
        )
    return part
