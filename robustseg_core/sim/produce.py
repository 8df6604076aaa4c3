"""`robustseg sim`: one drive or a whole split, each complete or not there, never made twice."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from robustseg_core.bag import BagWriter
from robustseg_core.config import Strict, load
from robustseg_core.errors import RobustsegError
from robustseg_core.jobs import Workers, each
from robustseg_core.models.classes import CITYSCAPES
from robustseg_core.sim.card import write_card
from robustseg_core.sim.rig import rig
from robustseg_core.storage.budget import read_json
from robustseg_core.storage.output_folder import claimed, place
from robustseg_core.version import __version__


@dataclass(frozen=True)
class Recipe:
    """Everything that a drive depends on; equal recipes give equal payloads."""

    seed: int
    seconds: float
    conditions: tuple[str, ...]
    preset: str = "default"
    size: tuple[int, int] | None = None
    """(H, W) of the RGB camera; None: the preset's."""
    version: str = __version__
    views: int | None = None
    """Moments that are recorded, spread over the drive; None: all of it."""
    rig: str = "preset"
    """One of `rig.RIGS`."""
    streets: str = "plain"
    """One of `style.STREETS`."""


class Split(Strict):
    """`config/sim/train.yaml` and its siblings: which seeds belong to which set."""

    first_seed: int = Field(ge=0, description="Seed of the first drive.")
    drives: int = Field(ge=1, description="Drives; the seeds follow one another.")
    seconds: float = Field(20.0, gt=0, description="Length of each drive.")
    preset: str = Field("default", description="Size of the rig.")
    conditions: tuple[tuple[str, ...], ...] = Field(
        (("clear",),), min_length=1, description="Taken in turn, drive after drive."
    )
    views: int | None = Field(
        None, ge=1, description="Moments recorded, spread over each drive; null: all of it."
    )
    rig: tuple[Literal["preset", "random"], ...] = Field(
        ("preset",),
        min_length=1,
        description="Taken in turn; random: sensors' places, sizes and ranges are drawn.",
    )
    streets: tuple[Literal["plain", "varied"], ...] = Field(
        ("plain",),
        min_length=1,
        description="Taken in turn; varied: another town for each drive; plain: always one style.",
    )

    def recipes(self) -> list[Recipe]:
        """One per drive."""
        return [
            Recipe(
                self.first_seed + k,
                self.seconds,
                tuple(sorted(self.conditions[k % len(self.conditions)])),
                self.preset,
                views=self.views,
                rig=self.rig[k % len(self.rig)],
                streets=self.streets[k % len(self.streets)],
            )
            for k in range(self.drives)
        ]


def parse_conditions(text: str) -> tuple[str, ...]:
    """`night,rain` as a sorted tuple; what there is is checked by the weather."""
    return tuple(sorted({word.strip() for word in text.split(",") if word.strip()}))


def simulate(
    path: Path, recipe: Recipe, on_progress: Callable[[float], None] = lambda t_s: None
) -> dict[str, Any]:
    """Make the drive `path` (an .mcap file), and its account as .json beside it; returns that.

    A drive that is there already, made by the same recipe, is not made again. Interrupted, or on a
    full disk, nothing is left behind.

    Raises:
        RobustsegError: the recipe is impossible, another drive is at `path`, or the disk is full.
    """
    from robustseg_core.sim.drive import Drive  # open3d takes seconds to load
    from robustseg_core.sim.style import style

    _check_name(path)
    if known := _known(path, recipe):
        return known
    drive = Drive(
        seed=recipe.seed,
        rig=rig(recipe.preset, recipe.size, recipe.rig, recipe.seed),
        seconds=recipe.seconds,
        conditions=frozenset(recipe.conditions),
        views=recipe.views,
        style=style(recipe.streets, recipe.seed),
    )
    with workshop(path) as staging:
        if known := _known(path, recipe):  # made by whom we waited for
            return known
        with BagWriter(staging / "drive", compress=True) as writer:
            drive.write(writer, on_progress)
        result = {
            "recipe": _plain(recipe),
            "statistics": drive.statistics.to_json(drive.watched_s, CITYSCAPES.names),
        }
        account = path.with_suffix(".json")
        if not account.exists():
            (staging / "account").write_text(json.dumps(result, indent=1) + "\n")
            place(staging / "account", account)
        # The last step: a drive that is there is whole
        place(next((staging / "drive").glob("*.mcap")), path)
    return result


def _check_name(path: Path) -> None:
    if path.suffix != ".mcap":
        raise RobustsegError(f"{path} does not end in .mcap; name the drive e.g. {path.name}.mcap")


def check_free(path: Path, suffixes: Sequence[str]) -> None:
    """Refuse to make a new drive where files of another one, or of somebody else, are.

    Raises:
        RobustsegError: names the file, or the drive's name is no drive's.
    """
    _check_name(path)
    for taken in (path.with_suffix(suffix) for suffix in suffixes):
        if os.path.lexists(taken) and not path.exists():
            raise RobustsegError(f"{taken} is there already; choose another name or move it away")


@contextmanager
def workshop(path: Path) -> Iterator[Path]:
    """A folder beside the drive `path` to make its files in; others that want it wait.

    Raises:
        RobustsegError: as `output_folder.claimed`.
    """
    folder = path.with_name(f".{path.stem}.partial")
    with claimed(folder, command="sim", wait=True, target=path) as held:
        yield held.fresh()


def _known(path: Path, recipe: Recipe) -> dict[str, Any] | None:
    """The account of the drive that is there, if this recipe made it; None: it may be made.

    Raises:
        RobustsegError: the drive or the account is another's.
    """
    account = path.with_suffix(".json")
    if not path.exists() and not account.exists():
        return None
    try:
        known = dict(read_json(account))
    except (OSError, ValueError, TypeError):
        known = {}
    if known.get("recipe") != _plain(recipe):
        taken = path if path.exists() else account
        raise RobustsegError(f"{taken} is another drive's; choose another name or move it away")
    return known if path.exists() else None


def simulate_splits(
    splits: Sequence[Path],
    folder: Path,
    *,
    workers: Workers,
    on_drive: Callable[[int, int], None] = lambda done, total: None,
) -> list[Path]:
    """All drives of some splits, each of them one task; those that are there are kept.

    Raises:
        RobustsegError: no such split, two splits that share a seed, or a drive that failed.
    """
    recipes = {split: load(Split, split).recipes() for split in splits}
    seeds = [recipe.seed for rows in recipes.values() for recipe in rows]
    if twice := [seed for seed, count in Counter(seeds).items() if count > 1]:
        raise RobustsegError(
            f"seed {twice[0]} is in two of {', '.join(map(str, splits))}; give them other seeds"
        )
    work = {
        folder / f"{split.stem}_{recipe.seed:05d}.mcap": recipe
        for split, rows in recipes.items()
        for recipe in rows
    }
    return simulate_all(work, workers, on_drive=on_drive)


def simulate_all(
    work: Mapping[Path, Recipe],
    workers: Workers,
    *,
    on_drive: Callable[[int, int], None] = lambda done, total: None,
) -> list[Path]:
    """Drives, each where its key says and each one task; those that are there are kept.

    One that fails does not stop the others. A card tells machines what a folder has (`card`).

    Raises:
        RobustsegError: drives that failed, after all were tried.
    """
    tasks = list(work.items())
    failed: dict[int, str] = {}
    with closing(each(_simulate_one, tasks, workers.for_tasks(len(tasks)))) as outcomes:
        for done, outcome in enumerate(outcomes, 1):
            if outcome.error:
                failed[outcome.number] = outcome.error
            on_drive(done, len(tasks))
    for folder in dict.fromkeys(path.parent for path in work):
        write_card(folder)
    if failed:
        number, text = min(failed.items())
        more = f"{len(failed)} of {len(tasks)} drives failed, the others are kept; "
        raise RobustsegError(text if len(tasks) == 1 else f"{more}{tasks[number][0]}: {text}")
    return list(work)


def _simulate_one(task: tuple[Path, Recipe]) -> bool:
    simulate(*task)
    return True


def _plain(recipe: Recipe) -> dict[str, Any]:
    """The recipe as its account tells it; what came later is told where it is not the default."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(recipe)))
    for name, default in (("views", None), ("rig", "preset"), ("streets", "plain")):
        if plain[name] == default:
            del plain[name]
    return plain
