"""How one frame has moved in its parent lately: poses by stamp, and what lies between two of them.

As tf2 has it: translations are interpolated linearly, rotations along the shortest arc (slerp), and
nothing is extrapolated.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import TypeAlias

from robustseg_core.types import SECOND

Numbers: TypeAlias = tuple[float, float, float, float, float, float, float]
"""x y z qx qy qz qw, the quaternion of length 1."""

LATE_NS = SECOND
"""A pose that is older than the newest by more was sent by another clock, or after a jump back."""
MOST_POSES = 1 << 14
"""Kept of one frame: 10 s at 1.6 kHz."""
_SAME = 1e-6


class Motion:
    """The poses of one frame in its parent, oldest first.

    A stamp that is far from the newest (`LATE_NS` before it, or after it by more than is kept) is
    believed when a second one follows it: then the clock has jumped, and what was known is of
    before. Else it is refused.

    Args:
        parent: the frame that they are in.
        kept_ns: how much of the past is kept.
    """

    def __init__(self, parent: str, kept_ns: int) -> None:
        self.parent = parent
        self._kept_ns = kept_ns
        self._stamps: list[int] = []
        self._poses: list[Numbers] = []
        self._aside: tuple[int, Numbers] | None = None
        """What is far from all others."""

    def __len__(self) -> int:
        return len(self._stamps)

    @property
    def newest_ns(self) -> int | None:
        """Stamp of the newest pose; None: there is none."""
        return self._stamps[-1] if self._stamps else None

    def add(self, stamp_ns: int, pose: Numbers) -> str:
        """Learn a pose; why it, or the one that was set aside before, is refused, or empty."""
        refusal = ""
        if self._stamps and self._far(stamp_ns, self._stamps[-1]):
            before, self._aside = self._aside, (stamp_ns, pose)
            if before is None:
                return ""
            if not self._far(stamp_ns, before[0]) and stamp_ns != before[0]:
                self.clear()
                self.add(*before)
                return self.add(stamp_ns, pose)
            return self._told(before[0])
        if self._aside is not None:
            refusal, self._aside = self._told(self._aside[0]), None
        return self._insert(stamp_ns, pose) or refusal

    def between(self, stamp_ns: int) -> Numbers:
        """The pose at that time; before the oldest the oldest, after the newest the newest.

        Raises:
            LookupError: there is none at all.
        """
        stamps = self._stamps
        if not stamps:
            raise LookupError
        at = bisect_left(stamps, stamp_ns)
        if at == len(stamps) or at == 0 or stamps[at] == stamp_ns:
            return self._poses[min(at, len(stamps) - 1)]
        since_ns, until_ns = stamps[at - 1], stamps[at]
        share = (stamp_ns - since_ns) / (until_ns - since_ns)
        return interpolate(self._poses[at - 1], self._poses[at], share)

    def newest(self) -> Numbers:
        """The newest pose.

        Raises:
            LookupError: there is none at all.
        """
        if not self._poses:
            raise LookupError
        return self._poses[-1]

    def beyond_ns(self, stamp_ns: int) -> int:
        """How far a time lies after the newest pose, or (negative) before the oldest; 0: between.

        Raises:
            LookupError: there is none at all.
        """
        if not self._stamps:
            raise LookupError
        return max(stamp_ns - self._stamps[-1], 0) + min(stamp_ns - self._stamps[0], 0)

    def clear(self) -> None:
        """Forget all poses."""
        self._stamps.clear()
        self._poses.clear()
        self._aside = None

    def _far(self, stamp_ns: int, from_ns: int) -> bool:
        return not -LATE_NS <= stamp_ns - from_ns <= self._kept_ns

    def _told(self, stamp_ns: int) -> str:
        apart_s = (stamp_ns - self._stamps[-1]) / SECOND
        return f"its stamp is {apart_s:+.2f} s from the others'"

    def _insert(self, stamp_ns: int, pose: Numbers) -> str:
        stamps, poses = self._stamps, self._poses
        if not stamps or stamp_ns > stamps[-1]:
            stamps.append(stamp_ns)
            poses.append(pose)
        else:
            at = bisect_left(stamps, stamp_ns)
            if stamps[at] == stamp_ns:
                if alike(poses[at], pose):
                    return ""
                return f"there are two different poses for the stamp {stamp_ns / SECOND:.3f} s"
            stamps.insert(at, stamp_ns)
            poses.insert(at, pose)
        old = max(bisect_left(stamps, stamps[-1] - self._kept_ns), len(stamps) - MOST_POSES)
        if old > 0:
            del stamps[:old], poses[:old]
        return ""


def alike(one: Numbers, other: Numbers) -> bool:
    """Whether two poses differ by rounding alone; q and -q are one rotation."""
    sign = 1.0 if _dot(one, other) >= 0 else -1.0
    turned = (*other[:3], *(sign * each for each in other[3:]))
    return all(abs(a - b) <= _SAME for a, b in zip(one, turned, strict=True))


def interpolate(one: Numbers, other: Numbers, share: float) -> Numbers:
    """The pose at `share` (0 to 1) of the way from one to the other, along the shortest arc."""
    x, y, z = (a + (b - a) * share for a, b in zip(one[:3], other[:3], strict=True))
    p, q = one[3:], other[3:]
    if _dot(one, other) < 0:
        q = (-q[0], -q[1], -q[2], -q[3])
    # Half the angle between them; of the chords, which is exact where the cosine is not.
    half = math.atan2(math.dist(p, q), math.hypot(*(a + b for a, b in zip(p, q, strict=True))))
    if half < 1e-9:
        return (x, y, z, *p)
    whole = math.sin(2 * half)
    before = math.sin((1 - share) * 2 * half) / whole
    after = math.sin(share * 2 * half) / whole
    a, b, c, d = (before * m + after * n for m, n in zip(p, q, strict=True))
    length = math.hypot(a, b, c, d)
    return x, y, z, a / length, b / length, c / length, d / length


def _dot(one: Numbers, other: Numbers) -> float:
    return one[3] * other[3] + one[4] * other[4] + one[5] * other[5] + one[6] * other[6]
