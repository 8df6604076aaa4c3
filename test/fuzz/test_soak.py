"""Forty seconds of simulated driving, chosen so that every clock rolls over in them."""

from __future__ import annotations

import logging

import pytest

from fuzz.soak import ROLL_EVT3_S, ROLL_INT32_S, latency, schedule, slope_per_hour, soak
from robustseg_core.faults import parse_fault

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def calm():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_no_roll_over_of_the_event_clock_costs_a_mask_its_events():
    found = soak(40, 0, start_s=ROLL_INT32_S - 20, faults=False)
    assert ROLL_INT32_S % ROLL_EVT3_S == 0  # both roll over at second 20
    assert found["masks_with_events_after_roll_over"]["int32"] >= 1
    assert found["masks_with_events_after_roll_over"]["evt3"] >= 3
    assert found["masks_of_reference_rate"] > 0.97
    assert found["used"]["event"] > 0.97 * found["masks"]
    assert found["rejected"] == {}
    assert (found["internal_errors"], found["clock_jumps"]) == (0, 0)


def test_a_minute_of_random_faults_leaks_nothing():
    found = soak(40, 3, start_s=ROLL_EVT3_S - 5)
    assert found["faults"] > 0
    assert found["internal_errors"] == 0
    assert found["leaked"] == {"threads": 0, "files": 0}
    assert found["masks_of_reference_rate"] > 0.9
    assert found["masks_back_in_time"] == 0


def test_a_soak_breaks_every_sensor_and_names_real_faults():
    faults = [parse_fault(text) for text in schedule(3600, 0)]
    assert {fault.target for fault in faults} == {"rgb", "depth", "event", "lidar"}
    assert len({fault.name for fault in faults}) > 25
    assert all(fault.start_s < 3600 for fault in faults)


def test_the_slope_and_the_ratio_are_what_they_say():
    rss = [(60.0 * k, 400 + 2 * k / 60 + (5 if k == 0 else 0)) for k in range(61)]
    assert slope_per_hour(rss) == pytest.approx(2, abs=1e-6)
    own_ms = latency([1_000_000] * 100 + [3_000_000] * 11)
    assert (own_ms["first_tenth"], own_ms["last_tenth"], own_ms["ratio"]) == (1, 3, 3)
