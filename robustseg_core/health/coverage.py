"""Directions that used to answer and do not any more: dirt on a lens, a bag on a LiDAR.

What is far does not answer either, and scenes change; but they change from above, where the sky is,
and dirt stays where it is. The ground right before the sensor always answers.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from robustseg_core.health.content import Statistic
from robustseg_core.types import Fault

QUICK, SLOW = 1 / 10, 1 / 2000
"""Weights of the newest message in how often a direction answers now, and usually."""
SETTLED = 30
"""Messages after which it is known what is usual."""
ANSWERS, FADES, GONE = 0.7, 0.5, 0.1
"""A direction that answers more often than this usually does; one that answers less often is about
to be gone, and gone."""


class Coverage:
    """How often each direction of one sensor answers."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._messages = 0
        self._now = self._usual = np.zeros((0, 0), np.float32)

    def lost(self, answers: NDArray[np.float32]) -> float:
        """Share of the directions that usually answer and are gone, but for those with nothing but
        silence above them and something that answers below.

        Args:
            answers: (rows from above, columns) how much of each direction answers, in [0, 1].
        """
        if self._now.shape != answers.shape:
            self._now, self._usual, self._messages = answers.copy(), answers.copy(), 0
        self._messages += 1
        self._now += max(QUICK, 1 / self._messages) * (answers - self._now)
        usual = self._usual > ANSWERS
        gone = usual & (self._now < GONE)
        silent = np.logical_and.accumulate(~usual | (self._now < FADES), axis=0)
        silent[:, silent[-1] & usual[len(usual) // 2 :].any(axis=0)] = False  # no sky is that low
        gone[silent] = False
        slow = 1 / self._messages if self._messages <= SETTLED else SLOW
        self._usual += slow * (answers - self._usual)
        if self._messages < SETTLED:
            return 0.0
        return float(gone.sum() / max(usual.sum(), 1))


def soiled(share: float, limit: float, what: str, where: str) -> Statistic:
    """COVERED, by dirt that stays where it is.

    Args:
        share: of what is seen, that is hidden.
        limit: the field `soiled_share` of the modality's limits.
        what: is hidden, for people.
        where: the dirt is.
    """
    text = partial("{:.0%} of {}, limit {:.0%}; is the {} clean?".format, share, what, limit, where)
    return Statistic("soiled_share", Fault.COVERED, share / limit, text)
