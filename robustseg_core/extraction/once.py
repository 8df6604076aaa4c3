"""Long work is done once: a folder is complete or not there, and equal requests find it made."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from robustseg_core.errors import RobustsegError
from robustseg_core.storage.budget import read_json
from robustseg_core.storage.output_folder import OutputFolder, claimed


def once(
    folder: Path,
    recipe: Mapping[str, Any],
    make: Callable[[Path], None],
    *,
    command: str,
    account: str,
    inputs: Iterable[Path] = (),
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
        command: who makes it.
        account: name of that file.
        inputs: what it is made of; none may lie in `folder`.
        overwrite: replace what another recipe made.

    Raises:
        RobustsegError: as `output_folder.claimed`, or another recipe's result is there.
    """
    look = partial(_known, folder, recipe, account, command=command, overwrite=overwrite)
    if known := look():
        return known, False
    with claimed(folder, command=command, inputs=inputs, wait=True) as held:
        if known := look():  # by whom we waited for
            return known, False
        make(held.fresh())
        held.publish()
    return read_json(folder / account), True


def _known(
    folder: Path, recipe: Mapping[str, Any], account: str, *, command: str, overwrite: bool
) -> dict[str, Any] | None:
    """The account that is there, if it is of this recipe; None: it may be made."""
    if not (folder / account).exists():
        return None  # nothing, something half, or somebody else's: `claimed` tells them apart
    try:
        known: dict[str, Any] = read_json(folder / account)
        other = dict(known["recipe"])
    except (OSError, ValueError, TypeError, KeyError):
        raise RobustsegError(
            f"{folder / account} is damaged or not robustseg's; choose another folder"
        ) from None
    wanted = json.loads(json.dumps(recipe))
    if other == wanted:
        return None if OutputFolder(folder, command).is_mixed() else known
    if overwrite:
        return None
    name = next(k for k in {**wanted, **other} if wanted.get(k) != other.get(k))
    raise RobustsegError(
        f"{folder} was made with {name} {_short(other.get(name))}, wanted is "
        f"{_short(wanted.get(name))}; choose another folder, or overwrite it"
    )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
