"""Where the files of `config/train` lie: in a checkout, in pip's `share`, in a colcon workspace."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import robustseg_core
from robustseg_core import config
from robustseg_core.config import read_file
from robustseg_core.errors import RobustsegError, did_you_mean
from robustseg_core.models.files import expect_checkpoint

HELD_OUT = "held_out_faults"
"""Of these files, the one that is no recipe."""


def folders() -> list[Path]:
    """Every `config/train` that there is, the first before the others."""
    roots = [Path(robustseg_core.__file__).parent.parent, Path(sys.prefix) / "share/robustseg"]
    for prefix in filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)):
        roots.append(Path(prefix) / "share/robustseg")
    return [root / "config/train" for root in roots if (root / "config/train").is_dir()]


@cache
def held_out() -> frozenset[str]:
    """Faults that no recipe trains with, and corruptions of other names.

    Raises:
        RobustsegError: the file that names them is not there.
    """
    for folder in folders():
        path = folder / f"{HELD_OUT}.yaml"
        if path.is_file():
            return frozenset(read_file(path)["faults"])
    raise RobustsegError(
        f"config/train/{HELD_OUT}.yaml is not where robustseg is installed, so nobody knows which "
        "faults are held out; install robustseg again, or name those of corrupt.faults"
    )


def known_recipes() -> dict[str, Path]:
    """name -> file of every recipe that came with the project."""
    return {
        path.stem: path
        for folder in reversed(folders())
        for path in folder.glob("*.yaml")
        if path.stem != HELD_OUT
    }


def find_recipe(name: str) -> Path:
    """The file of a recipe: one that came with the project, or a path.

    Raises:
        RobustsegError: there is neither.
    """
    known = known_recipes()
    if name in known:
        return known[name]
    if Path(name).is_file():
        return Path(name)
    raise RobustsegError(f"no recipe and no file called {name!r}; {did_you_mean(name, known)}")


def expand(patterns: Iterable[str]) -> list[Path]:
    """Paths, where `*` stands for all that there are.

    Raises:
        RobustsegError: nothing is called like that.
    """
    found: list[Path] = []
    for pattern in patterns:
        matches = sorted(glob.glob(pattern)) if glob.has_magic(pattern) else [pattern]
        if not matches:
            raise RobustsegError(f"nothing is called {pattern!r} here; check the path")
        found += map(Path, matches)
    return found


def expect_files(names: Iterable[str], words: Iterable[str]) -> None:
    """Refuse recipes, data and a teacher that are not there, before anything slow is loaded.

    What else may be wrong with them is found later.

    Args:
        names: as `recipe.load_recipe`.
        words: likewise.

    Raises:
        RobustsegError: names what is missing.
    """
    tree = config.Tree()
    for name in names:
        tree = config.lay_over(tree, config.read_file(find_recipe(name)))
    tree = config.override(tree, words)
    data = tree.get("data")
    for split in ("train", "val"):
        patterns = data.get(split) if isinstance(data, dict) else None
        given = patterns if isinstance(patterns, (list, tuple)) else ()
        for path in expand(pattern for pattern in given if isinstance(pattern, str)):
            if not os.path.lexists(path):
                raise RobustsegError(f"data.{split}: {path} does not exist; check the path")
    teacher = tree.get("teacher")
    if isinstance(teacher, str) and teacher.endswith(".safetensors"):
        expect_checkpoint(Path(teacher))
