"""Stories about stamps: who is believed when clocks disagree."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustseg_core.config import SyncConfig
from robustseg_core.sync.stamps import Stamped, StampGuard
from robustseg_core.types import MS, SECOND, Fault

pytestmark = pytest.mark.slow

RATES = {"rgb": 30.0, "event": 100.0, "lidar": 10.0}
EPOCH = 1_700_000_000 * SECOND


def drive(schedule, names=("rgb", "event", "lidar")):
    """Feeds (modality, stamp, arrival) rows; returns accepted, rejected and the jumps."""
    guard: StampGuard[None] = StampGuard(SyncConfig(), dict.fromkeys(names, 0.0))
    accepted, rejected, jumps = [], [], []
    for modality, stamp, arrival in schedule:
        admission = guard.admit(Stamped(modality, stamp, arrival, None))
        accepted += admission.accepted
        rejected += admission.rejected
        jumps += [admission.jump_ns] if admission.jump_ns is not None else []
    return accepted, rejected, jumps


def clean(seconds, names=("rgb", "event", "lidar"), stamp0=EPOCH, arrival0=0):
    rows = [
        (name, stamp0 + t, arrival0 + t)
        for name in names
        for t in range(SECOND // 100, int(seconds * SECOND), round(SECOND / RATES[name]))
    ]
    return sorted(rows, key=lambda row: row[2])


def test_a_clean_drive_loses_nothing():
    rows = clean(3)
    accepted, rejected, jumps = drive(rows)
    assert len(accepted) == len(rows) and not rejected and not jumps


def test_one_far_future_stamp_is_rejected_and_blocks_nobody():
    rows = clean(3)
    at = next(i for i, row in enumerate(rows) if row[0] == "rgb" and row[2] > SECOND)
    rows[at] = ("rgb", rows[at][1] + 3600 * SECOND, rows[at][2])
    accepted, rejected, jumps = drive(rows)
    assert [(m, f.fault) for m, f in rejected] == [("rgb", Fault.OFFSET)]
    assert "3600" in rejected[0][1].text and not jumps
    assert len(accepted) == len(rows) - 1


def test_a_sensor_three_seconds_off_is_named_with_its_offset():
    rows = [(m, s + (3 * SECOND if m == "lidar" else 0), a) for m, s, a in clean(3)]
    accepted, rejected, jumps = drive(rows)
    assert {m for m, _ in rejected} == {"lidar"} and not jumps
    assert "3.00 s ahead" in rejected[0][1].text
    assert not [m for m in accepted if m.modality == "lidar"]


def test_a_sensor_that_goes_off_mid_run_does_not_drag_the_others_along():
    rows = [(m, s + (3 * SECOND if m == "rgb" and a > SECOND else 0), a) for m, s, a in clean(3)]
    accepted, rejected, jumps = drive(rows)
    assert {m for m, _ in rejected} == {"rgb"} and not jumps
    assert all(m.arrival_ns <= SECOND for m in accepted if m.modality == "rgb")


def test_a_bag_loop_is_one_jump_and_costs_no_message():
    first = clean(2)
    rows = first + [(m, s, a + 2 * SECOND) for m, s, a in first]
    accepted, rejected, jumps = drive(rows)
    assert len(jumps) == 1 and jumps[0] < -SECOND
    assert not rejected and len(accepted) == len(rows)


def test_three_loops_are_two_jumps():
    first = clean(2)
    rows = [(m, s, a + k * 2 * SECOND) for k in range(3) for m, s, a in first]
    accepted, rejected, jumps = drive(rows)
    assert len(jumps) == 2 and not rejected and len(accepted) == len(rows)


def test_a_bag_loop_of_a_lonely_camera_costs_no_message():
    first = clean(2, names=("rgb",))
    rows = first + [(m, s, a + 2 * SECOND) for m, s, a in first]
    accepted, rejected, jumps = drive(rows, names=("rgb",))
    assert len(jumps) == 1 and not rejected and len(accepted) == len(rows)


def test_a_clock_jump_of_all_is_one_reset():
    rows = [(m, s + (60 * SECOND if a > SECOND else 0), a) for m, s, a in clean(3)]
    accepted, rejected, jumps = drive(rows)
    assert len(jumps) == 1 and 59 * SECOND < jumps[0] < 61 * SECOND
    assert not rejected and len(accepted) == len(rows)


def test_a_paused_bag_is_no_jump():
    rows = [(m, s, a + (10 * SECOND if a > SECOND else 0)) for m, s, a in clean(3)]
    accepted, rejected, jumps = drive(rows)
    assert not jumps and not rejected and len(accepted) == len(rows)


def test_old_repeated_and_zero_stamps_are_told_apart():
    rows = [("rgb", EPOCH + 100 * MS, 0), ("rgb", EPOCH + 100 * MS, 33 * MS)]
    rows += [("rgb", EPOCH + 60 * MS, 66 * MS), ("rgb", 0, 99 * MS)]
    accepted, rejected, _ = drive(rows)
    assert len(accepted) == 1
    assert [f.fault for _, f in rejected] == [
        Fault.REPEATED_STAMP,
        Fault.OUT_OF_ORDER,
        Fault.ZERO_STAMP,
    ]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["rgb", "event", "lidar"]),
            st.integers(-5 * SECOND, 5 * SECOND),
            st.integers(0, 300 * MS),
        ),
        max_size=60,
    )
)
def test_any_schedule_keeps_the_books(rows):
    """Whatever happened, once everybody speaks well again each message is accepted or rejected."""
    now, schedule = 0, []
    for modality, shift, gap in rows:
        now += gap
        schedule.append((modality, EPOCH + now + shift, now))
    schedule += clean(0.8, stamp0=EPOCH + now + 10 * SECOND, arrival0=now)
    accepted, rejected, jumps = drive(schedule)
    assert len(accepted) + len(rejected) == len(schedule)
    assert len({id(m) for m in accepted}) == len(accepted)
    if not jumps:
        for name in RATES:
            stamps = [m.stamp_ns for m in accepted if m.modality == name]
            assert all(a < b for a, b in pairwise(stamps))


def test_the_fastest_sensor_three_seconds_behind_does_not_pass_for_a_loop():
    rows = [(m, s - (3 * SECOND if m == "event" and a > SECOND else 0), a) for m, s, a in clean(3)]
    accepted, rejected, jumps = drive(rows)
    assert {m for m, _ in rejected} == {"event"} and not jumps
    assert "behind" in rejected[0][1].text
    assert len([m for m in accepted if m.modality != "event"]) == 120


def test_a_loop_costs_no_packet_of_a_thousand_a_second():
    def events(arrival0):
        return [("event", EPOCH + t, arrival0 + t) for t in range(1, 2 * SECOND, SECOND // 1000)]

    names = ("event", "lidar")
    first = sorted(events(0) + clean(2, names=("lidar",)), key=lambda row: row[2])
    rows = first + [(m, s, a + 2 * SECOND) for m, s, a in first]
    accepted, rejected, jumps = drive(rows, names)
    assert len(jumps) == 1 and not rejected and len(accepted) == len(rows)
