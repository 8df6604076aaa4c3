"""Every fault there is, done to one sensor of a healthy drive: found on it, and only on it."""

from __future__ import annotations

import pytest
from drives import ALL, drive, rows, segmenter, through

from robustseg_core import faults
from robustseg_core.types import IGNORE, SECOND, Fault

PAIRS = [(m, n) for n in faults.available() for m in faults.load(n).modalities or ALL]
ON_THE_WAY = {Fault.LATE, Fault.STARTING, Fault.RECOVERING}


def observed(text: str, seconds: float):
    """What health and masks said of each stream while one fault was on, from 1 s; and the masks."""
    said: dict[str, set[Fault]] = {name: set() for name in ALL}
    made = segmenter()
    end_ns = round(seconds * SECOND)

    def watch(now_ns: int) -> None:
        if SECOND < now_ns < end_ns:
            for name, health in made.health(now_ns).items():
                said[name] |= {f.fault for f in health.findings} | set(health.rejected)

    arrivals = through(text, rows(seconds), seed=1)
    maps = [(now, m) for now, m in drive(made, arrivals, watch) if SECOND < now < end_ns]
    for _, label_map in maps:
        for name, reason in label_map.reasons.items():
            said[name].add(Fault(reason.partition(":")[0]))
    return said, [m for _, m in maps]


# Rates are taken over ten messages, silence counts from there; a flood is much to decode.
LONG = {("rgb", "slow"): 2.6, ("depth", "slow"): 4.4, ("lidar", "slow"): 4.4}
LONG |= {(m, n): 2.2 for m in ALL for n in ("off", "intermittent")}
BRIEF = {"event_flood": "+0.15"}


@pytest.mark.parametrize("modality, name", PAIRS)
def test_a_fault_is_found_on_its_sensor_and_nothing_on_the_others(modality, name):
    seconds = LONG.get((modality, name), 1.9)
    said, maps = observed(f"{modality}:{name}@1{BRIEF.get(name, '')}", seconds)
    fault = faults.load(name)()
    expected = fault.expects(modality)
    assert not expected or expected & said[modality], f"expected {expected}, said {said[modality]}"
    assert said[modality] <= expected | fault.may | ON_THE_WAY
    for other in ALL:
        assert other == modality or not said[other]
    assert len(maps) >= 0.9 * 20 * (seconds - 1), "masks go on"
    assert all(m.ids.max() < 19 or m.ids.max() == IGNORE for m in maps)


def test_a_healthy_drive_is_not_accused_of_anything():
    said, maps = observed("rgb:off@99", 3.0)
    assert not any(said.values())
    assert all(m.used == ALL for m in maps)


def test_a_clock_that_jumps_for_all_sensors_is_one_jump():
    made = segmenter()
    maps = list(drive(made, through("all:offset(seconds=60)@1", rows(3.0))))
    assert made.intake.jumps == 1 and maps[-1][1].used == ALL


def test_a_driver_that_repeats_stamp_and_payload_is_found():
    said, _ = observed("rgb:stuck(same_stamp=true)@1", 2.0)
    assert Fault.REPEATED_STAMP in said["rgb"]
