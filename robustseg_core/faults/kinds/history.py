"""What was seen before, or elsewhere, and is said to be now: under stamps that are in order."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from robustseg_core.bag import Bag
from robustseg_core.codecs.compressed_depth import decode_depth
from robustseg_core.codecs.events import Events
from robustseg_core.faults._base import (
    FaultState,
    Graded,
    Sample,
    altered,
    payload,
    with_payload,
)
from robustseg_core.faults.kinds import events, image
from robustseg_core.faults.kinds._seen import Seen, hit
from robustseg_core.faults.kinds.lidar import Points
from robustseg_core.modalities import payload_name
from robustseg_core.types import SECOND, Fault, Rejection

_REEL = 64
"""Messages of a drive's beginning that `wrong_place` keeps."""


class _Scene(NamedTuple):
    """What a sensor saw at a moment."""

    time_ns: int
    message: Any
    events: Events | None
    """Of a packet: what is in it."""


def _scene(message: Any, state: FaultState) -> _Scene:
    """The present one; events are read along."""
    found = events.follow(message, state)[1] if hasattr(message, "events") else None
    return _Scene(state.now_ns, message, found)


def _as_now(old: _Scene, now: _Scene, state: FaultState) -> Any:
    """What was seen then, under the header (and number) of now; events happen now, too."""
    message = now.message
    told = {"header": message.header}
    told |= {
        name: getattr(message, name) for name in ("seq", "time_base") if hasattr(message, name)
    }
    made = altered(old.message, **told)
    if old.events is None or now.events is None:
        return made
    seen = old.events
    if seen.t.size and now.events.t.size:
        state.memory["later_us"] = int(now.events.t[0]) - int(seen.t[0])
    later_us = state.memory.get("later_us", (now.time_ns - old.time_ns) // 1000)
    t = np.maximum(seen.t + later_us, 0)
    encoder = state.memory["encoder"]
    return events.rewritten(made, encoder, (seen.x, seen.y, seen.p, t))


class Replayed(Graded):
    """Old payloads under new stamps: what is seen is so many seconds ago.

    At most as far back as messages came before the fault; they are kept that long. Where none came,
    nothing changes until it is old enough.
    """

    may: ClassVar = frozenset({Fault.SENSOR_CLOCK, Fault.FORMAT, Fault.OUTSIDE})
    called: ClassVar = frozenset({Fault.OFFSET, Fault.UNRELATED, Fault.SENSOR_CLOCK})
    measures: ClassVar = "seconds"
    levels: ClassVar = (0.3, 1.0, 2.0, 4.0, 8.0)
    seconds: float | None = Field(None, gt=0, le=60, description="How old it is.")

    def observe(self, message: Any, state: FaultState) -> None:
        """Keep it."""
        kept = state.memory.setdefault("kept", deque())
        kept.append(_scene(message, state))
        lag_ns = state.memory.get("lag_ns", round(self.amount * SECOND))
        while len(kept) > 1 and kept[1].time_ns <= state.now_ns - lag_ns:
            kept.popleft()

    def change(self, message: Any, state: FaultState) -> Any:
        """What was seen that long ago; every message is one further."""
        self.observe(message, state)
        memory = state.memory
        kept = memory["kept"]
        known_ns = state.now_ns - kept[0].time_ns
        if "lag_ns" not in memory:
            lag_ns = round(self.amount * SECOND)
            if known_ns < lag_ns and (state.count > 1 or not known_ns):
                return message
            memory["lag_ns"] = min(lag_ns, known_ns)
        return _as_now(kept[0], kept[-1], state)


class WrongPlace(Graded):
    """Another drive's stream under this one's stamps: it shows another place.

    Without `bag` it is this drive's own beginning, to and fro; where that was not seen, nothing
    changes until it was.
    """

    may: ClassVar = frozenset(
        {Fault.RESOLUTION, Fault.SENSOR_CLOCK, Fault.FORMAT, Fault.OUTSIDE, Fault.FRAME_ID}
    )
    called: ClassVar = frozenset({Fault.UNRELATED})
    measures: ClassVar = "share"
    levels: ClassVar = (0.25, 0.5, 1.0, 1.0, 1.0)
    share: float | None = Field(
        None, gt=0, le=1, description="Share of the messages, evenly spread."
    )
    bag: str = Field("", description="Recording of the other drive, in a loop.")
    topic: str = Field("", description="Its topic; empty: as here, or the first of its type.")

    @field_validator("bag")
    @classmethod
    def _is_there(cls, path: str) -> str:
        if path and not Path(path).exists():
            raise ValueError(f"{path} does not exist; name a recording")
        return path

    def observe(self, message: Any, state: FaultState) -> None:
        """Keep the beginning."""
        reel = state.memory.setdefault("reel", [])
        now = _scene(message, state)
        if not self.bag and len(reel) < _REEL:
            reel.append(now)

    def apply(self, sample: Sample, state: FaultState) -> list[Sample]:
        """The message, or the other drive's next one."""
        memory, message = state.memory, sample.message
        if "film" not in memory:
            reel = memory.setdefault("reel", [])
            if self.bag:
                memory["film"] = _other_drive(self.bag, self.topic or sample.topic, message)
            elif len(reel) < 2 or (state.count > len(reel) and len(reel) < _REEL):
                self.observe(message, state)
                return [sample]
            else:
                memory["film"] = itertools.cycle([*reel, *reel[-2:0:-1]])
        now = _scene(message, state)
        old = next(memory["film"])
        if not hit(self.amount, state):
            return [sample]
        return [sample._replace(message=_as_now(old, now, state))]


def _other_drive(path: str, topic: str, message: Any) -> Iterator[_Scene]:
    """The scenes of a topic of another recording, over and over, as messages like this one.

    Raises:
        Rejection: it has no such topic.
        RobustsegError: it cannot be read.
    """
    kind = _type_of(message)
    with Bag([Path(path)]) as bag:
        like = [t.name for t in bag.topics if t.type == kind]
        if not like:
            raise Rejection(Fault.FORMAT, f"{path} has no topic of type {kind}")
        name = topic if topic in like else like[0]
        own = FaultState(np.random.default_rng())
        while True:
            for recorded in bag.messages({name}):
                own.now_ns = recorded.time_ns
                theirs = _dressed(message, recorded.message())
                yield _scene(theirs, own)


def _type_of(message: Any) -> str:
    """`sensor_msgs/msg/Image`, of rosbags' and of rclpy's messages."""
    told = getattr(message, "__msgtype__", None)
    kind = type(message)
    return told or f"{kind.__module__.partition('.')[0]}/msg/{kind.__name__}"


def _dressed(message: Any, theirs: Any) -> Any:
    """What `theirs`, a message of a recording, says, as a message of the kind that is here."""
    if hasattr(message, "__msgtype__"):
        return theirs
    names = {field.name for field in fields(theirs)} - {
        "header",
        payload_name(theirs),
        "__msgtype__",
    }
    told = {name: getattr(theirs, name) for name in names}
    if "fields" in told:  # of a cloud, each of them a message
        words = ("name", "offset", "datatype", "count")
        told["fields"] = [
            altered(message.fields[0], **{word: getattr(field, word) for word in words})
            for field in told["fields"]
        ]
    return with_payload(message, payload(theirs), **told)


class HalfFrozen(Seen, Graded):
    """A part of what is seen stands still: a part of the picture, a sector of the scan."""

    contents: ClassVar = ("picture", "depth", "points")
    may: ClassVar = frozenset({Fault.COVERED, Fault.STUCK})
    called: ClassVar = frozenset({Fault.STUCK})
    measures: ClassVar = "share"
    levels: ClassVar = (0.1, 0.25, 0.5, 0.75, 0.9)
    share: float | None = Field(
        None, gt=0, lt=1, description="Share of the width, or of the turn, that stands still."
    )
    side: Literal["left", "right"] = Field("left", description="Where it is.")

    def picture(self, rgb: NDArray[np.uint8], state: FaultState) -> NDArray[np.uint8]:
        """A part of the newest picture before the fault."""
        joined: NDArray[np.uint8] = self._joined(rgb, image.decoded, state)
        return joined

    def metres(self, metres: NDArray[np.float64], state: FaultState) -> NDArray[np.float64]:
        """A part of the newest depth before the fault."""
        joined: NDArray[np.float64] = self._joined(metres, decode_depth, state)
        return joined

    def points(self, points: Points, state: FaultState) -> Any:
        """A sector of the newest scan before the fault."""
        still = state.memory.setdefault("still", Points(state.last))
        ours, theirs = points.records(), still.records()
        if ours.shape[2] != theirs.shape[2]:
            raise Rejection(Fault.FORMAT, "the layout of the cloud became another one")
        gone, kept = self._sector(points), self._sector(still)
        if ours.shape == theirs.shape and ours.shape[0] > 1:  # a table of rings stays one
            ours[kept] = theirs[kept]
            return points.lose(gone & ~kept)
        table = np.concatenate([ours[~gone], theirs[kept]])
        row = {"height": 1, "width": len(table), "row_step": table.size}
        return altered(with_payload(points.message(), table), **row)

    def _joined(self, now: NDArray[Any], read: Callable[[Any], Any], state: FaultState) -> Any:
        """The present numbers, and beside them those that `read` makes of the last message."""
        memory = state.memory
        if "still" not in memory:
            memory["still"] = read(state.last)
        still, width = memory["still"], now.shape[1]
        if still.shape != now.shape:
            raise Rejection(Fault.FORMAT, "the size of the picture became another one")
        count = round(self.amount * width)
        part = slice(count) if self.side == "left" else slice(width - count, width)
        now[:, part] = still[:, part]
        return now

    def _sector(self, points: Points) -> NDArray[np.bool_]:
        """(H, W): what lies to that side, x being ahead."""
        x, y, _ = points.xyz()
        ahead = np.arctan2(y, x) / np.pi - (0.5 if self.side == "left" else -0.5)
        return np.asarray(np.abs((ahead + 1) % 2 - 1) < self.amount)
