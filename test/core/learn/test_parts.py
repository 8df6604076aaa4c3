"""What learns beside the student: its own rate, its own place in the state of a run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from robustseg_core.errors import RobustsegError
from robustseg_core.learn import state
from robustseg_core.learn.prepare import optimizer_of
from robustseg_core.learn.recipe import OptimRecipe
from robustseg_core.learn.sameness import Run

RUN = Run('{"optim": {"batch": 1}}', "{}", 1)


def some(seed: int) -> tuple[nn.Module, nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    model, part = nn.Linear(3, 2), nn.Linear(2, 4)
    return model, part, optimizer_of(model, OptimRecipe(lr=0.1), {"judge": (part, 0.5)})


def steps(model: nn.Module, part: nn.Module, optimizer: torch.optim.Optimizer, count: int) -> None:
    for _ in range(count):
        part(model(torch.ones(1, 3))).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.slow
def test_a_part_has_its_own_rate_and_its_vectors_do_not_decay() -> None:
    _, part, optimizer = some(0)
    own = [g for g in optimizer.param_groups if any(p is part.weight for p in g["params"])]
    assert [(g["scale"], g["lr"], g["weight_decay"]) for g in own] == [(0.5, 0.05, 0.01)]
    assert [g["weight_decay"] for g in optimizer.param_groups] == [0.01, 0.0, 0.01, 0.0]


def test_what_is_frozen_in_a_part_is_not_optimized() -> None:
    part = nn.Linear(2, 4)
    part.weight.requires_grad_(requires_grad=False)
    optimizer = optimizer_of(nn.Linear(3, 2), OptimRecipe(), {"judge": (part, 1.0)})
    assert not any(p is part.weight for g in optimizer.param_groups for p in g["params"])


def test_a_part_goes_on_exactly_where_it_was(tmp_path: Path) -> None:
    model, part, optimizer = some(0)
    steps(model, part, optimizer, 3)
    path = tmp_path / "state.safetensors"
    state.save(path, {"model": model, "judge": part}, optimizer, {}, state.Progress(step=3), RUN)
    steps(model, part, optimizer, 2)
    other, its, again = some(1)
    state.load(path, {"model": other, "judge": its}, again, RUN)
    steps(other, its, again, 2)
    assert all(torch.equal(a, b) for a, b in zip(part.parameters(), its.parameters(), strict=True))


def test_a_state_without_the_part_is_a_sentence(tmp_path: Path) -> None:
    model, part, optimizer = some(0)
    path = tmp_path / "state.safetensors"
    state.save(path, {"model": model}, optimizer, {}, state.Progress(), RUN)
    with pytest.raises(RobustsegError, match=r"is damaged .*weight.*delete it"):
        state.load(path, {"model": model, "judge": part}, optimizer, RUN)
