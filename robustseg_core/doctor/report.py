"""The report: rows of checks, each with a status and the sentence that mends it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

COLUMNS = (
    "topic",
    "type",
    "publishers",
    "qos",
    "rate",
    "loss",
    "stamps",
    "frame",
    "tf",
    "calibration",
    "decode",
    "used",
)
"""Checks of a stream, in the order in which a message meets them."""


class Status(str, Enum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    """Masks come, but not as good or as many as they could be."""
    BAD = "bad"
    """This keeps a sensor, or all of them, out of the masks."""
    NONE = "-"
    """Does not apply, or cannot be known because of something before it."""


@dataclass(frozen=True, slots=True)
class Check:
    """One question about one stream, answered."""

    name: str
    status: Status
    found: str = ""
    """What was measured, with the value and what was expected."""
    fix: str = ""
    """What to do or to type; empty where nothing needs mending."""


@dataclass(frozen=True, slots=True)
class Row:
    """A stream, the transforms or the node."""

    name: str
    topic: str
    checks: tuple[Check, ...]

    @property
    def status(self) -> Status:
        """That of its worst check."""
        return worst(check.status for check in self.checks)

    def check(self, name: str) -> Check:
        """The check called `name`; one that says nothing where the row has none."""
        return next((c for c in self.checks if c.name == name), Check(name, Status.NONE))


@dataclass(frozen=True, slots=True)
class Report:
    """What `robustseg doctor` found."""

    source: str
    """The recording, or "live"."""
    seconds: float
    """How long was listened."""
    rows: tuple[Row, ...]
    heard: tuple[str, ...] = ()
    """Streams of which something came: what the report is about."""
    unseen: tuple[str, ...] = ()
    """What was not examined, and why: of that the report says nothing."""
    notices: tuple[str, ...] = ()
    """What is missing or damaged in the recording."""

    @property
    def status(self) -> Status:
        """That of its worst row."""
        return worst(row.status for row in self.rows)

    @property
    def exit_code(self) -> int:
        """1 if something is bad, else 0: for scripts and CI."""
        return int(self.status is Status.BAD)

    def row(self, name: str) -> Row:
        """The row called `name`.

        Raises:
            KeyError: there is none.
        """
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def to_json(self) -> dict[str, Any]:
        """Plain dicts and lists: `source`, `seconds`, `status`, `heard`, `unseen`, `notices`, and
        `rows` with their `checks`.
        """
        return {
            "source": self.source,
            "seconds": round(self.seconds, 3),
            "status": self.status.value,
            "heard": list(self.heard),
            "unseen": list(self.unseen),
            "notices": list(self.notices),
            "rows": [
                {
                    "stream": row.name,
                    "topic": row.topic,
                    "status": row.status.value,
                    "checks": [
                        {"check": c.name, "status": c.status.value, "found": c.found, "fix": c.fix}
                        for c in row.checks
                    ],
                }
                for row in self.rows
            ],
        }


def worst(statuses: Iterable[Status]) -> Status:
    """BAD beats WARN beats OK; nothing at all is OK."""
    found = set(statuses)
    return next((s for s in (Status.BAD, Status.WARN) if s in found), Status.OK)
