"""At which lag two sensors agree best: found to the step, or not at all."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustseg_core.evidence.lags import LAGS_NS, LEAST_NS, REACH_NS, STEP_NS, LagCurve, best
from robustseg_core.types import MS, SECOND

PERIOD_NS = 100 * MS


def curve(true_ns: int, *, phase_ns: int = 0, noise: float = 0.0, seed: int = 1) -> LagCurve:
    """What two sensors of 10 Hz show of each other, if one's stamps are `true_ns` late."""
    rng = np.random.default_rng(seed)
    seen = LagCurve()
    for look in range(20):
        lags = range(-REACH_NS + phase_ns, REACH_NS + 1, PERIOD_NS)
        seen.see(
            [
                (n, 3 + 5 * math.exp(-abs(n - true_ns) / PERIOD_NS) + rng.normal(0, noise))
                for n in lags
            ],
            look * PERIOD_NS,
        )
    return seen


@given(true=st.integers(-300, 300).filter(lambda ms: abs(ms) >= 80), noise=st.floats(0, 0.5))
def test_a_lag_that_was_seen_is_told(true: int, noise: float) -> None:
    gain, lag_ns = best(curve(true * MS, phase_ns=true % 100 * MS, noise=noise).explained)
    assert gain > 0.1
    assert abs(lag_ns - true * MS) <= STEP_NS


@given(true=st.integers(-20, 20), noise=st.floats(0, 0.5))
def test_right_stamps_have_none(true: int, noise: float) -> None:
    assert best(curve(true * MS, noise=noise).explained) == (0.0, 0)


@given(true=st.integers(-58, 58), noise=st.floats(0, 0.5), seed=st.integers(0, 99))
def test_half_a_turn_of_a_lidar_between_two_lags_that_were_seen_is_none(
    true: int, noise: float, seed: int
) -> None:
    assert best(curve(true * MS, noise=noise, seed=seed).explained)[0] < 0.1


@given(true=st.integers(-300, 300))
def test_of_the_other_one_it_is_the_opposite(true: int) -> None:
    mine, its = curve(true * MS).explained, curve(-true * MS).explained
    np.testing.assert_allclose(mine, its[::-1], atol=1e-9)


def test_what_was_hardly_seen_or_is_the_same_everywhere_explains_nothing() -> None:
    assert not LagCurve().explained.any()
    seen = LagCurve()
    seen.see([(0, 3.0), (PERIOD_NS, 4.0)], 0)
    assert not seen.explained.any()
    for number in range(9):
        seen.see([(int(lag_ns), 2.5) for lag_ns in LAGS_NS], number * 60 * SECOND)
    assert seen.explained == pytest.approx(0, abs=1e-6)


def test_what_is_long_ago_is_forgotten_and_what_is_far_is_not_looked_at() -> None:
    seen = curve(200 * MS)
    lags = range(-REACH_NS, REACH_NS + 1, PERIOD_NS)
    for look in range(30):
        now_ns = 20 * SECOND + look * PERIOD_NS
        seen.see([(n, math.exp(-abs(n) / PERIOD_NS)) for n in lags], now_ns)
        seen.see([(REACH_NS + STEP_NS, 99.0), (-9 * SECOND, 99.0)], now_ns)
    assert best(seen.explained) == (0.0, 0)
    assert LEAST_NS < PERIOD_NS
