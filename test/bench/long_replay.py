"""A long replay in which sensors die at random: is any frame slow, and does memory grow?

    python test/bench/long_replay.py DRIVE.mcap [--minutes 10] [--seed 0]

The drive is played again and again, as recordings in a row; one to three sensors at a time are dead
for 1 to 5 s each. What a mask costs is the CPU time of this process's thread (one thread for the
network). A frame counts as slow that takes more than 3 times the median of all masks of as many
sensors, but for the first mask of a set of sensors. Memory is the resident set, a minute apart.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import defaultdict
from pathlib import Path
from statistics import median

import psutil

from robustseg_core.bag import Bag
from robustseg_core.engines import Labels
from robustseg_core.engines.weights import engine_of
from robustseg_core.faults import parse_fault
from robustseg_core.recording.inject import FaultyBag
from robustseg_core.recording.replay import replay
from robustseg_core.recording.robot import robot_for
from robustseg_core.segmenter import Segmenter
from robustseg_core.types import SECOND, Bundle

SLOW = 3.0


def kills(sensors: list[str], seconds: float, seed: int) -> list[str]:
    """Sensors that are off for a while, one after the other, each in its own rhythm."""
    rng = random.Random(seed)
    words = []
    for name in sensors:
        at_s = rng.uniform(2, 8)
        while at_s < seconds - 2:
            long_s = rng.uniform(1, 5)
            words.append(f"{name}:off@{at_s:.2f}+{long_s:.2f}")
            at_s += long_s + rng.uniform(3, 15)
    return words


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("drive", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with Bag([given.drive]) as bag:
        times = max(1, round(given.minutes * 60 * SECOND / bag.duration_ns))
        robot = robot_for(bag, None, ["device=cpu", "cpu_threads=1"])
    with Bag([given.drive] * times) as bag:
        seconds = sum(end - start for start, end in bag.spans) / SECOND
        spec, engine = engine_of(robot)
        spent: dict[tuple[str, ...], list[float]] = defaultdict(list)

        def timed(bundle: Bundle) -> Labels:
            began = time.thread_time()
            labels = engine(bundle)
            spent[tuple(bundle.frames)].append(1e3 * (time.thread_time() - began))
            return labels

        faults = [parse_fault(word) for word in kills(list(spec.modalities), seconds, given.seed)]
        source = FaultyBag(bag, faults, topics=robot.topics)
        memory, process = [], psutil.Process()
        for number, label_map in enumerate(replay(source, Segmenter(robot, spec, timed))):
            made_s = (label_map.made_ns or 0) / SECOND
            if not number or made_s >= 60 * len(memory) + 10:
                memory.append(process.memory_info().rss / 1e6)
    masks = sum(map(len, spent.values()))
    print(f"{seconds:.0f} s, {len(faults)} kills, {masks} masks of {len(spent)} sets of sensors")
    slowest, slow = 0.0, []
    for count in range(1, len(spec.modalities) + 1):
        later = [ms for names, rows in spent.items() if len(names) == count for ms in rows[1:]]
        if later:
            usual = median(later)
            slowest = max(slowest, max(later) / usual)
            slow += [
                f"{'+'.join(names)}: its mask {number}, {ms:.0f} ms"
                for names, rows in spent.items()
                if len(names) == count
                for number, ms in enumerate(rows[1:], 2)
                if ms > SLOW * usual
            ]
            print(
                f"{count} alive: {len(later)} masks, median {usual:.1f} ms, "
                f"largest {max(later) / usual:.2f} times that"
            )
    print(
        f"slower than {SLOW:g} times the median: {len(slow)} masks (largest {slowest:.2f})", *slow
    )
    print("resident, MB, after 10 s and each minute:", *(f"{mb:.0f}" for mb in memory[1:]))


if __name__ == "__main__":
    main()
