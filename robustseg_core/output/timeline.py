"""The time of a run: recordings in a row, the masks on them, and where no mask came.

Seconds count from the first message of the first recording to the last message of the last one.
The next recording follows the one before at once, so a bag that is played twice lasts twice as
long, and no time goes back.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import median

from robustseg_core.types import MS, SECOND, LabelMap

REACH = 2.5
"""A mask speaks for so many periods; after that there is none."""
REACH_S = 0.25
"""... and for so long where the period is not known, for want of masks."""
SILENCE_S = 0.5
"""A pause that is longer than this, and than a mask's reach, is worth a notice."""
APART_NS = 250 * MS
"""Stamps that differ by more from the time at which their mask was made are of another clock."""


class Timeline:
    """Where the messages of recordings in a row lie in the time of a run.

    Args:
        spans: first and last log time of each recording, in nanoseconds, as `Bag.spans` has them.
    """

    def __init__(self, spans: Sequence[tuple[int, int]]) -> None:
        self._spans = list(spans) or [(0, 0)]
        self._begins = [0]
        for first_ns, last_ns in self._spans:
            self._begins.append(self._begins[-1] + last_ns - first_ns)

    @property
    def duration_ns(self) -> int:
        """From the first message of the first recording to the last message of the last one."""
        return self._begins[-1]

    @property
    def duration_s(self) -> float:
        """The same in seconds."""
        return self.duration_ns / SECOND

    def at_ns(self, recording: int, time_ns: int) -> int:
        """Nanoseconds since the start, of a time on the clock of one recording."""
        return self._begins[recording] + time_ns - self._spans[recording][0]

    def within_ns(self, recording: int, time_ns: int) -> int:
        """As `at_ns`, but no earlier than that recording's first message and no later than its
        last one: recordings in a row do not overlap."""
        at_ns = self.at_ns(recording, time_ns)
        return min(max(at_ns, self._begins[recording]), self._begins[recording + 1])


class Places:
    """Finds the place of each mask on a timeline, as masks come: that of its stamp.

    Stamps of another clock (seconds since the camera was switched on, a robot without NTP) are
    moved as a whole, to where their masks were made.

    Args:
        timeline: of the recordings.
    """

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._shift_ns = self._last_ns = 0

    def place_ns(self, label_map: LabelMap) -> int:
        """Nanoseconds since the start; never earlier than the mask before."""
        stamp_ns = self._timeline.at_ns(label_map.recording, label_map.stamp_ns)
        if (made_ns := label_map.made_ns) is None:  # heard live: nobody noted when it was made
            if not -SECOND <= stamp_ns <= self._timeline.duration_ns + SECOND:
                if not 0 <= stamp_ns + self._shift_ns <= self._timeline.duration_ns:
                    self._shift_ns = self._last_ns - stamp_ns
                stamp_ns += self._shift_ns
        elif abs(stamp_ns - made_ns) > APART_NS:
            if abs(stamp_ns + self._shift_ns - made_ns) > APART_NS:
                self._shift_ns = made_ns - stamp_ns
            stamp_ns += self._shift_ns
        self._last_ns = max(self._last_ns, stamp_ns)
        return self._last_ns


def reach_s(times_s: Sequence[float]) -> float:
    """How long a mask speaks: `REACH` usual periods of masks that came at these times."""
    steps_s = [b - a for a, b in pairwise(times_s) if b > a]
    return REACH * median(steps_s) if steps_s else REACH_S


def coverage(times_s: Sequence[float], duration_s: float) -> float:
    """Share of a run in which the newest mask was at most its reach old.

    Args:
        times_s: of the masks, ascending.
        duration_s: of the run.
    """
    reach = reach_s(times_s)
    ends_s = [*times_s[1:], max(duration_s, *times_s[-1:])] if times_s else []
    spoken_s = sum(min(b - a, reach) for a, b in zip(times_s, ends_s, strict=True))
    if duration_s <= 0:
        return float(bool(times_s))
    return min(1.0, spoken_s / duration_s)


def gaps(times_s: Sequence[float], duration_s: float) -> list[tuple[float, float]]:
    """Beginning and end of each piece of a run between two masks; the run's own ends count."""
    return [(a, b) for a, b in pairwise([0.0, *times_s, duration_s]) if b > a]


def silences(times_s: Sequence[float], duration_s: float) -> list[tuple[float, float]]:
    """The gaps that are worth a notice: longer than `SILENCE_S` and than a mask's reach."""
    limit_s = max(SILENCE_S, reach_s(times_s))
    return [(a, b) for a, b in gaps(times_s, duration_s) if b - a > limit_s]
