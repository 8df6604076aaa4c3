"""What all commands share: what they say, how they show progress, what they answer.

Names come from recordings, folders and other people's files. They are shown as they are: nothing in
them is markup, and what is no printable character is written out (`visible`).
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from robustseg_core.cli.guard import (
    PIPE_GONE,
    broken_pipe,
    guarded,
    hush,
    show_logs,
    wishes,
)
from robustseg_core.errors import RobustsegError, not_installed
from robustseg_core.text import visible

__all__ = [
    "Terminal",
    "answer",
    "broken_pipe",
    "err",
    "guarded",
    "literal",
    "progress_bar",
    "put",
    "require",
    "show_logs",
]


class Terminal(Console):
    """Standard error, for people: strings are data. Colors are asked for with `Text` and `say`."""

    def __init__(self) -> None:
        super().__init__(stderr=True, markup=False, emoji=False, highlight=False)

    def print(self, *objects: Any, **options: Any) -> None:
        """rich's, unless the user wants to be left alone."""
        if not wishes.quiet:
            super().print(*objects, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """rich's, for all that is printed as a string, in tables too."""
        return super().render_str(visible(text), **options)

    def say(self, text: object, *, head: str = "", style: str = "") -> None:
        """One line that is not folded: `head` in `style`, then `text`; with a head it is worth
        saying to who wants to be left alone, too."""
        start = Text(f"{head} " if head else "", style)
        tell = super().print if head else self.print
        tell(start.append_text(Text(visible(text))), soft_wrap=True)

    def notice(self, text: object) -> None:
        """What people should know, though nothing failed."""
        self.say(text, head="notice:", style="yellow")

    def on_broken_pipe(self) -> None:
        """rich's: nobody reads any more."""
        self.quiet = True
        hush()
        raise SystemExit(PIPE_GONE)


err = Terminal()
"""People read standard error; standard output is for what programs take."""


def literal(text: object, style: str = "") -> Text:
    """`text` as a part of a table's cell, in `style`."""
    return Text(visible(text), style)


@contextmanager
def progress_bar(unit: str) -> Iterator[Progress]:
    """A bar on standard error, with the time that is left; an error leaves nothing of it."""
    with Progress(
        TextColumn("{task.description:>12}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
        console=err,
        disable=wishes.quiet,
    ) as progress:
        try:
            yield progress
        except BaseException:
            progress.live.transient = True
            raise
        for task in progress.tasks:  # who reports every now and then has not told the last
            if task.total is not None:
                progress.update(task.id, completed=task.total)


def answer(document: Any) -> bool:
    """`put` what a command found as JSON, if that is asked for; whether it was.

    Args:
        document: what `json.dumps` takes; paths and the like as text.
    """
    if wishes.json:
        put(json.dumps(document, indent=1, default=str) + "\n")
    return wishes.json


def put(text: str, out: Path | None = None) -> None:
    """Print what a command found, or write it into the new file that was asked for instead.

    Args:
        text: with its last line's end.
        out: a file; None: what `-o` says, if the command only prints.

    Raises:
        RobustsegError: the file is there already, or cannot be written.
    """
    path = out or wishes.out
    if path is None:
        if sys.stdout is not None:  # closed by who called us: nobody listens
            sys.stdout.write(text)
        return
    from robustseg_core.storage.output_folder import write_new  # which imports numpy

    write_new(path, text)
    err.say(f"  {path}")


def require(module: str) -> None:
    """Refuse to go on without an optional module, which is not imported for that.

    Raises:
        RobustsegError: it is not installed; says how to install it.
    """
    try:
        found = importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        found = False
    if not found:
        raise RobustsegError(not_installed(module))
