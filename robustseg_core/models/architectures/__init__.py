"""Networks: one file, one architecture; its name is the key (`ModelSpec.architecture`)."""

from __future__ import annotations

from robustseg_core import plugins
from robustseg_core.models.network import Network
from robustseg_core.types import ModelSpec


def available() -> list[str]:
    """Names of all architectures that there are."""
    return plugins.available(__name__)


def load(name: str) -> type[Network]:
    """The network class called `name`.

    Raises:
        RobustsegError: there is none; the text lists those that there are.
    """
    return plugins.load(__name__, name, Network)


def needs(spec: ModelSpec) -> tuple[str, ...]:
    """Modalities without which the network of this spec makes no mask; mostly none.

    Raises:
        RobustsegError: no such architecture, or none that takes these options.
    """
    return load(spec.architecture).needs_of(spec)
