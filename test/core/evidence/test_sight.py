"""What of a sensor is compared: outlines, on a coarse grid."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustseg_core.evidence.sight import jumps, mean_of_cells, most_of_cells, outlined, step_of

SIZE = 80, 128


def test_outlines_have_no_mean_and_length_one_and_an_empty_picture_has_none() -> None:
    rng = np.random.default_rng(1)
    shown = outlined(rng.random(SIZE).astype(np.float32))
    assert shown.mean() == pytest.approx(0, abs=1e-6)
    assert np.linalg.norm(shown) == pytest.approx(1, abs=1e-5)
    assert not outlined(np.zeros(SIZE, np.float32)).any()


def test_a_road_has_no_outline() -> None:
    rows = np.maximum(np.arange(80) - 30.0, 0)[:, None].repeat(128, axis=1)
    tilted = (rows + 0.05 * np.arange(128)) * (rows > 0) / 150
    assert jumps(tilted.astype(np.float32)).max() == pytest.approx(0, abs=2e-2)


@given(height=st.sampled_from([64, 160, 320]), width=st.integers(64, 2048))
def test_cells_are_at_most_128_across(height: int, width: int) -> None:
    assert width // step_of((height, width)) <= 128


@given(
    step=st.integers(1, 5),
    height=st.integers(5, 40),
    width=st.integers(5, 40),
    seed=st.integers(0, 99),
)
def test_cells_have_the_mean_and_the_greatest_of_their_pixels(
    step: int, height: int, width: int, seed: int
) -> None:
    array = np.random.default_rng(seed).random((height, width)).astype(np.float32)
    rows, columns = height // step, width // step
    cells = array[: rows * step, : columns * step].reshape(rows, step, columns, step)
    np.testing.assert_allclose(mean_of_cells(array, step), cells.mean(axis=(1, 3)), atol=1e-5)
    np.testing.assert_array_equal(most_of_cells(array, step), cells.max(axis=(1, 3)))
