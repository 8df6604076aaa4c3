"""Clocks that move by less than a second, and networks that deliver in bursts, through it all."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest

from robustseg_core.recording.notices import absent, notices
from robustseg_core.types import SECOND, Fault, State
from support.drives import ALL, RATES, drive, rows, segmenter, through

pytestmark = pytest.mark.slow

STAMPS = {Fault.OFFSET, Fault.OUT_OF_ORDER, Fault.REPEATED_STAMP}
MEANWHILE = {Fault.LATE, Fault.RECOVERING}


class Account(NamedTuple):
    said: dict[str, dict[Fault, float]]
    """Of each stream, what health and masks said of it, and when first."""
    states: dict[str, list[tuple[float, State]]]
    masks: list
    """(time, label map)"""
    made: object


def watched(arrivals, names=ALL, since_s=1.0):
    made = segmenter(names, network=False)
    said = {name: {} for name in names}
    states = {name: [] for name in names}

    def watch(now_ns):
        for name, health in made.health(now_ns).items():
            states[name].append((now_ns / SECOND, health.state))
            if now_ns > since_s * SECOND:
                for fault in {f.fault for f in health.findings} | set(health.rejected):
                    said[name].setdefault(fault, now_ns / SECOND)

    masks = list(drive(made, sorted(arrivals, key=lambda row: row[0]), watch))
    for now, label_map in masks:
        for name, reasons in label_map.reasons.items():
            if name in names and now > since_s * SECOND:
                said[name].setdefault(reasons[0].fault, now / SECOND)
    return Account(said, states, masks, made)


def delivered(arrivals, every_s, names=ALL, since_s=0.0, phase_s=0.0):
    """What these sensors say waits for the next full hour of the network."""
    every_ns, phase_ns = round(every_s * SECOND), round(phase_s * SECOND)

    def waits(at):
        return -(-(at - phase_ns) // every_ns) * every_ns + phase_ns

    late = [(waits(a) if n in names and a >= since_s * SECOND else a, n, m) for a, n, m in arrivals]
    return sorted(late, key=lambda row: row[0])


@pytest.mark.parametrize("step_s", [-0.4, 0.15, 0.8])
@pytest.mark.parametrize("name", ALL)
def test_a_clock_that_moves_is_named_and_costs_the_others_nothing(name, step_s):
    account = watched(through(f"{name}:offset(seconds={step_s})@2", rows(5.0)))
    assert account.said[name][Fault.OFFSET] < 4.0
    assert set(account.said[name]) <= STAMPS | MEANWHILE
    assert not any(said for other, said in account.said.items() if other != name)
    assert account.states[name][-1][1] is State.DEAD
    assert account.made.intake.jumps == 0
    after = [m for now, m in account.masks if now > 4.0 * SECOND]
    assert all(m.used == tuple(n for n in ALL if n != name) for m in after)
    times = [now for now, _ in account.masks if now > SECOND]
    assert max(b - a for a, b in pairwise(times)) < 0.12 * SECOND
    assert len(times) >= 0.9 * 20 * 4 - 1


@pytest.mark.parametrize("name", ["rgb", "lidar"])
def test_a_delivery_that_becomes_a_little_slower_is_doubted_and_used(name):
    arrivals = through(f"{name}:delayed(seconds=0.12)@2", rows(8.0))
    account = watched([row for row in arrivals if row[0] < 8.0 * SECOND])
    assert account.said[name][Fault.OFFSET] < 4.4
    assert account.states[name][-1][1] is State.DEGRADED
    assert not any(state is State.DEAD for _, state in account.states[name])
    after = [m for now, m in account.masks if now > 5 * SECOND]
    assert sum(name in m.used for m in after) > 0.9 * len(after)
    assert all("stamp or delivery moved" in m.reasons[name][0].text for m in after)
    assert not any(said for other, said in account.said.items() if other != name)


@pytest.mark.parametrize("name", ALL)
def test_a_delivery_that_becomes_slower_is_named_on_its_sensor(name):
    arrivals = through(f"{name}:delayed(seconds=0.4)@2", rows(6.0))
    account = watched([row for row in arrivals if row[0] < 6.0 * SECOND])
    assert 2.0 < account.said[name][Fault.OFFSET] < 4.4
    during = [n for n, said in account.said.items() if said and n != name]
    assert not during


@pytest.mark.parametrize("latency_s", [0.02, 0.06, 0.15, 0.45])
def test_a_camera_that_is_late_from_the_start_is_used_in_every_mask(latency_s):
    late_ns = round(latency_s * SECOND)
    arrivals = [(at + late_ns if n == "rgb" else at, n, m) for at, n, m in rows(6.0)]
    account = watched([row for row in arrivals if row[0] < 6.0 * SECOND])
    after = [m for now, m in account.masks if now > 2 * SECOND]
    assert len(after) >= 0.95 * 4 * 20 and all("rgb" in m.used for m in after)


def test_a_sensor_that_never_was_in_time_is_told_with_a_reason():
    late_ns = round(0.9 * SECOND)
    arrivals = [(at + late_ns if n == "lidar" else at, n, m) for at, n, m in rows(4.0)]
    account = watched([row for row in arrivals if row[0] < 4.0 * SECOND])
    used = {name for _, m in account.masks for name in m.used}
    bag = SimpleNamespace(notices=[], start_ns=0)
    late = account.masks[-1][1].reasons
    (told,) = notices(bag, account.made, absent(bag, account.made, used, late))
    assert "lidar was never used: late: " in told and "limit" in told
    (untold,) = notices(bag, account.made, absent(bag, account.made, used))
    assert "in time for a mask" in untold


def test_a_clock_that_comes_back_is_used_again():
    account = watched(through("lidar:offset(seconds=0.3)@2+3", rows(9.0)))
    assert not any(said for other, said in account.said.items() if other != "lidar")
    assert account.masks[-1][1].used == ALL
    assert not account.made.health(9 * SECOND)["lidar"].findings
    (said,) = account.made.remarks()  # it is over, and not forgotten
    assert said.startswith("lidar: offset: stamps are 0.30 s ahead of ")


def test_of_two_that_disagree_both_are_told_and_both_are_used_where_stamps_allow():
    arrivals = through("lidar:offset(seconds=-0.09)@2", rows(8.0, ("rgb", "lidar")))
    account = watched(arrivals, ("rgb", "lidar"))
    healths = account.made.health(8 * SECOND)
    for health in healths.values():
        assert health.state is State.LIVE and "undecided" in health.reason
    assert account.masks[-1][1].used == ("rgb", "lidar")


def test_of_two_nobody_is_called_late_because_the_other_leads():
    arrivals = through("rgb:offset(seconds=0.4)@2", rows(6.0, ("rgb", "lidar")))
    account = watched(arrivals, ("rgb", "lidar"))
    assert set(account.said["lidar"]) <= {Fault.OFFSET} and set(account.said["rgb"]) == {
        Fault.OFFSET
    }
    assert all(state is State.LIVE for _, state in account.states["lidar"][20:])
    assert len(account.masks) >= 110


def test_a_sensor_alone_needs_no_clock():
    account = watched(through("rgb:offset(seconds=0.4)@2", rows(6.0, ("rgb",))), ("rgb",))
    assert not account.said["rgb"] and len(account.masks) > 110


@pytest.mark.parametrize(
    ("every_s", "phase_s"), [(0.2, 0.033), (0.5, 0.0), (1.0, 0.01), (2.0, 0.033)]
)
def test_bursts_of_all_cost_no_mask_and_are_told_once(every_s, phase_s):
    healthy = rows(10.0)
    account = watched(delivered(healthy, every_s, phase_s=phase_s), since_s=1 + 2 * every_s)
    frames = sum(name == "rgb" for _, name, _ in healthy)
    assert account.made.intake.jumps == 0
    assert len({m.stamp_ns for _, m in account.masks}) >= 0.95 * frames - 2
    assert sum(m.used == ALL for _, m in account.masks) >= 0.9 * frames - 2
    late = {
        n: [s for at, s in states if at > 1 + 2 * every_s] for n, states in account.states.items()
    }
    assert all(set(states) == {State.LIVE} for states in late.values())
    for name, finding in account.made.intake.bursts.items():
        assert finding.fault is Fault.BURSTS and f"every {every_s:.1f} s" in finding.text
        assert f"{round(RATES[name] * every_s)} messages" in finding.text
    assert set(account.made.intake.bursts) == set(ALL)
    assert all(set(said) <= {Fault.BURSTS} for said in account.said.values())


@pytest.mark.parametrize("every_s", [0.3, 2.0])
@pytest.mark.parametrize("name", ALL)
def test_bursts_of_one_accuse_nobody_else(name, every_s):
    arrivals = delivered(rows(10.0), every_s, (name,), since_s=3.0)
    account = watched([row for row in arrivals if row[0] < 10.0 * SECOND])
    assert not any(said for other, said in account.said.items() if other != name)
    assert account.made.intake.jumps == 0 and set(account.made.intake.bursts) == {name}
    assert set(account.said[name]) <= {Fault.BURSTS, Fault.SILENT} | MEANWHILE
    changes = [b for (_, a), (_, b) in pairwise(account.states[name]) if a.usable != b.usable]
    assert len(changes) <= 5
    times = [now for now, _ in account.masks if now > SECOND]
    assert len(times) >= 0.9 * 20 * 9 - 1


def test_bursts_that_begin_in_mid_drive_cost_one_death_and_no_more():
    account = watched(delivered(rows(14.0), 1.0, since_s=3.0))
    assert account.made.intake.jumps == 0
    for states in account.states.values():
        changes = [b for (_, a), (_, b) in pairwise(states) if a.usable != b.usable]
        assert len(changes) <= 3
    assert len(account.masks) >= 0.9 * 20 * 14


def test_the_notices_of_a_run_tell_each_stream_in_bursts_once():
    account = watched(delivered(rows(6.0), 1.0))
    bag = SimpleNamespace(notices=[], start_ns=0)
    told = notices(bag, account.made, absent(bag, account.made, ALL))
    assert len(told) == 4 and all("delivery in bursts" in text for text in told)


def test_a_notice_of_bursts_is_not_repeated():
    made = segmenter(network=False)
    told = []
    for now, _ in drive(made, delivered(rows(20.0), 1.0)):
        findings = made.health(now)["rgb"].findings
        told.append(any(f.fault is Fault.BURSTS for f in findings))
    assert sum(b and not a for a, b in pairwise(told)) == 1


def test_arrivals_a_little_in_the_past_and_out_of_order_are_no_fault():
    random = np.random.default_rng(4)
    healthy = rows(6.0)
    pushed = sorted(healthy, key=lambda row: row[0] + random.uniform(0, 0.03) * SECOND)
    order = {name: iter([r for r in healthy if r[1] == name]) for name in ALL}
    arrivals = [next(order[name]) for _, name, _ in pushed]  # no stream overtakes itself
    made = segmenter(network=False)
    masks, now = [], 0
    for at, name, sent in arrivals:
        now = max(now, at)
        made.push(name, sent, at)
        if label_map := made.step(now):
            masks.append(label_map)
        assert not any(h.state is State.DEAD for h in made.health(now).values())
    assert made.intake.jumps == 0 and len(masks) >= 115
    assert not any(h.rejected for h in made.health(now).values())
