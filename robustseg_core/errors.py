"""What goes wrong is said in one sentence: the value, what was expected, and the way out."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RobustsegError(Exception):
    """An input that cannot be used. The CLI prints its text and ends with exit code 2."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The way out of a misspelt name: the closest known one, or the list of them all."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"have {names}"
