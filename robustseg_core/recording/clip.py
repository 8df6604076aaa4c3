"""The beginning of a recording."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from robustseg_core.bag import Recorded, Recording
from robustseg_core.types import SECOND


class Clip:
    """The beginning of a recording, itself a `Recording`; played several times if wanted.

    Args:
        bag: the open recording, or a broken one.
        until_s: where it ends, in seconds of its own time; None: where it ends.
        passes: how often it is played, in a loop.
    """

    def __init__(self, bag: Recording, until_s: float | None = None, *, passes: int = 1) -> None:
        self._bag, self._passes = bag, passes
        self._until_ns = None if until_s is None else bag.start_ns + round(until_s * SECOND)
        self.spans = bag.spans
        self.start_ns = self.last_ns = bag.start_ns
        """When the recording begins, and the newest time that has been read."""
        self.cut = False
        """Whether something was left out."""

    def messages(self, topics: Collection[str] | None = None) -> Iterator[Recorded]:
        """As of a bag, pass after pass."""
        for _ in range(self._passes):
            for recorded in self._bag.messages(topics):
                if self._until_ns is not None and recorded.time_ns > self._until_ns:
                    self.cut = True
                    break
                self.last_ns = max(self.last_ns, recorded.time_ns)
                yield recorded
