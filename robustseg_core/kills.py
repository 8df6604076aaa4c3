"""Scheduled deaths: `rgb@0.8+0.6` takes the camera away from 0.8 s to 1.4 s.

The player, the demo and the CLI share this one spelling.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from robustseg_core.errors import RobustsegError

_NUMBER = r"[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?|[0-9]+\."
_KILL = re.compile(rf"(?P<target>[^@\s]+)@(?P<start>{_NUMBER})s?(?:\+(?P<duration>{_NUMBER})s?)?")


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
        end_s = math.inf if self.duration_s is None else self.start_s + self.duration_s
        return self.start_s <= t_s < end_s

    def __str__(self) -> str:
        end = "" if self.duration_s is None else f"+{self.duration_s:g}"
        return f"{self.target}@{self.start_s:g}{end}"


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
