"""What four healthy sensors see of a plain scene: smooth, textured, moving, slightly noisy.

Random pixels will not do: content checks call them noise, rightly, and nothing behind would be
tried. Cheap enough for hours of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import cv2
import numpy as np

from robustseg_core.codecs.events.evt3 import encode_evt3
from robustseg_core.faults._base import with_stamp
from robustseg_core.segmenter import Segmenter
from robustseg_core.types import SECOND
from support.drives import EPOCH, OPTICAL, RATES
from support.makers import camera_info, events, image, transform, xyz

H, W = 48, 64
POOL = 32
"""Different messages of a sensor; then they begin anew. More than a freeze detector compares."""
_EVENTS = 60


def place(segmenter: Segmenter, cameras: Iterable[str] = ("rgb", "event")) -> None:
    """Tell where the sensors are: the CameraInfo of these, and the LiDAR's transform."""
    for name in cameras:
        segmenter.push_camera_info(name, camera_info(H, W, fx=60.0))
    segmenter.push_transforms(transform("camera", "lidar", quaternion=OPTICAL))


def healthy(name: str, k: int, stamp_ns: int, *, start_s: float = 0.0) -> Any:
    """The k-th message of a sensor.

    Args:
        name: the modality.
        k: counts from 0; an event packet holds the time from k to k + 1 periods after `start_s`.
        stamp_ns: its header stamp.
        start_s: what the event camera's own clock said at the beginning.
    """
    if name == "event":
        return _packet(k, stamp_ns, start_s)
    return with_stamp(_pool(name)[k % POOL], stamp_ns)


@cache
def _pool(name: str) -> list[Any]:
    make = {"rgb": _image, "depth": _depth, "lidar": _cloud}[name]
    return [make(np.random.default_rng([k, *name.encode()]), k) for k in range(POOL)]


def texture(random: np.random.Generator, k: int, shape: tuple[int, ...] = (H, W, 3)) -> Any:
    """(H, W[, C]) float in 0..1: a landscape of soft spots that drifts with `k`, and some noise."""
    height, width = shape[:2]
    spots = np.random.default_rng(7).uniform(0.1, 0.9, (8, 12, *shape[2:]))
    large = cv2.resize(spots, (width + POOL, height), interpolation=cv2.INTER_CUBIC)
    seen = large[:, k % POOL : k % POOL + width]
    return np.clip(seen + random.normal(0, 0.006, seen.shape), 0, 1)


def _image(random: np.random.Generator, k: int) -> Any:
    return image((texture(random, k) * 255).astype(np.uint8), "rgb8", EPOCH)


def _depth(random: np.random.Generator, k: int) -> Any:
    metres = 3 + 4 * texture(random, k, (H, W))
    metres[:4] = 0
    return image((metres * 1000).astype(np.uint16), "16UC1", EPOCH)


def _cloud(random: np.random.Generator, k: int) -> Any:
    """A round room with soft walls, 16 lasers, 180 shots each; x forward, z up."""
    azimuth = np.tile(np.linspace(-np.pi, np.pi, 180, endpoint=False), 16)
    elevation = np.repeat(np.radians(np.linspace(-12, 12, 16)), 180)
    range_m = 12 + 3 * np.sin(3 * azimuth + k / 5) + random.normal(0, 0.01, azimuth.size)
    flat = range_m * np.cos(elevation)
    points = [flat * np.cos(azimuth), flat * np.sin(azimuth), range_m * np.sin(elevation)]
    return xyz(np.column_stack(points), stamp_ns=EPOCH)


def _packet(k: int, stamp_ns: int, start_s: float) -> Any:
    random = np.random.default_rng([k, 11])
    period_us = 1_000_000 // RATES["event"]
    t_us = np.sort(random.integers(0, period_us, _EVENTS)) + k * period_us
    x, y = random.integers(0, W, _EVENTS), random.integers(0, H, _EVENTS)
    words = encode_evt3(x, y, random.integers(0, 2, _EVENTS), t_us + round(start_s * 1e6))
    return events(words, stamp_ns, seq=k, height=H, width=W)


def arrivals(seconds: float, *, start_s: float = 0.0) -> Any:
    """(arrival in ns, modality, message) of all four, in order; clocks begin at `start_s`."""
    counts = dict.fromkeys(RATES, 0)
    while True:
        name = min(counts, key=lambda n: (counts[n] / RATES[n], n))
        k = counts[name]
        at_ns = round(k * SECOND / RATES[name])
        if at_ns >= seconds * SECOND:
            return
        counts[name] += 1
        stamp_ns = EPOCH + round(start_s * SECOND) + at_ns
        yield at_ns, name, healthy(name, k, stamp_ns, start_s=start_s)
