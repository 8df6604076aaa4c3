"""What goes wrong with an event camera: floods, silence, hot pixels, damaged words, lost packets.

Only formats that can be written are changed here. Events that are added are merged into the packet
by time, and the packet ends in the state in which the original did, so that the next one is read as
before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robustseg_core.codecs.events import EventEncoder, Events, encoder_of
from robustseg_core.codecs.fields import word
from robustseg_core.faults._base import FaultModel, FaultState, altered, payload, with_payload
from robustseg_core.types import Fault

_SHORTEST_US = 1000
"""Events are added over no less than this."""


def swapped_polarity(message: Any) -> Any:
    """The packet with ON and OFF exchanged.

    Raises:
        Rejection: its format cannot be written.
    """
    return with_payload(message, _encoder(message).swapped_polarity(message.events))


Columns = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]
"""x, y, p (True: brighter) and t (microseconds) of N events."""


def follow(message: Any, state: FaultState) -> tuple[EventEncoder, Events]:
    """Read along: the one encoder of a state, and the events of the packet.

    Missing packets make it start over.

    Raises:
        Rejection: its format cannot be written.
    """
    memory, sensor = state.memory, (message.encoding, message.width, message.height)
    if memory.get("sensor") != sensor:
        memory["encoder"] = _encoder(message)(message.width, message.height)
        memory["sensor"] = sensor
    encoder: EventEncoder = memory["encoder"]
    if message.seq != memory.get("seq", message.seq - 1) + 1:
        encoder.resync()
    memory["seq"] = message.seq
    encoder.time_base = int(getattr(message, "time_base", 0))
    return encoder, encoder.read(message.events)


def edited(message: Any, state: FaultState, edit: Callable[[Columns], Columns]) -> Any:
    """A copy of a packet whose events went through `edit`; those off the sensor are dropped.

    Times stay in order. As it is while nobody knows the sensor's clock, and where it is empty.

    Raises:
        Rejection: its format cannot be written.
    """
    encoder, real = follow(message, state)
    if not real.t.size:
        return message
    return rewritten(message, encoder, edit((real.x, real.y, real.p, real.t)))


def rewritten(message: Any, encoder: EventEncoder, columns: Columns) -> Any:
    """A copy of a packet that holds these events; the next one is then read as before."""
    x, y, p, t = columns
    on = (x >= 0) & (x < message.width) & (y >= 0) & (y < message.height)
    made = encoder.encode(x[on], y[on], p[on], t[on])
    return with_payload(message, made + encoder.tail())


def _encoder(message: Any) -> type[EventEncoder]:
    return encoder_of(word(message, "encoding"))


class _EventFault(FaultModel):
    contents: ClassVar = ("events",)


class _Added(_EventFault):
    """Events that nobody saw, among those that somebody did."""

    def observe(self, message: Any, state: FaultState) -> None:
        """Read along, so that clock and row are known when the fault begins."""
        follow(message, state)

    def change(self, message: Any, state: FaultState) -> Any:
        """The packet with more events in it; as it is while the sensor's clock is not known."""
        encoder, real = follow(message, state)
        if not real.t.size:
            return message
        span_us = max(_SHORTEST_US, int(real.t[-1] - real.t[0]))
        x, y, p, t = self.more(message, span_us, state)
        columns = [
            np.concatenate([ours, more])
            for ours, more in zip(
                (real.x, real.y, real.p, real.t), (x, y, p, int(real.t.min()) + t), strict=True
            )
        ]
        order = np.argsort(columns[3], kind="stable")
        x, y, p, t = (column[order] for column in columns)
        return rewritten(message, encoder, (x, y, p, t))

    def more(self, message: Any, span_us: int, state: FaultState) -> tuple[NDArray[Any], ...]:
        """x, y, p and t (microseconds from the packet's start) of the events to add."""
        raise NotImplementedError


class EventFlood(_Added):
    """Flicker or a flash: more events than anybody can use, in runs of neighboring pixels."""

    finds: ClassVar = frozenset({Fault.EVENT_FLOOD})
    rate_hz: float = Field(50e6, gt=0, le=1e9, description="Events per second that are added.")

    def expects(self, modality: str) -> frozenset[Fault]:
        """Twenty million events per second are still read."""
        return self.finds if self.rate_hz > 21e6 else frozenset()

    def more(self, message: Any, span_us: int, state: FaultState) -> tuple[NDArray[Any], ...]:
        """Runs of twelve."""
        rng, runs = state.rng, max(1, round(self.rate_hz * span_us / 12e6))
        width = min(12, message.width)
        t = np.sort(rng.integers(0, span_us, runs)).repeat(width)
        y = rng.integers(0, message.height, runs).repeat(width)
        p = rng.integers(0, 2, runs).repeat(width).astype(bool)
        x = rng.integers(0, message.width - width + 1, runs)[:, None] + np.arange(width)
        return x.ravel(), y, p, t


class HotPixels(_Added):
    """Pixels that fire all the time; found where they make more than a twentieth of the events."""

    finds: ClassVar = frozenset({Fault.HOT_PIXELS})
    count: int = Field(20, ge=1, le=100_000, description="How many pixels.")
    rate_hz: float = Field(1000.0, gt=0, le=1e6, description="Events per second, of each.")

    def more(self, message: Any, span_us: int, state: FaultState) -> tuple[NDArray[Any], ...]:
        """The same pixels again and again."""
        rng, memory = state.rng, state.memory
        if "pixels" not in memory:
            memory["pixels"] = rng.integers(0, message.width * message.height, self.count)
        shots = rng.poisson(self.rate_hz * span_us / 1e6, self.count)
        pixel = memory["pixels"].repeat(shots)
        t = rng.integers(0, span_us, pixel.size)
        p = np.ones(pixel.size, bool)
        return pixel % message.width, pixel // message.width, p, t


class NoEvents(_EventFault):
    """Packets without a single event."""

    finds: ClassVar = frozenset({Fault.NO_EVENTS})

    def change(self, message: Any, state: FaultState) -> Any:
        """The empty packet."""
        return with_payload(message, b"")


class Undecodable(_EventFault):
    """Words damaged on the way (a bad USB cable)."""

    finds: ClassVar = frozenset({Fault.UNDECODABLE})
    share: float = Field(0.5, gt=0, le=1, description="Share of the words.")

    def change(self, message: Any, state: FaultState) -> Any:
        """The packet with random words among the others."""
        data = payload(message)
        words = data[: data.size // 2 * 2].view("<u2")
        hit = state.rng.random(words.size) < self.share
        words[hit] = state.rng.integers(0, 1 << 16, int(hit.sum()), dtype=np.uint16)
        return with_payload(message, data)


class SequenceGap(_EventFault):
    """Packet numbers that leap, as if packets had been lost."""

    finds: ClassVar = frozenset({Fault.SEQUENCE_GAP})
    every: int = Field(10, ge=1, description="One leap in this many packets.")
    missing: int = Field(3, ge=1, description="Numbers that are left out.")

    def expects(self, modality: str) -> frozenset[Fault]:
        """One lost packet in twenty is the limit."""
        return self.finds if self.missing / (self.every + self.missing) > 0.1 else frozenset()

    def change(self, message: Any, state: FaultState) -> Any:
        """The packet under a higher number."""
        return altered(message, seq=message.seq + self.missing * (state.count // self.every))
