"""How long a payload takes to become an array, beside the cheapest and the usual ways.

Run it alone: `python test/bench/bench_decode.py`. Variants are interleaved, medians are reported.
"""

from __future__ import annotations

import statistics
import struct
import sys
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parents[level]) for level in (1, 2)]

from robustseg_core.codecs import events as formats  # noqa: E402
from robustseg_core.codecs.event_cloud import EventCloudDecoder  # noqa: E402
from robustseg_core.codecs.events.event_array import COUNT, FIRST, ROWS, STRIDE  # noqa: E402
from robustseg_core.codecs.events.evt3 import Evt3Decoder, encode_evt3  # noqa: E402
from robustseg_core.geometry.view import View  # noqa: E402
from robustseg_core.modalities.depth import Depth  # noqa: E402
from robustseg_core.modalities.event import Event  # noqa: E402
from robustseg_core.modalities.lidar import Lidar  # noqa: E402
from robustseg_core.modalities.rgb import Rgb  # noqa: E402
from robustseg_core.types import Reading  # noqa: E402
from support import makers  # noqa: E402

RNG = np.random.default_rng(1)
GRID = (384, 512)


def medians_ms(variants: dict[str, Callable[[], Any]], rounds: int = 15) -> dict[str, float]:
    """Median CPU time of each variant, all threads, in turn: a busy machine hurts all alike."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(rounds + 1):
        for name, run_once in variants.items():
            start = time.process_time()
            run_once()
            if turn:  # the first one compiles and warms up
                times[name].append((time.process_time() - start) * 1e3)
    return {name: statistics.median(taken) for name, taken in times.items()}


def images() -> dict[str, float]:
    """A 1920x1200 rgb8 image as rclpy hands it over."""
    pixels = RNG.integers(0, 256, (1200, 1920, 3), np.uint8)
    message = makers.image(pixels, "rgb8")
    data = array("B", pixels.tobytes())
    message.data = data
    rgb, view = Rgb(), View(GRID)
    decoded = rgb.decode(message, 0)
    took = medians_ms(
        {
            "image view (frombuffer)": lambda: np.frombuffer(data, np.uint8).reshape(1200, 1920, 3),
            "image decode": lambda: rgb.decode(message, 0),
            "image copy (what cv_bridge does at least)": lambda: np.frombuffer(
                data, np.uint8
            ).copy(),
            "image digest": lambda: rgb.digest(message),
            "image judge": lambda: list(rgb.check(decoded)),
            "image encode": lambda: rgb.encode([Reading("rgb", 0, "", decoded)], view, 0),
        }
    )
    depth_m = RNG.uniform(0.5, 9, (480, 640)).astype(np.float32)
    frame = makers.image((depth_m * 1000).astype(np.uint16), "16UC1")
    depth = Depth()
    return took | medians_ms(
        {
            "depth decode": lambda: depth.decode(frame, 0),
            "depth judge": lambda: list(depth.check(depth_m)),
            "depth encode": lambda: depth.encode([Reading("depth", 0, "", depth_m)], view, 0),
        }
    )


def clouds() -> dict[str, float]:
    """A 120 000-point cloud, from message to projected image."""
    points = RNG.normal(0, 20, (120_000, 3)).astype(np.float32)
    message = makers.xyz(points)
    message.data = array("B", message.data.tobytes())
    view = View(GRID)
    view.set_camera_info("rgb", makers.camera_info())
    view.add_transforms(makers.transform("camera", "lidar"))
    lidar = Lidar(encoding={"grow": 1})
    camera = view.camera

    def ours() -> np.ndarray:
        return lidar.encode([Reading("lidar", 0, "lidar", lidar.decode(message, 0))], view, 0)

    def point_by_point() -> np.ndarray:
        """The generator of points that tutorials project with."""
        image = np.zeros((3, *GRID), np.float32)
        nearest = np.full(GRID, np.inf)
        data = bytes(message.data)
        for at in range(0, len(data), message.point_step):
            x, y, z, intensity = struct.unpack_from("<ffff", data, at)
            if z <= 1e-3:
                continue
            col = (x / z * camera.fx + camera.cx + 0.5) * GRID[1] / camera.width
            row = (y / z * camera.fy + camera.cy + 0.5) * GRID[0] / camera.height
            if 0 <= row < GRID[0] and 0 <= col < GRID[1] and z < nearest[int(row), int(col)]:
                nearest[int(row), int(col)] = z
                distance = (x * x + y * y + z * z) ** 0.5
                image[:, int(row), int(col)] = (
                    min(max(distance / 80, 1 / 255), 1),
                    intensity,
                    min(max((-y + 5) / 20, 1 / 255), 1),
                )
        return image

    differ = float((np.abs(ours() - point_by_point()) > 1e-4).mean())
    if differ > 1e-3:  # pixels on an edge may round differently
        raise SystemExit(f"the two projections differ in {differ:.2%} of the values")
    cloud = lidar.decode(message, 0)
    took = medians_ms(
        {
            "cloud decode": lambda: lidar.decode(message, 0),
            "cloud to image": ours,
            "cloud to image, point by point": point_by_point,
            "cloud judge": lambda: list(Lidar().check(cloud)),
        },
        rounds=7,
    )
    ratio = took["cloud to image, point by point"] / took["cloud to image"]
    return took | {"cloud to image, times faster": ratio}


def events() -> dict[str, float]:
    """EVT3 in packets of 16 000 words: events alone (as recorded), and vectors."""
    count = 1_000_000
    kinds = RNG.choice([0x0, 0x2, 0x2, 0x6], count)  # a row and a time word per event or so
    single = (kinds << 12 | RNG.integers(0, 480, count)).astype("<u2")
    single[0:4] = 0x8001, 0x6001, 0x0001, 0x2001
    single[500::500] = 0x8001
    vector = np.where(np.arange(count) % 8 == 0, 0x3000, 0x4000) | RNG.integers(0, 400, count)
    vector = vector.astype("<u2")
    vector[0:4] = 0x8001, 0x6001, 0x0001, 0x3001
    took = {}
    for name, words in {"single": single, "vectors": vector}.items():
        decoder = Evt3Decoder(640, 480)
        packets = [array("B", words[i : i + 16_000].tobytes()) for i in range(0, count, 16_000)]
        found = sum(len(decoder.decode(packet).t) for packet in packets)

        def all_packets(decoder=decoder, packets=packets) -> None:
            for packet in packets:
                decoder.decode(packet)

        ms = medians_ms({"": all_packets})[""]
        took[f"evt3 {name}, M events/s"] = found / ms / 1e3
        took[f"evt3 {name}, M words/s"] = count / ms / 1e3
    camera, view = Event(), View(GRID)
    readings = []
    for seq in range(20):  # 20 packets of 4 ms
        words = np.array([0x8001 + seq, 0x6001], "<u2").tobytes()
        message = makers.events(np.frombuffer(words + single[4:16_000].tobytes(), "<u2"), seq=seq)
        readings.append(Reading("event", 0, "", camera.decode(message, seq * 2_500_000)))
    encode = medians_ms(
        {"event encode, 50 ms window": lambda: camera.encode(readings, view, 50_000_000)}
    )
    return took | encode | event_formats()


def event_formats() -> dict[str, float]:
    """The same scene in every format, 4000 events a packet, each beside evt3; CPU seconds.

    An edge that moves: rows of a few neighbors that fire together, as sensors read them out.
    """
    count, each = 400_000, 4000
    start = RNG.integers(0, 630, count // 4)
    x = (start[:, None] + np.arange(4)).ravel()
    y = RNG.integers(0, 480, count // 4).repeat(4)
    p = RNG.integers(0, 2, count // 4).repeat(4)
    t = np.sort(RNG.integers(0, 200_000, count // 4)).repeat(4)
    variants: dict[str, Callable[[], Any]] = {}
    for name, packet in _WRITERS.items():
        pieces = [slice(at, at + each) for at in range(0, count, each)]
        packets = [packet(x[part], y[part], p[part], t[part]) for part in pieces]
        decode = _reader(name)
        found = sum(len(decode(part).t) for part in packets)
        if found != count:
            raise SystemExit(f"{name} holds {found} events, not {count}")

        def all_packets(decode=decode, packets=packets) -> None:
            for part in packets:
                decode(part)

        variants[name] = all_packets
    took: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(15):
        for name, run_once in variants.items():
            before = time.process_time()
            run_once()
            took[name].append(time.process_time() - before)
    rate = {name: count / statistics.median(seconds) / 1e6 for name, seconds in took.items()}
    figures = {f"{name}, M events/s": value for name, value in rate.items() if name != "evt3"}
    return figures | {
        f"{name}, times evt3": value / rate["evt3"]
        for name, value in rate.items()
        if name != "evt3"
    }


def _reader(name: str) -> Callable[[Any], Any]:
    if name == "cloud x y t p":
        return EventCloudDecoder().decode
    return formats.load(name)(640, 480).decode


def _evt2(x: Any, y: Any, p: Any, t: Any) -> bytes:
    event = p << 28 | (t & 63) << 22 | x << 11 | y
    return _with_clock(event, 8 << 28 | t >> 6, t >> 6).astype("<u4").tobytes()


def _evt21(x: Any, y: Any, p: Any, t: Any) -> bytes:
    x, y, p, t = (column[::4].astype(np.uint64) for column in (x, y, p, t))  # four of a row a word
    high = p << 28 | (t & 63) << 22 | x << 11 | y
    clock = 8 << 60 | t >> 6 << 32
    return _with_clock(high << 32 | 15, clock, t >> 6).astype("<u8").tobytes()


def _with_clock(event: Any, clock: Any, high: Any) -> np.ndarray:
    """The words of the clock wherever it has moved on."""
    moved = np.diff(high.astype(np.int64), prepend=-1) != 0
    return np.insert(event, np.flatnonzero(moved), clock[moved])


def _mono(x: Any, y: Any, p: Any, t: Any) -> bytes:
    x, y, p, t = (column.astype(np.uint64) for column in (x, y, p, t))
    return (p << 63 | y << 48 | x << 32 | t * 1000).astype("<u8").tobytes()


def _libcaer(x: Any, y: Any, p: Any, t: Any) -> bytes:
    return np.stack([x << 17 | y << 2 | p << 1 | 1, t], axis=1).astype("<u4").tobytes()


def _libcaer_cmp(x: Any, y: Any, p: Any, t: Any) -> bytes:
    """A column at a time, so that it has vectors: x and y of the scene change places."""
    x, y, p, t = y[::4], x[::4] % 470, p[::4], t[::4]
    words = [
        0 << 12 | t >> 12,
        1 << 12 | t & 4095,
        2 << 12 | x,
        4 << 12 | p << 11 | y,
        5 << 12 | 15,
    ]
    return np.stack(np.broadcast_arrays(*words), axis=1).astype("<u2").tobytes()


def _event_array(x: Any, y: Any, p: Any, t: Any) -> bytes:
    data = np.zeros(COUNT + STRIDE * len(x) - 3, np.uint8)
    rows = np.ndarray(len(x), ROWS, data.data, FIRST, (STRIDE,))
    rows["x"], rows["y"], rows["p"], rows["nsec"] = x, y, p, t * 1000
    data[:8] = np.frombuffer(struct.pack("<IHH", len(x), x[0], y[0]), np.uint8)
    return data.tobytes()


def _cloud(x: Any, y: Any, p: Any, t: Any) -> Any:
    return makers.event_cloud(list(zip(x, y, p, t, strict=True)))


_WRITERS: dict[str, Callable[..., Any]] = {
    "evt3": lambda x, y, p, t: encode_evt3(x, y, p, t).tobytes(),
    "evt2": _evt2,
    "evt21": _evt21,
    "mono": _mono,
    "libcaer": _libcaer,
    "libcaer_cmp": _libcaer_cmp,
    "event_array": _event_array,
    "cloud x y t p": _cloud,
}
"""Format -> what writes a packet of it, of columns that are sorted by time."""


def run() -> dict[str, float]:
    """Every figure, by name: milliseconds unless the name says otherwise."""
    return images() | clouds() | events()


def main() -> None:
    """Print the figures, and whether the two promised ones are kept."""
    figures = run()
    for name, value in figures.items():
        print(f"{name:45} {value:10.3f}")
    cloud = figures["cloud to image, times faster"] >= 20
    evt3 = figures["evt3 single, M events/s"] >= 30
    print(f"cloud >= 20 times faster: {cloud}; evt3 >= 30 M events/s: {evt3}")


if __name__ == "__main__":
    main()
