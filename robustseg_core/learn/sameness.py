"""Whether a run may go on: what changes its result, and what does not.

The number of processes, the workers, the log and the place where files lie change nothing, and may
differ between one start and the next.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustseg_core.datasets import Dataset
from robustseg_core.errors import RobustsegError
from robustseg_core.learn.recipe import Recipe
from robustseg_core.storage.budget import parse_json
from robustseg_core.storage.digest import sha256

_FREE = ("data.workers", "data.cache", "validate.batch", "log_every", "save_every")
"""Keys that do not change the result, but for the rounding of `data.cache` to float16."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a state belongs to."""

    recipe: str
    """As JSON."""
    identity: str
    """All of it that changes the result, as JSON: files by what they hold, not by their names."""
    batch: int
    """Samples that all processes together see in one batch."""


def run_of(recipe: Recipe, train: Dataset, val: Dataset | None, *, processes: int) -> Run:
    """The run that this recipe starts in so many processes."""
    tree = recipe.model_dump(mode="json", by_alias=True)
    tree["data"] = {
        "train": train.fingerprint(),
        "val": "" if val is None else val.fingerprint(),
    }
    if recipe.data.embeddings:
        tree["data"]["embeddings"] = _digest(recipe.data.embeddings)
    tree["teacher"] = _digest(recipe.teacher) if recipe.distill else ""
    if recipe.select is not None:
        tree["select"]["robust"] = _digest(recipe.select.robust)
    tree["network"]["init"] = _digest(recipe.network.init)
    del tree["optim"]["batch"], tree["validate"]["batch"], tree["log_every"], tree["save_every"]
    told = recipe.model_dump_json(by_alias=True)
    return Run(told, json.dumps(tree), recipe.optim.batch * processes)


def batch_of(old: Run, new: Run, *, folder: Path) -> int:
    """The batch with which the old run goes on as the new one.

    An equal `optim.batch` means the same run in any number of processes; another one fits where all
    processes together see as many samples as before.

    Raises:
        RobustsegError: it is another run; the text names a key in which they differ.
    """
    before, after = _flat(parse_json(old.identity)), _flat(parse_json(new.identity))
    wrote, writes = _flat(parse_json(old.recipe)), _flat(parse_json(new.recipe))
    what = ""
    if keys := [k for k in {**before, **after} if before.get(k) != after.get(k)]:
        known = dict.fromkeys(name for key in keys for name in _known_as(key, {**wrote, **writes}))
        named = [name for name in known if wrote.get(name) != writes.get(name)]
        what = f"what {keys[0]} names has changed since"
        if named:
            what = f"{named[0]} was {wrote.get(named[0])!r}, is {writes.get(named[0])!r}"
    elif wrote["optim.batch"] != writes["optim.batch"] and old.batch != new.batch:
        what = f"all processes together had a batch of {old.batch}, have one of {new.batch}"
    if what:
        raise RobustsegError(
            f"{folder} holds a run of another recipe ({what}); choose another --out, or go on with "
            "the old recipe"
        )
    return old.batch


def _known_as(key: str, recipe: Mapping[str, Any]) -> list[str]:
    """The keys of a recipe that may be behind `key` of an identity, the most likely first."""
    if key not in ("data.train", "data.val"):
        return [key]
    other = "data.val" if key == "data.train" else "data.train"
    return [key, *(k for k in recipe if k.startswith("data.") and k not in (other, *_FREE))]


def _digest(path: str) -> str:
    """What tells the content of a file from another's; of none, its name."""
    if not Path(path).is_file():
        return path
    return sha256(Path(path)).hexdigest()


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix: tree}
    return {
        key: value
        for name, branch in tree.items()
        for key, value in _flat(branch, f"{prefix}.{name}" if prefix else name).items()
    }
