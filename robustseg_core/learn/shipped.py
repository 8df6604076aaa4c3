"""Where the files of `config/train` lie: in a checkout, in pip's `share`, in a colcon workspace."""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path

import robustseg_core
from robustseg_core.config import read_file
from robustseg_core.errors import RobustsegError

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
    """Corruptions that no recipe trains with.

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
