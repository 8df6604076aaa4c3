"""Stories about rates: what was promised once is not forgotten because a sensor is slow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustseg_core.sync.rate import RateEstimator
from robustseg_core.types import MS, SECOND


def fed(intervals_ns, rate_hz: float = 0.0) -> RateEstimator:
    meter = RateEstimator(rate_hz)
    for time_ns in np.cumsum([1, *intervals_ns]):
        meter.observe(int(time_ns))
    return meter


def test_a_rate_is_learned_from_ten_intervals():
    assert fed([40 * MS] * 9).trusted_period_ns is None
    assert fed([40 * MS] * 10).trusted_period_ns == 40 * MS


def test_a_slow_stream_does_not_bend_what_was_learned_until_half_a_minute_has_passed():
    slow = fed([50 * MS] * 60 + [150 * MS] * 190)
    assert slow.period_ns == 50 * MS and slow.slower_than(0.5)
    believed = fed([50 * MS] * 60 + [150 * MS] * 220)
    assert believed.period_ns == 150 * MS and not believed.slower_than(0.5)


def test_a_stream_that_becomes_faster_is_believed_soon():
    assert fed([100 * MS] * 30 + [50 * MS] * 60).period_ns == 50 * MS


def test_a_told_rate_is_never_unlearned():
    meter = fed([300 * MS] * 500, rate_hz=20)
    assert meter.period_ns == 50 * MS and meter.slower_than(0.5)


def test_a_burst_after_a_pause_of_the_operating_system_is_neither_slow_nor_lossy():
    meter = fed([4 * MS] * 300 + [60 * MS] + [MS // 10] * 14 + [4 * MS] * 5)
    assert not meter.slower_than(0.5) and not meter.lossy


@pytest.mark.slow
@settings(max_examples=100)
@given(st.integers(5, 200), st.integers(0, 2**32 - 1), st.floats(0, 0.45))
def test_messages_that_are_only_late_are_neither_slow_nor_lossy(rate_hz, seed, late):
    due = np.arange(200) + np.random.default_rng(seed).uniform(0, late, 200)
    intervals_ns = np.diff(due * SECOND / rate_hz)
    meter = RateEstimator()
    for time_ns in np.cumsum([1, *intervals_ns]):
        meter.observe(int(time_ns))
        assert not meter.slower_than(0.5) and not meter.lossy


@pytest.mark.slow
@settings(max_examples=200)
@given(st.integers(2, 25), st.integers(10, 200), st.floats(0.001, 0.2))
def test_a_stream_that_always_comes_in_bursts_has_the_rate_of_its_messages(burst, rate_hz, spread):
    """A starved machine hands over a whole queue at once: that is no faster a sensor."""
    period_ns = SECOND / rate_hz
    spans = [spread * period_ns / burst] * (burst - 1)
    pause_ns = burst * period_ns - sum(spans)
    meter = fed([*spans, pause_ns] * (300 // burst))
    assert abs(meter.period_ns / period_ns - 1) < 0.35
    assert not meter.slower_than(0.5)
