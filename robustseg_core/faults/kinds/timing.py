"""What goes wrong with time: stamps that are off by little, clocks that run fast, deliveries in
fits and starts."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from robustseg_core.codecs.fields import stamp_of
from robustseg_core.faults._base import FaultState, Graded, Sample, with_stamp
from robustseg_core.types import MS, SECOND, Fault


class ShiftedInTime(Graded):
    """Every stamp is off by so many milliseconds; what arrives, and when, is as ever."""

    finds: ClassVar = frozenset({Fault.OFFSET})
    may: ClassVar = frozenset({Fault.OUT_OF_ORDER, Fault.REPEATED_STAMP})  # a small step back
    called: ClassVar = frozenset({Fault.OFFSET})
    measures: ClassVar = "ms"
    levels: ClassVar = (20.0, 40.0, 80.0, 160.0, 320.0)
    ms: float | None = Field(
        None, ge=-60_000, le=60_000, description="Added to every stamp; negative: behind."
    )

    def expects(self, modality: str) -> frozenset[Fault]:
        """Half a camera's period ahead is none; behind, it looks like a slow delivery."""
        return self.finds if self.amount >= 60 else frozenset()

    def change(self, message: Any, state: FaultState) -> Any:
        """The message with another stamp."""
        return with_stamp(message, stamp_of(message) + round(self.amount * MS))


class Drift(Graded):
    """The sensor's clock runs fast, and the stamps with it."""

    may: ClassVar = frozenset({Fault.OFFSET, Fault.OUT_OF_ORDER})  # in the end
    called: ClassVar = frozenset({Fault.OFFSET})
    measures: ClassVar = "percent"
    levels: ClassVar = (0.1, 0.3, 1.0, 3.0, 10.0)
    percent: float | None = Field(
        None, gt=-100, le=100, description="By so much; negative: it is slow."
    )

    def change(self, message: Any, state: FaultState) -> Any:
        """The message stamped by that clock, which was right when the fault began."""
        stamp_ns = stamp_of(message)
        passed_ns = stamp_ns - stamp_of(state.last)
        return with_stamp(message, stamp_ns + round(passed_ns * self.amount / 100))


class Flapping(Graded):
    """Dead and alive in turn, from dead on."""

    reads: ClassVar = False
    finds: ClassVar = frozenset({Fault.SILENT})
    may: ClassVar = frozenset({Fault.SEQUENCE_GAP, Fault.LOSSY, Fault.SLOW})
    called: ClassVar = frozenset({Fault.SILENT, Fault.LOSSY})
    measures: ClassVar = "share"
    levels: ClassVar = (0.1, 0.25, 0.5, 0.75, 0.9)
    share: float | None = Field(None, gt=0, lt=1, description="Share of the time that it is dead.")
    period_s: float = Field(2.0, gt=0, le=3600, description="From one death to the next.")

    def expects(self, modality: str) -> frozenset[Fault]:
        """Three periods of a slow sensor are no silence yet."""
        return self.finds if self.amount * self.period_s >= 0.4 else frozenset()

    def apply(self, sample: Sample, state: FaultState) -> list[Sample]:
        """The message, or nothing."""
        dead = state.elapsed_s % self.period_s < self.amount * self.period_s
        return [] if dead else [sample]


class Burst(Graded):
    """Messages are held back and delivered at once; their stamps stay."""

    reads: ClassVar = False
    finds: ClassVar = frozenset({Fault.SILENT, Fault.BURSTS})
    may: ClassVar = frozenset({Fault.SLOW, Fault.OFFSET})
    called: ClassVar = frozenset({Fault.BURSTS, Fault.SILENT})
    measures: ClassVar = "seconds"
    levels: ClassVar = (0.1, 0.25, 0.5, 1.0, 2.0)
    seconds: float | None = Field(None, gt=0, le=3600, description="From one delivery to the next.")

    def expects(self, modality: str) -> frozenset[Fault]:
        """Three periods of a slow sensor are no silence yet."""
        return self.finds if self.amount >= 0.4 else frozenset()

    def apply(self, sample: Sample, state: FaultState) -> list[Sample]:
        """The same message, at the next delivery."""
        step_ns = max(1, round(self.amount * SECOND))
        since_ns = sample.time_ns - state.start_ns
        return [sample._replace(time_ns=state.start_ns + (since_ns // step_ns + 1) * step_ns)]
