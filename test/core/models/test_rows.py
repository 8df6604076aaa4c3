"""The head a few rows at a time is the head."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robustseg_core.models.head import AllMLPHead, FoldedHead


def head(channels: Sequence[int], width: int, seed: int) -> tuple[AllMLPHead, FoldedHead]:
    torch.manual_seed(seed)
    published = AllMLPHead(channels, width, 5).eval()
    published.norm.running_mean.normal_()
    published.norm.running_var.uniform_(0.5, 2)
    return published, published.fold()


@given(
    channels=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    width=st.sampled_from([3, 128, 200]),
    batch=st.integers(1, 2),
    height=st.sampled_from([8, 16]),
    across=st.sampled_from([8, 24, 700]),
    seed=st.integers(0, 9),
)
@settings(max_examples=25, deadline=None)
def test_it_is_the_published_head(channels, width, batch, height, across, seed):
    published, folded = head(channels, width, seed)
    maps = [
        torch.randn(batch, c, max(1, height >> s), max(1, across >> s))
        for s, c in enumerate(channels)
    ]
    with torch.inference_mode():
        torch.testing.assert_close(folded(maps), published(maps), atol=2e-5, rtol=1e-4)


def test_gradients_go_the_other_way():
    _, folded = head((3, 4), 8, 0)
    maps = [torch.randn(1, 3, 8, 8, requires_grad=True), torch.randn(1, 4, 4, 4)]
    folded(maps).sum().backward()
    assert maps[0].grad is not None


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_so(value: float):
    _, folded = head((3, 4), 8, 0)
    maps = [torch.zeros(1, 3, 8, 8), torch.zeros(1, 4, 4, 4)]
    maps[1][0, 0, 1, 1] = value
    with torch.inference_mode():
        assert not folded(maps).isfinite().all()
