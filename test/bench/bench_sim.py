"""How fast the simulator makes a drive, and which sensor the time goes into.

Run it alone: `python test/bench/bench_sim.py`. The sensors are taken in turn, slice by slice, so
that their shares hold on a busy machine; frames a second do not.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[level]) for level in (1, 2)]

from robustseg_core.sim.drive import SLICE_S, STREAMS, Drive  # noqa: E402
from robustseg_core.sim.rig import rig  # noqa: E402

SLICES = {"tiny": 15, "default": 8}


def drive(preset: str) -> dict[str, float]:
    """Camera frames per second of wall time, with all four sensors, and each sensor's share."""
    made = Drive(seed=7, rig=rig(preset), seconds=20, conditions=frozenset({"clear"}))
    took = dict.fromkeys(STREAMS, 0.0)
    for k in range(SLICES[preset] + 1):
        if k == 1:  # the first slice compiles and warms up
            took, before = dict.fromkeys(STREAMS, 0.0), made.statistics.frames
        for name in STREAMS:
            start = time.perf_counter()
            made.between(k * SLICE_S, (k + 1) * SLICE_S, (name,))
            took[name] += time.perf_counter() - start
    total = sum(took.values())
    speed = {f"sim {preset}, camera frames/s": (made.statistics.frames - before) / total}
    return speed | {f"sim {preset}, share of {n}": took[n] / total for n in STREAMS}


def run() -> dict[str, float]:
    """Every figure, by name."""
    return drive("tiny") | drive("default")


if __name__ == "__main__":
    for name, value in run().items():
        print(f"{name:32} {value:8.3f}")
