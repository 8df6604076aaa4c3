"""A part that stands still while all the rest changes is found, and nothing else is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustseg_core.health.stillness import SETTLED, Stillness

SIZE = 12, 20
ALL = np.ones(SIZE, bool)


@given(
    begin=st.integers(0, 15),
    wide=st.integers(1, 4),
    rows=st.booleans(),
    seed=st.integers(0, 99),
)
def test_columns_or_rows_that_stand_are_told_by_their_share(begin, wide, rows, seed) -> None:
    rng, stillness = np.random.default_rng(seed), Stillness()
    begin = begin // 2 if rows else begin  # of 12 rows, or 20 columns
    part = np.s_[begin : begin + wide] if rows else np.s_[:, begin : begin + wide]
    for k in range(2 * SETTLED):
        changed = np.ones(SIZE, bool)
        changed[rng.integers(SIZE[0]), rng.integers(SIZE[1])] = False
        changed[part] = False
        share = stillness.share(changed, ALL)
        assert share == (pytest.approx(wide / SIZE[not rows]) if k >= SETTLED - 1 else 0)


@given(seed=st.integers(0, 999), share=st.floats(0.3, 0.7))
def test_a_scene_in_which_some_things_move_says_nothing(seed: int, share: float) -> None:
    rng, stillness = np.random.default_rng(seed), Stillness()
    for _ in range(3 * SETTLED):
        assert stillness.share(rng.random(SIZE) < share, ALL) == 0


@pytest.mark.parametrize("moves", [True, False])
def test_all_of_it_is_no_part(moves: bool) -> None:
    stillness = Stillness()
    for _ in range(3 * SETTLED):
        assert stillness.share(np.full(SIZE, moves), ALL) == 0


def test_what_does_not_speak_is_not_asked() -> None:
    stillness, speaks = Stillness(), ALL.copy()
    speaks[:, 5:9] = False
    changed = speaks.copy()
    for _ in range(3 * SETTLED):
        assert stillness.share(changed, speaks) == 0


def test_another_part_each_time_is_none_and_what_was_is_forgotten() -> None:
    stillness = Stillness()
    for k in range(3 * SETTLED):
        changed = ALL.copy()
        changed[:, k % 10 : k % 10 + 3] = False
        assert stillness.share(changed, ALL) == 0
    for _ in range(SETTLED):
        share = stillness.share(changed, ALL)
    assert share > 0
    stillness.clear()
    assert stillness.share(changed, ALL) == 0
