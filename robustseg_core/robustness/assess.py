"""What an observation is worth: in time, by the right name, nobody else accused, masks going on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from itertools import pairwise
from typing import Any

from robustseg_core import modalities
from robustseg_core.faults import ALL
from robustseg_core.robustness.case import Bit, Case
from robustseg_core.robustness.observe import Seen, Watched
from robustseg_core.types import Fault, State

ON_THE_WAY = frozenset({Fault.LATE, Fault.STARTING, Fault.RECOVERING})
"""What may be said of a broken sensor besides its fault."""
ENOUGH = 0.9
"""Of the reference rate that masks must keep."""


def assess_case(case: Case, watched: Watched, rates_hz: Mapping[str, float]) -> dict[str, Any]:
    """A case's line in `robustness.json`: the measures, and `why` it failed (empty: passed).

    Args:
        case: what was done.
        watched: the robot that it was done to, at the end of the drive.
        rates_hz: messages a second of each sensor, of the healthy drive.
    """
    begin_s, end_s = case.begins_s, case.begins_s + case.lasts_s
    last_s = end_s + case.after_s
    limit_s = case.within.of(1 / rates_hz[case.target]) if case.target in rates_hz else 0.0
    why: list[str] = []
    result: dict[str, Any] = {
        "finds": sorted(case.finds),
        "limit_s": round(limit_s, 3),
        "delay_s": None,
        **_named(case, watched, begin_s, last_s, limit_s, why),
        **_bits(case, watched.seen, begin_s, end_s, limit_s, list(rates_hz), why),
        **_rate(case, watched.seen, begin_s, end_s, attainable_hz(case, rates_hz), why),
        **_states(case, watched, begin_s, end_s, last_s, why),
        **_noticed(case, watched, begin_s, end_s),
    }
    jumps = watched.segmenter.intake.jumps
    if jumps != case.jumps:
        why.append(f"{jumps} clock jumps were counted, expected {case.jumps}")
    if case.passes > 1:
        why += _loops(watched.seen)
    return {**result, "jumps": jumps, "why": why, "passed": not why}


def _named(
    case: Case, watched: Watched, begin_s: float, last_s: float, limit_s: float, why: list[str]
) -> dict[str, Any]:
    """Was the fault named in time, and nothing else?"""
    allowed = ON_THE_WAY | ({Fault.NEVER_SEEN} if begin_s == 0 else set())
    during = {
        name: [(at_s - begin_s, fault) for at_s, fault in said if begin_s < at_s <= last_s]
        for name, said in watched.said.items()
    }
    found = _first_hit(case, during.get(case.target, []))
    of_target = {fault for _, fault in during.get(case.target, [])}
    if strange := of_target - case.finds - case.may - allowed:
        words = ", ".join(sorted(fault.value for fault in strange))
        why.append(f"{case.target} was called {words} as well")
    told: dict[str, dict[str, float]] = {}
    if case.target in during:  # else the fault is everywhere
        told = _accused(case, during, allowed if begin_s == 0 else frozenset())
    if case.finds and "delay_s" not in found:
        why.append(f"none of {', '.join(sorted(case.finds))} was named")
    elif case.finds and found["delay_s"] > limit_s:
        why.append(f"{found['named']} was named after {found['delay_s']:.2f} s")
    if told:
        why.append(f"others were accused: {told}")
    return {**found, "missed": bool(case.finds) and "delay_s" not in found, "accused": told}


def _first_hit(case: Case, said: Sequence[tuple[float, Fault]]) -> dict[str, Any]:
    """When the target was first called what it has, and what; empty: it was not."""
    for t_s, fault in said:
        if fault in case.finds:
            return {"delay_s": round(t_s, 4), "named": fault.value}
    return {}


def _noticed(case: Case, watched: Watched, begin_s: float, end_s: float) -> dict[str, Any]:
    """What was said of anybody while the fault lasted, by whatever name, and how it ended.

    Returns:
        `said`: sensor -> name -> seconds after the beginning. `noticed_s`: the first of the
        target's. `told_s`: the first mask after that, the first thing that a robot is given which
        knows of it. `recovery_s`: from the fault's end until the target is LIVE for good, None if
        it was not by the end of the recording, or the recording ends with the fault.
    """
    allowed = ON_THE_WAY | ({Fault.NEVER_SEEN} if begin_s == 0 else set())
    said: dict[str, dict[str, float]] = {}
    for name, entries in watched.said.items():
        for at_s, fault in entries:
            if begin_s < at_s <= end_s and fault not in allowed:
                said.setdefault(name, {}).setdefault(fault.value, round(at_s - begin_s, 4))
    noticed_s = min(said.get(case.target, {}).values(), default=None)
    told_s = None
    if noticed_s is not None:
        knows = (m.at_s - begin_s for m in watched.seen if m.at_s - begin_s >= noticed_s - 1e-4)
        told_s = next((round(at_s, 4) for at_s in knows), None)
    recovery_s = None
    if case.after_s and (states := watched.states.get(case.target)):
        since_s, state = states[-1]
        recovery_s = round(max(0.0, since_s - end_s), 4) if state is State.LIVE else None
    return {"said": said, "noticed_s": noticed_s, "told_s": told_s, "recovery_s": recovery_s}


def _accused(
    case: Case, during: Mapping[str, Sequence[tuple[float, Fault]]], normal: Set[Fault]
) -> dict[str, dict[str, float]]:
    """What sensors that nothing was done to were first called, and when; `normal` is let pass."""
    told: dict[str, dict[str, float]] = {}
    for name in during.keys() - case.broken - {case.target}:
        for t_s, fault in during[name]:
            if fault not in normal:
                told.setdefault(name, {}).setdefault(fault.value, round(t_s, 3))
    return {name: told[name] for name in during if name in told}


def _bits(
    case: Case,
    seen: list[Seen],
    begin_s: float,
    end_s: float,
    limit_s: float,
    sensors: list[str],
    why: list[str],
) -> dict[str, Any]:
    """Masks after the deadline whose `used` says something wrong."""
    if case.target not in sensors or case.passes > 1:
        return {"judged_masks": 0, "wrong_masks": 0}
    judged = [mask for mask in seen if begin_s + limit_s < mask.at_s <= end_s]
    healthy = frozenset(sensors) - case.broken
    wrong = 0
    for mask in judged:
        used = case.target in mask.used
        bad = (used and case.bit is Bit.OUT) or (not used and case.bit is Bit.USED)
        wrong += bad or not healthy <= mask.used
    if wrong > 0.02 * len(judged) + 1:
        why.append(f"{wrong} of {len(judged)} masks after the deadline have a wrong bit")
    return {"judged_masks": len(judged), "wrong_masks": wrong}


def attainable_hz(case: Case, rates_hz: Mapping[str, float]) -> float:
    """The rate that masks must keep: that of the first reference, while anything prompt lives.

    Where camera and events are both gone, nothing newer comes than the next reference brings.
    """
    order = modalities.ranked(rates_hz)
    healthy = [name for name in order if case.target == ALL or name not in case.broken]
    prompt = any(modalities.load(name).accumulates for name in healthy)
    if case.bit is Bit.USED or not healthy or healthy[0] == order[0] or prompt:
        return rates_hz[order[0]]
    return min(rates_hz[order[0]], rates_hz[healthy[0]])


def _rate(
    case: Case, seen: list[Seen], begin_s: float, end_s: float, reference_hz: float, why: list[str]
) -> dict[str, Any]:
    """Masks while it lasts, as a share of the reference rate; darkness where it is due."""
    during = [mask for mask in seen if begin_s < mask.at_s <= end_s]
    due = reference_hz * (end_s - begin_s)
    share = len(during) / due if due else 0.0
    if case.goes_on and len(during) < ENOUGH * due - 1:
        why.append(f"{len(during)} masks, expected {ENOUGH:.0%} of {due:.0f}")
    if case.dark_s is not None:
        dark_s, light_s = (begin_s + t for t in case.dark_s)
        stale = [mask for mask in seen if dark_s < mask.at_s < light_s]
        if stale:
            why.append(f"{len(stale)} masks were made of nothing")
        first = next((mask.at_s - light_s for mask in seen if mask.at_s >= light_s), math.inf)
        if first > 1.0:
            why.append(f"the first mask came {first:.2f} s after the return")
    gaps = [b.at_s - a.at_s for a, b in pairwise([m for m in seen if m.at_s > begin_s - 0.5])]
    longest_s = max(gaps, default=0.0)
    if case.goes_on and longest_s > 1.0:
        why.append(f"no mask for {longest_s:.2f} s")
    return {"mask_rate": round(share, 3), "longest_gap_s": round(longest_s, 3)}


def _states(
    case: Case, watched: Watched, begin_s: float, end_s: float, last_s: float, why: list[str]
) -> dict[str, Any]:
    """The states of the target while it lasts, and whether it is back afterwards."""
    names = [case.target] if case.target in watched.states else list(watched.states)
    changes = 0
    for name in names:
        before = [s for at_s, s in watched.states[name] if at_s <= begin_s][-1:]
        during = before + [s for at_s, s in watched.states[name] if begin_s < at_s <= end_s]
        if case.reaches is not None and case.reaches not in during:
            why.append(f"{name} never became {case.reaches.value}")
        if bad := case.never & set(during):
            why.append(f"{name} became {', '.join(sorted(state.value for state in bad))}")
        used = [state.usable for state in during]
        changes = max(changes, sum(a != b for a, b in pairwise(used)))
    if case.transitions is not None and changes > case.transitions:
        why.append(f"{changes} changes between used and not, limit {case.transitions}")
    if case.back_s is not None:
        back = [m.at_s for m in watched.seen if m.at_s >= end_s and case.target in m.used]
        if not back or back[0] - end_s > case.back_s:
            why.append(f"{case.target} was not used again within {case.back_s:g} s")
    return {"transitions": changes}


def _loops(seen: list[Seen]) -> list[str]:
    """A looped drive gives the same number of sets each time, give or take one.

    The first pass begins with sensors that are not believed yet: its sets are counted by stamp
    from where the last sensor joined.
    """
    cut = next((k for k, (a, b) in enumerate(pairwise(seen)) if b.stamp_ns < a.stamp_ns), None)
    if cut is None:
        return ["stamps never went back: the second pass was lost"]
    first, second = seen[: cut + 1], seen[cut + 1 :]
    most = max(len(mask.used) for mask in first)
    since_ns = next(mask.stamp_ns for mask in first if len(mask.used) == most)
    counts = [sum(m.stamp_ns >= since_ns for m in part) for part in (first, second)]
    if abs(counts[0] - counts[1]) > 1:
        return [f"{counts[0]} sets in the first pass, {counts[1]} in the second"]
    return []


def assess_clean(
    watched: Watched, since_s: float, until_s: float, sensors: list[str]
) -> dict[str, Any]:
    """The clean twin's line: whatever is said here is a false alarm."""
    told: dict[str, dict[str, float]] = {}
    for name, said in watched.said.items():
        for at_s, fault in said:
            if since_s < at_s <= until_s:
                told.setdefault(name, {}).setdefault(fault.value, round(at_s, 3))
    dead = {
        name: sum(state is State.DEAD and since_s < at_s <= until_s for at_s, state in changes)
        for name, changes in watched.states.items()
    }
    judged = [mask for mask in watched.seen if since_s < mask.at_s <= until_s]
    wrong = sum(mask.used != frozenset(sensors) for mask in judged)
    return {
        "accused": told,
        "false_dead": dead,
        "hours": (until_s - since_s) / 3600,
        "judged_masks": len(judged),
        "wrong_masks": wrong,
        "passed": not told and not any(dead.values()),
    }
