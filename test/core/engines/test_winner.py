"""Resizing, argmax and confidence in one pass say what the three say one after the other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from robustseg_core.engines._winner import labels
from robustseg_core.models.calibration import on_levels, winner
from robustseg_core.models.resize import resize_logits


def slowly(logits: Tensor, size: tuple[int, int], temperature: float) -> tuple[Tensor, Tensor]:
    big = resize_logits(logits[None], size)[0]
    ids, confidence = winner(big, temperature)
    return ids, on_levels(confidence)


@given(
    classes=st.integers(2, 30),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    stride=st.sampled_from([1, 2, 3, 4, 8]),
    temperature=st.sampled_from([0.2, 1.0, 1.7]),
    scale=st.sampled_from([0.0, 0.1, 3.0, 300.0]),
    last=st.booleans(),
    seed=st.integers(0, 99),
)
def test_one_pass_is_what_three_are(classes, height, width, stride, temperature, scale, last, seed):
    rng = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(1, classes, height, width, generator=rng)
    if last:
        logits = logits.contiguous(memory_format=torch.channels_last)
    size = (height * stride, width * stride)
    found = labels(logits[0], size, temperature)
    assert found is not None
    ids, confidence = found
    expected, level = slowly(logits[0], size, temperature)
    big = resize_logits(logits, size)[0]
    chosen = big.gather(0, torch.from_numpy(ids).long()[None])[0]
    assert (big.amax(0) - chosen <= 1e-5 * max(scale, 1)).all()  # the winner, but for rounding
    top = big.topk(2, 0).values
    clear = (top[0] - top[1] > 1e-5 * max(scale, 1)).numpy()
    np.testing.assert_array_equal(ids[clear], expected.numpy()[clear])
    assert np.abs(confidence.astype(int) - level.numpy()).max() <= 1


def test_a_level_differs_only_where_it_is_rounded():
    logits = 3 * torch.randn(19, 40, 64, generator=torch.Generator().manual_seed(0))
    found = labels(logits, (160, 256), 1.3)
    assert found is not None
    ids, level = slowly(logits, (160, 256), 1.3)
    assert np.array_equal(found[0], ids.numpy())
    assert (found[1] != level.numpy()).mean() < 1e-3


def test_threads_share_the_rows():
    logits = torch.randn(5, 7, 4, generator=torch.Generator().manual_seed(0))
    before = torch.get_num_threads()
    alone = labels(logits, (28, 16), 1.0)
    try:
        torch.set_num_threads(3)
        shared = labels(logits, (28, 16), 1.0)
    finally:
        torch.set_num_threads(before)
    assert alone is not None and shared is not None
    assert all(np.array_equal(a, b) for a, b in zip(alone, shared, strict=True))


@pytest.mark.parametrize("width", [8, 9], ids=["one pass", "three"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_makes_no_labels(width: int, value: float):
    logits = torch.zeros(3, 4, 4)
    logits[1, 2, 3] = value
    assert labels(logits, (8, width), 1.0) is None
    logits[1, 2, 3] = 3e38
    assert labels(logits, (8, width), 1.0) is not None
    assert labels(logits, (8, width), 0.5) is None  # not finite once divided


def test_a_size_that_is_no_multiple_is_served_too():
    logits = torch.randn(4, 3, 4, generator=torch.Generator().manual_seed(0))
    found = labels(logits, (7, 9), 1.0)
    assert found is not None
    ids, level = slowly(logits, (7, 9), 1.0)
    assert np.array_equal(found[0], ids.numpy()) and np.array_equal(found[1], level.numpy())
