"""Selecting from two networks: as the published module does, and so that the scores can learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from robustseg_core.distill import FeatureSelection
from robustseg_core.distill._selection import Selector
from support.golden import sha256_of_fill
from support.golden_fsm import (
    ARRAYS,
    FACTS,
    STAGES,
    WIDTHS,
    candidates,
    direction,
    module,
    official,
    weights,
)

PRECISE = {torch.float64: 1e-12, torch.float32: 1e-5}
each = pytest.mark.parametrize("dtype", PRECISE, ids=["double", "single"])


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("widths", "parameters"), [(WIDTHS, 11_272), ((64, 128, 320, 512), 22_536)], ids=["b0", "b2"]
)
def test_parameters_are_as_many_as_published(widths, parameters):
    made = FeatureSelection(widths, 25, temperature=0.2, legacy_argmax=False)
    assert count(made.stages) == parameters
    assert count(made.logits) == 552
    assert count(made) == parameters + 552


def test_the_weights_are_the_recorded_ones():
    assert sha256_of_fill(weights()) == FACTS["sha256_of_fill"]
    names = [n for n, _ in module().named_parameters() if n.startswith("stages.")]
    assert {official(name) for name in names} == set(FACTS["tensors"])


@each
def test_scores_are_theirs(dtype):
    made, pair = module(dtype), candidates(dtype)
    for stage in STAGES:
        for which, net in enumerate(made.stages[stage].scores):
            score = net(pair[which].fused[stage]).detach().double().numpy()
            wanted = ARRAYS[f"score_{stage + 1}"][which]
            np.testing.assert_allclose(score, wanted, atol=PRECISE[dtype])


@each
def test_the_hard_form_picks_the_same_elements_and_teaches_the_scores_nothing(dtype):
    made, pair = module(dtype, legacy_argmax=True), candidates(dtype)
    chosen, shares = made(*pair)
    for stage in STAGES:
        told = FACTS["stages"][stage]
        first, second = (seen.fused[stage] for seen in pair)
        bits = np.unpackbits(ARRAYS[f"pick_{stage + 1}"])[: first.numel()]
        pick = torch.from_numpy(bits).bool().view(first.shape)
        assert torch.equal(chosen.fused[stage], torch.where(pick, second, first))
        assert shares[stage].tolist() == pytest.approx(told["hard_share"], abs=1e-6)
        chosen.fused[stage].sum().backward(retain_graph=True)
        assert torch.equal(second.grad, pick.to(dtype))
        assert torch.equal(first.grad, (~pick).to(dtype))
    assert all(p.grad is None for p in made.parameters())
    mean = shares[: len(WIDTHS)].mean(0).tolist()
    assert mean == pytest.approx(FACTS["whole_module_share"], abs=1e-6)


@each
def test_the_soft_form_and_its_gradients_are_theirs(dtype):
    made, pair = module(dtype), candidates(dtype)
    chosen, shares = made(*pair)
    total = sum((chosen.fused[s] * direction(s, dtype)).sum() for s in STAGES)
    total.backward()
    for stage in STAGES:
        told = FACTS["stages"][stage]
        soft = chosen.fused[stage].detach()
        wanted = ARRAYS[f"soft_output_{stage + 1}"]
        np.testing.assert_allclose(soft[:, ::4].numpy(), wanted, atol=2e-6)  # kept in float32
        assert soft.sum().item() == pytest.approx(told["soft_sum"], abs=told["soft_abs_sum"] * 1e-6)
        assert soft.abs().sum().item() == pytest.approx(told["soft_abs_sum"], rel=1e-5)
        assert shares[stage].tolist() == pytest.approx(told["soft_share"], abs=1e-6)
    for name, parameter in made.named_parameters():
        if name.startswith("stages."):
            stage, _, rest = official(name).partition(".")
            rest = rest.removeprefix("extra_score_predictor.")
            wanted = ARRAYS[f"soft_grad_{stage.removeprefix('tokenselect')}/{rest}"]
            scale = np.abs(wanted).max()
            np.testing.assert_allclose(
                parameter.grad.double().numpy(), wanted, atol=10 * PRECISE[dtype] * scale
            )


@pytest.mark.parametrize("hard", [False, True], ids=["soft", "hard"])
def test_equal_candidates_are_selected_as_they_are(hard):
    x = torch.randn(2, 6, 5, 7)
    selected, shares = Selector(6, temperature=0.2, legacy_argmax=hard)([x, x])
    torch.testing.assert_close(selected, x)
    assert shares.sum().item() == pytest.approx(1)


@given(st.integers(1, 4), st.integers(1, 3), st.booleans())
def test_every_element_is_selected_from_somebody(candidates, batch, hard):
    maps = torch.randn(candidates, batch, 3, 4, 5).unbind()
    selected, shares = Selector(3, candidates, temperature=0.2, legacy_argmax=hard)(maps)
    assert shares.shape == (candidates,)
    assert shares.sum().item() == pytest.approx(1, abs=1e-6)
    stacked = torch.stack(maps)
    if hard:
        assert (stacked == selected).any(0).all()
    else:
        assert (selected <= stacked.amax(0) + 1e-6).all()
        assert (selected >= stacked.amin(0) - 1e-6).all()


def test_half_precision_selects_in_single():
    maps = [torch.randn(1, 4, 8, 8).bfloat16() for _ in range(2)]
    with torch.autocast("cpu", torch.bfloat16):
        selected, _ = Selector(4, temperature=0.2, legacy_argmax=False)(maps)
    assert selected.dtype == torch.float32
