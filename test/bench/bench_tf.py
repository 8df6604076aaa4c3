"""What /tf costs: forty transforms a message, a hundred messages a second, one of them wanted.

Run it alone: `python test/bench/bench_tf.py`. Variants take turns; medians of CPU time are told.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[level]) for level in (1, 2)]

from robustseg_core.bag.sealed import Sealed  # noqa: E402
from robustseg_core.bag.typestore import typestore  # noqa: E402
from robustseg_core.codecs.tf_message import TF_MESSAGE  # noqa: E402
from robustseg_core.geometry.transforms import Moment, TransformTree  # noqa: E402
from robustseg_core.types import MS, SECOND  # noqa: E402
from support import makers  # noqa: E402

EDGES, MESSAGES, HZ = 40, 100, 100
START = 1_700_000_000 * SECOND


def wire(k: int) -> bytes:
    """The k-th message of a robot with many joints."""
    message = makers.transform("base_link", "pan_link")
    for n in range(1, EDGES):
        message.transforms += makers.transform("base_link", f"joint_{n}_link").transforms
    for row in message.transforms:
        row.header = makers.header(START + k * SECOND // HZ, "base_link")
    return bytes(typestore().serialize_cdr(message, TF_MESSAGE))


def tree() -> TransformTree:
    """Of a LiDAR on a pan-tilt unit, asked for: its motion is kept."""
    made = TransformTree()
    made.add(makers.transform("base_link", "camera", (0.5, 0, 0)))
    made.add(makers.transform("pan_link", "lidar"))
    made.move(Sealed(wire(0), TF_MESSAGE))
    assert made.route("camera", "lidar") is not None
    return made


def run() -> dict[str, float]:
    raws = [wire(k) for k in range(MESSAGES)]
    ours, theirs = tree(), tree()
    route = ours.route("camera", "lidar")
    assert route is not None

    def read(*, sealed: bool) -> None:
        made: Any = ours if sealed else theirs
        for raw in raws:
            message = Sealed(raw, TF_MESSAGE)
            made.move(message if sealed else typestore().deserialize_cdr(raw, TF_MESSAGE))

    def ask() -> None:
        for k in range(MESSAGES):
            stamp_ns = START + k * SECOND // HZ + 3 * MS
            ours.follow(route, Moment(stamp_ns, stamp_ns))

    variants = {
        "wire": lambda: read(sealed=True),
        "whole": lambda: read(sealed=False),
        "asked": ask,
    }
    spent: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(7):
        for name, act in variants.items():
            start_s = time.process_time()
            act()
            spent[name].append((time.process_time() - start_s) / MESSAGES)
    took = {name: statistics.median(each) for name, each in spent.items()}
    return {
        "/tf, 40 transforms at 100 Hz, share of a core": took["wire"] * HZ,
        "/tf off the wire, times faster than deserialized": took["whole"] / took["wire"],
        "/tf, one way at one time, us": took["asked"] * 1e6,
    }


if __name__ == "__main__":
    for name, value in run().items():
        print(f"{name}: {value:.3g}")
