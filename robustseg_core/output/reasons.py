"""Reasons in `result.json`: each mask names the faults, and each fault is told once while it lasts.

    "masks":   [{"at_s": 1.2, "reasons": {"rgb": ["silent"]}, ...}, ...]
    "reasons": [{"modality": "rgb", "fault": "silent", "from_s": 1.2, "to_s": 2.0, "masks": 16,
                 "text": "nothing for 1007 ms, limit 215 ms",
                 "value": 1007.0, "limit": 215.0, "unit": "ms"}, ...]

So one silence is one entry, however many masks were made meanwhile; its text and numbers are the
newest. `value`, `limit` and `unit` are there where the finding is about one number. While no mask
comes at all, `PauseLog` keeps the findings.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from robustseg_core.types import Fault, Finding, Health, Reasons, State

DIGITS = 3
"""Of measured values."""
UNFIT = Finding(
    Fault.LATE,
    fatal=False,
    text="it is believed, and nothing that it says is in time for a mask",
    score=1.0,
)
"""What is said of a sensor without a finding that no mask uses."""


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
        return {
            "modality": self.modality,
            "fault": self.newest.fault.value,
            "from_s": self.from_s,
            "to_s": self.to_s,
            "masks": self.masks,
            **_told(self.newest),
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


class PauseLog:
    """Keeps what is wrong with the sensors while no mask comes."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[int, Reasons]] = {}
        """Masks before the pause -> (sensors alive, findings)."""

    def add(
        self,
        masks: int,
        healths: Mapping[str, Health],
        *,
        bursts: Mapping[str, Finding] | None = None,
        newest: bool = False,
    ) -> None:
        """The opinion of all streams, while so many masks have come.

        The one with the fewest sensors alive is kept, the first of several such, or the newest.
        Of those that are believed, and come in `bursts`, the time between two of these is no fault.
        """
        usable = (h.state.usable or h.state is State.RECOVERING for h in healths.values())
        alive = sum(usable)
        known = self._kept.get(masks)
        if known is None or alive < known[0] or (newest and alive == known[0]):
            found = {
                name: health.findings or ((bursts or {}).get(name, UNFIT),)
                for name, health in healths.items()
            }
            self._kept[masks] = alive, found

    def why(self, times_s: Sequence[float]) -> dict[float, Reasons]:
        """Beginning of a pause -> what was wrong; `times_s` are those of the masks."""
        begins_s = (0.0, *times_s)
        return {begins_s[n]: found for n, (_, found) in self._kept.items() if n < len(begins_s)}


def entries(reasons: Reasons) -> list[dict[str, Any]]:
    """Findings of one moment as JSON, an entry each, as in `reasons`."""
    return [
        {"modality": name, "fault": finding.fault.value, **_told(finding)}
        for name, findings in reasons.items()
        for finding in findings
    ]


def in_words(told: Sequence[Mapping[str, Any]]) -> str:
    """What `entries` returned, in one line for people."""
    words = (
        f"{one['modality']} {one['fault']}" + (f": {one['text']}" if one["text"] else "")
        for one in told
    )
    return "; ".join(words)


def _told(finding: Finding) -> dict[str, Any]:
    """Text and numbers of a finding, as JSON."""
    numbers = {"value": finding.value, "limit": finding.limit}
    told = {key: round(n, DIGITS) for key, n in numbers.items() if n is not None}
    return {"text": finding.told, **told, **({"unit": finding.unit} if told else {})}


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
