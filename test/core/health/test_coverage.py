"""Directions that do not answer any more are found, but for a sky that opens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustseg_core.health.coverage import SETTLED, Coverage

SIZE = 12, 20


def street(rng: np.random.Generator) -> np.ndarray:
    """The ground answers, the sky does not, and between them some do."""
    answers = np.zeros(SIZE, np.float32)
    answers[3:6] = rng.random((3, SIZE[1])) < 0.5
    answers[6:] = rng.random((6, SIZE[1])) < 0.95
    return answers


def known(seed: int = 0) -> tuple[Coverage, np.random.Generator]:
    rng, coverage = np.random.default_rng(seed), Coverage()
    for _ in range(2 * SETTLED):
        assert coverage.lost(street(rng)) == 0
    return coverage, rng


@given(seed=st.integers(0, 999))
def test_nothing_is_lost_while_all_is_as_ever(seed: int) -> None:
    coverage, rng = known(seed)
    for _ in range(100):
        assert coverage.lost(street(rng)) == 0


@given(
    top=st.integers(7, 10),
    left=st.integers(0, 18),
    height=st.integers(1, 2),
    width=st.integers(1, 2),
)
def test_a_spot_is_lost_and_told_by_its_size(top: int, left: int, height: int, width: int) -> None:
    coverage, rng = known()
    spot = np.s_[top : top + height, left : left + width]
    for _ in range(60):
        answers = street(rng)
        answers[spot] = 0
        lost = coverage.lost(answers)
    assert lost == pytest.approx(height * width / (6 * SIZE[1]), rel=0.2)


def test_what_is_silent_up_to_the_sky_is_far() -> None:
    coverage, rng = known()
    for _ in range(60):
        answers = street(rng)
        answers[:9, 4:12] = 0
        assert coverage.lost(answers) == 0, "the rows below answer still"


def test_another_sensor_is_known_anew_and_a_mended_one_is_well() -> None:
    coverage, rng = known()
    for _ in range(40):
        answers = street(rng)
        answers[8:10, 3:9] = 0
        lost = coverage.lost(answers)
    assert lost > 0.05
    for _ in range(30):
        lost = coverage.lost(street(rng))
    assert lost == 0
    assert coverage.lost(np.zeros((3, 4), np.float32)) == 0
    coverage.clear()
    assert coverage.lost(np.ones(SIZE, np.float32)) == 0
