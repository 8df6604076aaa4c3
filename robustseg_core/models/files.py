"""Checkpoints as files; nothing here loads one, or torch."""

from __future__ import annotations

from pathlib import Path

from robustseg_core.errors import RobustsegError, what_is


def expect_checkpoint(path: Path) -> None:
    """Refuse what is no file.

    Raises:
        RobustsegError: it is a folder, or is not there.
    """
    if not path.is_file():
        raise RobustsegError(
            f"{path} {what_is(path)}; give a checkpoint (.safetensors) of `robustseg train`"
        )
