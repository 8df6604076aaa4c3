"""A bag through a `Segmenter`, as if it had been there: the recording's time is the only clock.

Between two messages the segmenter is stepped exactly when it asks to be, so a replay is repeatable
to the bit, and masks keep coming while a sensor is dead.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace
from typing import Any, Protocol

from robustseg_core.bag import Recorded, Recording
from robustseg_core.bag.sealed import Sealed
from robustseg_core.intake import Intake
from robustseg_core.output.timeline import Timeline
from robustseg_core.recording.axis import on_one_axis
from robustseg_core.rig import Rig
from robustseg_core.robot.topics import TF, TF_STATIC, calibrations
from robustseg_core.types import SECOND, Finding, LabelMap, Rejection

LONGEST_PAUSE_NS = 60 * SECOND
"""A longer pause in a recording is shortened to this: everything is long dead by then."""


class Player(Protocol):
    """What a recording is played to: a `Segmenter`, or what takes the place of one."""

    @property
    def intake(self) -> Intake:
        """Takes the calibrations, and what could not be read."""
        ...

    def push(self, modality: str, message: Any, now_ns: int) -> Finding | None:
        """As `Segmenter.push`."""
        ...

    def step(self, now_ns: int) -> LabelMap | None:
        """As `Segmenter.step`."""
        ...

    def wake_ns(self, now_ns: int) -> int | None:
        """As `Segmenter.wake_ns`."""
        ...


def replay(
    bag: Recording,
    segmenter: Player | Rig,
    *,
    every_ns: int | None = None,
    on_message: Callable[[Recorded], None] = lambda recorded: None,
    on_time: Callable[[int, int], None] = lambda now_ns, at_ns: None,
) -> Generator[LabelMap, None, None]:
    """Label maps in the order in which they would have come on the robot.

    Each says of which recording it was made, and when (`LabelMap.made_ns`).

    Args:
        bag: what was recorded, or what a broken robot would have.
        segmenter: fresh; a rig gives the masks of its cameras in turn.
        every_ns: the segmenter is stepped at least this often, though it asks for nothing: for an
            observer that looks as often as a node publishes diagnostics. None: when it asks.
        on_message: called with every message read, for a progress bar.
        on_time: called after every message and at the end of the recording, with the segmenter's
            clock and the time since the start, in nanoseconds (`timeline`; there, no pause is
            shortened).
    """
    whole = segmenter if isinstance(segmenter, Rig) else _Alone(segmenter)
    topics = whole.config.topics
    streams = {topics[name]: name for name in whole.streams}
    infos = {
        topic: [name for name in names if name in streams.values()]  # the network's only
        for topic, names in calibrations(whole.config).items()
    }
    longest_wait_ns = max(intake.longest_wait_ns for intake in whole.intakes)
    timeline = Timeline(bag.spans)
    now_ns = stepped_ns = bag.start_ns
    at_ns = number = 0

    def made(label_map: LabelMap, made_ns: int) -> LabelMap:
        return replace(label_map, recording=number, made_ns=at_ns + made_ns - now_ns)

    def until(end_ns: int) -> Iterator[LabelMap]:
        """Steps whenever the segmenter asks for it, or it is time for it, up to `end_ns`."""
        nonlocal stepped_ns
        clock_ns = now_ns
        while (wake_ns := wakes(clock_ns)) is not None and wake_ns <= end_ns:
            clock_ns = stepped_ns = wake_ns
            for label_map in whole.step(clock_ns):
                yield made(label_map, clock_ns)

    def wakes(clock_ns: int) -> int | None:
        asked_ns = whole.wake_ns(clock_ns)
        if every_ns is None:
            return asked_ns
        due_ns = stepped_ns + every_ns
        return max(clock_ns + 1, due_ns if asked_ns is None else min(asked_ns, due_ns))

    messages = _heard(bag.messages({*streams, *infos, TF_STATIC, TF}), whole, on_message)
    for due_ns, recorded in on_one_axis(messages, bag.spans, longest_pause_ns=LONGEST_PAUSE_NS):
        yield from until(due_ns - 1)
        now_ns, number = due_ns, recorded.recording
        at_ns = max(at_ns, timeline.within_ns(number, recorded.time_ns))
        name = streams.get(recorded.topic)
        _push(whole, recorded, name, infos, now_ns)
        if name is not None:
            stepped_ns = now_ns
            for label_map in whole.step(now_ns):
                yield made(label_map, now_ns)
        on_time(now_ns, at_ns)
    yield from until(now_ns + longest_wait_ns)  # the last set may be open yet
    left_ns = timeline.duration_ns - at_ns
    on_time(now_ns + max(left_ns, longest_wait_ns), at_ns + left_ns)


class _Alone:
    """A player in the shape of a rig of one."""

    def __init__(self, player: Player) -> None:
        self._player = player
        self.config, self.intakes = player.intake.config, (player.intake,)
        self.streams = tuple(player.intake.modalities)
        self.push, self.wake_ns = player.push, player.wake_ns

    @property
    def needs_motion(self) -> bool:
        return self._player.intake.needs_motion

    def step(self, now_ns: int) -> list[LabelMap]:
        label_map = self._player.step(now_ns)
        return [] if label_map is None else [label_map]

    def hearing(self, stream: str) -> tuple[Intake, ...]:
        return self.intakes


def _heard(
    messages: Iterable[Recorded], intake: Rig | _Alone, on_message: Callable[[Recorded], None]
) -> Iterator[Recorded]:
    """Those that matter: of /tf, with its hundreds a second, none while no sensor hangs on it."""
    for recorded in messages:
        on_message(recorded)
        if recorded.topic != TF or intake.needs_motion:
            yield recorded


def message_of(recorded: Recorded) -> Any:
    """Decoded; of /tf still serialized, where it is read off the bytes.

    Raises:
        Rejection: as of `Recorded.message`.
    """
    sealed = recorded.topic == TF and recorded.codec.native
    return Sealed(recorded.raw, recorded.type) if sealed else recorded.message()


def _push(
    rig: Rig | _Alone,
    recorded: Recorded,
    name: str | None,
    infos: dict[str, list[str]],
    now_ns: int,
) -> None:
    try:
        message = message_of(recorded)
    except Rejection as rejection:
        for intake in rig.intakes if name is None else rig.hearing(name):
            if name is not None:
                intake.reject(name, now_ns, rejection.finding)
            else:
                intake.reject_calibration(recorded.topic, rejection.finding)
        return
    if name is not None:
        rig.push(name, message, now_ns)
    elif recorded.topic in infos:
        for stream in infos[recorded.topic]:
            for intake in rig.hearing(stream):
                intake.push_camera_info(stream, message)
    else:
        for intake in rig.intakes:
            intake.push_transforms(message, moving=recorded.topic == TF)
