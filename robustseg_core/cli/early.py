"""What can be said of a command line before torch, which takes seconds, is imported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from robustseg_core.errors import RobustsegError


def expect_recordings(paths: Sequence[Path], *, each: bool = False) -> None:
    """Refuse paths at which there is no recording.

    Args:
        paths: as on the command line.
        each: they are worked on each for itself: one that is there is enough.

    Raises:
        RobustsegError: says what is wrong with the first.
    """
    from robustseg_core.bag.files import find_files

    wrong = []
    for path in paths:
        try:
            find_files(path, [])
        except RobustsegError as error:
            wrong.append(error)
    if wrong and (not each or len(wrong) == len(paths)):
        raise wrong[0]


def expect_weights(weights: str | Path | None) -> None:
    """Refuse weights that are meant as a file, and are none.

    Raises:
        RobustsegError: there is no such file.
    """
    from robustseg_core.models.files import expect_checkpoint

    if weights is not None and Path(weights).suffix == ".safetensors":
        expect_checkpoint(Path(weights))


def expect_params(params: Path | None) -> None:
    """Refuse a robot.yaml that is not there, or is no YAML.

    Raises:
        RobustsegError: says what is wrong with it.
    """
    from robustseg_core import config

    if params is not None:
        config.read_file(params)
