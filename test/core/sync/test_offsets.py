"""Stories about clocks: the one that moved is named, and nobody else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from robustseg_core.sync.offsets import DOUBTED_NS, Offsets
from robustseg_core.types import MS, SECOND, Fault

pytestmark = pytest.mark.slow

EPOCH = 1_700_000_000 * SECOND
RATES = {"rgb": 20.0, "depth": 10.0, "event": 40.0, "lidar": 10.0}
LATENCY_MS = {"rgb": 4.0, "depth": 30.0, "event": 1.0, "lidar": 103.0}


def stream(name, seconds, rate_hz=None, *, jitter_ms=2.0, lose=0.0, seed=0):
    """(arrival, name, stamp) of a healthy sensor, in seconds; a transport does not reorder."""
    random = np.random.default_rng([seed, *name.encode()])
    stamps = np.arange(0, seconds, 1 / (rate_hz or RATES[name])) + random.uniform(0, 0.01)
    arrivals = stamps + LATENCY_MS.get(name, 5.0) / 1e3
    arrivals = np.maximum.accumulate(arrivals + random.uniform(0, jitter_ms / 1e3, len(stamps)))
    kept = random.random(len(stamps)) >= lose
    return [(a, name, s) for a, s in zip(arrivals[kept], stamps[kept], strict=True)]


def four(seconds, names=tuple(RATES), **options):
    return [row for name in names for row in stream(name, seconds, **options)]


def moved(rows, name, step_s, since_s, until_s=1e9, *, late=False):
    """The clock of a sensor moves (or its delivery: it is later by so much)."""
    hit = [n == name and since_s <= a < until_s for a, n, s in rows]
    if late:
        return [(a + step_s * h, n, s) for h, (a, n, s) in zip(hit, rows, strict=True)]
    return [(a, n, s - step_s * h) for h, (a, n, s) in zip(hit, rows, strict=True)]


def bursts(rows, every_s, names, since_s=0.0, phase_s=0.0):
    """Messages wait for the next full hour of the network."""

    def waits(a, n):
        if n not in names or a < since_s:
            return a
        return np.ceil((a - phase_s) / every_s) * every_s + phase_s

    return [(waits(a, n), n, s) for a, n, s in rows]


def watch(rows, names=None):
    """name -> [(time, kind)] of all that was ever said of it."""
    offsets = Offsets(50 * MS, names or sorted({n for _, n, _ in rows}))
    said: dict[str, list] = {}
    for arrival, name, stamp in sorted(rows, key=lambda row: row[0]):
        offsets.see(name, EPOCH + round(stamp * SECOND), round(arrival * SECOND))
        for kind in ("moved", "undecided"):
            for who in getattr(offsets, kind):
                said.setdefault(who, []).append((arrival, kind))
    return said, offsets


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("step_s", [-0.95, -0.3, -0.06, 0.06, 0.3, 0.5, 0.95])
@pytest.mark.parametrize("name", RATES)
def test_the_clock_that_moved_is_named_within_two_seconds_and_no_other(name, step_s, late):
    if late and step_s < 0:
        pytest.skip("nothing is delivered before it was sent")
    rows = moved(four(8.0), name, step_s, 4.0, late=late)
    said, offsets = watch([row for row in rows if row[0] < 8.0])
    assert set(said) == {name} and {kind for _, kind in said[name]} == {"moved"}
    assert 4.0 < said[name][0][0] < 6.0 + max(0, step_s * late)
    finding = offsets.moved[name]
    doubted = 0 < step_s <= DOUBTED_NS / SECOND  # it may be the delivery, and is used
    assert finding.fault is Fault.OFFSET and finding.fatal != doubted
    told_s, where = finding.text.split()[2], finding.text.split()[4]
    assert abs(float(told_s) - abs(step_s)) < 0.02
    assert where == ("behind" if step_s > 0 else "ahead")
    assert "limit 0.05 s" in finding.text and "stamp or delivery" in finding.text


def test_a_sensor_that_comes_back_is_pardoned():
    said, offsets = watch(moved(four(12.0), "lidar", 0.3, 3.0, 7.0))
    assert set(said) == {"lidar"} and not offsets.moved
    assert 7.5 < said["lidar"][-1][0] < 9.5


def test_a_step_lasts_as_long_as_it_lasts():
    said, offsets = watch(moved(four(80.0), "rgb", 0.4, 3.0))
    assert set(said) == {"rgb"} and "rgb" in offsets.moved


def test_where_two_disagree_and_no_third_decides_both_are_told():
    rows = moved(four(8.0, ("rgb", "lidar")), "rgb", 0.4, 3.0)
    said, offsets = watch(rows)
    assert set(said) == {"rgb", "lidar"}
    assert {kind for told in said.values() for _, kind in told} == {"undecided"}
    assert "undecided" in offsets.undecided["lidar"].text
    assert "0.40 s ahead" in offsets.undecided["lidar"].text
    assert not offsets.undecided["lidar"].fatal


def test_two_against_two_is_undecided():
    rows = moved(moved(four(8.0), "rgb", 0.4, 3.0), "depth", 0.4, 3.0)
    _, offsets = watch(rows)
    assert not offsets.moved and set(offsets.undecided) == set(RATES)


def test_two_that_moved_apart_are_both_named():
    rows = moved(moved(four(8.0), "rgb", 0.4, 3.0), "depth", -0.3, 4.0)
    said, offsets = watch(rows)
    assert set(offsets.moved) == set(said) == {"rgb", "depth"}


def test_a_third_that_joins_decides():
    late = [row for row in stream("depth", 12.0) if row[0] > 6.0]
    before = [row for row in stream("depth", 2.5)]
    rows = moved(four(12.0, ("rgb", "lidar")), "rgb", 0.4, 3.0) + before + late
    _, offsets = watch(rows)
    assert set(offsets.moved) == {"rgb"} and not offsets.undecided


@pytest.mark.parametrize("name", RATES)
def test_a_sensor_that_was_always_late_is_healthy(name):
    said, _ = watch([(a + 0.4 * (n == name), n, s) for a, n, s in four(8.0)])
    assert not said


@pytest.mark.parametrize("ppm", [-100, 100])
def test_a_clock_that_drifts_is_healthy(ppm):
    rows = [
        (a, n, s * (1 + ppm / 1e6 * (n == "lidar")))
        for a, n, s in four(700.0, ("rgb", "depth", "lidar"), rate_hz=5.0)
    ]
    assert not watch(rows)[0]


def test_what_happens_to_all_moves_nobody():
    healthy = four(12.0)
    for pause_s in (0.06, 0.3, 0.7, 2.0):
        assert not watch([(a + pause_s * (a > 5), n, s) for a, n, s in healthy])[0], "a pause"
    for rate in (0.1, 0.5, 2.0, 10.0):
        slow = four(max(12.0, 60.0 * rate / 10))
        assert not watch([(a / rate, n, s) for a, n, s in slow])[0], "slow motion"
    changed = [(a if a < 5 else 5 + (a - 5) * 3, n, s) for a, n, s in healthy]
    assert not watch(changed)[0], "slow motion from now on"


def test_a_machine_that_starves_moves_nobody():
    random = np.random.default_rng(3)
    for _ in range(5):
        starts = np.sort(random.uniform(0, 20, 12))
        ends = starts + random.uniform(0.05, 1.0, 12)
        rows = []
        for a, n, s in four(20.0):
            over = [e for b, e in zip(starts, ends, strict=True) if b <= a < e]
            rows.append((max(over, default=a), n, s))
        assert not watch(rows)[0]


@pytest.mark.parametrize("who", [("rgb",), ("lidar",), ("depth", "lidar"), tuple(RATES)])
@pytest.mark.parametrize("every_s", [0.2, 0.5, 1.0, 2.0])
def test_bursts_are_no_step(who, every_s):
    for phase_s in (0.0, 0.07):
        assert not watch(bursts(four(24.0), every_s, who, phase_s=phase_s))[0]
        healthy = four(24.0)
        rows = bursts(healthy, every_s, who, 8.0, phase_s)
        assert not watch(rows)[0]
        back = [new if new[0] < 17 else old for new, old in zip(rows, healthy, strict=True)]
        assert not watch(back)[0], "and back"


def test_a_sensor_that_slows_down_is_not_called_a_wrong_clock():
    rows = [r for k, r in enumerate(stream("lidar", 20.0)) if r[0] < 8 or k % 3 == 0]
    assert not watch(rows + four(20.0, ("rgb", "depth", "event")))[0]


def test_event_packets_that_grow_before_a_still_scene_are_no_step():
    packets = [
        (a + 0.09 * (a > 6), n, s)
        for k, (a, n, s) in enumerate(stream("event", 15.0))
        if a < 6 or k % 4 == 0
    ]
    assert not watch(packets + four(15.0, ("rgb", "depth", "lidar")))[0]


def test_one_wild_stamp_moves_nobody():
    rows = four(10.0)
    wild = [
        (a, n, s + (0.9 if n == "rgb" and k % 40 == 0 else 0)) for k, (a, n, s) in enumerate(rows)
    ]
    assert not watch(wild)[0]


def test_a_stamp_ahead_is_seen_at_once():
    rows = sorted(moved(four(5.0), "rgb", -0.3, 4.0))
    offsets = Offsets(50 * MS, RATES)
    for arrival, name, stamp in rows:
        offsets.see(name, EPOCH + round(stamp * SECOND), round(arrival * SECOND))
        last = max((a for a, n, _ in rows if n == "rgb" and a <= arrival), default=0)
        assert set(offsets.ahead()) == ({"rgb"} if last >= 4.0 else set())


def test_after_a_loop_it_learns_anew():
    _, offsets = watch(moved(four(6.0), "rgb", 0.3, 3.0))
    offsets.reset()
    assert not offsets.moved
    for arrival, name, stamp in sorted(four(5.0)):
        offsets.see(
            name,
            round((stamp + 1 - 0.3 * (name == "rgb")) * SECOND),
            round((arrival + 10) * SECOND),
        )
    assert not offsets.moved and not offsets.undecided


sensors = st.lists(
    st.tuples(
        st.floats(5, 200),
        st.floats(0, 400),
        st.floats(0, 200),
        st.floats(0, 0.5),
        st.sampled_from([0, 0, 0.2, 0.7, 2.0]),
    ),
    min_size=2,
    max_size=4,
)


@settings(max_examples=30, deadline=None)
@example(  # a queue fills in its first moment, and all that follows is late
    sensors=[(166.0, 0, 183.0, 0, 0), (5.0, 0, 0, 0, 0), (5.0, 0, 0, 0, 0)], seed=336, since_s=0.0
)
@given(sensors=sensors, seed=st.integers(0, 2**32 - 1), since_s=st.floats(0, 5))
def test_healthy_sensors_are_never_called_off(sensors, seed, since_s):
    rows = []
    for k, (rate_hz, latency_ms, jitter_ms, lose, every_s) in enumerate(sensors):
        name = f"s{k}"
        own = stream(name, 12.0, rate_hz, jitter_ms=jitter_ms, lose=lose, seed=seed)
        own = [(a + latency_ms / 1e3, n, s) for a, n, s in own]
        many = every_s * rate_hz > 1.5  # one at a time, later from now on, is a delay and no burst
        rows += bursts(own, every_s, (name,), since_s) if many else own
    assert not watch(rows)[0]


@settings(max_examples=30, deadline=None)
@given(
    rates=st.lists(st.floats(5, 100), min_size=3, max_size=4),
    size_ms=st.integers(60, 950),
    sign=st.sampled_from([-1, 1]),
    since_s=st.floats(2.5, 5),
    jitter_ms=st.floats(0, 5),
    seed=st.integers(0, 2**32 - 1),
    late=st.booleans(),
)
def test_any_step_of_one_of_many_is_named_in_time_and_on_it_alone(
    rates, size_ms, sign, since_s, jitter_ms, seed, late
):
    rows = [
        r
        for k, rate_hz in enumerate(rates)
        for r in stream(f"s{k}", 10.0, rate_hz, jitter_ms=jitter_ms, seed=seed)
    ]
    step_s = size_ms / 1e3 * (1 if late else sign)
    said, _ = watch(moved(rows, "s0", step_s, since_s, late=late))
    assert set(said) == {"s0"} and {kind for _, kind in said["s0"]} == {"moved"}
    slowest_s = 1 / min(rates)
    assert said["s0"][0][0] - since_s < 2 + slowest_s + (step_s if late else 0)
