"""Features of several sensors to features of one scene: one file, one way; its name is the key."""

from __future__ import annotations

from robustseg_core import plugins
from robustseg_core.models.fusion._base import Fusion


def available() -> list[str]:
    """Names of all fusions that there are."""
    return plugins.available(__name__)


def load(name: str) -> type[Fusion]:
    """The fusion class called `name`.

    Raises:
        RobustsegError: there is none; the text lists those that there are.
    """
    return plugins.load(__name__, name, Fusion)
