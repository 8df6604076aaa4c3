"""Checkpoints as files; nothing here loads one, or torch."""

from __future__ import annotations

from pathlib import Path

from robustseg_core.errors import RobustsegError


def expect_checkpoint(path: Path) -> None:
    """Refuse what is no file.

    Raises:
        RobustsegError: it is a folder, or is not there.
    """
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise RobustsegError(
            f"{path} {what}; give a checkpoint (.safetensors) of `robustseg train`"
        )
