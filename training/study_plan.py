"""What the study trains: systems and switches as rows, their order, and budgets as steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

SHARED = Path(__file__).with_name("study.yaml")
"""Recipe of what all methods share."""
JUDGED = 4
"""Validations of a training."""
_MEAN = ("validate.rule=mean",)
"""Students are chosen by the mean over all subsets, whatever their authors choose by."""
_ON_TINY = (
    "network.architecture=m_segformer",
    "network.options={}",
    'network.init=""',
)


@dataclass(frozen=True, slots=True)
class System:
    """A way of training."""

    recipe: str
    words: tuple[str, ...] = ()
    teacher: str = ""
    """System of the teacher."""
    stages: tuple[str, ...] = ("",)
    """They share the budget."""
    headline: bool = False
    """Trained with every seed; others with the first one."""
    own_network: bool = False
    """Keeps network and optimizer of its recipe; others have `SHARED`."""
    note: str = ""


_TWO = ("robust", "final")
SYSTEMS = {
    "teacher": System("teacher", headline=True, note="all sensors, labels alone"),
    "dropout": System("dropout", _MEAN, headline=True, note="labels alone"),
    "anyseg": System("anyseg", _MEAN, "teacher", headline=True),
    "robustseg_v1": System("robustseg_v1", _MEAN, "teacher"),
    "robustseg_2026": System(
        "robustseg_2026", _MEAN, "teacher", note="begins with the teacher's weights"
    ),
    "rmmss": System("rmmss", _MEAN, "teacher", _TWO, note="two stages share the budget"),
    "any2seg": System("any2seg", _MEAN, note="fusion MFF; learns from language with --clip alone"),
    "cmnext": System("cmnext", note="all sensors, labels alone; sensors meet in the encoder"),
    "rmmss_cmnext": System(
        "rmmss_cmnext", _MEAN, "cmnext", _TWO, note="two stages share the budget"
    ),
    "ours": System("ours", (*_ON_TINY, *_MEAN), "teacher", headline=True),
    "ours_teacher": System(
        "ours_teacher", own_network=True, note="swift from ImageNet's weights, all sensors"
    ),
    "ours_swift": System(
        "ours", _MEAN, "ours_teacher", own_network=True, note="swift from ImageNet's weights"
    ),
}
"""In the order of the tables."""
BASE = "ours_swift"
"""What the switches are switched of."""
_MIDDLE = "ours_teacher_middle"
_MORE = {
    _MIDDLE: System(
        "ours_teacher",
        ("network.options.meet=middle",),
        own_network=True,
        note="teacher of hpdm, whose stages are the student's",
    )
}
SWITCHES = {
    "no-full": ("student.with_full=false", "distill.prediction.full_weight=0"),
    "no-solo": ("student.solo=null",),
    "apart": ("student.together=false",),
    "uniform": ("student.dropout=uniform",),
    "no-corrupt": ("corrupt.p=0", "corrupt.everywhere=0"),
    "no-everywhere": ("corrupt.everywhere=0",),
    "untold": ("corrupt.told=0",),
    "mean": ("network.fusion=mean",),
    "meet-every": ("network.options.meet=every",),
    "full-stems": ("network.options.stems=full",),
    "stride4": ("network.options.stride=4",),
    "no-imagenet": ('network.init=""',),
    "no-lovasz": ("loss.lovasz=0",),
    "unbalanced": ("augment.balanced=0",),
    "unscaled": ("augment.scale=[1,1]",),
    "no-teacher": ("distill={}",),
    "own-teacher": ("distill.prediction={of: full, at: quarter}",),
    "hpdm": ("distill.hpdm={}",),
}
"""switch -> what it sets, one at a time."""
_TEACHERS = {"no-teacher": "", "own-teacher": "", "hpdm": _MIDDLE}


def system_of(name: str) -> System:
    """A system, or `ours-SWITCH`.

    Raises:
        KeyError: there is none.
    """
    base, _, switch = name.partition("-")
    if not switch:
        return SYSTEMS[name] if name in SYSTEMS else _MORE[name]
    if base != "ours":
        raise KeyError(name)
    whole = SYSTEMS[BASE]
    teacher = _TEACHERS.get(switch, whole.teacher)
    words = SWITCHES[switch]
    return System(
        whole.recipe, (*whole.words, *words), teacher, own_network=True, note=" ".join(words)
    )


def rank(name: str) -> tuple[int, str]:
    """Sorts systems as the tables have them."""
    order = [*SYSTEMS, *_MORE, *(f"ours-{switch}" for switch in SWITCHES)]
    return (order.index(name), "") if name in order else (len(order), name)


@dataclass(frozen=True, slots=True)
class Row:
    """One training and its evaluation."""

    system: str
    seed: int
    minutes: float

    @property
    def name(self) -> str:
        """Of its folder and files."""
        return f"{self.system}_s{self.seed}"

    @property
    def teacher(self) -> str:
        """Name of the row that it waits for; empty: none."""
        own = system_of(self.system).teacher
        return f"{own}_s{self.seed}" if own else ""


def plan(
    systems: Sequence[str],
    seeds: Sequence[int],
    minutes: float,
    *,
    long: Mapping[str, float] = {},
    switches: Sequence[str] = (),
) -> list[Row]:
    """All rows in their order: a whole table of the first seed, then other seeds, then switches.

    Whoever is somebody's teacher is there, too, and before.

    Args:
        systems: of `SYSTEMS`.
        seeds: the first is for all rows, the others for the headline rows.
        minutes: budget of a row.
        long: system -> another budget.
        switches: of `SWITCHES`; then `BASE` is there, too.
    """
    asked = [*systems, *([BASE] if switches else [])]
    ablation = [f"ours-{switch}" for switch in switches]
    cells = [(0, seeds[0], name) for name in asked]
    cells += [(0, seed, n) for seed in seeds[1:] for n in asked if system_of(n).headline]
    cells += [(1, seeds[0], name) for name in ablation]
    for late, seed, name in list(cells):
        if teacher := system_of(name).teacher:
            cells.append((late, seed, teacher))
    order = {seed: place for place, seed in enumerate(seeds)}
    cells.sort(key=lambda cell: (cell[0], order[cell[1]], rank(cell[2])))
    unique = dict.fromkeys((name, seed) for _, seed, name in cells)
    return [Row(name, seed, long.get(name, minutes)) for name, seed in unique]


def todo(rows: Sequence[Row], kept: Collection[str], weights: Collection[str]) -> list[Row]:
    """Rows that are not finished: without a result, or asked to teach without their weights.

    Args:
        rows: of the plan.
        kept: names of rows whose results are there.
        weights: ... whose checkpoints are.
    """
    left = {row.name for row in rows if row.name not in kept}
    teaching = {row.teacher for row in rows if row.name in left}
    return [row for row in rows if row.name in left or row.name in teaching - set(weights)]


def steps_of(minutes: float, costs: Mapping[str, float]) -> dict[str, int]:
    """stage -> steps that the budget pays; stages share it evenly.

    Args:
        minutes: of one process.
        costs: stage -> seconds a step; of a row without stages the one called "".
    """
    share = 60 * minutes / len(costs)
    return {stage: max(1, int(share / cost)) for stage, cost in costs.items()}


def step_words(steps: Mapping[str, int]) -> list[str]:
    """The same for a recipe, with `JUDGED` validations in each stage."""
    words = []
    for stage, count in steps.items():
        where = f"stages.{stage}." if stage else ""
        words.append(f"{where}optim.steps={count}")
        words.append(f"{where}validate.every={math.ceil(count / JUDGED)}")
    return words


def layers(system: str, data: str) -> list[str]:
    """Recipes that are laid over one another."""
    own = system_of(system)
    return [own.recipe, data, *([] if own.own_network else [str(SHARED)])]


def words(
    row: Row,
    steps: Mapping[str, int],
    data: tuple[Iterable[str], Iterable[str]],
    more: Iterable[str] = (),
) -> list[str]:
    """`key=value` words of a row, but for its teacher.

    Args:
        row: one row.
        steps: stage -> steps.
        data: paths to train on, and to choose the best weights by.
        more: words of the one who asks, which win.
    """
    train, val = (f"[{', '.join(paths)}]" for paths in data)
    return [
        f"data.train={train}",
        f"data.val={val}",
        "data.workers=0",  # one process a row, whose seconds count
        f"seed={row.seed}",
        "save_every=100",
        *system_of(row.system).words,
        *step_words(steps),
        *more,
    ]


def run_all(rows: Sequence[Row], jobs: int, work: Callable[[Row], None]) -> dict[str, str]:
    """Do the rows, first come, first served, each after its teacher; name -> why it failed."""
    waiting, failed = list(rows), dict[str, str]()
    running: dict[Future[None], Row] = {}
    pending = {row.name for row in rows}
    with ThreadPoolExecutor(jobs) as pool:
        while waiting or running:
            for row in list(waiting):
                if row.teacher in failed:
                    failed[row.name] = f"{row.teacher} failed, its teacher"
                elif len(running) < jobs and row.teacher not in pending:
                    running[pool.submit(work, row)] = row
                else:
                    continue
                waiting.remove(row)
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                row = running.pop(done)
                pending.discard(row.name)
                if (error := done.exception()) is not None:
                    failed[row.name] = str(error)
    return failed
