"""The one list of faults: every public `FaultModel` of the modules beside this one."""

from __future__ import annotations

import inspect
from functools import cache

from robustseg_core.errors import RobustsegError, did_you_mean
from robustseg_core.faults import depth, events, image, lidar, streams
from robustseg_core.faults._base import FaultModel, name_of

_MODULES = (streams, image, depth, lidar, events)


@cache
def _kinds() -> dict[str, type[FaultModel]]:
    return {
        name_of(kind): kind
        for module in _MODULES
        for kind in vars(module).values()
        if inspect.isclass(kind)
        and kind.__module__ == module.__name__
        and issubclass(kind, FaultModel)
        and not kind.__name__.startswith("_")
    }


def available(modality: str | None = None) -> list[str]:
    """Names of the faults that can be done to a modality (None: of all faults; `all`: to each)."""
    return sorted(
        name
        for name, kind in _kinds().items()
        if modality is None or not kind.modalities or modality in kind.modalities
    )


def load(name: str) -> type[FaultModel]:
    """The fault called `name`.

    Raises:
        RobustsegError: there is none.
    """
    try:
        return _kinds()[name]
    except KeyError:
        raise RobustsegError(f"no fault called {name!r}; {did_you_mean(name, _kinds())}") from None


def describe(name: str) -> str:
    """One line for people: what the fault is, and its options with their defaults."""
    kind = load(name)
    words = ", ".join(f"{key}={field.default}" for key, field in kind.model_fields.items())
    first = inspect.cleandoc(kind.__doc__ or "").partition("\n")[0]
    return f"{first} ({words})" if words else first
