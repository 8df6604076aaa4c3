"""What all commands share: where they write, how they show progress, how they end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from robustseg_core.errors import RobustsegError

err = Console(stderr=True)
"""People read standard error; standard output is for what programs take."""


def progress_bar(unit: str) -> Progress:
    """A bar on standard error, with the time that is left."""
    return Progress(
        TextColumn("{task.description:>12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
        console=err,
    )


def guarded(command: Callable[[], Any]) -> int:
    """Run a command; what users can mend is one sentence and exit code 2, never a traceback."""
    try:
        command()
    except RobustsegError as error:
        err.print(f"[red]error:[/] {error}", highlight=False, soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        err.print("interrupted")
        return 130
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    return 0


def parse_size(text: str) -> tuple[int, int]:
    """(H, W) of a word like 640x400, which is width by height as people say it.

    Raises:
        RobustsegError: it is no such word.
    """
    width, times, height = text.partition("x")
    if not (times and width.isdigit() and height.isdigit()):
        raise RobustsegError(f"size is {text!r}; write WIDTHxHEIGHT, e.g. 640x400")
    return int(height), int(width)
