"""The version of what is installed, as package.xml has it; and of a report, who made it when."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("robustseg")
except PackageNotFoundError:  # a bare checkout on PYTHONPATH
    __version__ = "0+checkout"

_COMMAND, _DATE = "ROBUSTSEG_COMMAND", "ROBUSTSEG_DATE"
"""Of the environment, so that the processes of a command know it, too."""


def note_occasion(words: Sequence[str], now: datetime) -> None:
    """What is run, and when: for reports, which read no clock.

    Args:
        words: the command line.
        now: with a time zone.
    """
    os.environ[_COMMAND] = shlex.join(words).replace("\0", "\\0")  # an argument that is no path
    os.environ[_DATE] = now.strftime("%Y-%m-%d %H:%M %Z")


def occasion() -> dict[str, str]:
    """`version`, `command` and `date`; empty where nobody noted them (`note_occasion`)."""
    found = {"command": os.environ.get(_COMMAND, ""), "date": os.environ.get(_DATE, "")}
    return {"version": __version__, **found}
