"""A part of what a sensor shows that stands still while the rest changes: half of it is old."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from robustseg_core.health.content import Statistic
from robustseg_core.types import Fault

PURE = 0.9
"""Share of a column's cells, or of a row's, that stand still where it does, or change."""
SETTLED = 5
"""Messages in a row with the same part."""


class Stillness:
    """Which columns, or rows, of one sensor's messages are those of the message before.

    Args:
        edges: columns that may be of the part in one message and not in the next, where it begins
            and ends.
    """

    def __init__(self, edges: int = 0) -> None:
        self._edges = edges
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._part: NDArray[np.bool_] | None = None
        self._messages = 0

    def share(self, changed: NDArray[np.bool_], speaks: NDArray[np.bool_]) -> float:
        """Share of the columns, or rows, that have stood still for some messages while all others
        changed. A sensor that stands, or a scene in which only some things move, has none.

        Args:
            changed: (rows, columns) cells that differ from the message before in a single bit.
            speaks: (rows, columns) cells that would tell.
        """
        part: NDArray[np.bool_] | None = None
        for axis in (0, 1):  # columns, then rows
            told = speaks.sum(axis=axis)
            moving = (changed & speaks).sum(axis=axis) / np.maximum(told, 1)
            stands, moves = (told > 0) & (moving <= 1 - PURE), (told > 0) & (moving >= PURE)
            edge = (told > 0) & _between(stands, moves)  # a column that the part ends in
            if stands.any() and moves.any() and (stands | moves | edge)[told > 0].all():
                part = np.append(stands, axis == 1)
                break
        same = False
        if part is not None and self._part is not None and part.size == self._part.size:
            same = int(np.count_nonzero(part != self._part)) <= self._edges
        self._messages = self._messages + 1 if same else int(part is not None)
        self._part = part
        return float(part[:-1].mean()) if part is not None and self._messages >= SETTLED else 0.0


def _between(stands: NDArray[np.bool_], moves: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where one neighbor stands and the other one moves."""
    either = np.zeros_like(stands)
    either[1:-1] = (stands[:-2] & moves[2:]) | (moves[:-2] & stands[2:])
    return either


def stuck(share: float, limit: float, what: str) -> Statistic:
    """STUCK in part; `limit` is `still_share` of the sensor.

    Args:
        share: of `what` that stands still.
        limit: from which on it is a doubt.
        what: "image", or "turn".
    """
    text = partial(
        "{:.0%} of the {} stands still while the rest changes, limit {:.0%}".format,
        share,
        what,
        limit,
    )
    return Statistic("still_share", Fault.STUCK, share / limit, text)
