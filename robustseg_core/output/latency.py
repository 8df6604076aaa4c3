"""From the stamp of a mask to its publication: where the time goes, mask by mask and of late.

    sensor    from the stamp to the reception of the message that gave it; left out where the stamps
              are on a clock that is not the computer's
    queue     until the set was looked at: what the set waited for others, and what we kept it
    decode    messages into arrays, and their checks
    encode    arrays onto the network's grid
    infer     the network
    publish   the rest, up to the account itself

The parts of a mask add up to its `total`; percentiles do not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import numpy as np

from robustseg_core.types import MS, SECOND, LabelMap

PARTS = ("sensor", "queue", "decode", "encode", "infer", "publish")
MEASURED = ("queue", "decode", "encode", "infer")
"""What `LabelMap.latency_ms` holds."""
OF_LATE = 300
"""Masks that percentiles are taken of."""
OLDEST_NS = 10 * SECOND
"""A stamp that seems older, or newer than that, is not on our clock."""


def parts(label_map: LabelMap, done_ns: int, stamp_age_ns: int | None) -> dict[str, float]:
    """Milliseconds by part, and their `total`; empty for a mask that nobody knows the arrival of.

    Args:
        label_map: the mask.
        done_ns: now, on the clock of its arrival.
        stamp_age_ns: now minus its stamp, on the clock of the stamps; None: there is none.
    """
    if label_map.came_ns is None:
        return {}
    whole_ms = (done_ns - label_map.came_ns) / MS
    found = {name: label_map.latency_ms.get(name, 0.0) for name in MEASURED}
    found["publish"] = whole_ms - sum(found.values())
    if stamp_age_ns is not None and abs(stamp_age_ns) <= OLDEST_NS:
        found = {"sensor": stamp_age_ns / MS - whole_ms, **found}
    return {**found, "total": sum(found.values())}


class Latencies:
    """The parts of the masks of late."""

    def __init__(self) -> None:
        self._taken: deque[Mapping[str, float]] = deque(maxlen=OF_LATE)

    def add(self, taken: Mapping[str, float]) -> None:
        """One more mask's `parts`."""
        if taken:
            self._taken.append(taken)

    def percentiles(self) -> dict[str, dict[str, float]]:
        """`p50`, `p95` and `p99` -> part -> milliseconds."""
        names = (*PARTS, "total")
        known = {n: [taken[n] for taken in self._taken if n in taken] for n in names}
        return {
            f"p{q}": {n: float(np.percentile(each, q)) for n, each in known.items() if each}
            for q in (50, 95, 99)
        }
