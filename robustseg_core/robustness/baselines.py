"""Three robots to compare with: one that believes everything, one that waits for all, an oracle.

All are given the same messages, the same synchronizer or better, and the same network.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from robustseg_core.codecs.fields import header
from robustseg_core.intake import NOBODY, Intake, Observer, Policy
from robustseg_core.robot.config import RobotConfig
from robustseg_core.segmenter import encode
from robustseg_core.types import (
    MS,
    SECOND,
    Bundle,
    Fault,
    Finding,
    LabelMap,
    ModelSpec,
    Reading,
    Rejection,
)

EVENTS_KEPT = 64
"""Packets that `Ungated` keeps of an accumulating stream: more than any event window needs."""
SLOP_NS = 100 * MS
"""Stamps within this of the camera's make a set of `message_filters`: the usual slop."""
PATIENCE_NS = 40 * MS
"""`Ungated` fuses this long after an image was due, when its companions have arrived."""


class Oracle(Policy):
    """Knows which sensors are broken, and from when to when: exactly those are left out, at once.

    Args:
        broken: the sensors that are left out ...
        when_s: ... from here (included) to there (excluded), in seconds from `start_ns`.
        start_ns: when the drive began.
    """

    def __init__(
        self, broken: Collection[str], when_s: tuple[float, float], *, start_ns: int
    ) -> None:
        self._broken = frozenset(broken)
        self._from_ns, self._until_ns = (start_ns + round(t * SECOND) for t in when_s)

    def hears(self, modality: str, now_ns: int) -> bool:
        """Not a broken sensor."""
        return modality not in self._out(now_ns)

    def believes(self, healthy: Sequence[str], now_ns: int) -> Sequence[str]:
        """Who is healthy, and not broken: that is not left to health to find out."""
        out = self._out(now_ns)
        return [name for name in healthy if name not in out]

    def _out(self, now_ns: int) -> frozenset[str]:
        return self._broken if self._from_ns <= now_ns < self._until_ns else frozenset()


class Ungated:
    """No gate: at every image that is due, the newest message of each stream that decodes.

    However old it is, whatever is in it, whatever its stamp says. It is woken when images are due,
    so that it goes on when the camera is dead: better than most that fuse without looking. It takes
    the place of a `Segmenter` in `replay`.

    Args:
        config: the robot.
        spec: what the network expects.
        due: (stamp, arrival) of the images that are due, in nanoseconds, oldest first.
        on_bundle: is given the stamp and what the network would see.
        observer: is told of every message; the finding says why it does not decode.
    """

    def __init__(
        self,
        config: RobotConfig,
        spec: ModelSpec,
        *,
        due: Iterable[tuple[int, int]],
        on_bundle: Callable[[int, Bundle], None],
        observer: Observer = NOBODY,
    ) -> None:
        self.intake = Intake(config, spec)
        """Of it, the decoders and the view; nothing is pushed into it but calibrations."""
        self._due = deque(due)
        self._on_bundle, self._observer = on_bundle, observer
        decoders = self.intake.modalities.items()
        self._newest: dict[str, deque[Reading]] = {
            name: deque(maxlen=EVENTS_KEPT if decoder.accumulates else 1)
            for name, decoder in decoders
        }
        self._grid = next((name for name, decoder in decoders if not decoder.needs_view), None)

    def push(self, modality: str, message: Any, now_ns: int) -> Finding | None:
        """Decode it and believe it; nothing is judged. Why it does not decode, or None."""
        self._observer.arriving(modality, now_ns)
        finding = self._decode(modality, message)
        self._observer.pushed(modality, message, now_ns, finding)
        return finding

    def step(self, now_ns: int) -> LabelMap | None:
        """None: what is made goes to `on_bundle`."""
        while self._due and now_ns >= self._due[0][1] + PATIENCE_NS:
            stamp_ns, _ = self._due.popleft()
            self._on_bundle(stamp_ns, self._fuse(stamp_ns))
        return None

    def wake_ns(self, now_ns: int) -> int | None:
        """When the next image is due."""
        return max(now_ns + 1, self._due[0][1] + PATIENCE_NS) if self._due else None

    def _decode(self, modality: str, message: Any) -> Finding | None:
        decoder = self.intake.modalities[modality]
        try:
            stamp_ns, frame_id = header(message)
            data = decoder.decode(message, stamp_ns)
        except Rejection as rejection:
            return rejection.finding
        except Exception as error:  # what does not decode cannot be believed
            return Finding(Fault.INTERNAL, fatal=True, text=f"{type(error).__name__}: {error}")
        if modality == self._grid and (size := decoder.size(data)):
            self.intake.view.set_image_size(*size, frame_id=frame_id)
        self._newest[modality].append(Reading(modality, stamp_ns, frame_id, data))
        return None

    def _fuse(self, stamp_ns: int) -> Bundle:
        frames, view = {}, self.intake.view
        for name, readings in self._newest.items():
            if not readings:
                continue
            try:
                frames[name] = encode(self.intake.modalities[name], list(readings), view, stamp_ns)
            except Rejection:  # the view cannot place it
                continue
        return Bundle(stamp_ns, frames)


class AllOrNothing(Observer):
    """The rule of message_filters' ApproximateTimeSynchronizer: no set unless all are in it.

    An observer of who decodes the messages; asked when all have come, so that it errs on the side
    of a set.

    Args:
        streams: all of which a set needs.
    """

    def __init__(self, streams: Iterable[str]) -> None:
        self._stamps: dict[str, list[int]] = {name: [] for name in streams}

    def pushed(self, modality: str, message: Any, now_ns: int, finding: Finding | None) -> None:
        """Note the stamp of a message that decodes."""
        if finding is None:
            self._stamps[modality].append(header(message)[0])

    def has_set(self, stamp_ns: int) -> bool:
        """Whether every stream has, in the end, a message stamped near this image."""
        return all(
            any(abs(own_ns - stamp_ns) <= SLOP_NS for own_ns in stamps)
            for stamps in self._stamps.values()
        )
