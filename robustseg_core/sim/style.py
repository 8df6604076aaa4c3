"""What one town has and another has not: the generator's parameters beside the seed.

`plain` is one town, everywhere the same; `varied` draws a town for each seed. One generator serves
both.
"""

from __future__ import annotations

from dataclasses import dataclass

from robustseg_core.errors import RobustsegError, did_you_mean
from robustseg_core.sim import stock
from robustseg_core.sim.stock import Stock

STREETS = ("plain", "varied")
"""Names of styles."""


@dataclass(frozen=True)
class Style:
    """The parameters of a town."""

    stock: Stock = stock.BUILT
    """Where trees, bushes and houses come from."""


PLAIN = Style()


def style(name: str, seed: int) -> Style:
    """The style called `name`, of the town of a seed.

    Raises:
        RobustsegError: there is no such style.
    """
    if name not in STREETS:
        raise RobustsegError(f"no streets called {name!r}; {did_you_mean(name, STREETS)}")
    if name == "plain":
        return PLAIN
    return Style(stock=stock.library())
