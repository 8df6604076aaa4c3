"""Long work is done once: a folder is complete or not there, and equal requests find it made."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from robustseg_core.budget import read_json
from robustseg_core.errors import RobustsegError


def once(
    folder: Path,
    recipe: Mapping[str, Any],
    make: Callable[[Path], None],
    *,
    account: str,
    overwrite: bool = False,
) -> tuple[dict[str, Any], bool]:
    """The account of `folder`, and whether it was made just now.

    Killed at any time, nothing half is at `folder`. Of processes that want the same folder at the
    same time, one makes it and the others wait for it.

    Args:
        folder: where the result goes.
        recipe: plain JSON; everything that the result depends on.
        make: fills the folder that it is given, last with the file `account`, a JSON object whose
            `recipe` is the recipe.
        account: name of that file.
        overwrite: replace what another recipe made.

    Raises:
        RobustsegError: something else is at `folder`, or the disk is full or read-only.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    try:
        if known := _known(folder, recipe, account, overwrite):
            return known, False
        with _alone(partial):
            if known := _known(folder, recipe, account, overwrite):  # by whom we waited for
                shutil.rmtree(partial, ignore_errors=True)
                return known, False
            try:
                _empty(partial)
                make(partial)
                if folder.exists():
                    shutil.rmtree(folder)
                partial.rename(folder)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
    except OSError as error:
        raise RobustsegError(
            f"cannot write {folder}: {error.strerror or error}; make room"
        ) from None
    return read_json(folder / account), True


def _known(
    folder: Path, recipe: Mapping[str, Any], account: str, overwrite: bool
) -> dict[str, Any] | None:
    """The account that is there, if it is of this recipe; None: it may be made."""
    if not folder.exists():
        return None
    try:
        known = read_json(folder / account)
        other = dict(known["recipe"])
    except (OSError, ValueError, TypeError, KeyError):
        raise RobustsegError(
            f"{folder} is there already and holds no {account}; choose another folder"
        ) from None
    wanted = json.loads(json.dumps(recipe))
    if other == wanted:
        return known
    if overwrite:
        return None
    name = next(k for k in {**wanted, **other} if wanted.get(k) != other.get(k))
    raise RobustsegError(
        f"{folder} was made with {name} {_short(other.get(name))}, wanted is "
        f"{_short(wanted.get(name))}; choose another folder, or overwrite it"
    )


@contextmanager
def _alone(partial: Path) -> Iterator[None]:
    """Holds the folder `partial` for this process; the system lets go of it when we die."""
    while True:
        partial.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # renamed meanwhile by whoever was faster
            number = os.open(partial, os.O_RDONLY)
            try:
                fcntl.flock(number, fcntl.LOCK_EX)
                if os.path.samestat(os.fstat(number), partial.stat()):
                    yield
                    return
            finally:
                os.close(number)


def _empty(folder: Path) -> None:
    for old in folder.iterdir():
        if old.is_dir() and not old.is_symlink():
            shutil.rmtree(old)
        else:
            old.unlink()


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
