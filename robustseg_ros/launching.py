"""What the launch files share, as far as it needs no `launch`, which PyPI does not have."""

from __future__ import annotations

from robustseg_core.errors import RobustsegError

PATIENCE_S = "120"
"""The player's: on a busy or small computer it takes a minute to load a network."""


def must_end_well(name: str, code: int, *, stopping: bool) -> None:
    """A launch otherwise exits with 0 whatever becomes of what it has started.

    Args:
        name: of the process that has ended.
        code: its exit code.
        stopping: all of the launch is being stopped anyway.

    Raises:
        RobustsegError: it has failed.
    """
    if code and not stopping:
        raise RobustsegError(f"{name} has ended with exit code {code}; it says why above")
