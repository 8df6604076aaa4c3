"""A bag through a `Segmenter`, as if it had been there: the recording's time is the only clock.

Between two messages the segmenter is stepped exactly when it asks to be, so a replay is repeatable
to the bit, and masks keep coming while a sensor is dead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from robustseg_core.bag import Bag, Recorded
from robustseg_core.output.timeline import Timeline
from robustseg_core.recording.inject import FaultyBag
from robustseg_core.robot.topics import TF_TOPICS, calibrations
from robustseg_core.segmenter import Segmenter
from robustseg_core.types import MS, SECOND, LabelMap, Rejection

LONGEST_PAUSE_NS = 60 * SECOND
"""A longer pause in a recording is shortened to this: everything is long dead by then."""


def replay(
    bag: Bag | FaultyBag,
    segmenter: Segmenter,
    *,
    on_message: Callable[[Recorded], None] = lambda recorded: None,
    on_time: Callable[[int, int], None] = lambda now_ns, at_ns: None,
) -> Iterator[LabelMap]:
    """Label maps in the order in which they would have come on the robot.

    Each says of which recording it was made, and when (`LabelMap.made_ns`).

    Args:
        bag: what was recorded, or what a broken robot would have.
        segmenter: fresh.
        on_message: called with every message read, for a progress bar.
        on_time: called after every message and at the end of the recording, with the segmenter's
            clock and the time since the start, in nanoseconds (`timeline`; there, no pause is
            shortened).
    """
    streams = {segmenter.config.streams[name].topic: name for name in segmenter.streams}
    infos = {
        topic: [name for name in names if name in streams.values()]  # the network's only
        for topic, names in calibrations(segmenter.config).items()
    }
    timeline = Timeline(bag.spans)
    now_ns = bag.start_ns
    at_ns = number = 0

    def made(label_map: LabelMap, made_ns: int) -> LabelMap:
        return replace(label_map, recording=number, made_ns=at_ns + made_ns - now_ns)

    for due_ns, recorded in _timeline(bag.messages({*streams, *infos, *TF_TOPICS}), bag.spans):
        on_message(recorded)
        for made_ns, label_map in _until(segmenter, now_ns, due_ns - 1):
            yield made(label_map, made_ns)
        now_ns, number = due_ns, recorded.recording
        at_ns = max(at_ns, timeline.within_ns(number, recorded.time_ns))
        name = streams.get(recorded.topic)
        _push(segmenter, recorded, name, infos, now_ns)
        if name is not None and (label_map := segmenter.step(now_ns)) is not None:
            yield made(label_map, now_ns)
        on_time(now_ns, at_ns)
    deadline_ns = round(segmenter.config.sync.deadline_ms * MS)
    # The last set may be open yet.
    for made_ns, label_map in _until(segmenter, now_ns, now_ns + deadline_ns):
        yield made(label_map, made_ns)
    left_ns = timeline.duration_ns - at_ns
    on_time(now_ns + max(left_ns, deadline_ns), at_ns + left_ns)


def _timeline(
    messages: Iterable[Recorded], spans: Sequence[tuple[int, int]]
) -> Iterator[tuple[int, Recorded]]:
    """(arrival time, message): the recording's time, made to go forward without endless pauses.

    Where time goes back, the next of several bags begins: it follows at once on the end of the one
    before, whether a message that is heard is there or not (`spans`).
    """
    shift_ns, last_ns, number = 0, None, 0
    for recorded in messages:
        time_ns = recorded.time_ns + shift_ns
        if last_ns is not None:
            if recorded.recording != number:
                end_ns = spans[number][1] + shift_ns
                last_ns = max(last_ns, min(end_ns, last_ns + LONGEST_PAUSE_NS))
            continued_ns = last_ns + min(max(time_ns - last_ns, 0), LONGEST_PAUSE_NS)
            shift_ns += continued_ns - time_ns
            time_ns = continued_ns
        last_ns, number = time_ns, recorded.recording
        yield time_ns, recorded


def _until(segmenter: Segmenter, now_ns: int, end_ns: int) -> Iterator[tuple[int, LabelMap]]:
    """Steps whenever the segmenter asks for it, up to `end_ns`; when, and the mask."""
    while (wake_ns := segmenter.wake_ns(now_ns)) is not None and wake_ns <= end_ns:
        now_ns = wake_ns
        if (label_map := segmenter.step(now_ns)) is not None:
            yield now_ns, label_map


def _push(
    segmenter: Segmenter,
    recorded: Recorded,
    name: str | None,
    infos: dict[str, list[str]],
    now_ns: int,
) -> None:
    try:
        message = recorded.message()
    except Rejection as rejection:
        if name is not None:
            segmenter.reject(name, now_ns, rejection.finding)
        else:
            segmenter.reject_calibration(recorded.topic, rejection.finding)
        return
    if name is not None:
        segmenter.push(name, message, now_ns)
    elif recorded.topic in infos:
        for modality in infos[recorded.topic]:
            segmenter.push_camera_info(modality, message)
    else:
        segmenter.push_transforms(message)
