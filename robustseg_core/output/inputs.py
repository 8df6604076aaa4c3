"""The sensors' own messages in the recording of a run, beside the masks that they made.

A mask stands in the recording at its stamp, the time when its reference sensor measured. So each
message stands at its own stamp, too, and a viewer shows a picture and its mask together. Where a
stamp is none, or of another clock than the other sensors', the message stands where it came.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection
from statistics import median
from typing import Final

from robustseg_core.bag import BagWriter, Recorded
from robustseg_core.output import messages
from robustseg_core.types import SECOND

FARTHEST_NS: Final = 10 * SECOND
"""A stamp that is further from where the others are is not followed: a recording that reaches to
1970 or into the next year opens in no viewer. As long as `transforms` follows what moves."""
_ASKED: Final = 31
"""Stamps of which the median says how far the sensors' clock is from the recorder's; the first
messages wait for so many."""
_MOST_BYTES: Final = 32 << 20
"""Of what waits for them."""


class InputLog:
    """Copies what is heard of some topics into a recording; a context manager.

    Args:
        bag: open until this is closed; others may write to it meanwhile.
        topics: those of sensors and their calibrations.
        latched: those of them whose last message late subscribers get, too.
        touched: those of which messages may be made anew, by a fault.
    """

    def __init__(
        self,
        bag: BagWriter,
        topics: Collection[str],
        *,
        latched: Collection[str] = (),
        touched: Collection[str] = (),
    ) -> None:
        self._bag, self._latched, self._touched = bag, latched, touched
        ours = f"/{messages.NODE}/"
        self._topics = {topic for topic in topics if not topic.startswith(ours)}
        self._lost: Counter[str] = Counter()
        for topic in sorted(set(topics) - self._topics):
            self._lost[f"{topic} is not in the MCAP: masks are written below {ours}"] = 0
        self._offsets_ns: deque[int] = deque(maxlen=_ASKED)
        """Stamp minus arrival, of the newest messages that have a stamp."""
        self._waiting: list[Recorded] = []
        self._bytes = 0

    def __enter__(self) -> InputLog:
        return self

    def __exit__(self, *exc: object) -> None:
        self._write()

    def hear(self, recorded: Recorded) -> None:
        """Write a message, now or with the next ones, if it is of one of the topics.

        Raises:
            OSError: the disk is full.
        """
        if recorded.topic not in self._topics:
            return
        if stamp_ns := _stamp_ns(recorded):
            self._offsets_ns.append(stamp_ns - recorded.time_ns)
        self._waiting.append(recorded)
        self._bytes += len(recorded.raw)
        if len(self._offsets_ns) == _ASKED or self._bytes > _MOST_BYTES:
            self._write()

    def notices(self) -> list[str]:
        """What is not in the recording, a sentence each."""
        return [f"{text} ({n} messages)" if n else text for text, n in self._lost.items()]

    def _write(self) -> None:
        usual_ns = round(median(self._offsets_ns)) if self._offsets_ns else 0
        for recorded in self._waiting:
            came_ns = max(0, recorded.time_ns + usual_ns)
            stamp_ns = _stamp_ns(recorded)
            near = stamp_ns and abs(stamp_ns - came_ns) <= FARTHEST_NS
            why = self._bag.copy(
                recorded,
                time_ns=stamp_ns if near else came_ns,
                latched=recorded.topic in self._latched,
                touched=recorded.topic in self._touched,
            )
            if why:
                self._lost[f"{recorded.topic} is not whole in the MCAP: {why}"] += 1
        self._waiting.clear()
        self._bytes = 0


def _stamp_ns(recorded: Recorded) -> int:
    """Its stamp; 0: it has none."""
    header = recorded.header()
    return max(0, header[0]) if header else 0
