"""Lightning's Fabric without the rest of Lightning, which nobody here uses.

`import lightning.fabric` runs the whole package's `__init__` (the Trainer and all), and asks
torchmetrics for its version by importing it, which brings transformers: six seconds of CPU, of
which Fabric itself takes two.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Any


def fabric() -> Any:
    """The module `lightning.fabric`.

    Raises:
        ModuleNotFoundError: Lightning is not installed.
    """
    if "lightning.fabric" not in sys.modules:
        with _hollow("lightning"), _hollow("torchmetrics"):
            importlib.import_module("lightning.fabric.fabric")
            importlib.import_module("lightning.fabric.strategies.ddp")
    return importlib.import_module("lightning.fabric")


@contextmanager
def _hollow(package: str) -> Iterator[None]:
    """Meanwhile a package has its submodules and its version, and its `__init__` is not run."""
    spec = None if package in sys.modules else importlib.util.find_spec(package)
    if spec is None:
        yield
        return
    stand_in: ModuleType = importlib.util.module_from_spec(spec)
    try:
        stand_in.__dict__["__version__"] = version(package)
    except PackageNotFoundError:  # nothing to go by: let it run
        yield
        return
    sys.modules[package] = stand_in
    try:
        yield
    finally:
        if sys.modules.get(package) is stand_in:
            del sys.modules[package]
