"""The transforms that a recording of a run carries, so that its clouds have their place in 3D.

What is fixed is written as one message of all that is known, whenever something is new: a viewer
that jumps to a moment, and a late subscriber, get the last message of /tf_static and no other.
What moves is written as it came, at its own time.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Any, Final

from robustseg_core.bag import BagWriter
from robustseg_core.bag.event_array import serialize
from robustseg_core.codecs.tf_message import MOST_TRANSFORMS, TF_MESSAGE, Edge, edges
from robustseg_core.geometry.transforms import pose
from robustseg_core.output import messages
from robustseg_core.robot.topics import TF, TF_STATIC
from robustseg_core.types import SECOND, Rejection

FARTHEST_NS: Final = 10 * SECOND
"""What moved longer before a mask says nothing of it, and may be of another clock, which would make
the recording years long. As long as `geometry.transforms` keeps it."""
MOST_BYTES: Final = 32 << 20
"""Of what waits for a mask; the oldest goes. An hour of thirty messages a second of 300 bytes."""


class TransformLog:
    """What was heard of /tf_static and /tf and is not written yet. Several threads may use it."""

    def __init__(self) -> None:
        self._fixed: dict[str, Edge] = {}
        """Child -> its newest, as many as one message may hold."""
        self._told = True
        """Whether all of them are written."""
        self._moving: deque[tuple[int, bytes]] = deque()
        """(stamp of the first transform, CDR), as they came."""
        self._bytes = 0
        self._lock = threading.Lock()

    def hear(self, message: Any, *, moving: bool) -> None:
        """Take a tf2_msgs/TFMessage; of one that is none, nothing.

        Args:
            message: the message; it may be serialized (`edges`).
            moving: it is of /tf, else of /tf_static.
        """
        try:
            found = [edge for edge in edges(message) if isinstance(edge, Edge)]
        except Rejection:  # counted where it is used
            return
        with self._lock:
            if moving and found:
                self._wait(found[0].stamp_ns, message)
            elif not moving:
                self._fix(found)

    def _fix(self, found: list[Edge]) -> None:
        for edge in found:
            known = self._fixed.get(edge.child)
            same = known is not None and (known.parent, known.pose) == (edge.parent, edge.pose)
            room = known is not None or len(self._fixed) < MOST_TRANSFORMS
            if room and not same and pose(*edge.pose) is not None:
                self._fixed[edge.child] = edge
                self._told = False

    def _wait(self, stamp_ns: int, message: Any) -> None:
        raw = getattr(message, "raw", None)
        cdr = bytes(raw) if isinstance(raw, (bytes, memoryview)) else serialize(message, TF_MESSAGE)
        self._moving.append((stamp_ns, cdr))
        self._bytes += len(cdr)
        while self._bytes > MOST_BYTES:
            self._bytes -= len(self._moving.popleft()[1])

    def write(self, bag: BagWriter, stamp_ns: int) -> None:
        """Write what is new and places a mask of this stamp; what moved later waits for its own."""
        fixed: list[Edge] = []
        due: list[tuple[int, bytes]] = []
        with self._lock:
            if not self._told:
                fixed, self._told = list(self._fixed.values()), True
            for _ in range(len(self._moving)):
                waits = self._moving.popleft()
                if waits[0] > stamp_ns:
                    self._moving.append(waits)
                    continue
                self._bytes -= len(waits[1])
                if waits[0] <= 0 or waits[0] >= stamp_ns - FARTHEST_NS:
                    due.append(waits)
        if fixed:
            message = messages.to_rosbags(TF_MESSAGE, messages.transforms(fixed))
            bag.write(TF_STATIC, TF_MESSAGE, message, stamp_ns, latched=True)
        for own_ns, cdr in due:
            bag.write_raw(TF, TF_MESSAGE, cdr, own_ns if own_ns > 0 else stamp_ns)
