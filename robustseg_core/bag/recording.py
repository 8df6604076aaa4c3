"""What can be played: a bag, a bag with faults in it, the beginning of either."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Protocol

from robustseg_core.bag.reader import Recorded


class Recording(Protocol):
    """Messages with their log times; `Bag` is one, and whoever takes the place of one in a replay.

    Each pass over `messages` gives the same.
    """

    @property
    def start_ns(self) -> int:
        """Log time of the first message."""
        ...

    @property
    def spans(self) -> list[tuple[int, int]]:
        """First and last log time of each of several recordings in a row, as they are played."""
        ...

    def messages(self, topics: Collection[str] | None = None) -> Iterator[Recorded]:
        """Every message (of `topics`, if given), recording after recording."""
        ...
