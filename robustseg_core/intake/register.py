"""What was found so far, counted by subject and fault."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from robustseg_core.types import Fault, Finding


class Register:
    """What was found of each subject, by fault: how often, and the newest finding.

    Texts are no keys: a publisher gone wild gives a new one with every message.
    """

    def __init__(self) -> None:
        self._newest: dict[tuple[str, Fault], Finding] = {}
        self._counts: Counter[tuple[str, Fault]] = Counter()

    def add(self, subject: str, finding: Finding) -> bool:
        """Count a finding; whether it is the first of its fault about this subject."""
        key = subject, finding.fault
        self._newest[key] = finding
        self._counts[key] += 1
        return self._counts[key] == 1

    def newest(self, subject: str, fault: Fault) -> Finding | None:
        """What was found last; None: nothing was."""
        return self._newest.get((subject, fault))

    def total(self) -> int:
        """How many were counted."""
        return self._counts.total()

    def __len__(self) -> int:
        return len(self._newest)

    def __iter__(self) -> Iterator[tuple[str, Finding, int]]:
        """(subject, newest finding, how often), the first that was found first."""
        for (subject, fault), finding in self._newest.items():
            yield subject, finding, self._counts[subject, fault]

    def clear(self) -> None:
        """Forget everything."""
        self._newest.clear()
        self._counts.clear()
