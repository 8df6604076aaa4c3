"""Scheduled deaths: `rgb@0.8+0.6` takes the camera away from 0.8 s to 1.4 s.

The player, the demo and the CLI share this one spelling.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from robustseg_core.errors import RobustsegError

_NUMBER = r"[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?|[0-9]+\."
WHEN = rf"@(?P<start>{_NUMBER})s?(?:\+(?P<duration>{_NUMBER})s?)?"
"""`@START+DURATION` in seconds, as a pattern; faults are scheduled in the same words."""
_KILL = re.compile(rf"(?P<target>[^@\s]+){WHEN}")


@dataclass(frozen=True, slots=True)
class Kill:
    """One target that says nothing for a while."""

    target: str
    """A modality or a topic."""
    start_s: float
    duration_s: float | None = None
    """None: until the end."""

    def covers(self, t_s: float) -> bool:
        """Whether the target is dead at `t_s`: from the start (included) to the end (excluded)."""
        return covers(self.start_s, self.duration_s, t_s)

    def __str__(self) -> str:
        return f"{self.target}{when(self.start_s, self.duration_s)}"


def covers(start_s: float, duration_s: float | None, t_s: float) -> bool:
    """Whether `t_s` lies from the start (included) to the end (excluded); None: until the end."""
    return start_s <= t_s < (math.inf if duration_s is None else start_s + duration_s)


def when(start_s: float, duration_s: float | None) -> str:
    """`@START+DURATION`, as `WHEN` reads it."""
    return f"@{start_s:g}" + ("" if duration_s is None else f"+{duration_s:g}")


def parse_kill(text: str) -> Kill:
    """`MODALITY@START+DURATION` or `MODALITY@START`, in seconds from the start of the recording.

    Raises:
        RobustsegError: not of that form, or a duration that is not positive.
    """
    found = _KILL.fullmatch(text.strip())
    if found is None:
        raise RobustsegError(
            f"kill {text!r} is not MODALITY@START+DURATION in seconds; "
            "write e.g. rgb@0.8+0.6, or rgb@0.8 for until the end"
        )
    duration = found["duration"] and float(found["duration"])
    if duration == 0:
        raise RobustsegError(
            f"kill {text!r} lasts 0 s; give a positive duration, or none for until the end"
        )
    return Kill(found["target"], float(found["start"]), duration)
