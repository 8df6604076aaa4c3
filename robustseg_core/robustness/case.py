"""One fault done to one sensor, and what must come of it: the words of the matrix."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from robustseg_core import modalities
from robustseg_core.faults import ALL, FaultSpec, read_fault
from robustseg_core.types import Fault, State

SENSORS = modalities.ranked()
START_S = 2.5
"""A drive is left in peace until then: rates and medians are learned, everybody is LIVE."""
INFO = "info"
"""The target that means every CameraInfo topic."""
MARGIN_S = 0.02
"""What transport and a clock's grain may add to a deadline that is counted in messages."""


_NOTHING = ("control", "loop")
"""What a case is called in which nothing is broken."""


class Bit(str, Enum):
    """What `used` must say of the broken sensor once the deadline has passed."""

    OUT = "out"
    """It must not be used."""
    USED = "used"
    """It must be used, whatever is thought of it."""
    EITHER = "either"
    """Some of its messages are good: it is used when there is one."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A deadline T_d: the longer of a time and of some of the sensor's own messages."""

    seconds: float = 0.0
    messages: int = 0

    def of(self, period_s: float) -> float:
        """Seconds, for a sensor with this period."""
        counted_s = self.messages * period_s + MARGIN_S if self.messages else 0.0
        return max(self.seconds, counted_s)


@dataclass(frozen=True, slots=True)
class Span:
    """A fault of a case; times count from the moment at which the case begins."""

    words: str
    """As on the command line, without the time: `rgb:stuck(same_stamp=true)`."""
    start_s: float = 0.0
    duration_s: float | None = None
    """None: as long as the case lasts; infinite: to the end of the drive."""

    @property
    def fault(self) -> FaultSpec:
        """What the words say; the target may be `INFO`."""
        return read_fault(self.words)


@dataclass(frozen=True, slots=True)
class Case:
    """What is done to a drive, and what is expected of the robot."""

    row: int
    target: str
    """The modality that is assessed; `all`."""
    spans: tuple[Span, ...]
    finds: frozenset[Fault] = frozenset()
    """One of these must be named of the target in time; empty: none need be."""
    may: frozenset[Fault] = frozenset()
    """These may be named of it, too."""
    within: Limit = field(default_factory=Limit)
    bit: Bit = Bit.EITHER
    reaches: State | None = None
    """A state that the target must reach by the end."""
    never: frozenset[State] = frozenset()
    """States that it must not be in."""
    transitions: int | None = None
    """How often at most it may change between usable and not."""
    lasts_s: float = 1.5
    after_s: float = 0.0
    """How long it is watched after the fault."""
    goes_on: bool = True
    """Masks come at 90 % of the reference rate or more, while it lasts."""
    dark_s: tuple[float, float] | None = None
    """No mask comes between these times (from the beginning of the case), and one within a second
    after the second."""
    jumps: int = 0
    """Clock jumps that are to be counted."""
    passes: int = 1
    """How often the drive is played, in a loop."""
    begins_s: float = START_S
    """When the case begins, in seconds of the drive."""
    back_s: float | None = None
    """The target is used again within this time after the fault."""
    scored: bool = True
    """Whether the masks are held against the truth."""
    partner: str = ""
    """A second sensor that falls silent at the same moment (a pair)."""

    @property
    def id(self) -> str:
        """Name of the case, good for a file."""
        words = "+".join(span.words for span in self.spans) or _NOTHING[self.passes > 1]
        plain = "".join(c if c.isalnum() or c in "._-" else "-" for c in words).strip("-")
        return f"{self.row:02d}-{self.target}-{plain}"[:120]

    @property
    def broken(self) -> frozenset[str]:
        """The modalities that something is done to."""
        targets = {span.fault.target for span in self.spans}
        if any(target in (ALL, INFO) or target.startswith("/") for target in targets):
            return frozenset(SENSORS) if self.target == ALL else frozenset({self.target})
        return frozenset(targets)

    @property
    def needs_s(self) -> float:
        """How long a drive must be."""
        return self.begins_s + self.lasts_s + self.after_s

    def specs(self, infos: Mapping[str, object]) -> list[FaultSpec]:
        """Its faults on the drive's clock; `infos` are the CameraInfo topics."""
        found: list[FaultSpec] = []
        for span in self.spans:
            start_s, duration_s = self._when(span)
            fault = replace(span.fault, start_s=start_s, duration_s=duration_s)
            targets = sorted(infos) if fault.target == INFO else [fault.target]
            found += [replace(fault, target=target) for target in targets]
        return found

    def _when(self, span: Span) -> tuple[float, float | None]:
        """Until the end of the drive where nobody looks afterwards, so that no end is a fault."""
        start_s = self.begins_s + span.start_s
        if span.duration_s is None and self.after_s:
            return start_s, self.lasts_s - span.start_s
        return start_s, None if span.duration_s == math.inf else span.duration_s
