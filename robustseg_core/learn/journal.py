"""What a run tells while it trains: rows of named numbers, to whoever keeps a journal."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol


class Journal(Protocol):
    """Where the numbers of a run go: a file, a board, a tracker of yours."""

    def add(self, step: int, numbers: Mapping[str, float]) -> None:
        """One row: name -> value after `step` steps."""

    def close(self) -> None:
        """Flush everything."""


Opener = Callable[[Path, int], Journal]
"""Opens a journal in the folder of a run. Rows after the given step belong to a part of the run
that was lost, and go."""


class CsvJournal:
    """`log.csv`; a resumed run goes on where its state was saved.

    Args:
        folder: of the run.
        step: see `Opener`.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self.path = folder / "log.csv"
        self._rows = [row for row in read(self.path) if int(row["step"]) <= step]
        self._write_all()

    def add(self, step: int, numbers: Mapping[str, float]) -> None:
        """One row; a name that is new gets a column of its own."""
        row = {"step": str(step)} | {name: f"{value:.6g}" for name, value in numbers.items()}
        known = set(self._rows[0]) if self._rows else set()
        if self._rows and set(row) <= known:
            with self.path.open("a", newline="") as file:
                csv.DictWriter(file, list(self._rows[0])).writerow(row)
            self._rows.append({**dict.fromkeys(self._rows[0], ""), **row})
        else:
            self._rows.append(row)
            self._write_all()

    def close(self) -> None:
        """Every row is written already."""

    def _write_all(self) -> None:
        names = list(dict.fromkeys(name for row in self._rows for name in row))
        self._rows = [{**dict.fromkeys(names, ""), **row} for row in self._rows]
        with self.path.open("w", newline="") as file:
            writer = csv.DictWriter(file, names or ["step"])
            writer.writeheader()
            writer.writerows(self._rows)


class TensorBoardJournal:
    """`tensorboard/`, where tensorboard is installed; else nothing.

    Args:
        folder: of the run.
        step: see `Opener`.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._board: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def add(self, step: int, numbers: Mapping[str, float]) -> None:
        """A point on each name's curve."""
        if self._board is not None:
            for name, value in numbers.items():
                self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush everything."""
        if self._board is not None:
            self._board.close()


DEFAULT: tuple[Opener, ...] = (CsvJournal, TensorBoardJournal)
"""What `robustseg train` keeps."""


class Journals:
    """Several as one.

    Args:
        opened: the journals.
    """

    def __init__(self, opened: Sequence[Journal]) -> None:
        self._all = tuple(opened)

    def add(self, step: int, numbers: Mapping[str, float]) -> None:
        """To each."""
        for journal in self._all:
            journal.add(step, numbers)

    def close(self) -> None:
        """Each."""
        for journal in self._all:
            journal.close()


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a log; none if there is no file. A row cut short by a kill is left out."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [row for row in rows if row.get("step") and None not in row and None not in row.values()]
