"""The acts of an intake, in order: who writes them down can do them again (`blackbox`)."""

from __future__ import annotations

from enum import Enum
from typing import Any


class Act(str, Enum):
    """What changes an intake, or may: done again in the same order, it gives the same sets."""

    OFFER = "offer"
    """A message that was offered is admitted."""
    PUSH = "push"
    REJECT = "reject"
    """A message that never became one is counted."""
    MISSED = "missed"
    CAMERA_INFO = "camera_info"
    STATIC = "tf_static"
    MOVING = "tf"
    REFUSE = "refuse"
    """A calibration that never became one is counted."""
    HEALTH = "health"
    """Somebody asked what is believed, ..."""
    TOLD = "told"
    """... and the step asked that is making a mask."""
    WAKE = "wake"
    CONFIGURE = "configure"
    CLOCK = "clock"
    """The clock that stamps go by was set."""
    RESET = "reset"
    STEP = "step"
    """A set is asked for."""
    END = "end"
    """That step is over, and this is what came of it."""


class Journal:
    """Is told every act of an intake, in the order in which they take effect; does nothing.

    Called under the intake's lock: it must be quick, and must not raise.
    """

    def note(self, act: Act, now_ns: int, subject: str = "", what: Any = None) -> None:
        """An act.

        Args:
            act: which.
            now_ns: what the intake was told of the time; 0 where it was told nothing.
            subject: the stream, or what a refusal is about.
            what: the message, finding or configuration.
        """


NO_JOURNAL = Journal()
