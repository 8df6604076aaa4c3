"""Hours of driving in minutes: four sensors, random faults, a fake clock; nothing may grow or slow.

    python test/fuzz/soak.py --hours 1 --seed 0

The event camera's clock runs on, so that its 24 bits roll over every 16.8 s, and 32-bit
microseconds after 35 minutes. The network is a sum over the frames: this is about all around it.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from fuzz.robot import Complaint, Robot, Watch, memory_mb
from fuzz.scenery import arrivals, place
from robustseg_core.faults import Injector, catalog, parse_fault
from robustseg_core.segmenter import Segmenter
from robustseg_core.types import IGNORE, SECOND, Fault, LabelMap
from support import drives

ROLL_EVT3_S = 2**24 / 1e6
ROLL_INT32_S = 2**31 / 1e6
EVERY_S = 20.0
"""A new fault about this often."""


def schedule(seconds: float, seed: int) -> list[str]:
    """Faults of every kind, on sensors at random, one at a time or overlapping."""
    random = np.random.default_rng([seed, 9])
    found, at_s = [], 5.0
    while at_s < seconds - 12:
        modality = drives.ALL[int(random.integers(4))]
        names = catalog.available(modality)
        name = names[int(random.integers(len(names)))]
        found.append(f"{modality}:{name}@{at_s:.1f}+{random.uniform(0.5, 10):.1f}")
        at_s += float(random.exponential(EVERY_S))
    return found


class Meter:
    """What a run costs and makes, as it goes on."""

    def __init__(self, messages: int) -> None:
        self.own_ns = np.ones(messages, np.int64)  # touched now: it must not look like a leak
        """CPU time per message: decoding, judging, matching and the mask, if one was due."""
        self.messages = 0
        self.masks = 0
        self.last_ns = self.back = 0
        """Stamp of the newest mask."""
        self.used: Counter[str] = Counter()
        self.rolled: Counter[str] = Counter()
        """Masks with events right after a roll-over of the sensor's clock."""
        self.rss: list[tuple[float, float]] = []

    def took(self, own_ns: int) -> None:
        if self.messages < self.own_ns.size:
            self.own_ns[self.messages] = own_ns
        self.messages += 1

    def mask(self, made: LabelMap, classes: int, start_s: float) -> None:
        if not ((made.ids < classes) | (made.ids == IGNORE)).all():
            raise Complaint("a label is none of the classes")
        if any(f.fault is Fault.INTERNAL for found in made.reasons.values() for f in found):
            raise Complaint(f"internal error: {made.reasons}")
        self.masks += 1
        self.back += made.stamp_ns <= self.last_ns
        self.last_ns = made.stamp_ns
        self.used.update(made.used)
        t_s = (made.stamp_ns - drives.EPOCH) / SECOND
        for name, roll_s in (("evt3", ROLL_EVT3_S), ("int32", ROLL_INT32_S)):
            if "event" in made.used and t_s % roll_s < 0.1 and t_s - start_s > 1:
                self.rolled[name] += 1


def soak(seconds: float, seed: int, *, start_s: float = 0.0, faults: bool = True) -> dict[str, Any]:
    """Run it; a summary that JSON can hold.

    Raises:
        Complaint: an internal error, or an impossible label.
    """
    spec = drives.engine().spec
    made = Segmenter(drives.robot(), spec, Watch(len(spec.classes)))
    place(made)
    texts = schedule(seconds, seed) if faults else []
    injector = Injector(
        [parse_fault(t) for t in texts], seed=seed, topics=drives.TOPICS, start_ns=0
    )
    names = {topic: name for name, topic in drives.TOPICS.items()}
    threads, files = threading.active_count(), _open_files()
    expected = round(1.2 * seconds * sum(drives.RATES.values()))
    meter, classes, now_ns = Meter(expected), len(spec.classes), 0
    every_ns = max(10 * SECOND, round(seconds * SECOND / 120))
    for at_ns, name, message in arrivals(seconds, start_s=start_s):
        for sample in injector.feed(drives.TOPICS[name], message, at_ns):
            before_ns = time.thread_time_ns()  # another process's load is not our latency
            while (wake_ns := made.wake_ns(now_ns)) is not None and wake_ns < at_ns:
                now_ns = wake_ns
                if label_map := made.step(now_ns):
                    meter.mask(label_map, classes, start_s)
            now_ns = max(at_ns, now_ns)
            made.push(names[sample.topic], sample.message, now_ns)
            if label_map := made.step(now_ns):
                meter.mask(label_map, classes, start_s)
            meter.took(time.thread_time_ns() - before_ns)
        if len(meter.rss) * every_ns <= at_ns:
            gc.collect()
            meter.rss.append((at_ns / SECOND, memory_mb("VmRSS")))
    internal = sum(h.rejected.get(Fault.INTERNAL, 0) for h in made.health(now_ns).values())
    return {
        "simulated_hours": round(seconds / 3600, 3),
        "seed": seed,
        "messages": meter.messages,
        "masks": meter.masks,
        "faults": len(texts),
        "internal_errors": internal,
        "masks_of_reference_rate": round(meter.masks / (seconds * drives.RATES["rgb"]), 3),
        "roll_overs": {
            "evt3": int((start_s + seconds) // ROLL_EVT3_S - start_s // ROLL_EVT3_S),
            "int32": int((start_s + seconds) // ROLL_INT32_S - start_s // ROLL_INT32_S),
        },
        "used": dict(meter.used),
        "masks_with_events_after_roll_over": dict(meter.rolled),
        "clock_jumps": made.intake.jumps,
        "masks_back_in_time": meter.back,
        "rejected": dict(
            sum(
                (
                    Counter({f.value: n for f, n in h.rejected.items()})
                    for h in made.health(now_ns).values()
                ),
                Counter(),
            )
        ),
        "rss_mb": {
            "first": _rounded(meter.rss[0][1]),
            "last": _rounded(meter.rss[-1][1]),
            "slope_per_hour": _rounded(slope_per_hour(meter.rss)),
        },
        "cpu_ms_per_message": latency(meter.own_ns[: meter.messages]),
        "leaked": {"threads": threading.active_count() - threads, "files": _open_files() - files},
    }


def slope_per_hour(rss: list[tuple[float, float]]) -> float:
    """MB an hour of simulated time, fitted to all but the first tenth, where caches fill."""
    t, mb = np.array(rss[len(rss) // 10 :]).T
    return float(np.polyfit(t / 3600, mb, 1)[0]) if len(t) > 2 else 0.0


def latency(own_ns: Sequence[int] | np.ndarray) -> dict[str, float]:
    """Median of the first and of the last tenth, and their ratio."""
    tenth = max(1, len(own_ns) // 10)
    first, last = (float(np.median(part)) / 1e6 for part in (own_ns[:tenth], own_ns[-tenth:]))
    return {
        "first_tenth": _rounded(first),
        "last_tenth": _rounded(last),
        "ratio": _rounded(last / first),
    }


def _rounded(value: float) -> float:
    return round(value, 3)


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    words.add_argument("--hours", type=float, default=1.0)
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--out", type=Path, help="write the summary there, too")
    given = words.parse_args()
    logging.disable(logging.CRITICAL)
    Robot()  # everything is loaded and compiled before anything is measured
    start = time.perf_counter()
    summary = soak(given.hours * 3600, given.seed)
    summary["seconds"] = round(time.perf_counter() - start, 1)
    text = json.dumps(summary, indent=1)
    if given.out:
        given.out.write_text(text + "\n")
    print(text)
    return 1 if summary["internal_errors"] or any(summary["leaked"].values()) else 0


if __name__ == "__main__":
    sys.exit(main())
