"""How long a payload takes to become an array, beside the cheapest and the usual ways.

Run it alone: `python test/bench/bench_decode.py`. Rivals are interleaved, medians are reported.
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

from robustseg_core.codecs.events.evt3 import Evt3Decoder  # noqa: E402
from robustseg_core.geometry.view import View  # noqa: E402
from robustseg_core.modalities.depth import Depth  # noqa: E402
from robustseg_core.modalities.event import Event  # noqa: E402
from robustseg_core.modalities.lidar import Lidar  # noqa: E402
from robustseg_core.modalities.rgb import Rgb  # noqa: E402
from robustseg_core.types import Reading  # noqa: E402
from support import makers  # noqa: E402

RNG = np.random.default_rng(1)
GRID = (384, 512)


def medians_ms(rivals: dict[str, Callable[[], Any]], rounds: int = 15) -> dict[str, float]:
    """Median time of each rival, taken in turn so that a busy machine hurts all alike."""
    times: dict[str, list[float]] = {name: [] for name in rivals}
    for turn in range(rounds + 1):
        for name, run_once in rivals.items():
            start = time.perf_counter()
            run_once()
            if turn:  # the first one compiles and warms up
                times[name].append((time.perf_counter() - start) * 1e3)
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
    return took | encode


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
