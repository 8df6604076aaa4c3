"""Who shows something else than the others is found, and nobody else: turned, or elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustseg_core.evidence.crosscheck import EVERY_NS, CrossCheck
from robustseg_core.evidence.links import distances
from robustseg_core.evidence.pair import Level
from robustseg_core.evidence.sight import Sight, jumps, steps
from robustseg_core.types import MS, SECOND, Fault, Finding, Frame
from support.injuries import Injury, farther, mirrored, scaled, turned

pytestmark = pytest.mark.slow

SIZE = 80, 128
NAMES = ("rgb", "depth", "event", "lidar")
CELL_DEG = 0.75
LOOK_NS = 200 * MS
EXPOSED = 0.5
"""Of the way from one look to the next, how much of it events show."""
BROKEN_S, LIMIT_S = 4.0, 5.0
"""When a fault begins, and how long it may take to be found."""

Sights = dict[str, Sight]


class Street:
    """Boxes beside a road, that come nearer: a world that every sensor sees in its own way."""

    def __init__(self, seed: int, speed_m: float = 1.2) -> None:
        self.rng = np.random.default_rng(seed)
        self.speed_m = speed_m
        self.boxes = [self._box(self.rng.uniform(6, 60)) for _ in range(26)]

    def _box(self, z: float) -> tuple[float, ...]:
        side = self.rng.choice([-1, 1])
        x = side * self.rng.uniform(3, 14)
        return (z, x, self.rng.uniform(0.4, 3), self.rng.uniform(1, 7), self.rng.uniform(0, 1))

    def look(self, stamp_ns: int) -> Sights:
        """What the four show now; then the robot goes on."""
        near, gray = self._render()
        _, before = self._render(EXPOSED * self.speed_m)
        event = np.abs(gray - before)
        event += self.rng.random(SIZE) < 0.01
        noise = self.rng.normal(0, 0.01, SIZE).astype(np.float32)
        metres = np.where(near > 0, 1 / np.maximum(near, 1e-3), np.nan).astype(np.float32)
        metres *= np.exp(self.rng.normal(0, 0.01, SIZE)).astype(np.float32)
        scan = np.full(SIZE, np.nan, np.float32)
        scan[20::3] = metres[20::3]
        self._go_on()
        return {
            "rgb": Sight.of(stamp_ns, steps(gray + noise), light=np.log(gray + noise + 0.1)),
            "depth": Sight.of(stamp_ns, jumps(near, unknown=0.008), metres),
            "event": Sight.of(stamp_ns, np.sqrt(event), brighter=gray - before),
            "lidar": Sight.of(stamp_ns, jumps(np.nan_to_num(1 / scan).astype(np.float32)), scan),
        }

    def _go_on(self) -> None:
        gone = [(z - self.speed_m, *rest) for z, *rest in self.boxes]
        self.boxes = [box if box[0] > 3 else self._box(60) for box in gone]

    def _render(self, back_m: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        height, width = SIZE
        rows = np.arange(height) - 32.0
        road = np.where(rows > 0, rows / (95 * 1.5), 0).astype(np.float32)
        near = np.repeat(road[:, None], width, axis=1)
        gray = np.repeat(np.where(rows > 0, 0.35, 0.9)[:, None], width, axis=1).astype(np.float32)
        for z, x, wide, high, light in sorted(self.boxes, reverse=True):
            far = z + back_m
            left, right = (round(64 + 95 * (x + s * wide / 2) / far) for s in (-1, 1))
            top, bottom = (round(32 + 95 * y / far) for y in (1.5 - high, 1.5))
            at = np.s_[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
            near[at], gray[at] = 1 / far, light
        return near, gray


def drive(
    street: Street,
    seconds: float,
    *,
    names: tuple[str, ...] = NAMES,
    broken: str = "",
    injure: Callable[[Sights, int], Sight] | None = None,
    broken_s: float = BROKEN_S,
    mended_s: float = math.inf,
    quality: float = 1.0,
) -> Iterator[tuple[float, Mapping[str, Finding]]]:
    """(seconds since the start, what is held against whom), look by look.

    `quality` is what the broken sensor's own checks leave of its frames.
    """
    shown: Sights = {}
    check = CrossCheck(names, lambda frame: shown[frame.modality])
    for number in range(round(seconds * SECOND / LOOK_NS)):
        stamp_ns, now_s = number * LOOK_NS, number * LOOK_NS / SECOND
        shown = {name: sight for name, sight in street.look(stamp_ns).items() if name in names}
        left = dict.fromkeys(shown, 1.0)
        if injure is not None and broken_s <= now_s < mended_s:
            shown[broken], left[broken] = injure(shown, stamp_ns), quality
        empty = np.zeros((1, *SIZE), np.float32)
        check.look({n: Frame(n, stamp_ns, empty, left[n]) for n in shown}, stamp_ns, CELL_DEG)
        yield now_s, check.findings


def proven(looks: Iterator[tuple[float, Mapping[str, Finding]]]) -> list[tuple[float, str, Fault]]:
    """(seconds since the fault, sensor, fault) of whatever was proven, as it came."""
    found: list[tuple[float, str, Fault]] = []
    for now_s, findings in looks:
        for name, finding in findings.items():
            if finding.fatal and name not in [known for _, known, _ in found]:
                found.append((now_s - BROKEN_S, name, finding.fault))
    return found


@settings(max_examples=6)
@given(seed=st.integers(0, 2**20), speed=st.sampled_from([0.5, 1.2, 3.0]))
def test_nothing_is_held_against_sensors_that_agree(seed: int, speed: float) -> None:
    for _, findings in drive(Street(seed, speed), 8):
        assert not findings


def exchanged(sight: Sight) -> Sight:
    """ON and OFF."""
    assert sight.brighter is not None
    return replace(sight, brighter=-sight.brighter)


INJURIES: dict[str, tuple[tuple[str, ...], Injury, set[Fault]]] = {
    "yaw 6 degrees": (NAMES, turned(0, 8), {Fault.MISALIGNED}),
    "yaw -6 degrees": (("event", "lidar"), turned(0, -8), {Fault.MISALIGNED}),
    "pitch 6 degrees": (("rgb", "depth"), turned(8, 0), {Fault.MISALIGNED, Fault.UNRELATED}),
    "roll 8 degrees": (("rgb", "event"), turned(0, 0, 8), {Fault.MISALIGNED, Fault.UNRELATED}),
    "mirrored": (("event", "lidar"), mirrored, {Fault.MIRRORED}),
    "twice as far": (("depth", "lidar"), scaled(2), {Fault.RANGE_SCALE}),
    "polarity": (("event",), exchanged, {Fault.POLARITY}),
    "feet": (("depth", "lidar"), scaled(1 / 0.3048), {Fault.RANGE_SCALE}),
    "a tenth farther": (("depth", "lidar"), scaled(1.1), {Fault.RANGE_SCALE}),
    "half a metre more": (("depth", "lidar"), farther(0.5), {Fault.RANGE_SCALE}),
}


@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for kind, (names, *_) in INJURIES.items() for name in names]
)
def test_who_is_wrong_is_found_and_named_and_nobody_else(name: str, kind: str) -> None:
    _, injure, faults = INJURIES[kind]
    found = proven(drive(Street(3), 12, broken=name, injure=lambda s, _: injure(s[name])))
    assert [who for _, who, _ in found] == [name]
    assert 0 <= found[0][0] <= LIMIT_S and found[0][2] in faults


@pytest.mark.parametrize("name", NAMES[:3])  # in an empty street, scans are mostly road
def test_who_shows_another_place_is_found(name: str) -> None:
    elsewhere = Street(77)
    found = proven(drive(Street(4), 14, broken=name, injure=lambda _, t: elsewhere.look(t)[name]))
    assert [who for _, who, _ in found] == [name]
    assert found[0][2] in (Fault.UNRELATED, Fault.MISALIGNED)


def test_fewer_events_than_the_picture_explains_are_a_doubt_and_no_more() -> None:
    def few(shown: Sights, _: int) -> Sight:
        sight = shown["event"]
        assert sight.brighter is not None
        return replace(sight, brighter=0.2 * sight.brighter, amount=0.5 * sight.amount)

    told = list(drive(Street(5), 12, broken="event", injure=few))
    assert not any(findings for now_s, findings in told if now_s < BROKEN_S)
    late = [findings for now_s, findings in told if now_s > BROKEN_S + LIMIT_S]
    assert all(set(findings) == {"event"} for findings in late)
    doubts = [findings["event"] for findings in late]
    assert all(found.fault is Fault.DIM and not found.fatal for found in doubts)
    assert all(found.score == found.value == pytest.approx(0.2, abs=0.1) for found in doubts)


def test_what_is_usual_is_not_dragged_along_by_what_is_broken() -> None:
    level = Level()
    for _ in range(100):
        level.see(0.9, 0.2)
        level.learn(0.2)
    for _ in range(25):  # five seconds of another street
        level.see(0.7, 0.2)
        level.learn(0.2)
    assert level.usual > 0.88 and level.now < 0.71
    for _ in range(50):
        level.see(0.95, 0.2)
        level.learn(0.2)
    assert level.usual > 0.9


def test_who_shows_what_was_long_ago_is_found() -> None:
    street, past = Street(5), Street(5)
    found = proven(drive(street, 12, broken="rgb", injure=lambda _, t: past.look(t)["rgb"]))
    assert [who for _, who, _ in found] == ["rgb"] and found[0][2] is Fault.UNRELATED


@pytest.mark.parametrize("name", ["rgb", "depth", "lidar"])
def test_who_shows_what_was_a_moment_ago_is_told_by_how_much(name: str) -> None:
    """200 ms, at 12 m/s."""
    last: list[Sights] = []

    def before(sights: Sights, stamp_ns: int) -> Sight:
        last.append(dict(sights))
        return replace(last[max(0, len(last) - 2)][name], stamp_ns=stamp_ns)

    looks = list(drive(Street(3, 2.4), 12, broken=name, injure=before))
    found = proven(iter(looks))
    assert [(who, fault) for _, who, fault in found] == [(name, Fault.OFFSET)]
    assert found[0][0] <= LIMIT_S
    told = looks[-1][1][name]
    assert told.unit == "ms" and told.value == pytest.approx(200, abs=40)
    assert "ms earlier" in told.text


@pytest.mark.parametrize("late_ms", [-80, 80])
@pytest.mark.parametrize("name", ["rgb", "event"])
def test_stamps_that_are_wrong_by_less_than_a_period_are_found(name: str, late_ms: int) -> None:
    street = Street(3, 1.2)
    shown: Sights = {}
    check = CrossCheck(NAMES, lambda frame: shown[frame.modality])
    found: dict[str, Finding] = {}
    for number in range(110):
        stamp_ns = number * 100 * MS
        shown = street.look(stamp_ns)
        if stamp_ns >= BROKEN_S * SECOND:
            shown[name] = replace(shown[name], stamp_ns=stamp_ns + late_ms * MS)
        frames = {n: Frame(n, s.stamp_ns, s.outlines[None]) for n, s in shown.items()}
        check.look(frames, stamp_ns, CELL_DEG)
        found |= {n: finding for n, finding in check.findings.items() if finding.fatal}
    assert set(found) == {name} and found[name].fault is Fault.OFFSET
    assert found[name].value == pytest.approx(late_ms, abs=30)


def test_a_displacement_is_told_in_degrees_and_by_its_side() -> None:
    *_, (_, findings) = drive(
        Street(3), 9, broken="rgb", injure=lambda s, _: turned(0, 8)(s["rgb"])
    )
    finding = findings["rgb"]
    assert finding.unit == "deg" and finding.value == pytest.approx(6, abs=1.6)
    assert "to the right" in finding.text and "depth" in finding.text


@pytest.mark.parametrize("injure", [turned(0, 8), mirrored])
def test_who_was_wrong_from_the_beginning_is_found(injure: Injury) -> None:
    looks = drive(Street(8), 8, broken="rgb", injure=lambda s, _: injure(s["rgb"]), broken_s=0)
    assert [who for _, who, _ in proven(looks)] == ["rgb"]


def test_of_two_nobody_knows_which() -> None:
    looks = drive(
        Street(3), 12, names=("rgb", "event"), broken="rgb", injure=lambda s, _: mirrored(s["rgb"])
    )
    told = [findings for _, findings in looks if findings]
    assert told and all(not f.fatal for findings in told for f in findings.values())
    assert set(told[-1]) == {"rgb", "event"}
    assert all("undecided" in finding.text for finding in told[-1].values())


def test_who_is_in_doubt_by_itself_convicts_nobody() -> None:
    two, injure = ("rgb", "event"), lambda s, _: mirrored(s["rgb"])
    looks = drive(Street(3), 12, names=two, broken="rgb", injure=injure, quality=0.3)
    told = [findings for _, findings in looks if findings]
    assert told and {name for findings in told for name in findings} == {"rgb"}


def test_who_is_mended_is_believed_again() -> None:
    looks = list(
        drive(Street(3), 22, broken="rgb", injure=lambda s, _: turned(0, 8)(s["rgb"]), mended_s=8)
    )
    assert any("rgb" in findings and findings["rgb"].fatal for _, findings in looks)
    assert not looks[-1][1]


def test_a_robot_that_stops_is_none_that_is_elsewhere() -> None:
    street = Street(6)
    looks = []
    for now_s, findings in drive(street, 16):
        street.speed_m = 0.0 if now_s > 5 else 1.2
        looks.append(findings)
    assert not any(looks)


def test_noise_is_nowhere_else() -> None:
    rng = np.random.default_rng(0)

    def noise(_: Sights, stamp_ns: int) -> Sight:
        return Sight.of(stamp_ns, rng.random(SIZE).astype(np.float32))

    assert not proven(drive(Street(3), 12, broken="event", injure=noise))


def test_a_recording_that_begins_anew_is_compared_anew() -> None:
    street = Street(3)
    sights = street.look(0)
    check = CrossCheck(NAMES, lambda frame: sights[frame.modality])
    for stamp_ns in (9 * SECOND, 9 * SECOND + 2 * EVERY_NS, 0):
        sights = {n: replace(s, stamp_ns=stamp_ns) for n, s in street.look(stamp_ns).items()}
        frames = {n: Frame(n, stamp_ns, np.zeros((1, *SIZE), np.float32)) for n in NAMES}
        check.look(frames, stamp_ns, 0.0)
    assert not check.findings


def test_distances_tell_the_factor() -> None:
    sights = Street(2).look(0)
    for factor in (0.5, 1.5, 3.0):
        both = distances(sights["depth"], scaled(factor)(sights["lidar"]))
        assert both is not None
        assert both[1].factor == pytest.approx(factor, rel=0.13) and both[1].scaled > 0.85
