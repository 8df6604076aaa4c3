"""The one list of faults: every public `FaultModel` of the files in `kinds/`."""

from __future__ import annotations

import importlib
import inspect
from functools import cache

from robustseg_core import modalities, plugins
from robustseg_core.errors import RobustsegError, did_you_mean
from robustseg_core.faults._base import MIDDLE, FaultModel, Graded, name_of

KINDS = "robustseg_core.faults.kinds"


def available(modality: str | None = None) -> list[str]:
    """Names of the faults that can be done to a modality (None: of all faults; `all`: to each)."""
    return sorted(
        name for name, kind in _kinds().items() if modality is None or kind.reaches(modality)
    )


def reached(name: str) -> tuple[str, ...]:
    """The modalities that a fault can be done to, by rank.

    Raises:
        RobustsegError: there is no such fault.
    """
    kind = load(name)
    return tuple(modality for modality in modalities.ranked() if kind.reaches(modality))


def load(name: str) -> type[FaultModel]:
    """The fault called `name`.

    Raises:
        RobustsegError: there is none.
    """
    try:
        return _kinds()[name]
    except KeyError:
        way_out = did_you_mean(name, _kinds(), all_by="robustseg list")
        raise RobustsegError(f"no fault called {name!r}; {way_out}") from None


def describe(name: str) -> str:
    """One line for people: what the fault is, and its options with their defaults."""
    kind = load(name)
    told = {key: field.default for key, field in kind.model_fields.items()}
    if issubclass(kind, Graded):
        told[kind.measures] = f"{kind.levels[MIDDLE - 1]:g}"
    words = ", ".join(f"{key}={value}" for key, value in told.items())
    first = inspect.cleandoc(kind.__doc__ or "").partition("\n")[0]
    return f"{first} ({words})" if words else first


def _kinds() -> dict[str, type[FaultModel]]:
    """Name -> fault."""
    folders = tuple(importlib.import_module(KINDS).__path__)
    return _read(folders, tuple(plugins.available(KINDS)))


@cache
def _read(folders: tuple[str, ...], files: tuple[str, ...]) -> dict[str, type[FaultModel]]:
    """The faults of these files of the folders of `KINDS`; they are read once.

    Raises:
        RobustsegError: two of one name.
    """
    found: dict[str, type[FaultModel]] = {}
    for file in files:
        for kind in plugins.subclasses(KINDS, file, FaultModel):
            if (other := found.setdefault(name_of(kind), kind)) is not kind:
                raise RobustsegError(
                    f"{kind.__module__} and {other.__module__} both define {kind.__name__}; "
                    "rename one"
                )
    return found
