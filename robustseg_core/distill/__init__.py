"""Distillers: what a student can learn from a teacher besides labels. One file, one way."""

from __future__ import annotations

from robustseg_core import plugins
from robustseg_core.distill._base import NOBODY, Distiller, Lesson
from robustseg_core.distill._feedback import held
from robustseg_core.distill._selection import FeatureSelection, scene

__all__ = [
    "NOBODY",
    "Distiller",
    "FeatureSelection",
    "Lesson",
    "available",
    "held",
    "load",
    "scene",
]


def available() -> list[str]:
    """Names of the distillers."""
    return plugins.available(__name__)


def load(name: str) -> type[Distiller]:
    """The distiller called `name`.

    Raises:
        RobustsegError: there is none.
    """
    return plugins.load(__name__, name, Distiller)
