"""What a broken sensor costs others: a robot that believes everything, one that stops, an oracle.

All are given the same messages, the same synchronizer or better, and the same network.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Any

from robustseg_core.codecs.fields import header
from robustseg_core.engines.blank import blank
from robustseg_core.intake import Intake
from robustseg_core.robot.config import RobotConfig
from robustseg_core.segmenter import Segmenter
from robustseg_core.sync.synchronizer import Match
from robustseg_core.types import (
    MS,
    SECOND,
    Bundle,
    Finding,
    Frame,
    LabelMap,
    ModelSpec,
    Reading,
    Rejection,
)

EVENTS_KEPT = 64
"""Packets that a believer keeps of an accumulating stream: more than any event window needs."""
PEER_SLOP_NS = 100 * MS
"""Stamps within this of the camera's make a set of `message_filters`: the usual slop."""
PATIENCE_NS = 40 * MS
"""The believer fuses this long after an image was due, when its companions have arrived."""


class Oracle(Segmenter):
    """Knows which sensors are broken, and from when to when: exactly those are left out, at once.

    Args:
        config: the robot.
        spec: what the network expects.
        broken: the sensors that are left out ...
        when_s: ... from here (included) to there (excluded), in seconds from `start_ns`.
        start_ns: when the drive began.
        on_mask: is shown every mask.
    """

    def __init__(
        self,
        config: RobotConfig,
        spec: ModelSpec,
        *,
        broken: Collection[str],
        when_s: tuple[float, float],
        start_ns: int,
        on_mask: Callable[[LabelMap], None],
    ) -> None:
        super().__init__(config, spec, blank(spec))
        from_ns, until_ns = (start_ns + round(t * SECOND) for t in when_s)
        self.intake = _Informed(config, spec, frozenset(broken), from_ns, until_ns)
        self._on_mask = on_mask

    def step(self, now_ns: int) -> LabelMap | None:
        """As a segmenter; the mask is shown."""
        label_map = super().step(now_ns)
        if label_map is not None:
            self._on_mask(label_map)
        return label_map


class _Informed(Intake):
    """Whatever health thinks of the broken sensors does not matter."""

    def __init__(
        self,
        config: RobotConfig,
        spec: ModelSpec,
        broken: frozenset[str],
        from_ns: int,
        until_ns: int,
    ) -> None:
        super().__init__(config, spec)
        self._broken, self._from_ns, self._until_ns = broken, from_ns, until_ns

    def push(self, modality: str, message: Any, now_ns: int) -> Finding | None:
        if modality in self._broken and self._from_ns <= now_ns < self._until_ns:
            return None
        return super().push(modality, message, now_ns)

    def poll(self, now_ns: int) -> Match[Reading] | None:
        with self._lock:
            return self._sync.poll(now_ns, self._believed(now_ns))

    def wake_ns(self, now_ns: int) -> int | None:
        with self._lock:
            return self._sync.wake_ns(now_ns, self._believed(now_ns))

    def _believed(self, now_ns: int) -> list[str]:
        out = self._broken if self._from_ns <= now_ns < self._until_ns else ()
        return [name for name in self._health.usable(now_ns) if name not in out]


class Ungated(Segmenter):
    """Health ignored: at every image that is due, the newest message of each stream that decodes.

    However old it is, whatever is in it, whatever its stamp says. It is woken when images are due,
    so that it goes on when the camera is dead: better than most that fuse without looking.

    It also keeps the books of a peer that stops (message_filters' ApproximateTimeSynchronizer): no
    set, and no mask, unless every stream has a message stamped within `PEER_SLOP_NS` of the image.

    Args:
        config: the robot.
        spec: what the network expects.
        due: (stamp, arrival) of the images that are due, in nanoseconds, oldest first.
        on_bundle: is given the stamp and what the network would see.
    """

    def __init__(
        self,
        config: RobotConfig,
        spec: ModelSpec,
        *,
        due: Sequence[tuple[int, int]],
        on_bundle: Callable[[int, Bundle], None],
    ) -> None:
        super().__init__(config, spec, blank(spec))
        self._due = deque(due)
        self._stamps: dict[str, list[int]] = {name: [] for name in self.streams}
        self._newest: dict[str, deque[Reading]] = {
            name: deque(maxlen=EVENTS_KEPT if decoder.accumulates else 1)
            for name, decoder in self.intake.modalities.items()
        }
        self._on_bundle = on_bundle
        decoders = self.intake.modalities.items()
        self._grid = next((name for name, decoder in decoders if not decoder.needs_view), None)

    def push(self, modality: str, message: Any, now_ns: int) -> Finding | None:
        """Decode it and believe it; nothing is judged."""
        decoder = self.intake.modalities[modality]
        try:
            stamp_ns, frame_id = header(message)
            data = decoder.decode(message, stamp_ns)
        except Exception:  # what does not decode cannot be believed
            return None
        if modality == self._grid and (size := decoder.size(data)):
            self.view.set_image_size(*size, frame_id=frame_id)
        self._stamps[modality].append(stamp_ns)
        self._newest[modality].append(Reading(modality, stamp_ns, frame_id, data))
        return None

    def step(self, now_ns: int) -> LabelMap | None:
        """None: what is made goes to `on_bundle`."""
        while self._due and now_ns >= self._due[0][1] + PATIENCE_NS:
            stamp_ns, _ = self._due.popleft()
            self._on_bundle(stamp_ns, self._fuse(stamp_ns))
        return None

    def wake_ns(self, now_ns: int) -> int | None:
        """When the next image is due."""
        return max(now_ns + 1, self._due[0][1] + PATIENCE_NS) if self._due else None

    def peer_has_set(self, stamp_ns: int) -> bool:
        """Whether every stream has, in the end, a message stamped near this image."""
        return all(
            any(abs(own_ns - stamp_ns) <= PEER_SLOP_NS for own_ns in stamps)
            for stamps in self._stamps.values()
        )

    def _fuse(self, stamp_ns: int) -> Bundle:
        frames = {}
        for name, readings in self._newest.items():
            if not readings:
                continue
            try:
                array = self.intake.modalities[name].encode(list(readings), self.view, stamp_ns)
            except Rejection:  # the view cannot place it
                continue
            frames[name] = Frame(name, readings[-1].stamp_ns, array)
        return Bundle(stamp_ns, frames)
