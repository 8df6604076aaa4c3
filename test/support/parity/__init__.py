"""What the published code computes beside what we compute, as a table: docs/specs/parity.md.

Each module of this folder is a part of the table, and the folder is all there is to register:

    TITLE = "Loss terms"                  the heading
    NOTE = "One or two sentences."        below it
    def rows() -> Iterator[Row]: ...
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType

from support import ROOT

PAGE = ROOT / "docs" / "specs" / "parity.md"
HEAD = ("what", "official", "ours", "difference", "allowed")


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    official: float
    ours: float
    difference: float
    """The greatest one, where the two numbers stand for more."""
    allowed: float

    @property
    def good(self) -> bool:
        """Whether ours is theirs; NaN is not."""
        return self.difference <= self.allowed

    def cells(self) -> tuple[str, ...]:
        """As printed."""
        numbers = (f"{self.official:.7g}", f"{self.ours:.7g}")
        return (self.what, *numbers, _short(self.difference), _short(self.allowed))


def _short(number: float) -> str:
    return "0" if number == 0 else f"{number:.0e}"


def parts() -> dict[str, ModuleType]:
    """Every part by its module's name, in the order of the names."""
    names = sorted(info.name for info in pkgutil.iter_modules(__path__))
    return {name: importlib.import_module(f"{__name__}.{name}") for name in names}


def names() -> list[str]:
    """The names of the parts."""
    return sorted(info.name for info in pkgutil.iter_modules(__path__))


def section(part: ModuleType, rows: Iterable[Row]) -> str:
    """A part of the page."""
    table = [HEAD, ("---",) * len(HEAD), *(row.cells() for row in rows)]
    lines = "\n".join(f"| {' | '.join(cells)} |" for cells in table)
    return f"## {part.TITLE}\n\n{part.NOTE}\n\n{lines}\n"


def written() -> dict[str, list[tuple[str, ...]]]:
    """Heading -> the rows that the page has."""
    found: dict[str, list[tuple[str, ...]]] = {}
    for text in re.split(r"^## ", PAGE.read_text(), flags=re.M)[1:]:
        title = text.partition("\n")[0]
        lines = [line for line in text.splitlines() if line.startswith("| ")][2:]
        found[title] = [tuple(line.strip("| ").split(" | ")) for line in lines]
    return found
