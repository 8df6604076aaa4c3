"""What a fault is: options in, disturbed messages out, and a promise of what health will say."""

from __future__ import annotations

import array
import copy
import re
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robustseg_core.config import Strict
from robustseg_core.modalities import Content, content_of, load, payload_name
from robustseg_core.types import SECOND, Fault


class Sample(NamedTuple):
    """One message on its way."""

    topic: str
    message: Any
    """rosbags' or rclpy's message."""
    time_ns: int
    """When it arrives (log time); a delay makes it later."""


@dataclass(slots=True)
class FaultState:
    """One fault on one topic while it lasts: its own generator, and what it has to remember."""

    rng: np.random.Generator
    start_ns: int = 0
    """Arrival time of the first message that came while the fault was on."""
    modality: str | None = None
    """What the topic carries, where that is known."""
    now_ns: int = 0
    """Arrival time of the present message."""
    last: Any = None
    """The newest message before the fault was on; if there was none, the first one after."""
    count: int = 0
    """Messages that came while the fault was on, the present one included."""
    memory: dict[str, Any] = field(default_factory=dict)
    """Whatever else a fault keeps from one message to the next."""

    @property
    def elapsed_s(self) -> float:
        """How long the fault has been on."""
        return (self.now_ns - self.start_ns) / SECOND if self.count else 0.0


class FaultModel(Strict):
    """A kind of fault; its fields are its options. The class name in snake case is its name.

    The first line of the docstring is the help text.
    """

    contents: ClassVar[tuple[Content, ...]] = ()
    """What it can be done to: modalities that declare one of these; empty: any stream."""
    finds: ClassVar[frozenset[Fault]] = frozenset()
    """Health is to report at least one of these; empty: the fault must be survived."""
    may: ClassVar[frozenset[Fault]] = frozenset()
    """Health may report these, too (and, on the way, starting, recovering and late)."""
    reads: ClassVar[bool] = True
    """Whether it looks into messages; False: it only drops, keeps or delays them."""

    @classmethod
    def reaches(cls, modality: str) -> bool:
        """Whether it can be done to this modality."""
        return not cls.contents or content_of(modality) in cls.contents

    def expects(self, modality: str) -> frozenset[Fault]:
        """What tells it in a stream of this modality (health is to report one of these)."""
        return self.finds

    def found_on(self, modality: str) -> frozenset[Fault]:
        """The same, without what the checks of this modality do not look for; empty: survived."""
        return self.expects(modality) - load(modality).overlooks

    def observe(self, message: Any, state: FaultState) -> None:
        """See a message that is left as it is, because the fault is not on."""

    def apply(self, sample: Sample, state: FaultState) -> list[Sample]:
        """What becomes of a message while the fault is on: itself, changed, more or none."""
        return [sample._replace(message=self.change(sample.message, state))]

    def change(self, message: Any, state: FaultState) -> Any:
        """A changed copy of the message; what was passed in stays as it is."""
        raise NotImplementedError

    def finish(self, state: FaultState) -> list[Sample]:
        """What is still held back when the recording ends."""
        return []


NOTABLE_SHARE = 0.3
"""Of a picture: what takes less of it is there in any scene, and nobody has to find it."""
MIDDLE = 3
"""The severity that a fault has where nobody names one."""


class Graded(FaultModel):
    """A fault of severities 1 to 5, each of them an amount of what its option `measures`.

    The option itself, where it is given, wins over the severity (docs/specs/faults.md).
    """

    measures: ClassVar[str] = ""
    """Name of the option."""
    levels: ClassVar[tuple[float, ...]] = ()
    """Its value at severities 1 to 5; never less than at the one before."""
    called: ClassVar[frozenset[Fault]] = frozenset()
    """The names that are right for it, by whatever channel: one of these says what is wrong."""
    looks_like: ClassVar[str] = ""
    """In one picture it looks as this fault does; of training, what is true of that is of it."""
    severity: int = Field(MIDDLE, ge=1, le=5, description="1 is hardly there, 5 the worst.")

    @property
    def amount(self) -> float:
        """What is measured: the option, or what the severity makes of it."""
        given: float | None = getattr(self, self.measures)
        return self.levels[self.severity - 1] if given is None else given


class Creeping(Graded):
    """A fault that grows evenly from nothing to its amount, and then stays."""

    minutes: float = Field(
        3.0, ge=0, le=1440, description="Until it is that much; 0: from its first message on."
    )

    def grown(self, state: FaultState) -> float:
        """The amount that there is by now."""
        if not self.minutes:
            return self.amount
        return self.amount * min(1.0, state.elapsed_s / (60 * self.minutes))


def name_of(kind: type[FaultModel]) -> str:
    """`SaltPepper` is called `salt_pepper`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", kind.__name__).lower()


def altered(message: Any, **fields: Any) -> Any:
    """A copy of a message with other fields; whatever is not named is shared with the original."""
    changed = copy.copy(message)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def payload(message: Any) -> NDArray[np.uint8]:
    """(N,) uint8 copy of what the sensor saw."""
    return np.frombuffer(bytes(getattr(message, payload_name(message))), np.uint8).copy()


def with_payload(message: Any, data: NDArray[Any] | bytes, **fields: Any) -> Any:
    """A copy that holds these bytes, in the kind of buffer that the original has."""
    name = payload_name(message)
    raw = data if isinstance(data, bytes) else np.ascontiguousarray(data).tobytes()
    if isinstance(getattr(message, name), array.array):  # rclpy
        buffer: Any = array.array("B", raw)
    else:
        buffer = np.frombuffer(raw, np.uint8)
    return altered(message, **{name: buffer}, **fields)


def with_stamp(message: Any, stamp_ns: int) -> Any:
    """A copy with another header stamp, held within what a stamp can say (0 to 68 years)."""
    stamp_ns = min(max(stamp_ns, 0), 2**31 * SECOND - 1)
    stamp = altered(message.header.stamp, sec=stamp_ns // SECOND, nanosec=stamp_ns % SECOND)
    return altered(message, header=altered(message.header, stamp=stamp))
