"""What the scene really was, where a recording carries it: label images beside the sensors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from robustseg_core.bag import Bag
from robustseg_core.decode import word
from robustseg_core.decode.image import pixels
from robustseg_core.errors import RobustsegError
from robustseg_core.intake import stamp_of
from robustseg_core.survey_guess import Candidate, is_truth
from robustseg_core.types import MS, Rejection

ENCODINGS = ("mono8", "8UC1")
TOLERANCE_NS = 20 * MS
"""A mask is compared with the truth of at most this far away: half a frame of a 25 Hz camera."""


class Truth:
    """The label images of a recording, asked for by stamp as the masks come; a context manager.

    Args:
        paths: the recording.
        topic: of mono8 label images (class ids, 255 unlabelled), stamped like the camera's.
    """

    def __init__(self, paths: Sequence[Path], topic: str) -> None:
        self.topic = topic
        self._bag = Bag(paths)
        self._before: tuple[int, NDArray[np.uint8]] | None = None
        self._after: tuple[int, NDArray[np.uint8]] | None = None

    def __enter__(self) -> Truth:
        self._bag.__enter__()
        self._messages = self._bag.messages({self.topic})
        self._after = self._next()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bag.__exit__(kind, value, trace)

    def at(self, stamp_ns: int) -> NDArray[np.uint8] | None:
        """(H, W) class ids nearest to `stamp_ns`, or None if none is near; asked in order."""
        while self._after is not None and self._after[0] <= stamp_ns:
            self._before, self._after = self._after, self._next()
        near = [
            (abs(stamp_ns - at_ns), ids)
            for at_ns, ids in filter(None, (self._before, self._after))
            if abs(stamp_ns - at_ns) <= TOLERANCE_NS
        ]
        return min(near, key=lambda pair: pair[0])[1] if near else None

    def _next(self) -> tuple[int, NDArray[np.uint8]] | None:
        for recorded in self._messages:
            try:
                message = recorded.message()
                if (encoding := word(message, "encoding")) not in ENCODINGS:
                    raise RobustsegError(f"{self.topic} is {encoding!r}; expected mono8 class ids")
                return stamp_of(message), pixels(message, 1, np.dtype(np.uint8))[..., 0]
            except Rejection:  # damaged
                continue
        return None


def open_truth(paths: Sequence[Path]) -> Truth:
    """The truth that a recording carries; without any, one that never knows.

    Topics are told by type and name, as in a survey, and by one message each: no pass over the bag.
    """
    ours = "robustseg"  # masks of an earlier run are no truth
    with Bag(paths) as bag:
        for topic in bag.topics:
            labels = is_truth(Candidate(topic.name, topic.type, topic.count)) and topic.decodable
            if labels and ours not in topic.name and _encoding(bag, topic.name) in ENCODINGS:
                return Truth(paths, topic.name)
    return Truth(paths, "")


def _encoding(bag: Bag, topic: str) -> str:
    """The image encoding of a topic's first good message; empty: it has none."""
    for recorded in bag.messages({topic}):
        try:
            return str(getattr(recorded.message(), "encoding", ""))
        except Rejection:
            continue
    return ""
