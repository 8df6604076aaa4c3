"""Stories about sets: on time, with whoever is there."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustseg_core.config import StreamConfig, SyncConfig
from robustseg_core.sync.stamps import Stamped
from robustseg_core.sync.synchronizer import Synchronizer
from robustseg_core.types import MS, SECOND

RATES = {"rgb": 30.0, "depth": 10.0, "lidar": 10.0, "event": 100.0}
EPOCH = 1_700_000_000 * SECOND
ALL = tuple(RATES)


def stream(name, seconds=2.0, start=0.0, rate=None, latency_ms=0.0):
    """(name, stamp, arrival) rows of a healthy sensor."""
    period = round(SECOND / (rate or RATES[name]))
    first, last = round(start * SECOND), round(seconds * SECOND)
    return [
        (name, EPOCH + t, t + round(latency_ms * MS)) for t in range(0, last, period) if t >= first
    ]


def drive(rows, usable=lambda now_ns: ALL, names=ALL, until_s=None, **streams):
    """Feeds rows in order of arrival, polling whenever the synchronizer asks: [(now, Match)]."""
    known = {n: StreamConfig(topic=n) for n in names} | streams
    sync = Synchronizer(SyncConfig(), known, accumulating=("event",))
    matches, now = [], 0

    def advance(to_ns):
        nonlocal now
        while (wake := sync.wake_ns(now, usable(now))) is not None and wake <= to_ns:
            now = wake
            if match := sync.poll(now, usable(now)):
                matches.append((now, match))
        now = to_ns

    for name, stamp, arrival in sorted(rows, key=lambda row: row[2]):
        advance(arrival - 1)
        now = arrival
        sync.push(Stamped(name, stamp, arrival, None))
        if match := sync.poll(now, usable(now)):
            matches.append((now, match))
    if until_s is not None:
        advance(round(until_s * SECOND))
    return matches


def used(match):
    return set(match.items)


def test_masks_keep_the_old_rate_when_the_camera_slows_down_for_long():
    slow = stream("rgb", 2) + stream("rgb", 12, start=2, rate=10)
    rows = slow + [row for name in ALL[1:] for row in stream(name, 12)]
    matches = [m for now, m in drive(rows) if now > 2 * SECOND]
    assert len(matches) >= 0.9 * 30 * 10
    assert sum("rgb" in m.items for m in matches) >= 0.9 * 10 * 10


def test_every_camera_frame_opens_a_set_with_all_four():
    rows = [row for name in ALL for row in stream(name)]
    matches = drive(rows)
    opened = [m for _, m in matches if m.opened_by == "rgb"]
    assert len(opened) == 60
    assert all(used(m) == set(ALL) for m in opened[5:])


def test_a_slow_lidar_is_held_and_not_waited_for():
    rows = stream("rgb") + stream("lidar")
    matches = [(now, m) for now, m in drive(rows, names=("rgb", "lidar")) if now > SECOND]
    assert all(used(m) == {"rgb", "lidar"} for _, m in matches)
    assert all(now - (m.stamp_ns - EPOCH) < MS for now, m in matches), "nobody is waited for"
    assert max(m.held_ns["lidar"] for _, m in matches) <= 120 * MS


def test_a_lidar_that_stamps_the_start_of_its_sweep_is_never_called_stale():
    rows = stream("rgb", 3, rate=15) + stream("lidar", 3, latency_ms=103)
    matches = [(now, m) for now, m in drive(rows, names=("rgb", "lidar")) if now > SECOND]
    assert matches and all(used(m) == {"rgb", "lidar"} for _, m in matches)
    assert max(m.held_ns["lidar"] for _, m in matches) > 120 * MS
    assert all(now - (m.stamp_ns - EPOCH) < 41 * MS for now, m in matches)


def test_a_due_sensor_is_waited_for_until_the_deadline_and_no_longer():
    rows = stream("rgb", 2) + [r for r in stream("depth", 2, rate=30, latency_ms=15)]
    matches = [(now, m) for now, m in drive(rows, names=("rgb", "depth")) if now > SECOND]
    waits = [now - (m.stamp_ns - EPOCH) for now, m in matches if m.opened_by == "rgb"]
    assert all(14 * MS < wait < 16 * MS for wait in waits)
    gone = drive(stream("rgb", 2) + stream("depth", 1, rate=30, latency_ms=15))
    late = [now - (m.stamp_ns - EPOCH) for now, m in gone if now > 1.1 * SECOND]
    assert late and max(late) <= 0.8 * SECOND / 30 + MS


def test_a_dead_sensor_known_as_dead_costs_no_wait():
    rows = stream("rgb", 2) + stream("depth", 1, rate=30, latency_ms=15)
    matches = drive(
        rows,
        usable=lambda now: ("rgb",) if now > SECOND else ("rgb", "depth"),
        names=("rgb", "depth"),
    )
    after = [now - (m.stamp_ns - EPOCH) for now, m in matches if now > 1.1 * SECOND]
    assert after and max(after) < MS


def test_masks_go_on_at_the_camera_rate_when_the_camera_dies():
    rows = stream("rgb", 1) + stream("depth", 3) + stream("event", 3) + stream("lidar", 3)
    matches = drive(rows, usable=lambda now: ALL if now < 1.15 * SECOND else ALL[1:])
    after = [m for now, m in matches if now > SECOND]
    assert len(after) >= 0.9 * 60
    assert all("rgb" not in m.items for m in after[2:])
    assert {m.opened_by for m in after[6:]} == {None, "depth"}, "depth takes over"


def test_no_reference_period_passes_without_a_set_while_the_camera_stays_away():
    rows = stream("rgb", 1) + stream("event", 2)
    matches = drive(rows, usable=lambda now: ALL if now < 1.15 * SECOND else ALL[1:])
    times = [now for now, _ in matches]
    period = SECOND / 30
    assert max(b - a for a, b in pairwise(times)) <= period * 1.8 + MS


def test_the_first_set_without_a_killed_camera_leaves_one_deadline_after_it_was_due():
    rows = stream("rgb", 1) + stream("event", 2)
    last = max(arrival for name, _, arrival in rows if name == "rgb")
    now, match = next((now, m) for now, m in drive(rows) if now > last + 35 * MS)
    assert match.opened_by is None and used(match) == {"event"}
    assert "did not come" in match.absent["rgb"].text
    period, deadline = SECOND / 30, 0.8 * SECOND / 30
    assert now - (last + period) <= deadline + MS


def test_where_all_stop_at_once_nobody_is_missing():
    rows = [row for name in ALL for row in stream(name, 1)]
    matches = drive(rows, until_s=3)
    assert all("rgb" in m.items for now, m in matches if now > 0.1 * SECOND)


def test_a_late_camera_frame_still_opens_its_set():
    rows = stream("rgb", 2) + stream("event", 2)
    rows = [
        (n, s, a + 45 * MS if n == "rgb" and SECOND < a < 1.02 * SECOND else a) for n, s, a in rows
    ]
    matches = drive(rows)
    late = EPOCH + SECOND  # the frame stamped 1.0 s arrives 45 ms late
    assert any(m.opened_by == "rgb" and abs(m.stamp_ns - late) < 20 * MS for _, m in matches)


def test_events_alone_make_sets_at_the_free_rate():
    matches = drive(stream("event", 2), usable=lambda now: ("event",), names=("event",))
    assert 55 <= len(matches) <= 62
    assert all(m.opened_by is None for _, m in matches)


def test_nothing_new_means_no_set():
    matches = drive(stream("rgb", 1), usable=lambda now: ("rgb",), names=("rgb",), until_s=5)
    assert 30 <= len(matches) <= 31


def test_a_slow_consumer_gets_the_newest_reference_and_the_rest_is_counted():
    sync = Synchronizer(SyncConfig(), {"rgb": StreamConfig(topic="rgb")})
    for k in range(6):
        sync.push(Stamped("rgb", EPOCH + k * 33 * MS, k * 33 * MS, k))
    match = sync.poll(300 * MS, ("rgb",))
    assert match is not None and match.items["rgb"][0].payload == 5
    assert sync.skipped == 5 and sync.poll(301 * MS, ("rgb",)) is None


def test_an_event_set_holds_all_recent_packets_and_none_from_the_future():
    rows = stream("rgb", 1) + stream("event", 1)
    for _, match in drive(rows)[10:]:
        stamps = [item.stamp_ns for item in match.items["event"]]
        assert stamps == sorted(stamps) and stamps[-1] <= match.stamp_ns
        assert match.stamp_ns - stamps[0] >= 50 * MS


def test_held_data_is_never_older_than_the_robot_allows():
    rows = stream("rgb", 3) + stream("lidar", 2)
    lidar = StreamConfig(topic="b", max_age_ms=70)
    matches = drive(rows, lambda now: ("rgb", "lidar"), ("rgb", "lidar"), lidar=lidar)
    held = [m.held_ns["lidar"] for _, m in matches if "lidar" in m.held_ns]
    assert 60 * MS < max(held) <= 70 * MS
    late = [m for now, m in matches if now > 2 * SECOND]
    assert late and all(m.absent["lidar"].limit == 70 for m in late)


gaps = st.lists(st.tuples(st.floats(0, 2), st.floats(0, 1)), max_size=3)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    deaths=st.fixed_dictionaries({name: gaps for name in ALL}),
    jitter_ms=st.integers(0, 20),
    seed=st.randoms(use_true_random=False),
)
def test_any_schedule_keeps_every_promise(deaths, jitter_ms, seed):
    rows = []
    for name in ALL:
        for _, stamp, arrival in stream(name, 2):
            t = arrival / SECOND
            if not any(a <= t < a + d for a, d in deaths[name]):
                rows.append((name, stamp, arrival + seed.randint(0, jitter_ms * MS)))
    rows = [r for name in ALL for r in monotonic(name, rows)]
    matches = drive(rows, until_s=2.5)
    stamps = [m.stamp_ns for _, m in matches]
    assert all(a < b for a, b in pairwise(stamps)), "stamps only grow"
    for now, match in matches:
        assert match.items, "a set is never empty"
        for name, items in match.items.items():
            assert items[-1].arrival_ns <= now, "nothing from the future"
            assert match.held_ns[name] <= 500 * MS, "nothing older than allowed"
        if match.opened_by:
            opener = match.items[match.opened_by][0]
            assert now - opener.arrival_ns <= 40 * MS, "never waits longer than the deadline"


def monotonic(name, rows):
    """As a transport delivers one topic: jitter delays, it does not reorder."""
    arrival, out = 0, []
    for row in (r for r in rows if r[0] == name):
        arrival = max(arrival + 1, row[2])
        out.append((row[0], row[1], arrival))
    return out


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(dead=st.sets(st.sampled_from(ALL), max_size=3), at_s=st.floats(0.5, 1.5))
def test_masks_keep_ninety_percent_of_the_reference_rate_while_events_live(dead, at_s):
    dead = dead - {"event"}
    at_ns = round(at_s * SECOND)
    rows = [r for n in ALL for r in stream(n, 3) if n not in dead or r[2] < at_ns]
    known_ns = at_ns + 150 * MS  # health needs a while to know
    alive = tuple(n for n in ALL if n not in dead)
    matches = drive(rows, usable=lambda now: alive if now > known_ns else ALL)
    after = [m for now, m in matches if now > at_ns]
    assert len(after) >= 0.9 * 30 * (3 - at_s) - 1


@pytest.mark.parametrize("rate", [0.25, 0.5, 1.0, 2.0])
def test_a_bag_in_slow_motion_gives_as_many_sets(rate):
    rows = [row for name in ALL for row in stream(name, 4)]
    slowed = [(name, stamp, round(arrival / rate)) for name, stamp, arrival in rows]
    matches = [m for _, m in drive(slowed) if m.stamp_ns > EPOCH + SECOND]  # it has been noticed
    assert 87 <= len(matches) <= 93
    assert sum("rgb" in m.items for m in matches) >= 87


def test_one_late_image_is_no_slow_motion():
    """The camera hangs for 200 ms, goes on, and dies soon after: ticks keep its true rate."""
    late = [
        (n, s, max(a, 2 * SECOND)) if s - EPOCH > 1.8 * SECOND else (n, s, a)
        for n, s, a in stream("rgb", 2.2)
    ]
    rows = late + stream("event", 4) + stream("depth", 4)
    ticks = [now for now, m in drive(rows) if now > 2.4 * SECOND]
    assert max(b - a for a, b in pairwise(ticks)) <= 1.1 * SECOND / 30 + MS


@pytest.mark.parametrize("latency_ms", [12, 20, 35, 60, 150, 400])
@pytest.mark.parametrize("rate", [15.0, 20.0, 30.0])
def test_a_camera_that_is_slow_from_the_start_opens_sets_all_the_same(latency_ms, rate):
    others = [row for name in ALL[1:] for row in stream(name, 6)]

    def usable(now_ns):  # the camera is believed from its second message on, as by health
        return ALL if now_ns > (latency_ms + 80) * MS else ALL[1:]

    rows = others + stream("rgb", 6, rate=rate, latency_ms=latency_ms)
    late = [m for now, m in drive(rows, usable) if 2 * SECOND < now < 6 * SECOND]
    assert len(late) >= 0.95 * 4 * rate
    assert sum("rgb" in m.items for m in late) >= 0.95 * len(late)


@pytest.mark.parametrize("latency_ms", [20, 60, 120])
def test_a_camera_that_becomes_slow_opens_sets_again(latency_ms):
    slow = stream("rgb", 2) + stream("rgb", 6, start=2, latency_ms=latency_ms)
    rows = slow + [row for name in ALL[1:] for row in stream(name, 6)]
    matches = drive(rows)
    times = [now for now, _ in matches]
    assert max(b - a for a, b in pairwise(times)) < 4 / 30 * SECOND + latency_ms * MS
    after = [m for now, m in matches if now > 3 * SECOND]
    assert sum("rgb" in m.items for m in after) >= 0.95 * len(after)
