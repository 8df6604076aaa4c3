"""Faults that are in no vocabulary, one by one on a healthy drive: is anything said, and of whom?

    python test/bench/unlisted.py DRIVE.mcap [NAME ...]

Each is done to one sensor from second 4 on; a line says what health and evidence said of that
sensor, after how many seconds, and what they said of others. The first line is a drive to which
nothing is done. No network runs. Most of these were looked at while checks were written, so the
count is no figure of what nobody thought of.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from robustseg_core import modalities
from robustseg_core.bag.reader import Bag
from robustseg_core.faults import FaultSpec, schedule
from robustseg_core.faults.kinds._seen import Seen
from robustseg_core.models.checkpoint import default_spec
from robustseg_core.recording.inject import FaultyBag
from robustseg_core.robustness import perform
from robustseg_core.robustness.observe import Watched

BEGINS_S = 4.0
KINDS: dict[tuple[str, str], type[Seen]] = {}
PLAIN = {"starting", "recovering"}


def fault(method: str, *sensors: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Put a change of what a kind of sensor shows among the faults."""

    def kept(change: Callable[..., Any]) -> Callable[..., Any]:
        body = {method: lambda self, *given: change(*given), "__module__": __name__}
        for sensor in sensors:
            KINDS[sensor, change.__name__] = type(change.__name__, (Seen,), body)
        return change

    return kept


rgb, depth = fault("picture", "rgb"), fault("metres", "depth")
event, lidar = fault("brightness", "event"), fault("points", "lidar")


@rgb
def nothing(image, state):
    return image


@rgb
def upside_down(image, state):
    return np.ascontiguousarray(image[::-1, ::-1])


@rgb
def gray_only(image, state):
    return np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, -1)


@rgb
def posterized(image, state):
    return image // 64 * 64


@rgb
def inverted(image, state):
    return 255 - image


@rgb
def dead_rows(image, state):
    image[::4] = 0
    return image


@rgb
def dead_columns(image, state):
    image[:, ::3] = 255
    return image


@rgb
def torn(image, state):
    before, state.memory["image"] = state.memory.get("image", image), image.copy()
    image[: len(image) // 2] = before[: len(image) // 2]
    return image


@rgb
def rolled(image, state):
    return np.roll(image, image.shape[1] // 2, 1)


@rgb
def low_resolution(image, state):
    height, width = image.shape[:2]
    small = cv2.resize(image, (width // 12, height // 12), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


@rgb
def lost_blocks(image, state):
    side = image.shape[1] // 10
    for _ in range(30):
        row, column = (state.rng.integers(n - side) for n in image.shape[:2])
        image[row : row + side, column : column + side] = 128
    return image


@rgb
def motion_blur(image, state):
    return cv2.filter2D(image, -1, np.full((1, image.shape[1] // 16), 16 / image.shape[1]))


@rgb
def more_green(image, state):
    return np.clip(image * np.array([1, 1.6, 1]), 0, 255).astype(np.uint8)


@rgb
def gamma(image, state):
    return (255 * (image / 255) ** 0.4).astype(np.uint8)


@rgb
def low_contrast(image, state):
    return (128 + (image.astype(np.float32) - 128) / 4).astype(np.uint8)


@rgb
def zoomed(image, state):
    height, width = image.shape[:2]
    inner = image[height // 4 : -(height // 4), width // 4 : -(width // 4)]
    return cv2.resize(inner, (width, height))


@rgb
def leaning_30(image, state):
    height, width = image.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), 30, 1)
    return cv2.warpAffine(image, turn, (width, height))


@rgb
def shaking(image, state):
    reach = image.shape[1] // 16
    return np.roll(image, tuple(state.rng.integers(-reach, reach + 1, 2)), (0, 1))


@rgb
def drops(image, state):
    height, width = image.shape[:2]
    rng = state.rng
    if "drops" not in state.memory:
        state.memory["drops"] = [
            (*rng.integers((width, height)), rng.integers(15, 45)) for _ in range(25)
        ]
    drawn = state.memory["drops"]
    lens = np.zeros((height, width), np.uint8)
    for x, y, radius in drawn:
        cv2.circle(lens, (int(x), int(y)), int(radius * width / 640), 1, -1)
    return np.where(lens[..., None] > 0, cv2.GaussianBlur(image, (0, 0), width / 53), image)


@rgb
def flare(image, state):
    height, width = image.shape[:2]
    y, x = np.mgrid[:height, :width]
    away = (x - 0.6 * width) ** 2 + (y - 0.3 * height) ** 2
    light = 220 * np.exp(-away / (2 * (width / 4) ** 2))
    return np.clip(image + light[..., None], 0, 255).astype(np.uint8)


@rgb
def colored_noise(image, state):
    return np.clip(image + state.rng.normal(0, 50, image.shape), 0, 255).astype(np.uint8)


@rgb
def every_other_is_old(image, state):
    if state.count % 2:
        state.memory["image"] = image.copy()
    return state.memory["image"]


@depth
def half_a_metre_more(metres, state):
    return metres + 0.5


@depth
def times_1_3(metres, state):
    return metres * 1.3


@depth
def no_farther_than_5_m(metres, state):
    return np.where(metres > 5, np.nan, metres)


@depth
def steps_of_2_m(metres, state):
    return np.round(metres / 2) * 2


@depth
def smoothed(metres, state):
    return cv2.GaussianBlur(np.nan_to_num(metres), (0, 0), metres.shape[1] / 53)


@depth
def top_to_bottom(metres, state):
    return metres[::-1].copy()


@depth
def inverse(metres, state):
    return np.clip(1 / metres, 0.2, 40)


@depth
def white_noise(metres, state):
    return metres * np.exp(state.rng.normal(0, 0.15, metres.shape))


@depth
def blind_on_the_left(metres, state):
    metres[:, : metres.shape[1] // 2] = np.nan
    return metres


@depth
def every_other_row(metres, state):
    metres[::2] = np.nan
    return metres


@depth
def bleeding_edges(metres, state):
    side = metres.shape[1] // 25
    return cv2.dilate(np.nan_to_num(metres), np.ones((side, side)))


@depth
def a_second_old(metres, state):
    kept = state.memory.setdefault("kept", [])
    kept.append(metres.copy())
    return kept[max(0, len(kept) - 11)].copy()


@depth
def shaken(metres, state):
    reach = metres.shape[1] // 16
    return np.roll(metres, int(state.rng.integers(-reach, reach + 1)), 1)


@event
def polarity(seen, size, state):
    x, y, p, t = seen
    return x, y, 1 - p, t


@event
def few(seen, size, state):
    kept = state.rng.random(len(seen[0])) < 0.1
    return tuple(column[kept] for column in seen)


@event
def x_for_y(seen, size, state):
    x, y, p, t = seen
    return y * size[1] // size[0], x * size[0] // size[1], p, t


@event
def upside(seen, size, state):
    x, y, p, t = seen
    return x, size[0] - 1 - y, p, t


@event
def half_of_the_sensor(seen, size, state):
    kept = seen[0] > size[1] // 2
    return tuple(column[kept] for column in seen)


@event
def random_places(seen, size, state):
    x, _, p, t = seen
    return state.rng.integers(0, size[1], len(x)), state.rng.integers(0, size[0], len(x)), p, t


@event
def an_eighth_to_the_right(seen, size, state):
    x, y, p, t = seen
    return (x + size[1] // 8) % size[1], y, p, t


@event
def a_row_that_rattles(seen, size, state):
    x, y, p, t = seen
    return x, np.where(state.rng.random(len(x)) < 0.5, 17, y), p, t


def moved(change: Callable[[np.ndarray, Any], np.ndarray]) -> Callable[..., Any]:
    """A scan with its points (3, ...) elsewhere."""

    def made(points, state):
        points.put(change(points.xyz(), state))
        return points.message()

    made.__name__ = change.__name__
    return made


@lidar
def no_intensity(points, state):
    points.dim(0.0)
    return points.message()


@lidar
@moved
def times_1_2(xyz, state):
    return xyz * 1.2


@lidar
@moved
def mounted_upside_down(xyz, state):
    return xyz * np.reshape([1, 1, -1], (3, *[1] * (xyz.ndim - 1)))


@lidar
@moved
def turned_by_90(xyz, state):
    return np.stack([-xyz[1], xyz[0], xyz[2]])


@lidar
@moved
def y_for_x(xyz, state):
    return np.stack([xyz[1], xyz[0], xyz[2]])


@lidar
@moved
def noise_of_30_cm(xyz, state):
    return xyz + state.rng.normal(0, 0.3, xyz.shape)


@lidar
@moved
def ghosts(xyz, state):
    return np.where(state.rng.random(xyz.shape[1:]) < 0.3, xyz * 0.5, xyz)


@lidar
@moved
def a_metre_lower(xyz, state):
    return np.stack([xyz[0], xyz[1], xyz[2] - 1])


@lidar
@moved
def steps_of_half_a_metre(xyz, state):
    return np.round(xyz * 2) / 2


@lidar
@moved
def tilted_by_10(xyz, state):
    sine, cosine = np.sin(np.radians(10)), np.cos(np.radians(10))
    return np.stack([xyz[0] * cosine + xyz[2] * sine, xyz[1], xyz[2] * cosine - xyz[0] * sine])


@lidar
def half_of_each_turn(points, state):
    return points.lose((points.xyz()[1] > 0) == (state.count % 2 == 0))


@lidar
def no_farther_than_8_m(points, state):
    return points.lose(np.linalg.norm(points.xyz(), axis=0) > 8)


@lidar
def four_in_ten(points, state):
    return points.lose(state.rng.random(points.xyz().shape[1:]) < 0.6)


class Catalog:
    """The vocabulary, and what is not in it."""

    def __init__(self, known: Any) -> None:
        self._known = known

    def load(self, name: str) -> type:
        """The fault of this name."""
        for (sensor, word), kind in KINDS.items():
            if name == f"{sensor} {word}":
                return kind
        return self._known.load(name)


def said(bag: Bag, robot: Any, sensor: str, name: str) -> tuple[dict[str, float], list[str]]:
    """fault -> seconds after which it was said of the sensor, and what was said of others."""
    spec = default_spec(modalities.ranked(sorted(robot.topics)), size=(160, 256))
    faults = [FaultSpec(sensor, f"{sensor} {name}", {}, BEGINS_S)]
    broken = FaultyBag(bag, faults, seed=0, topics=robot.topics)
    watched = Watched(robot, spec, start_ns=bag.start_ns)
    clip = perform.Clip(broken)
    perform._replay(clip, watched.segmenter, None, every_ns=perform.EVERY_NS)
    own, others = {}, []
    for who, what in watched.said.items():
        for at_s, found in what:
            if at_s < BEGINS_S or found.value in PLAIN:
                continue
            if who == sensor:
                own.setdefault(found.value, round(at_s - BEGINS_S, 1))
            elif f"{who}: {found.value}" not in others:
                others.append(f"{who}: {found.value}")
    return own, others


def main() -> None:
    """A line for each."""
    logging.disable(logging.CRITICAL)
    schedule.catalog = Catalog(schedule.catalog)
    drive, wanted, named = Path(sys.argv[1]), sys.argv[2:], 0
    with Bag([drive]) as bag:
        robot = perform.robot_for(bag, None, ("weights=untrained",))
        asked = [key for key in KINDS if not wanted or key[1] in wanted]
        for sensor, name in asked:
            own, others = said(bag, robot, sensor, name)
            named += bool(own) and name != "nothing"
            told = ", ".join(f"{word} {at_s} s" for word, at_s in own.items()) or "-"
            also = f"   ({', '.join(others)})" if others else ""
            print(f"{sensor:6s} {name:24s} {told}{also}", flush=True)
    print(f"{named} of {len([1 for _, name in asked if name != 'nothing'])} named")


if __name__ == "__main__":
    main()
