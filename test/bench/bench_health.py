"""What it costs to judge a message, beside decoding it; targets: a millisecond a camera frame.

Run it alone: `python test/bench/bench_health.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parents[level]) for level in (0, 1, 2)]

from bench_decode import medians_ms  # noqa: E402

from robustseg_core import modalities  # noqa: E402
from robustseg_core.codecs.events.evt3 import encode_evt3  # noqa: E402
from support import makers  # noqa: E402

RNG = np.random.default_rng(1)
ROUNDS = 40


def scene(height: int, width: int) -> np.ndarray:
    """(H, W, 3) uint8: structure at all scales, and noise."""
    coarse = RNG.integers(20, 236, (height // 20, width // 20, 3)).astype(np.float32)
    large = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(large + RNG.normal(0, 4, large.shape), 0, 255).astype(np.uint8)


def metres(height: int, width: int) -> np.ndarray:
    """(H, W) uint16 millimetres of rolling hills with some invalid pixels."""
    far = cv2.resize(RNG.uniform(800, 9000, (12, 16)).astype(np.float32), (width, height))
    far[RNG.random(far.shape) < 0.05] = 0
    return far.astype(np.uint16)


def cloud(count: int, rings: int = 64) -> Any:
    """A sweep that turns: x y z intensity and the number of the laser."""
    table = np.zeros(count, [(n, "<f4") for n in ("x", "y", "z", "intensity")] + [("ring", "<u2")])
    ring = np.arange(count) % rings
    angle, tilt = np.linspace(-np.pi, np.pi, count), np.radians(-25 + 35 * ring / rings)
    range_m = 12 + 5 * np.sin(3 * angle) + RNG.normal(0, 0.02, count)
    table["x"], table["y"] = range_m * np.cos(angle), range_m * np.sin(angle)
    table["z"], table["ring"] = range_m * np.tan(tilt), ring
    return makers.cloud(table)


def packet(k: int, count: int = 2000) -> Any:
    """The k-th four milliseconds at half a million events a second."""
    t_us = np.sort(RNG.integers(0, 4000, count)) + k * 4000
    x, y = RNG.integers(0, 640, count), RNG.integers(0, 480, count)
    return makers.events(encode_evt3(x, y, RNG.integers(0, 2, count), t_us), seq=k)


def judged(name: str, messages: list[Any]) -> Callable[[], Any]:
    """Judges all the messages in turn, with a memory full of them: some checks are rare."""
    modality = modalities.load(name)()
    decoded = [modality.decode(message, k * 4_000_000) for k, message in enumerate(messages)]

    def once() -> Any:
        return [list(modality.check(data)) for data in decoded]

    for _ in range(400 // len(messages) + 1):
        once()
    return once


def run() -> dict[str, float]:
    """Every figure, by name: milliseconds, and shares of the time that decoding takes."""
    pixels = scene(1200, 1920)
    shifted = [np.roll(pixels, k, axis=1) for k in (0, 9, 17)]
    relief = metres(480, 640)
    cases = {
        "rgb 1920x1200": ("rgb", [makers.image(p, "bgr8") for p in shifted]),
        "rgb 1920x1200 jpeg": ("rgb", [makers.compressed(p) for p in shifted]),
        "depth 640x480": ("depth", [makers.image(np.roll(relief, k), "16UC1") for k in (0, 3, 5)]),
        "lidar 100k": ("lidar", [cloud(100_000) for _ in range(3)]),
        "event packet of 2000": ("event", [packet(k) for k in range(150)]),
    }
    found: dict[str, float] = {}
    for label, (name, messages) in cases.items():
        modality, once = modalities.load(name)(), judged(name, messages)
        variants = {"judge": once, "decode": lambda m=modality, d=messages[0]: m.decode(d, 0)}
        took = medians_ms(variants, ROUNDS)
        each_ms = took["judge"] / len(messages)
        found[f"judge {label}, ms"] = each_ms
        found[f"judge {label} / decode"] = each_ms / took["decode"]
    kinds = ("rgb 1920x1200", "depth 640x480", "lidar 100k", "event packet of 2000")
    found["judge one message of each, ms"] = sum(found[f"judge {kind}, ms"] for kind in kinds)
    return found


if __name__ == "__main__":
    for figure, value in run().items():
        print(f"{figure:45} {value:10.3f}")
