"""Floods of events, one after the other: what is held after each, and what the allocator keeps.

    python test/fuzz/floods.py --floods 12

Resident memory cannot tell a leak from memory that was freed and that the C library keeps for the
next time. The library can (`mallinfo2`, glibc 2.33): in use is what somebody still holds. The
node's two threads are here, its network, and one second of 50 M events/s in every four seconds.
Exit code 1: more is in use at the end than before the first flood, by over 10 MB.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import logging
import os
import sys
import threading
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # PyTorch's threads spin while they wait
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fuzz.robot import memory_mb
from fuzz.scenery import arrivals, healthy, place
from robustseg_core.faults import Injector, parse_fault
from robustseg_core.segmenter import Segmenter
from robustseg_core.types import SECOND
from support import drives

FIRST_S, EVERY_S, LONG_S = 3, 4, 1
LIMIT_MB = 10.0


class _Mallinfo2(ctypes.Structure):
    """struct mallinfo2 of <malloc.h>: bytes and counts, of all arenas together."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    )


def heap_mb() -> tuple[float, float]:
    """What the C library's heaps hold: (in use, free but kept)."""
    ask = ctypes.CDLL(None).mallinfo2
    ask.restype = _Mallinfo2
    found = ask()
    return (found.uordblks + found.hblkhd) / 2**20, found.fordblks / 2**20


class Thinker(threading.Thread):
    """The node's inference thread, woken by messages; the clock is theirs."""

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__(name="inference")
        self.now_ns = self.masks = 0
        self._segmenter = segmenter
        self._news, self._stopping = threading.Event(), False

    def run(self) -> None:
        while not self._stopping:
            self._news.wait()
            self._news.clear()
            while self._segmenter.step(self.now_ns) is not None:
                self.masks += 1

    def wake(self, now_ns: int) -> None:
        self.now_ns = now_ns
        self._news.set()

    def stop(self) -> None:
        self._stopping = True
        self._news.set()
        self.join()


def flood(times: int) -> list[float]:
    """Megabytes in use before the first flood, and after each; prints a table."""
    made = Segmenter.from_config(drives.robot())
    made.warm_up()
    place(made)
    for name in drives.ALL:
        healthy(name, 0, 0)  # draws a whole pool
    texts = [f"event:event_flood@{FIRST_S + k * EVERY_S}+{LONG_S}" for k in range(times)]
    specs = [parse_fault(text) for text in texts]
    injector = Injector(specs, topics=drives.TOPICS, start_ns=0)
    names = {topic: name for name, topic in drives.TOPICS.items()}
    in_use: list[float] = []
    thinker = Thinker(made)
    thinker.start()
    print("floods | in use | kept | resident | masks")
    try:
        for at_ns, name, message in arrivals(FIRST_S + times * EVERY_S):
            if at_ns >= (FIRST_S - 0.5 + len(in_use) * EVERY_S) * SECOND:
                gc.collect()
                used_mb, kept_mb = heap_mb()
                words = f"{used_mb:.0f} | {kept_mb:.0f} | {memory_mb('VmRSS'):.0f}"
                print(f"{len(in_use)} | {words} | {thinker.masks}", flush=True)
                in_use.append(used_mb)
            for sample in injector.feed(drives.TOPICS[name], message, at_ns):
                made.push(names[sample.topic], sample.message, at_ns)
            thinker.wake(at_ns)
    finally:
        thinker.stop()
    return in_use


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    words.add_argument("--floods", type=int, default=12)
    given = words.parse_args()
    logging.disable(logging.CRITICAL)
    in_use = flood(given.floods)
    grown = in_use[-1] - in_use[0]
    print(f"in use: {grown:+.1f} MB after {given.floods} floods, limit {LIMIT_MB:g}")
    return int(grown > LIMIT_MB)


if __name__ == "__main__":
    sys.exit(main())
