"""Data sets: recordings and public collections as samples. One file, one data set."""

from __future__ import annotations

from robustseg_core import plugins
from robustseg_core.datasets._base import Dataset, Sample

__all__ = ["Dataset", "Sample", "available", "load"]


def available() -> list[str]:
    """Names of the data sets."""
    return plugins.available(__name__)


def load(name: str) -> type[Dataset]:
    """The data set called `name`.

    Raises:
        RobustsegError: there is none.
    """
    return plugins.load(__name__, name, Dataset)
