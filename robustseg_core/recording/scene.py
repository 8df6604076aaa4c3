"""One recording among many: what it is called, and whether it is the one that was meant before."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from robustseg_core.bag.files import find_files
from robustseg_core.errors import RobustsegError
from robustseg_core.storage.digest import sampled


def scene_of(path: Path) -> str:
    """What a recording is called in folders and tables: its file's or folder's name."""
    name = path.resolve().name
    if not path.is_dir():
        name = re.sub(r"(\.(mcap|db3|bag))?(\.zstd?)?$", "", name)
    return re.sub(r"[^\w.+-]+", "_", name).strip(".")[:80] or "recording"


def fingerprint(path: Path) -> dict[str, Any]:
    """What tells a recording from another one under the same name.

    Its files, their sizes, and a digest of what is in them: of a large one, of blocks all over it.

    Raises:
        RobustsegError: there is no recording.
    """
    files = find_files(path, [])
    if files == [path] and path.is_dir():  # of pictures
        files = sorted(path.iterdir())
    return {
        "name": scene_of(path),
        "files": [[f.name, f.stat().st_size] for f in files],
        "content": sampled(filter(Path.is_file, files)),  # a folder may be among pictures
    }


def expect_distinct(paths: Sequence[Path]) -> None:
    """Refuse recordings whose results would go to the same place.

    Raises:
        RobustsegError: two of one name, or none at all.
    """
    if not paths:
        raise RobustsegError("no recording was given; give bag folders, .mcap, .db3 or .bag files")
    named: dict[str, Path] = {}
    for path in paths:
        other = named.setdefault(scene_of(path), path)
        if other is not path:
            raise RobustsegError(
                f"{other} and {path} are both called {scene_of(path)!r}; rename one, or take them "
                "into different folders"
            )
