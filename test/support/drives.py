"""A synthetic drive of four healthy sensors, as messages, as a bag, and through a segmenter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from robustseg_core import config
from robustseg_core.bag import BagWriter
from robustseg_core.codecs.events.evt3 import encode_evt3
from robustseg_core.engines.blank import blank
from robustseg_core.engines.eager import EagerEngine, pick_device
from robustseg_core.faults import Injector, parse_fault
from robustseg_core.models import checkpoint
from robustseg_core.robot.config import RobotConfig
from robustseg_core.segmenter import Segmenter
from robustseg_core.types import SECOND
from support.makers import camera_info, cloud, events, image, make, transform

EPOCH = 1_700_000_000 * SECOND
RATES = {"rgb": 20, "depth": 10, "event": 40, "lidar": 10}
ALL = tuple(RATES)
TOPICS = {name: f"/{name}" for name in ALL}
LABEL = "/camera/label"
SIZE = (32, 64)
OPTICAL = (0.5, -0.5, 0.5, 0.5)
"""x forward of the LiDAR is z of the camera."""
PLACED = ("lidar",)
"""Sensors whose points have a frame of their own, turned so."""


_WORLD = np.random.default_rng(7)
_COLORS = cv2.resize(_WORLD.uniform(30, 230, (12, 64, 3)), (256, 48), interpolation=cv2.INTER_CUBIC)
_RELIEF_MM = cv2.resize(_WORLD.uniform(2500, 5000, (6, 32)), (256, 48))
_RINGS, _COLUMNS = 15, 200


@cache
def message(name: str, k: int) -> Any:
    """The k-th message of a healthy sensor that drives past a world: structured, moving, noisy."""
    random = np.random.default_rng([k, *name.encode()])
    stamp_ns = EPOCH + round(k * SECOND / RATES[name])
    if name == "rgb":
        seen = np.roll(_COLORS, -k, axis=1)[:, :64] + random.normal(0, 4, (48, 64, 3))
        return image(np.clip(seen, 30, 250).astype(np.uint8), "rgb8", stamp_ns)
    if name == "depth":
        seen_mm = np.roll(_RELIEF_MM, -k, axis=1)[:, :64] + random.normal(0, 10, (48, 64))
        return image(seen_mm.astype(np.uint16), "16UC1", stamp_ns)
    if name == "lidar":
        return _sweep(k, stamp_ns, random)
    t_us = np.sort(random.integers(0, 25_000, 200)) + k * 25_000
    words = encode_evt3(
        random.integers(0, 64, 200), random.integers(0, 48, 200), random.integers(0, 2, 200), t_us
    )
    return events(words, stamp_ns, seq=k, height=48, width=64)


def _sweep(k: int, stamp_ns: int, random: np.random.Generator) -> Any:
    angle = np.linspace(-1.5, 1.5, _COLUMNS).repeat(_RINGS)
    ring = np.tile(np.arange(_RINGS), _COLUMNS)
    tilt = np.radians(-12 + ring)
    range_m = 17 + 12 * np.sin(3 * angle + k / 10) + random.normal(0, 0.02, angle.size)
    fields = [(name, "<f4") for name in ("x", "y", "z", "intensity")] + [("ring", "<u2")]
    table = np.zeros(angle.size, fields)
    table["x"] = range_m * np.cos(tilt) * np.cos(angle)
    table["y"] = range_m * np.cos(tilt) * np.sin(angle)
    table["z"] = range_m * np.sin(tilt)
    table["intensity"], table["ring"] = 0.5, ring
    return cloud(table, stamp_ns=stamp_ns)


def rows(seconds: float, names: Iterable[str] = ALL) -> list[tuple[int, str, Any]]:
    """(arrival, modality, message) of a healthy drive; arrival counts from 0."""
    return sorted(
        (
            (round(k * SECOND / RATES[name]), name, message(name, k))
            for name in names
            for k in range(round(seconds * RATES[name]))
        ),
        key=lambda row: row[:2],
    )


@cache
def engine() -> EagerEngine:
    model = checkpoint.untrained(checkpoint.default_spec(size=SIZE))
    return EagerEngine(model, pick_device("cpu"))


def robot(names: Iterable[str] = ALL) -> RobotConfig:
    return config.parse(RobotConfig, {"streams": {n: {"topic": TOPICS[n]} for n in names}})


def segmenter(names: Iterable[str] = ALL, *, network: bool = True) -> Segmenter:
    """That of a robot with these sensors; without the network its masks are blank, and cheap."""
    spec = engine().spec
    made = Segmenter(robot(names), spec, engine() if network else blank(spec))
    made.push_camera_info("rgb", camera_info(48, 64, fx=60.0))
    for name in PLACED:
        made.push_transforms(transform("camera", name, quaternion=OPTICAL))
    return made


def drive(
    made: Segmenter,
    arrivals: Iterable[tuple[int, str, Any]],
    watch: Callable[[int], None] = lambda now_ns: None,
) -> Iterator[tuple[int, Any]]:
    """(time, label map) of messages pushed as they arrive; `watch` is called after each."""
    now = 0
    for at, name, sent in arrivals:
        while (wake := made.wake_ns(now)) is not None and wake < at:
            now = wake
            if label_map := made.step(now):
                yield now, label_map
        now = at
        made.push(name, sent, now)
        watch(now)
        if label_map := made.step(now):
            yield now, label_map


def through(
    text: str, arrivals: Iterable[tuple[int, str, Any]], *, seed: int = 0
) -> list[tuple[int, str, Any]]:
    """Arrivals of a drive in which one fault happens."""
    injector = Injector([parse_fault(text)], seed=seed, topics=TOPICS, start_ns=0)
    samples = [s for at, name, m in arrivals for s in injector.feed(TOPICS[name], m, at)]
    samples += injector.flush()
    assert not injector.refused
    names = {topic: name for name, topic in TOPICS.items()}
    return [(s.time_ns, names[s.topic], s.message) for s in samples]


def truth(k: int) -> np.ndarray:
    """(48, 64) class ids: what the k-th camera image is said to show."""
    return np.random.default_rng(k).integers(0, 19, (48, 64)).astype(np.uint8)


def truths(seconds: float) -> list[tuple[int, str, Any]]:
    """A label beside every second camera image, as rows of a topic of their own."""
    times = [round(k * SECOND / RATES["rgb"]) for k in range(0, round(seconds * RATES["rgb"]), 2)]
    return [(t, LABEL, image(truth(2 * k), "mono8", EPOCH + t)) for k, t in enumerate(times)]


def write_drive(
    path: Path,
    seconds: float,
    extra: Iterable[tuple[int, str, Any]] = (),
    names: Iterable[str] = ALL,
) -> Path:
    """The same as a bag, with calibration, latched transforms and a topic that nobody knows.

    `extra` rows name a modality or a topic.
    """
    text = make("std_msgs/msg/String", data="hello")
    with BagWriter(path) as writer:
        for name in PLACED:
            tf = transform("camera", name, quaternion=OPTICAL)
            writer.write("/tf_static", "tf2_msgs/msg/TFMessage", tf, EPOCH, latched=True)
        info = camera_info(48, 64, fx=60.0)
        writer.write("/camera_info", "sensor_msgs/msg/CameraInfo", info, EPOCH)
        for at, name, sent in [*rows(seconds, names), *extra]:
            writer.write(TOPICS.get(name, name), sent.__msgtype__, sent, EPOCH + at)
            if name == "depth":
                writer.write("/chatter", "std_msgs/msg/String", text, EPOCH + at)
    return path
