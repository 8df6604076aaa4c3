"""Sensor message to array: one file, one modality; the file's name is the modality's name."""

from __future__ import annotations

from robustseg_core import plugins
from robustseg_core.config import Strict
from robustseg_core.modalities._base import Modality


def available() -> list[str]:
    """Names of all modalities that there are."""
    return plugins.available(__name__)


def load(name: str) -> type[Modality]:
    """The modality class called `name`.

    Raises:
        RobustsegError: there is none; the text lists those that there are.
    """
    return plugins.load(__name__, name, Modality)


def limits_of(name: str) -> type[Strict]:
    """The configuration model of a modality's content limits."""
    return load(name).Limits
