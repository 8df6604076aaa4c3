"""From a statistic to doubt: one scale for all content checks, and a memory of what is usual.

    badness 0 .. 0.5   fine           quality 1
    badness 0.5 .. 1   a remark       quality falls to 0.5, nobody is told
    badness above 1    over the limit, an alarm; quality falls on towards 0

So quality never jumps, and a check has one threshold, in its own unit, that ROC curves can place.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from robustseg_core.types import ALARM, Fault, Finding

T = TypeVar("T")

_FINE = 0.5
"""Badness up to which a statistic says nothing."""
_REFRESH = 8
"""A median is taken anew after so many messages: what is usual changes slowly."""
_GRUDGING = 10
"""Of messages that look bad, one in so many still teaches what is usual: the world does change."""


@dataclass(frozen=True, slots=True)
class Statistic:
    """One statistic of one message, beside its limit."""

    limit: str
    """The field of the modality's `Limits` that it is held against."""
    fault: Fault
    badness: float
    """The statistic in units of its limit, so that above 1 is too much; infinity is allowed."""
    text: str | Callable[[], str]
    """Value and limit, for people; made when there is something to tell."""
    fatal: bool = False
    """Beyond the limit the message is rejected, not doubted; below it says nothing at all."""
    left: float = 0.0
    """Quality in [0, 1] that the frame keeps, however sure the finding is."""

    def finding(self) -> Finding | None:
        """An alarm, a remark, or nothing."""
        if self.badness <= (1 if self.fatal else _FINE):
            return None
        text = self.text if isinstance(self.text, str) else self.text()
        if self.fatal:
            return Finding(self.fault, fatal=True, text=text)
        score = (1 + _FINE - self.badness) if self.badness <= 1 else ALARM / self.badness
        return Finding(self.fault, fatal=False, text=text, score=score, left=self.left)


class ContentCheck(ABC, Generic[T]):
    """The content checks of one stream; it keeps what is usual between messages."""

    limits: Any
    """What a message is held against; others may be put here between two messages."""

    @abstractmethod
    def measure(self, data: T) -> Iterator[Statistic]:
        """Every check of one message, cheap ones first; may be left after a fatal one."""

    @abstractmethod
    def reset(self) -> None:
        """Forget what is usual."""

    def check(self, data: T) -> list[Finding]:
        """The worst finding per fault about one message; a fatal one stands alone."""
        worst: dict[Fault, Finding] = {}
        for measured in self.measure(data):
            if (finding := measured.finding()) is None:
                continue
            if finding.fatal:
                return [finding]
            known = worst.get(finding.fault)
            if known is None or finding.score < known.score:
                worst[finding.fault] = finding
        return list(worst.values())


class RunningMedian:
    """The running median of a statistic (a number, or an array of them) of this very sensor.

    Args:
        most: messages that it is taken of.
        least: messages before it is known.
        rarely: once it is of `most` messages, one in so many is learned, so that it reaches back
            that many times as far.
    """

    def __init__(self, most: int, *, least: int = 10, rarely: int = 1) -> None:
        self._most, self._least, self._rarely = most, min(least, most), rarely
        self._ring: NDArray[np.float64] | None = None
        self._median: NDArray[np.float64] | None = None
        self._learned = self._median_of = self._doubtful = self._passed = 0

    @property
    def known(self) -> bool:
        """Whether enough has been seen."""
        return self._learned >= self._least

    @property
    def value(self) -> float:
        """The median of numbers; ask only when it is known."""
        return float(self.values)

    @property
    def values(self) -> NDArray[np.float64]:
        """The median of arrays, element by element; ask only when it is known."""
        news = self._learned - self._median_of
        if self._median is None or news >= min(_REFRESH, 1 + self._learned // 4):
            assert self._ring is not None
            self._median = np.asarray(np.median(self._ring[: self._learned], axis=0))
            self._median_of = self._learned
        return self._median

    def learn(self, value: Any, *, bad: bool = False) -> None:
        """Remember a message; of bad ones only a few, so that a fault does not become usual."""
        if bad:
            self._doubtful += 1
            if self._doubtful % _GRUDGING:
                return
        self._passed += 1
        if self._learned >= self._most and self._passed % self._rarely:
            return
        if self._ring is None:
            self._ring = np.empty((self._most, *np.shape(value)))
        self._ring[self._learned % self._most] = value
        self._learned += 1

    def clear(self) -> None:
        """Forget everything."""
        self._ring = self._median = None
        self._learned = self._median_of = self._doubtful = self._passed = 0


def above(value: float, limit: float) -> float:
    """Badness of a value that should stay below its limit."""
    if limit > 0:
        return value / limit
    return float("inf") if value > 0 else 0.0


def below(value: float, limit: float) -> float:
    """Badness of a value that should stay above its limit; a limit of 0 asks for nothing."""
    if limit <= 0:
        return 0.0
    return limit / value if value > 0 else float("inf")
