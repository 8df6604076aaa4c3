"""A folder is a registry: `modalities/depth.py` is the modality called `depth`.

Nothing is imported to list what there is, and a missing optional dependency hurts only its user.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterable
from functools import cache
from types import ModuleType
from typing import Any, TypeVar

from robustseg_core.errors import RobustsegError, did_you_mean

T = TypeVar("T")


def available(package: str) -> list[str]:
    """Names of the plug-ins in `package` (dotted), without importing them; `_names` are private."""
    return list(_listed(tuple(importlib.import_module(package).__path__)))


@cache
def _listed(folders: tuple[str, ...]) -> list[str]:
    """Names of the modules in these folders; read once, for it is asked with every mask."""
    return sorted(m.name for m in pkgutil.iter_modules(folders) if not m.name.startswith("_"))


def load(package: str, name: str, base: type[T]) -> type[T]:
    """The one public subclass of `base` that `package/name.py` defines.

    Raises:
        RobustsegError: no such file, it cannot be read, or it does not have exactly one such class.
        ImportError: a library that it needs is missing.
    """
    names = available(package)
    if name not in names:
        way_out = did_you_mean(name, names)
        raise RobustsegError(f"no {base.__name__} called {name!r}; {way_out}")
    found = subclasses(package, name, base)
    if len(found) != 1:
        raise RobustsegError(
            f"{package}.{name} defines {len(found)} public {base.__name__} classes "
            f"({[c.__name__ for c in found]}); a plug-in file defines exactly one"
        )
    return found[0]


def subclasses(package: str, name: str, base: type[T]) -> list[type[T]]:
    """All public subclasses of `base` that `package/name.py` defines, in its order.

    Raises:
        RobustsegError: the file cannot be read: it is half-written, or wrong.
        ImportError: a library that it needs is missing.
    """
    try:
        module = importlib.import_module(f"{package}.{name}")
    except ImportError:
        raise
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise RobustsegError(
            f"{package}.{name} cannot be loaded ({why}); mend or remove the file"
        ) from error
    return [kind for kind in _defined(module) if issubclass(kind, base)]


def require_whole(kind: type[Any], declared: Iterable[str]) -> None:
    """Nothing, if a plug-in has these attributes, and a body for all that its base leaves open.

    Raises:
        RobustsegError: it is half-written; the text names the file, the class and what is missing.
    """
    missing = [name for name in declared if not hasattr(kind, name)]
    missing += [f"{name}()" for name in sorted(getattr(kind, "__abstractmethods__", ()))]
    if missing:
        raise RobustsegError(
            f"class {kind.__name__} in {inspect.getfile(kind)} lacks {', '.join(missing)}; "
            f"declare them as its base class says, or remove the file"
        )


@cache
def _defined(module: ModuleType) -> list[type[Any]]:
    """The public classes that a module defines; collected once."""
    return [
        value
        for key, value in vars(module).items()
        if inspect.isclass(value)
        and value.__module__ == module.__name__  # so no list[int], which 3.10 takes for a class
        and not key.startswith("_")
    ]
