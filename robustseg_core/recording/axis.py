"""Recordings in a row on one time axis: the clock of the first one goes on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from robustseg_core.bag import Recorded


def on_one_axis(
    messages: Iterable[Recorded],
    spans: Sequence[tuple[int, int]],
    *,
    longest_pause_ns: int | None = None,
) -> Iterator[tuple[int, Recorded]]:
    """(time in nanoseconds, message): log times, made to go forward.

    Where time goes back, the next recording (or the next pass of a loop) begins: it follows at once
    on the end of the one before, whether a message that is asked for is there or not. The shift
    from log time to axis stays until the next such place.

    Args:
        messages: as they are played.
        spans: first and last log time of each recording, as `Recording.spans` has them.
        longest_pause_ns: a longer one is shortened to this; None: none is.
    """
    shift_ns, last_ns, number = 0, None, 0
    for recorded in messages:
        time_ns = recorded.time_ns + shift_ns
        if last_ns is not None:
            if recorded.recording != number:
                end_ns = spans[number][1] + shift_ns
                last_ns += _paused(end_ns - last_ns, longest_pause_ns)
            continued_ns = last_ns + _paused(time_ns - last_ns, longest_pause_ns)
            shift_ns += continued_ns - time_ns
            time_ns = continued_ns
        last_ns, number = time_ns, recorded.recording
        yield time_ns, recorded


def _paused(step_ns: int, longest_ns: int | None) -> int:
    """How long a step on the axis is."""
    step_ns = max(step_ns, 0)
    return step_ns if longest_ns is None else min(step_ns, longest_ns)
