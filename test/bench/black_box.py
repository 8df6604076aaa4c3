"""What the black box costs the live path: a replay with it and without, side by side.

    python test/bench/black_box.py RECORDING [ROUNDS]

Prints the CPU seconds of a gate without a network (decoding, checks, sets, encoding, comparing)
over a recording, in turns without and with a ring of the default size, and how long snapshots take.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from robustseg_core.bag import Bag
from robustseg_core.blackbox.ring import Ring
from robustseg_core.config import BlackBoxConfig
from robustseg_core.engines.blank import blank
from robustseg_core.engines.weights import engine_of
from robustseg_core.intake import Act
from robustseg_core.recording.replay import replay
from robustseg_core.recording.robot import robot_for
from robustseg_core.segmenter import Segmenter
from robustseg_core.types import SECOND


class Timed(Ring):
    """Notes how long it takes."""

    snapshots_ms: list[float] = []  # noqa: RUF012 (of all rounds)
    notes_s = 0.0
    """In all acts, snapshots included, of the last round."""

    def note(self, act: Act, now_ns: int, subject: str = "", what: Any = None) -> None:
        start = time.thread_time()
        super().note(act, now_ns, subject, what)
        self.notes_s += time.thread_time() - start

    def _begin(self, now_ns: int) -> None:
        start = time.thread_time()
        super()._begin(now_ns)
        self.snapshots_ms.append(1e3 * (time.thread_time() - start))


def main() -> None:
    """Print the figures."""
    path, rounds = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 3
    taken: dict[bool, list[float]] = {False: [], True: []}
    held, notes_s = 0, 0.0
    with Bag([path]) as bag:
        long_s = bag.duration_ns / SECOND
        robot = robot_for(bag, None, [])
        spec, _ = engine_of(robot)
        for number in range(2 * rounds + 1):
            boxed = bool(number % 2)
            gate: Any = Segmenter(robot, spec, blank(spec))
            ring = Timed(gate, BlackBoxConfig(folder="x"), lambda _: True) if boxed else None
            start = time.thread_time()
            masks = sum(1 for _ in replay(bag, gate))
            if number:  # the first compiles
                taken[boxed].append(time.thread_time() - start)
            if ring is not None:
                held, notes_s = ring.nbytes, ring.notes_s
    without, boxed_s = median(taken[False]), median(taken[True])
    print(f"{masks} masks: {without:.2f} s of CPU without, {boxed_s:.2f} s with a black box")
    print(f"ratio {boxed_s / without:.3f}, {1e3 * (boxed_s - without) / masks:.3f} ms a mask")
    shots = Timed.snapshots_ms
    print(f"snapshots: {median(shots):.1f} ms in the median, {max(shots):.1f} ms at most")
    print(f"all of the ring: {1e3 * notes_s / long_s:.1f} ms of CPU a second of {long_s:.1f}")
    print(f"it holds {held / 1e6:.0f} MB at the end")


if __name__ == "__main__":
    main()
