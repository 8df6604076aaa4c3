"""Recordings in a row on one time axis: the clock of the first one goes on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from robustseg_core.bag import Recorded


def on_one_axis(
    messages: Iterable[Recorded], *, longest_pause_ns: int | None = None
) -> Iterator[tuple[int, Recorded]]:
    """(time in nanoseconds, message): log times, made to go forward.

    Where time goes back, the next recording (or the next pass of a loop) begins: it follows at
    once. The shift from a message's own log time to the axis stays until the next such place.

    Args:
        messages: as they are played.
        longest_pause_ns: a longer one is shortened to this; None: none is.
    """
    shift_ns, last_ns = 0, None
    for recorded in messages:
        time_ns = recorded.time_ns + shift_ns
        if last_ns is not None:
            pause_ns = max(time_ns - last_ns, 0)
            if longest_pause_ns is not None:
                pause_ns = min(pause_ns, longest_pause_ns)
            shift_ns += last_ns + pause_ns - time_ns
            time_ns = last_ns + pause_ns
        last_ns = time_ns
        yield time_ns, recorded
