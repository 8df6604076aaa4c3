"""The learning rate of single steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from robustseg_core.learn.recipe import OptimRecipe
from robustseg_core.learn.schedule import Schedule
from support.golden import golden
from support.parity import Row

TITLE = "Learning rate"
NOTE = """\
Warm-up and polynomial decay as the published scripts set them up, for three lengths of training.
The numbers are of one step half way, the difference is the greatest over all recorded steps,
relative."""
ALLOWED = 1e-12


def schedule(about: dict[str, Any]) -> Schedule:
    """Ours, of a recorded training."""
    optim = OptimRecipe(
        epochs=about["epochs"],
        lr=about["base_lr"],
        warmup=about["warmup_epochs"] / about["epochs"],
        warmup_from=about["warmup_from"],
        power=about["power"],
    )
    return Schedule(optim, about["iterations_per_epoch"])


def rows() -> Iterator[Row]:
    """One for each training."""
    for about in golden("schedule").facts.values():
        ours = schedule(about)
        rates = [ours.rate(step) for step in about["steps"]]
        worst = max(abs(a / b - 1) for a, b in zip(rates, about["lr"], strict=True))
        middle = len(rates) // 2
        what = f"{about['epochs']} epochs of {about['iterations_per_epoch']} steps"
        yield Row(what, about["lr"][middle], rates[middle], worst, ALLOWED)
