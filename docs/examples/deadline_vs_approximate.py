"""One recording, two synchronizers: what is left of the sets when a topic dies, or the bag loops.

    python docs/examples/deadline_vs_approximate.py drive.mcap

Both get the same messages in the same order, at the times at which they were recorded; nothing
runs in real time. `ApproximateTimeSynchronizer` is the one of ROS's own message_filters; where that
is not installed its columns stay empty (apt install ros-<distro>-message-filters, or its sources'
`src` folder on PYTHONPATH).
"""

# ruff: noqa: TID251 (this is no part of the core)
from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from builtin_interfaces.msg import Time
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from std_msgs.msg import Header

from robustseg_core.bag import Bag
from robustseg_core.errors import RobustsegError
from robustseg_core.types import SECOND
from robustseg_ros.filter import DeadlineSynchronizer
from robustseg_ros.optional import filter_base
from robustseg_ros.play_node import guess

try:
    from message_filters import ApproximateTimeSynchronizer
except ImportError:
    ApproximateTimeSynchronizer = None

QUEUE, SLOP_S, HOLD_S = 10, 0.05, 0.25
WANTED = ("rgb", "depth", "lidar")
Row = tuple[int, str, Any]
"""Time in ns since the start, sensor, message."""


def read(path: Path) -> tuple[list[Row], int]:
    """(all messages of the sensors, duration in ns)."""
    with Bag(path) as bag:
        topics = {t: name for name, t in guess(bag).items() if name in WANTED}
        if len(topics) < 2:
            raise RobustsegError(f"{path} has {list(topics.values())}; expected two of {WANTED}")
        rows = [
            (recorded.time_ns - bag.start_ns, topics[recorded.topic], _stamped(*found))
            for recorded in bag.messages(set(topics))
            if (found := recorded.header())
        ]
    return rows, rows[-1][0] + SECOND // 30


def _stamped(stamp_ns: int, frame_id: str) -> Any:
    """All that a synchronizer looks at; rclpy's own header, for theirs takes no other."""
    stamp = Time(sec=stamp_ns // SECOND, nanosec=stamp_ns % SECOND)
    return SimpleNamespace(header=Header(stamp=stamp, frame_id=frame_id))


def ours(rows: Iterable[Row], names: list[str]) -> Iterator[tuple[int, bool]]:
    """(when, whether complete) of each set of the deadline synchronizer."""
    now = [0]
    sources = {name: filter_base()() for name in names}
    synchronizer = DeadlineSynchronizer(
        list(sources.values()), QUEUE, SLOP_S, hold=HOLD_S, clock_ns=lambda: now[0]
    )
    sets: list[tuple[int, bool]] = []
    synchronizer.registerCallback(lambda *sent: sets.append((now[0], None not in sent)))
    for at_ns, name, message in rows:
        while (wake_ns := synchronizer.wake_ns()) is not None and wake_ns < at_ns:
            now[0] = wake_ns
            synchronizer.poll()
        now[0] = at_ns
        sources[name].signalMessage(message)
    yield from sets


def theirs(rows: Iterable[Row], names: list[str]) -> Iterator[tuple[int, bool]]:
    """The same of ApproximateTimeSynchronizer, whose sets are complete by definition."""
    sources = {name: filter_base()() for name in names}
    synchronizer = ApproximateTimeSynchronizer(list(sources.values()), QUEUE, SLOP_S)
    now, sets = [0], []
    synchronizer.registerCallback(lambda *sent: sets.append((now[0], True)))
    for at_ns, name, message in rows:
        now[0] = at_ns
        sources[name].signalMessage(message)
    yield from sets


def compare(rows: list[Row], duration_ns: int) -> Table:
    """Sets per second of both, in each situation and part of it."""
    names = [name for name in WANTED if any(row[1] == name for row in rows)]
    half_ns, dying = duration_ns // 2, names[-1]
    looped = [(at + k * duration_ns, name, m) for k in range(3) for at, name, m in rows]
    halves = [("first half", 0, half_ns), ("second half", half_ns, duration_ns)]
    passes = [(f"pass {k + 1}", k * duration_ns, (k + 1) * duration_ns) for k in range(3)]
    situations: list[tuple[str, list[Row], list[tuple[str, int, int]]]] = [
        ("all alive", rows, [("", 0, duration_ns)]),
        (
            f"{dying} dies at half time",
            [r for r in rows if r[1] != dying or r[0] < half_ns],
            halves,
        ),
        (
            f"{names[0]} dies at half time",
            [r for r in rows if r[1] != names[0] or r[0] < half_ns],
            halves,
        ),
        ("bag played three times", looped, passes),
    ]
    title = f"sets per second of {', '.join(names)}; slop {SLOP_S * 1e3:.0f} ms, queue {QUEUE}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for column in ("situation", "", "deadline", "of these complete", "approximate"):
        table.add_column(column, justify="left" if column in ("situation", "") else "right")
    for situation, messages, parts in situations:
        found = list(ours(messages, names))
        other = list(theirs(messages, names)) if ApproximateTimeSynchronizer else None
        for number, (part, start_ns, end_ns) in enumerate(parts):
            per_s = _per_second(start_ns, end_ns)
            table.add_row(
                "" if number else situation,
                part,
                per_s(found),
                per_s([s for s in found if s[1]]),
                "" if other is None else per_s(other),
            )
    return table


def _per_second(start_ns: int, end_ns: int) -> Callable[[list[tuple[int, bool]]], str]:
    def rate(sets: list[tuple[int, bool]]) -> str:
        count = sum(start_ns <= at < end_ns for at, _ in sets)
        return f"{count * SECOND / (end_ns - start_ns):.1f}"

    return rate


def main(words: list[str]) -> int:
    """Entry point; the exit code."""
    console = Console()
    if len(words) != 1:
        console.print("usage: deadline_vs_approximate.py BAG")
        return 2
    try:
        console.print(compare(*read(Path(words[0]))))
    except RobustsegError as error:
        console.print(f"error: {error}", highlight=False)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
