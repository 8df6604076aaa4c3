"""Which sensor a student is shown by itself: the weaker one is, the more often.

The running estimate is a function of the losses heard so far, the same in all processes; it is
saved with the state of a run, so that one that goes on draws what it would have drawn.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Solo(nn.Module):
    """Draws a sensor in proportion to the loss that it reaches alone: inversely to robustness.

    A sensor that was not heard yet counts as the weakest of the others.

    Args:
        modalities: M.
        memory: share of the old mean in the new one.
    """

    losses: Tensor
    """(M,) float64, running mean of each sensor's loss; 0: not heard yet."""

    def __init__(self, modalities: int, memory: float) -> None:
        super().__init__()
        self.memory = memory
        self.register_buffer("losses", torch.zeros(modalities, dtype=torch.float64))
        self._heard: list[tuple[int, Tensor, Tensor]] = []

    def chances(self) -> Tensor:
        """(M,) of being drawn, on the CPU."""
        losses = self.losses.cpu()
        known = losses > 0
        weakest = losses.max() if known.any() else 1.0
        weights = torch.where(known, losses, weakest)
        return weights / weights.sum()

    def draw(self, generator: torch.Generator) -> int:
        """A column of `alive`; the generator is the same in all processes, on the CPU."""
        return int(torch.multinomial(self.chances(), 1, generator=generator))

    def hear(self, column: int, loss: Tensor, heard: Tensor) -> None:
        """Note a loss of a micro-batch.

        Args:
            column: what was drawn.
            loss: a scalar, unweighted.
            heard: a bool; False: nobody had this sensor, or no label.
        """
        self._heard.append((column, loss.detach(), heard))

    @torch.no_grad()
    def settle(self, add_up: Callable[[Tensor], object]) -> None:
        """Put what was heard in a step into the estimate.

        Args:
            add_up: sums a tensor over the processes, in place.
        """
        if not self._heard:
            return
        device = self._heard[0][1].device
        table = torch.zeros(2, len(self.losses), dtype=torch.float64, device=device)
        for column, loss, heard in self._heard:
            table[:, column] += torch.stack((loss, torch.ones_like(loss))).double() * heard
        self._heard = []
        add_up(table)
        total, count = table.to(self.losses.device)
        mean = total / count.clamp(min=1)
        older = torch.where(self.losses > 0, self.losses, mean)
        newer = self.memory * older + (1 - self.memory) * mean
        self.losses.copy_(torch.where(count > 0, newer, self.losses))
