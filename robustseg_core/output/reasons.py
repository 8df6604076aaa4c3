"""Reasons in `result.json`: each mask names the faults, and each fault is told once while it lasts.

    "masks":   [{"at_s": 1.2, "reasons": {"rgb": ["silent"]}, ...}, ...]
    "reasons": [{"modality": "rgb", "fault": "silent", "from_s": 1.2, "to_s": 2.0, "masks": 16,
                 "text": "nothing for 1007 ms, limit 215 ms",
                 "value": 1007.0, "limit": 215.0, "unit": "ms"}, ...]

So one silence is one entry, however many masks were made meanwhile; its text and numbers are the
newest. `value`, `limit` and `unit` are there where the finding is about one number.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from robustseg_core.types import Fault, Finding, Reasons

DIGITS = 3
"""Of measured values."""


def faults(reasons: Reasons) -> dict[str, list[str]]:
    """modality -> the words of its faults, the strongest first: the reasons in a mask's row."""
    return {
        name: list(dict.fromkeys(finding.fault.value for finding in findings))
        for name, findings in reasons.items()
    }


@dataclass(slots=True)
class _Episode:
    """A fault of one sensor, for as many masks in a row as it was told of."""

    modality: str
    newest: Finding
    from_s: float
    to_s: float
    masks: int

    def to_json(self) -> dict[str, Any]:
        finding = self.newest
        numbers = {"value": finding.value, "limit": finding.limit}
        told = {key: round(n, DIGITS) for key, n in numbers.items() if n is not None}
        return {
            "modality": self.modality,
            "fault": finding.fault.value,
            "from_s": self.from_s,
            "to_s": self.to_s,
            "masks": self.masks,
            "text": finding.told,
            **told,
            **({"unit": finding.unit} if told else {}),
        }


class ReasonLog:
    """Collects the reasons of masks as they come."""

    def __init__(self) -> None:
        self._episodes: list[_Episode] = []
        self._open: dict[tuple[str, Fault], _Episode] = {}
        """Those of the newest mask."""

    def add(self, at_s: float, reasons: Reasons) -> None:
        """The reasons of one mask; later than the one before."""
        going_on: dict[tuple[str, Fault], _Episode] = {}
        for name, findings in reasons.items():
            for finding in reversed(findings):  # of two of one fault, the stronger one is told
                key = name, finding.fault
                if key in going_on:
                    going_on[key].newest = finding
                    continue
                episode = self._open.get(key)
                if episode is None:
                    episode = _Episode(name, finding, at_s, at_s, masks=0)
                    self._episodes.append(episode)
                episode.newest, episode.to_s = finding, at_s
                episode.masks += 1
                going_on[key] = episode
        self._open = going_on

    def to_json(self) -> list[dict[str, Any]]:
        """`reasons` of `result.json`, in the order in which they began."""
        return [episode.to_json() for episode in self._episodes]


class Sentences:
    """What to say of a mask's reasons to people.

    Args:
        reasons: those of `result.json`; without them only the faults are named.
    """

    def __init__(self, reasons: Sequence[Mapping[str, Any]] = ()) -> None:
        self._known: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
        for one in reasons:
            self._known.setdefault((one["modality"], one["fault"]), []).append(one)

    def of(self, row: Mapping[str, Any]) -> dict[str, str]:
        """modality -> a sentence about its faults, for a row of `masks`."""
        return {
            name: "; ".join(self._say(name, fault, row["at_s"]) for fault in found)
            for name, found in row["reasons"].items()
        }

    def _say(self, name: str, fault: str, at_s: float) -> str:
        known = self._known.get((name, fault), [])
        place = bisect_right(known, at_s, key=lambda one: float(one["from_s"]))
        text = known[place - 1]["text"] if place else ""
        return f"{fault}: {text}" if text else fault
