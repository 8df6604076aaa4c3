"""Every fault there is, done to one sensor of a healthy drive: found in time, and nowhere else.

Times are those of the fault matrix (docs/robustness.md, column deadline).
"""

from __future__ import annotations

from itertools import pairwise

import pytest

from robustseg_core import faults
from robustseg_core.faults._base import Graded
from robustseg_core.types import Fault, State
from support.accounts import START_S, observed
from support.drives import ALL, RATES, drive, rows, segmenter, through

pytestmark = pytest.mark.slow

GRADED = [n for n in faults.available() if issubclass(faults.load(n), Graded)]
SENSORS_OF = {n: faults.reached(n) for n in faults.available()}
PAIRS = [(m, n) for n, sensors in SENSORS_OF.items() if n not in GRADED for m in sensors]
PAIRS += [(SENSORS_OF[n][k % len(SENSORS_OF[n])], n) for k, n in enumerate(GRADED)]
"""Of the faults with severities, each is done to one sensor, by turns."""
ON_THE_WAY = {Fault.LATE, Fault.STARTING, Fault.RECOVERING}
SURVIVED = {"wrong", *GRADED} - {"shifted_in_time", "flapping", "burst"}
"""What no sensor can tell alone, as a mirrored street is a street, and what takes minutes."""
DEADLINE_S = {
    "slow": 2.0,
    "intermittent": 2.0,
    "delayed": 1.0,
    "stuck": 0.5,
    "blurred": 1.5,
    "covered": 1.0,
    "sector": 1.0,
    "rings": 1.0,
    "jitter": 1.0,
    "sparse_cloud": 1.0,
    "holes": 1.0,
    "gaussian_noise": 1.0,
    "salt_pepper": 1.0,
    "hot_pixels": 1.0,
    "sequence_gap": 1.0,
    "event_flood": 0.5,
    "no_events": 0.5,
    "shifted_in_time": 1.0,
}
"""All others: three messages."""
BRIEF = {"event_flood": "+0.3"}
"""A flood is much to decode."""


def deadline_s(modality: str, name: str) -> float:
    three = 3 / RATES[modality] + 0.02
    if name in ("off", "flapping", "burst"):
        return max(three, 0.17)  # silence of less than 150 ms is none
    if (modality, name) == ("event", "truncated"):
        return 0.5  # one packet alone may be short
    return DEADLINE_S.get(name, three)


@pytest.mark.parametrize("modality, name", PAIRS)
def test_a_fault_is_found_on_its_sensor_in_time_and_nothing_on_the_others(modality, name):
    fault = faults.load(name)()
    telling = fault.expects(modality)
    assert bool(telling) != (name in SURVIVED), "each fault is found, or known to be undetectable"
    expected, limit_s = fault.found_on(modality), deadline_s(modality, name)
    seconds = limit_s + 0.3
    account = observed(f"{modality}:{name}@{START_S}{BRIEF.get(name, '')}", seconds)
    said = account.said[modality]
    found_s = min((t for found, t in said.items() if found in expected), default=None)
    assert not expected or found_s is not None, f"expected {expected}, said {said}"
    assert found_s is None or found_s <= limit_s
    assert set(said) <= telling | fault.may | ON_THE_WAY
    for other in ALL:
        assert other == modality or not account.said[other]
    assert account.masks >= 0.9 * 20 * seconds - 1, "masks go on"


@pytest.mark.parametrize(
    ("text", "within_s"),
    [
        ("rgb:covered(share=0.35)", 1.0),
        ("rgb:covered(share=0.5)", 1.0),
        ("rgb:covered(share=0.9)", 1.0),
        ("rgb:blurred", 1.5),
        ("lidar:sector", 1.0),
        ("lidar:rings", 1.0),
        ("event:no_events", 1.0),
    ],
)
def test_a_sensor_that_sees_less_is_degraded_in_time_and_still_used(text, within_s):
    modality = text.partition(":")[0]
    states = observed(f"{text}@{START_S}", within_s + 0.1).states[modality]
    assert states[-1] is State.DEGRADED and set(states) == {State.LIVE, State.DEGRADED}


@pytest.mark.parametrize("text", ["rgb:black", "event:encoding", "lidar:frame_id"])
def test_a_sensor_that_sees_nothing_or_cannot_be_placed_is_dead(text):
    modality = text.partition(":")[0]
    assert observed(f"{text}@{START_S}", 0.5).states[modality][-1] is State.DEAD


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("modality", ALL)
def test_a_sensor_that_loses_half_of_its_messages_does_not_flap(modality, seed):
    account = observed(f"{modality}:intermittent@{START_S}", 10, seed, network=False)
    states = account.states[modality]
    used = [state.usable for state in states]
    assert sum(a != b for a, b in pairwise(used)) <= 2


def test_a_healthy_drive_is_not_accused_of_anything():
    account = observed("rgb:off@99", 3.0)
    assert not any(account.said.values()) and account.masks >= 58


def test_a_clock_that_jumps_for_all_sensors_is_one_jump():
    made = segmenter()
    maps = list(drive(made, through("all:offset(seconds=60)@1", rows(3.0))))
    assert made.intake.jumps == 1 and maps[-1][1].used == ALL


def test_a_driver_that_repeats_stamp_and_payload_is_found():
    said = observed(f"rgb:stuck(same_stamp=true)@{START_S}", 0.5).said
    assert Fault.REPEATED_STAMP in said["rgb"]
