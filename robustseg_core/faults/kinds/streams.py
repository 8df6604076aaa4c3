"""What goes wrong on any stream, whatever it carries: PX4's verbs, and stamps that lie.

PX4's failure injection: off, stuck, garbage, wrong, slow, delayed, intermittent.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from robustseg_core.codecs.fields import stamp_of
from robustseg_core.faults._base import (
    FaultModel,
    FaultState,
    Sample,
    altered,
    payload,
    with_payload,
    with_stamp,
)
from robustseg_core.modalities import content_of, load
from robustseg_core.types import SECOND, Fault

BLOCK = 10
"""Messages in which losses at random come to their share."""


class Off(FaultModel):
    """Nothing arrives any more."""

    reads: ClassVar = False
    finds: ClassVar = frozenset({Fault.SILENT})

    def apply(self, sample: Sample, state: FaultState) -> list[Sample]:
        """Nothing."""
        return []


class Slow(FaultModel):
    """Only every n-th message arrives."""

    reads: ClassVar = False
    finds: ClassVar = frozenset({Fault.SLOW, Fault.SILENT})
    may: ClassVar = frozenset({Fault.SEQUENCE_GAP})  # of packets that are numbered
    every: int = Field(3, ge=2, le=1000, description="Of this many messages, one arrives.")

    def apply(self, sample: Sample, state: FaultState) -> list[Sample]:
        """The message, or nothing."""
        return [sample] if state.count % self.every == 0 else []


class Intermittent(FaultModel):
    """Messages are lost at random, the same share of every ten."""

    reads: ClassVar = False
    finds: ClassVar = frozenset({Fault.LOSSY, Fault.SLOW})
    may: ClassVar = frozenset({Fault.SILENT, Fault.SEQUENCE_GAP})
    share: float = Field(0.5, gt=0, le=1, description="Share of the messages that is lost.")

    def expects(self, modality: str) -> frozenset[Fault]:
        """Every third message has to be missing, at ten a second or more, to be found in 2 s."""
        return self.finds if 0.4 <= self.share <= 0.8 else frozenset()

    def apply(self, sample: Sample, state: FaultState) -> list[Sample]:
        """The message, or nothing.

        Drawn in permuted blocks (Zelen, J. Chron. Dis. 27, 1974): two dozen messages of a slow
        sensor lose their share, too, whatever the seed.
        """
        place = (state.count - 1) % BLOCK
        if place == 0:
            quota = int(self.share * BLOCK + state.rng.random())  # stochastic rounding
            state.memory["lost"] = frozenset(state.rng.permutation(BLOCK)[:quota].tolist())
        return [] if place in state.memory["lost"] else [sample]


class Delayed(FaultModel):
    """Messages arrive later than they should; their stamps stay."""

    reads: ClassVar = False
    finds: ClassVar = frozenset({Fault.LATE, Fault.OFFSET})
    may: ClassVar = frozenset({Fault.OUT_OF_ORDER, Fault.SILENT})
    seconds: float = Field(0.2, gt=0, le=3600, description="How much later.")

    def apply(self, sample: Sample, state: FaultState) -> list[Sample]:
        """The same message, at a later time."""
        return [sample._replace(time_ns=sample.time_ns + round(self.seconds * SECOND))]


class Stuck(FaultModel):
    """The last good payload over and over, with new stamps (a frozen driver)."""

    may: ClassVar = frozenset({Fault.OFFSET})  # a stamp that stands still falls behind its peers'
    same_stamp: bool = Field(default=False, description="Repeat its stamp as well.")

    def expects(self, modality: str) -> frozenset[Fault]:
        """The freeze, or the stamp that never moves."""
        return frozenset({Fault.REPEATED_STAMP} if self.same_stamp else {Fault.STUCK})

    def change(self, message: Any, state: FaultState) -> Any:
        """The last message before the fault, stamped (and numbered) as the present one."""
        frozen = state.last
        if not self.same_stamp:
            frozen = with_stamp(frozen, stamp_of(message))
        return altered(frozen, seq=message.seq) if hasattr(message, "seq") else frozen


class Garbage(FaultModel):
    """Random bytes instead of the payload, as many as before."""

    finds: ClassVar = frozenset({Fault.UNDECODABLE, Fault.NOISY, Fault.FORMAT})
    may: ClassVar = frozenset(
        {Fault.SPARSE_CLOUD, Fault.EMPTY_CLOUD, Fault.EVENT_FLOOD, Fault.DEPTH_UNIT}
    )

    def expects(self, modality: str) -> frozenset[Fault]:
        """Words and points mean nothing; images do not decode, or are noise of the right size."""
        return load(modality).scrambled

    def change(self, message: Any, state: FaultState) -> Any:
        """The message with noise in it."""
        return with_payload(message, state.rng.bytes(payload(message).size))


class Truncated(FaultModel):
    """The payload is cut short."""

    finds: ClassVar = frozenset({Fault.FORMAT})
    share: float = Field(0.5, ge=0, lt=1, description="Share of the bytes that is left.")

    def expects(self, modality: str) -> frozenset[Fault]:
        """Sizes no longer fit; of events, a piece of time is missing from each packet."""
        return self.finds if content_of(modality) != "events" or self.share <= 0.75 else frozenset()

    def change(self, message: Any, state: FaultState) -> Any:
        """The first bytes of the message."""
        data = payload(message)
        return with_payload(message, data[: int(self.share * data.size)])


class Encoding(FaultModel):
    """The message names an encoding that it does not have."""

    contents: ClassVar = ("picture", "depth", "events")
    finds: ClassVar = frozenset({Fault.FORMAT, Fault.UNDECODABLE})
    value: str = Field("unheard_of", description="The name that it gives instead.")

    def change(self, message: Any, state: FaultState) -> Any:
        """The message with another `encoding` (or `format`, of a compressed image)."""
        field = "format" if hasattr(message, "format") else "encoding"
        return altered(message, **{field: self.value})


class FrameId(FaultModel):
    """The sensor calls its frame by another name."""

    finds: ClassVar = frozenset({Fault.FRAME_ID})
    value: str = Field("renamed_frame", description="The other name; one that nothing places.")

    def change(self, message: Any, state: FaultState) -> Any:
        """The message under another name."""
        return altered(message, header=altered(message.header, frame_id=self.value))


class Offset(FaultModel):
    """The sensor's clock is wrong by a constant."""

    finds: ClassVar = frozenset({Fault.OFFSET})
    may: ClassVar = frozenset({Fault.OUT_OF_ORDER, Fault.REPEATED_STAMP})  # a small step back
    seconds: float = Field(3.0, description="Added to every stamp; negative: behind.")

    def change(self, message: Any, state: FaultState) -> Any:
        """The message with another stamp."""
        return with_stamp(message, stamp_of(message) + round(self.seconds * SECOND))


class StampJump(FaultModel):
    """The first stamps are far off, and then all is well again."""

    finds: ClassVar = frozenset({Fault.OFFSET})
    seconds: float = Field(60.0, description="Added to the stamp; negative: behind.")
    count: int = Field(1, ge=1, description="Messages with such a stamp.")

    def change(self, message: Any, state: FaultState) -> Any:
        """The message with another stamp, or as it is."""
        if state.count > self.count:
            return message
        return with_stamp(message, stamp_of(message) + round(self.seconds * SECOND))


class ZeroStamp(FaultModel):
    """The driver forgets to stamp."""

    finds: ClassVar = frozenset({Fault.ZERO_STAMP})

    def change(self, message: Any, state: FaultState) -> Any:
        """The message stamped 0."""
        return with_stamp(message, 0)


class RepeatedStamp(FaultModel):
    """New payloads, but the stamp stands still."""

    finds: ClassVar = frozenset({Fault.REPEATED_STAMP})
    may: ClassVar = frozenset({Fault.OFFSET})  # in the end it is more than a second behind

    def change(self, message: Any, state: FaultState) -> Any:
        """The message stamped as the last one before the fault."""
        return with_stamp(message, stamp_of(state.last))


class OutOfOrder(FaultModel):
    """Every second message is overtaken by its successor."""

    reads: ClassVar = False
    finds: ClassVar = frozenset({Fault.OUT_OF_ORDER, Fault.OFFSET})

    def apply(self, sample: Sample, state: FaultState) -> list[Sample]:
        """Nothing, and then both: the successor first, the other half a period later."""
        held = state.memory.pop("held", None)
        if held is None:
            state.memory["held"] = sample
            return []
        late_ns = sample.time_ns + max(1, (sample.time_ns - held.time_ns) // 2)
        return [sample, held._replace(time_ns=late_ns)]

    def finish(self, state: FaultState) -> list[Sample]:
        """The one that was waiting to be overtaken."""
        held = state.memory.pop("held", None)
        return [] if held is None else [held]
