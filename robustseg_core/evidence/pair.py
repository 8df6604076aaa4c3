"""What two sensors said of each other of late: where they agree, at which scale, and as a rule.

Means of the last second beside those of the last twenty. Who of the two is wrong is asked in
`crosscheck`. Limits: docs/specs/evidence.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from robustseg_core.evidence import links
from robustseg_core.evidence.lags import LagCurve
from robustseg_core.evidence.links import Agreement, Ratio, Surface, Told
from robustseg_core.evidence.sight import Sight
from robustseg_core.types import SECOND

MEMORY_S = 1.0
"""Of the mean of a surface, ..."""
USUAL_S = 20.0
"""... and of what is usual for it."""
SETTLED = 8
"""Looks after which a pair's own level is known."""
LEVEL = 1.0
"""What chance gives around no displacement, in standard deviations."""
LEAN = 5
"""Cells by which the halves of the view are displaced against each other, at most: a roll."""
FACTOR = 0.2
"""Ranges that differ by less are none of another scale, as a logarithm; beside what is usual for a
pair, ..."""
SHIFTED, EVEN = 0.05, 0.85
"""... by less than this, if the share that is as far off is this part of the usual one: what was
turned is off by more here than there. ..."""
WANDERS = 6.0
"""... Or by less than so many times their usual deviation: a stereo camera's ranges wander."""
AGREE, MARGIN, LOST, MOST_LOST = 0.88, 0.05, 33.0, 4.0
"""Share of distances that always agree, by how much a pair may fall below its own, what a share
below either weighs, and at most."""
AGREED, DISAGREED = 0.8, 0.7
"""Share of distances that agree where sensors have one scale, and do not where they have two."""
UNWILLING = 0.2
"""Weight in what is usual of a level below it, beside that of one above: else, who shows another
street has soon always done so."""
HAZIEST = 0.6
"""Who usually agrees in a smaller share than this does not see less of one world, but another."""


def weight_of_newest(passed_s: float, memory_s: float, looks: int) -> float:
    """Weight of the newest of so many looks in a mean that forgets; at first, all count alike."""
    return max(1 - math.exp(-passed_s / memory_s), 1 / max(looks, 1))


@dataclass(slots=True)
class Level:
    """Something that two sensors have in common, and of which less is worse."""

    now: float = 0.0
    """Of late, ..."""
    usual: float = 0.0
    """... and as a rule."""
    looks: int = 0

    def see(self, value: float, passed_s: float) -> None:
        """One more look."""
        self.looks += 1
        self.now += weight_of_newest(passed_s, MEMORY_S, self.looks) * (value - self.now)

    def learn(self, passed_s: float, unwilling: float = UNWILLING) -> None:
        """This is how it is when all is well; of less, so much counts."""
        more = self.now - self.usual
        willing = 1 if more > 0 or self.looks <= SETTLED else unwilling
        self.usual += weight_of_newest(passed_s, USUAL_S, self.looks) * more * willing


@dataclass(slots=True)
class Shift:
    """By how much two sensors' ranges are off each other where the view is even, as a logarithm."""

    by: Level = field(default_factory=Level)
    """Logarithm of the ranges of one over those of the other, ..."""
    even: Level = field(default_factory=Level)
    """... and the share that is as far off."""
    wander: float = 0.0
    """Mean deviation of that logarithm from the usual one."""
    since_ns: int | None = None
    """Since when the ranges have been off by another factor than usual."""

    def see(self, ratio: Ratio, passed_s: float, now_ns: int, *, settled: bool) -> None:
        """One more look; `settled`: of a pair whose own level is known."""
        if not ratio.even:  # too little of the view is even
            return
        self.by.see(ratio.shift, passed_s)
        self.even.see(ratio.even, passed_s)
        if abs(ratio.shift - self.by.usual) < self._least / 2 or not settled:
            self.since_ns = None
        elif self.since_ns is None:
            self.since_ns = now_ns

    def learn(self, ratio: Ratio, passed_s: float, share: float) -> None:
        """This is how it is when all is well; the newest look weighs `share` in what is usual."""
        if self.since_ns is not None or not ratio.even:
            return
        self.by.learn(passed_s, unwilling=1)
        self.even.learn(passed_s)
        self.wander += share * (abs(ratio.shift - self.by.usual) - self.wander)

    @property
    def off(self) -> float:
        """Logarithm of the factor by which the ranges are off, beside the usual one; 0: they are
        not."""
        off = self.by.now - self.by.usual
        known = self.by.looks >= SETTLED and self.since_ns is not None
        far = known and abs(off) >= self._least
        return off if far and self.even.now >= EVEN * self.even.usual else 0.0

    @property
    def _least(self) -> float:
        """What is less is none."""
        return max(SHIFTED, WANDERS * self.wander)


@dataclass(slots=True)
class Pair:
    """What two sensors said of each other of late."""

    left: Surface
    right: Surface
    mirrored: Surface
    chance: float
    seen_ns: int
    lags: LagCurve = field(default_factory=LagCurve)
    looks: int = 0
    usual: float = 0.0
    ratio: Ratio | None = None
    share: Level = field(default_factory=Level)
    """Of the distances that agree."""
    shift: Shift = field(default_factory=Shift)
    """By how much the ranges are off where the view is even."""
    response: Level = field(default_factory=Level)
    """Logarithm of how much one says of what the other sees change."""
    signs: float = 0.0
    """Correlation of what one sees become brighter with what the other says of it."""
    odd_ns: int | None = None
    """Since when the distances are of two scales, ..."""
    leaps: tuple[float, float] | None = None
    """... and by what factor, as a logarithm, those of the two have leapt then."""

    def _odd(self, ratio: Ratio) -> bool:
        """Whether the distances agree at another scale, and not as they are."""
        other, level = abs(math.log(ratio.factor)) >= FACTOR, self._level
        return other and ratio.share <= DISAGREED * level and ratio.scaled >= AGREED * level

    @property
    def _level(self) -> float:
        """What the two agree at best, beside two in clear air: fog takes its share."""
        if self.looks < SETTLED or self.share.usual < HAZIEST:
            return 1.0
        return min(self.share.usual / AGREE, 1.0)

    @property
    def here(self) -> float:
        """Agreement without a displacement."""
        return float(links.middle(self.left + self.right, 1).max())

    def see(
        self, agreement: Agreement, ratio: Ratio | None, told: Told | None, now_ns: int
    ) -> None:
        """One more look."""
        passed_s = (now_ns - self.seen_ns) / SECOND
        self.looks += 1
        if self.looks == SETTLED:
            self.lags.settle()
        share = weight_of_newest(passed_s, MEMORY_S, self.looks)
        self.left += share * (agreement.left - self.left)
        self.right += share * (agreement.right - self.right)
        self.mirrored += share * (agreement.mirrored - self.mirrored)
        self.chance = agreement.chance
        if told is not None:
            self.signs += share * (told.signs - self.signs)
            self.response.see(told.response, passed_s)
        self.ratio = ratio
        if ratio is not None:
            self._see_ratio(ratio, passed_s, now_ns)
        self.seen_ns = now_ns

    def _see_ratio(self, ratio: Ratio, passed_s: float, now_ns: int) -> None:
        self.share.see(ratio.share, passed_s)
        self.shift.see(ratio, passed_s, now_ns, settled=self.looks >= SETTLED)
        agree = ratio.share > AGREED * self._level or ratio.scaled < DISAGREED * self._level
        if self.shift.off:
            self.odd_ns = self.odd_ns or self.shift.since_ns
        elif agree:
            self.odd_ns = self.leaps = None
        elif self._odd(ratio) and self.odd_ns is None:
            self.odd_ns = now_ns

    @property
    def factor(self) -> float:
        """Of the one's ranges over the other's, where these are odd."""
        if off := self.shift.off:
            return math.exp(off)
        return 1.0 if self.ratio is None else self.ratio.factor

    def learn(self, passed_s: float) -> None:
        """This is how it is when all is well."""
        share = weight_of_newest(passed_s, USUAL_S, self.looks)
        self.usual += share * (self.here - self.usual)
        self.share.learn(passed_s)
        if self.ratio is not None:
            self.shift.learn(self.ratio, passed_s, share)
        self.response.learn(passed_s)

    @property
    def lost(self) -> float:
        """How much better "they have nothing in common" explains this pair than "all is well"."""
        if self.ratio is None:
            # Who never agreed by more than chance has lost nothing.
            known = min(max(self.usual / LEVEL - 1, 0.0), 1.0)
            return known * ((self.usual + LEVEL) / 2 - self.here)
        return min(LOST * (min(AGREE, self.share.usual - MARGIN) - self.share.now), MOST_LOST)

    @property
    def quieter(self) -> float:
        """By how much the logarithm of what is told of a change is below its usual level."""
        return self.response.usual - self.response.now if self.looks >= SETTLED else 0.0

    @property
    def displaced(self) -> NDArray[np.float32]:
        """(2 LEAN + 1, *Surface): agreement by what the left half is below the right one, twice."""
        edge = ((LEAN, LEAN), (0, 0))
        left = np.pad(self.left, edge, constant_values=-LEVEL)
        right = np.pad(self.right, edge, constant_values=-LEVEL)
        rows = len(self.left)
        lefts = sliding_window_view(left, rows, axis=0)
        rights = sliding_window_view(right, rows, axis=0)[::-1]
        both: NDArray[np.float32] = (lefts + rights).transpose(0, 2, 1)
        return both


def at_lags(
    a: Sequence[Sight], b: Sequence[Sight], new: tuple[bool, bool], chance: float
) -> Iterator[tuple[int, float]]:
    """(b's stamp less a's, agreement) of what is new of either and all that the other showed."""
    moments = [(a[-1], old) for old in b] if new[0] and b else []
    if new[1] and a:
        moments += [(old, b[-1]) for old in (list(a)[:-1] if moments else a)]
    for one, other in moments:
        if (agreement := links.in_place(one, other, chance)) is not None:
            yield other.stamp_ns - one.stamp_ns, agreement
