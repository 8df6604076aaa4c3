"""How many steps there are, and the learning rate of each."""

from __future__ import annotations

from robustseg_core.learn.recipe import OptimRecipe


class Schedule:
    """Linear warm-up, then polynomial decay, a function of the step alone (docs/specs/network.md).

        rate(t) = lr (f + (1 - f) t / w)                         t < w,  f = `warmup_from`
        rate(t) = lr (1 - (t - w) / (T' - w))^power              from there on

    The decay begins at the full rate. Its end T' lies behind the last step T, so that the last step
    still learns: one epoch behind where the recipe counts in `epochs`, as published, and one step
    behind where it counts in `steps`, which know of no epoch.

    Args:
        optim: of the recipe.
        per_epoch: optimizer steps in one pass over the data.
    """

    def __init__(self, optim: OptimRecipe, per_epoch: int) -> None:
        self.steps = optim.steps or optim.epochs * per_epoch
        """T: optimizer steps in all."""
        self.end = self.steps + (1 if optim.steps else per_epoch)
        """T': the step at which the rate would be 0."""
        self.warm = round(optim.warmup * self.steps)
        """w: steps that warm up."""
        self._optim = optim

    def rate(self, step: int) -> float:
        """Learning rate of step 0, 1, ... T - 1."""
        optim = self._optim
        if step < self.warm:
            return optim.lr * (optim.warmup_from + (1 - optim.warmup_from) * step / self.warm)
        left: float = (1 - (step - self.warm) / (self.end - self.warm)) ** optim.power
        return optim.lr * left
