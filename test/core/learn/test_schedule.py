"""The learning rate of each step: warm-up, full rate, decay to just above zero."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustseg_core.learn.recipe import OptimRecipe
from robustseg_core.learn.schedule import Schedule

LENGTHS = st.sampled_from([{"epochs": 1}, {"epochs": 7}, {"steps": 1}, {"steps": 40}])


@given(
    length=LENGTHS,
    per_epoch=st.integers(1, 30),
    warmup=st.floats(0, 0.99),
    warmup_from=st.floats(0.01, 1),
    power=st.floats(0.1, 2),
)
def test_it_rises_to_the_full_rate_and_falls_from_there(
    length, per_epoch, warmup, warmup_from, power
):
    optim = OptimRecipe(lr=0.5, warmup=warmup, warmup_from=warmup_from, power=power, **length)
    plan = Schedule(optim, per_epoch)
    rates = [plan.rate(step) for step in range(plan.steps)]
    top = min(plan.warm, plan.steps - 1)
    assert all(a <= b for a, b in pairwise(rates[: top + 1]))
    assert all(a > b for a, b in pairwise(rates[top:]))
    assert rates[0] == pytest.approx(0.5 * (warmup_from if plan.warm else 1))
    assert all(0 < rate <= 0.5 for rate in rates)
    if plan.warm < plan.steps:
        assert rates[plan.warm] == 0.5  # nothing is lost between warm-up and decay


def test_epochs_end_an_epoch_after_the_last_and_steps_a_step_after():
    by_epochs = Schedule(OptimRecipe(epochs=200, warmup=0.05), 50)
    assert (by_epochs.steps, by_epochs.end, by_epochs.warm) == (10_000, 10_050, 500)
    by_steps = Schedule(OptimRecipe(epochs=200, steps=120, warmup=0), 50)
    assert (by_steps.steps, by_steps.end) == (120, 121)
    assert by_steps.rate(60) == pytest.approx(6e-5 * (1 - 60 / 121) ** 0.9)
