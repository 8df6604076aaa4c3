"""A plug-in of its own in a folder that is a registry, for as long as a test lasts."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest


def plant(
    monkeypatch: pytest.MonkeyPatch, folder: Path, package: ModuleType, name: str, code: str
) -> None:
    """Add the file `name`.py with this content to `package`, without touching the checkout."""
    place = folder / package.__name__.rpartition(".")[2]
    place.mkdir(exist_ok=True)
    (place / f"{name}.py").write_text(code)
    if str(place) not in package.__path__:
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(place)])
    imported = f"{package.__name__}.{name}"
    monkeypatch.setitem(sys.modules, imported, package)  # so that it is forgotten afterwards
    del sys.modules[imported]
