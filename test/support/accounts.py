"""What is said of four healthy sensors from the moment on at which one of them breaks."""

from __future__ import annotations

from typing import NamedTuple

from robustseg_core.types import IGNORE, SECOND, Fault, State
from support.drives import ALL, drive, rows, segmenter, through

START_S = 1.5
"""When the fault begins."""


class Account(NamedTuple):
    said: dict[str, dict[Fault, float]]
    """Of each stream, what health and masks said of it, and how long after the fault began."""
    states: dict[str, list[State]]
    masks: int
    """... from the beginning of the fault."""


def observed(text: str, seconds: float, seed: int = 1, *, network: bool = True) -> Account:
    """What is said from the moment on at which a fault begins."""
    made = segmenter(network=network)
    said: dict[str, dict[Fault, float]] = {name: {} for name in ALL}
    states: dict[str, list[State]] = {name: [] for name in ALL}
    end_ns = round((START_S + seconds) * SECOND)

    def watch(now_ns: int) -> None:
        if START_S * SECOND < now_ns < end_ns:
            for name, health in made.health(now_ns).items():
                states[name].append(health.state)
                for fault in {f.fault for f in health.findings} | set(health.rejected):
                    said[name].setdefault(fault, now_ns / SECOND - START_S)

    arrivals = through(text, rows(START_S + seconds), seed=seed)
    maps = [(now, m) for now, m in drive(made, arrivals, watch) if START_S * SECOND < now < end_ns]
    for now, label_map in maps:
        assert label_map.ids.max() < 19 or label_map.ids.max() == IGNORE
        for name, reasons in label_map.reasons.items():
            fault = reasons[0].fault
            said[name].setdefault(fault, now / SECOND - START_S)
    return Account(said, states, len(maps))
