"""The sensors over time, as pieces of a page: each says state, reason and limit, and has a moment.

The picture of the same (`report.poster`) can be put anywhere; these can be pointed at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, groupby
from typing import Any

from robustseg_core.faults import FaultSpec
from robustseg_core.output.draw import STATE_COLORS
from robustseg_core.output.reasons import Sentences, in_words
from robustseg_core.output.timeline import reach_s
from robustseg_core.types import State, kind_of

MOST = 400
"""Pieces of a lane that tell each change of the reasons; of more, changes of state are told."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Some time of a lane."""

    at_s: float
    """When it begins."""
    left: float
    """The same, in percent of the whole."""
    width: float
    """In percent."""
    text: str
    color: str = ""
    """CSS, of the state."""
    used: bool = False
    """Whether masks are made of the sensor."""


@dataclass(slots=True)
class Lane:
    """One sensor."""

    name: str
    pieces: list[Piece] = field(default_factory=list)
    broken: list[Piece] = field(default_factory=list)
    """What was done to it on purpose."""


def end_s(result: Mapping[str, Any]) -> float:
    """Where the time of a run ends, on its own clock."""
    last_s = max((row["at_s"] for row in result["masks"]), default=0.0)
    return float(max(result["totals"]["duration_s"], last_s, 0.1))


def pauses(result: Mapping[str, Any]) -> list[tuple[float, float, list[dict[str, Any]]]]:
    """(begin, end, why) of the time in which no mask spoke: its own reach comes before."""
    at_s = [row["at_s"] for row in result["masks"]]
    first_s = round(min(at_s, default=0.0), 3)
    return [
        (
            min(one["from_s"] + (reach_s(at_s) if one["from_s"] >= first_s else 0.0), one["to_s"]),
            one["to_s"],
            one["why"],
        )
        for one in result["totals"]["silences"]
    ]


def lanes(result: Mapping[str, Any], broken: Sequence[FaultSpec] = ()) -> list[Lane]:
    """The lanes of a run, in the order of its sensors.

    Args:
        result: what `Recorder.write_result` returned.
        broken: what was done to sensors on purpose.
    """
    whole_s = end_s(result)
    return [
        Lane(name, _pieces(result, name, whole_s), _broken(broken, name, whole_s))
        for name in result["modalities"]
    ]


def empty(result: Mapping[str, Any]) -> list[Piece]:
    """The time in which no mask came, of all lanes."""
    whole_s = end_s(result)
    found = []
    for from_s, to_s, why in pauses(result):
        text = f"no mask from {from_s:.2f} s to {to_s:.2f} s"
        told = f"{text}: {in_words(why)}" if why else text
        found.append(_piece(from_s, to_s, whole_s, told))
    return found


def legend(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """State and its color, of the states that some lane has."""
    said = {_state(row, name) for row in result["masks"] for name in result["modalities"]}
    return [(state.value, _css(state)) for state in State if state in said]


def _pieces(result: Mapping[str, Any], name: str, whole_s: float) -> list[Piece]:
    rows = result["masks"]
    if not rows:
        return []
    reach = reach_s([row["at_s"] for row in rows])
    nexts = [*(row["at_s"] for row in rows[1:]), whole_s]
    ends = [min(after, row["at_s"] + reach) for row, after in zip(rows, nexts, strict=True)]
    sentences = Sentences(result.get("reasons", ()))

    starts = [ends[k - 1] < rows[k]["at_s"] - 1e-9 for k in range(1, len(rows))]
    part = [0, *accumulate(map(int, starts))]  # a pause begins a new piece

    def grouped(*, why: bool) -> list[tuple[tuple[Any, ...], list[int]]]:
        def kind(number: int) -> tuple[Any, ...]:
            row = rows[number]
            told = tuple(row["reasons"].get(name, ())) if why else ()
            return part[number], _state(row, name), name in row["used"], told

        return [(key, list(group)) for key, group in groupby(range(len(rows)), kind)]

    groups = grouped(why=True)
    if len(groups) > MOST:
        groups = grouped(why=False)
    found = []
    for (_, state, used, _), numbers in groups:
        first, last = numbers[0], numbers[-1]
        from_s, to_s = rows[first]["at_s"], ends[last]
        in_mask = "in the masks" if used else "in no mask"
        text = f"{name} {state.value}, {in_mask}, {from_s:.2f} s to {to_s:.2f} s"
        reason = sentences.of(rows[first]).get(name, "")
        piece = _piece(from_s, to_s, whole_s, f"{text}: {reason}" if reason else text)
        found.append(replace(piece, color=_css(state), used=used))
    return found


def _broken(broken: Sequence[FaultSpec], name: str, whole_s: float) -> list[Piece]:
    found = []
    for fault in broken:
        if fault.target in (name, kind_of(name)) and fault.start_s < whole_s:
            lasts_s = whole_s if fault.duration_s is None else fault.duration_s
            until_s = min(fault.start_s + lasts_s, whole_s)
            found.append(_piece(fault.start_s, until_s, whole_s, f"broken on purpose: {fault}"))
    return found


def _piece(from_s: float, to_s: float, whole_s: float, text: str) -> Piece:
    left, right = (round(100 * moment / whole_s, 3) for moment in (from_s, to_s))
    return Piece(from_s, left, round(right - left, 3), text)


def _state(row: Mapping[str, Any], name: str) -> State:
    return State(row["states"].get(name, State.DISABLED.value))


def _css(state: State) -> str:
    return f"rgb({', '.join(map(str, STATE_COLORS[state]))})"
