"""The sensors' own messages in the recording of a run, beside the masks that they made.

A mask stands in the recording at its stamp, the time when its reference sensor measured. So each
message stands at its own stamp, too, and a viewer shows a picture and its mask together. Where a
stamp is none, or of another clock than the other sensors', the message stands where it came.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Iterable
from itertools import pairwise
from statistics import median
from typing import Final

from robustseg_core.bag import BagWriter, Recorded
from robustseg_core.output import messages
from robustseg_core.types import SECOND

FARTHEST_NS: Final = 10 * SECOND
"""A stamp that is further from where the others are is not followed: a recording that reaches to
1970 or into the next year opens in no viewer. As long as `transforms` follows what moves."""
_ASKED: Final = 31
"""Stamps of a topic of which the median says how far its clock is from the recorder's."""
_WAIT_NS: Final = 2 * SECOND
"""The first messages of a recording wait so long: by then every sensor that is alive has said what
its clock is."""
_MOST_BYTES: Final = 32 << 20
"""Of what waits."""


class InputLog:
    """Copies what is heard of some topics into a recording; a context manager.

    Args:
        bag: open until this is closed; others may write to it meanwhile.
        topics: those of sensors and their calibrations. The clock of those that masks are made of
            is followed, else that of most, else that of the first.
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
        self._topics = [topic for topic in topics if not topic.startswith(ours)]
        self._lost: Counter[str] = Counter()
        for topic in sorted(set(topics).difference(self._topics)):
            self._lost[f"{topic} is not in the MCAP: masks are written below {ours}"] = 0
        self._offsets_ns: dict[str, deque[int]] = {}
        """Topic -> stamp minus arrival, of its newest messages that have a stamp."""
        self._waiting: list[Recorded] = []
        self._bytes = 0
        self._made_of: Collection[str] = ()
        self._spans: dict[int, tuple[int, int]] = {}
        """Recording -> the first and last stamp at which messages of it stand."""
        self._recording = -1
        self._since_ns: int | None = None
        """When the first of those that wait came; None: nobody waits any more."""

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
        if recorded.recording != self._recording:  # of another robot, or after a reboot
            self._write()
            self._offsets_ns.clear()
            self._recording, self._since_ns = recorded.recording, recorded.time_ns
        if stamp_ns := _stamp_ns(recorded):
            newest = self._offsets_ns.setdefault(recorded.topic, deque(maxlen=_ASKED))
            newest.append(stamp_ns - recorded.time_ns)
        self._waiting.append(recorded)
        self._bytes += len(recorded.raw)
        if self._since_ns is not None:
            waited = abs(recorded.time_ns - self._since_ns) >= _WAIT_NS
            if not waited and self._bytes <= _MOST_BYTES:
                return
            self._since_ns = None
        self._write()

    def made_of(self, topics: Iterable[str]) -> None:
        """Be told of which sensors' messages the newest mask is made: it stands by their clock."""
        self._made_of = tuple(topics)

    def notices(self) -> list[str]:
        """What is not in the recording, or not as it was, a sentence each."""
        told = [f"{text} ({n} messages)" if n else text for text, n in self._lost.items()]
        ordered = sorted(self._spans.items(), key=lambda entry: entry[1])
        for (one, (_, end_ns)), (other, (start_ns, _)) in pairwise(ordered):
            if start_ns <= end_ns:
                first, second = sorted((one + 1, other + 1))
                told.append(
                    f"recordings {first} and {second} are of one time by their stamps, so the MCAP "
                    "has their messages among each other; give each a run of its own (--jobs 1)"
                )
        return told

    def _write(self) -> None:
        usual_ns = self._usual_ns() if self._waiting else 0
        for recorded in self._waiting:
            came_ns = max(0, recorded.time_ns + usual_ns)
            stamp_ns = _stamp_ns(recorded)
            near = stamp_ns and abs(stamp_ns - came_ns) <= FARTHEST_NS
            time_ns = stamp_ns if near else came_ns
            if recorded.topic not in self._latched:  # what is said once may be old
                first_ns, last_ns = self._spans.get(recorded.recording, (time_ns, time_ns))
                self._spans[recorded.recording] = min(first_ns, time_ns), max(last_ns, time_ns)
            why = self._bag.copy(
                recorded,
                time_ns=time_ns,
                latched=recorded.topic in self._latched,
                touched=recorded.topic in self._touched,
            )
            if why:
                self._lost[f"{recorded.topic} is not whole in the MCAP: {why}"] += 1
        self._waiting.clear()
        self._bytes = 0

    def _usual_ns(self) -> int:
        """How far the clock that masks go by is from the recorder's; else, that of most topics."""
        said = {
            topic: round(median(self._offsets_ns[topic]))
            for topic in self._topics
            if topic in self._offsets_ns
        }

        def voices(ns: int) -> tuple[int, int]:
            near = [topic for topic, other in said.items() if abs(ns - other) <= FARTHEST_NS]
            return sum(topic in self._made_of for topic in near), len(near)

        return max(said.values(), key=voices, default=0)


def _stamp_ns(recorded: Recorded) -> int:
    """Its stamp; 0: it has none."""
    header = recorded.header()
    return max(0, header[0]) if header else 0
