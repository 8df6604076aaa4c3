"""Pictures of a recording that no mask brings along.

Of sensors that are believed broken; of the camera, where a node gave its own picture up; and of all
sensors, for masks that were made elsewhere.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustseg_core import modalities
from robustseg_core.bag import Recording
from robustseg_core.codecs.fields import stamp_of
from robustseg_core.geometry.view import View
from robustseg_core.intake import Observer
from robustseg_core.recording.pipeline import Deferred
from robustseg_core.recording.replay import replay
from robustseg_core.robot.config import RobotConfig
from robustseg_core.segmenter import Segmenter
from robustseg_core.types import (
    SECOND,
    Bundle,
    Finding,
    LabelMap,
    ModelSpec,
    Reading,
    Rejection,
    kind_of,
)

log = logging.getLogger(__name__)

Picture = NDArray[np.uint8]
"""(h, w, 3) RGB in the network's size."""

NEW_NS = SECOND // 2
"""What came longer ago is no picture of now."""


class Doubted(Observer):
    """Keeps the newest message of each sensor that has a picture without calibration and memory.

    Args:
        spec: the network's.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        kinds = {name: modalities.load(name) for name in spec.modalities}
        self._decoders = {
            name: kind(encoding=spec.encodings.get(name))
            for name, kind in kinds.items()
            if not kind.needs_view
            and not kind.accumulates
            and not modalities.unfed(name, spec.encodings.get(name, {}))
        }
        self._newest: dict[str, tuple[int, Any]] = {}
        """stream -> when it came, and the message."""
        self._now_ns = 0

    def pushed(self, modality: str, message: Any, now_ns: int, finding: Finding | None) -> None:
        """It is the newest."""
        self._now_ns = now_ns
        if kind_of(modality) in self._decoders and message is not None:
            self._newest[modality] = now_ns, message

    def messages(self, label_map: LabelMap) -> dict[str, Any]:
        """modality -> the newest message of a sensor that this mask, just made, does not use."""
        return {
            name: message
            for name, (came_ns, message) in self._newest.items()
            if name not in label_map.used and self._now_ns - came_ns <= NEW_NS
        }

    def pictures(self, messages: Mapping[str, Any]) -> dict[str, Picture]:
        """modality -> picture, of those that can be shown."""
        found = {}
        for name, message in messages.items():
            if (decoder := self._decoders.get(kind_of(name))) is None:
                continue
            try:
                stamp_ns = stamp_of(message)
                reading = Reading(name, stamp_ns, "", decoder.decode(message, stamp_ns))
                array = decoder.encode([reading], View(self._spec.size), stamp_ns)
                found[name] = decoder.picture(array)
            except Rejection:
                continue
            except Exception as error:  # it is broken, and only a picture for people
                log.info("no picture of %s: %s", name, error)
        return found


class Meanwhile:
    """What the sensors of a recording showed when a node, which saw the same, made its masks.

    The recording is read once, as masks are asked for, through the gate that the node has, too.

    Args:
        recording: as it was played, with what was done to it.
        robot: the node's, of one camera.
        spec: the network's.
    """

    def __init__(self, recording: Recording, robot: RobotConfig, spec: ModelSpec) -> None:
        self._doubted = Doubted(spec)
        segmenter = Segmenter(robot, spec, Deferred(spec), observer=self._doubted)
        self._sets = replay(recording, segmenter)
        self._bundle = Bundle(0, {})
        self._said: dict[str, Any] = {}
        self._stamp_ns = -1

    def at(self, label_map: LabelMap) -> tuple[LabelMap, dict[str, Picture]]:
        """The mask with what it was made of, if that is known, and pictures of the other sensors.

        Args:
            label_map: a mask; not older than the one before.
        """
        stamp_ns = label_map.stamp_ns
        while self._stamp_ns < stamp_ns and (closed := next(self._sets, None)) is not None:
            self._stamp_ns, self._bundle = closed.stamp_ns, closed.bundle
            self._said = self._doubted.messages(replace(closed, used=()))
        said = {name: told for name, told in self._said.items() if name not in label_map.used}
        if self._stamp_ns == stamp_ns:
            frames = {n: f for n, f in self._bundle.frames.items() if n in label_map.used}
            label_map = replace(label_map, bundle=Bundle(stamp_ns, frames))
        return label_map, self._doubted.pictures(said)


def pictures_at(
    recording: Recording, topic: str, modality: str, stamps: Collection[int], spec: ModelSpec
) -> Iterator[tuple[int, Picture]]:
    """(stamp, picture) of the messages of one topic with these stamps, as they were recorded.

    Args:
        recording: it is read once.
        topic: the modality's.
        modality: one that `Doubted` has pictures of; of another nothing comes.
        stamps: in nanoseconds.
        spec: the network's.
    """
    artist = Doubted(spec)
    for recorded in recording.messages({topic}) if stamps else ():
        header = recorded.header()
        if header is None or header[0] not in stamps:
            continue
        try:
            message = recorded.message()
        except Rejection:
            continue
        for picture in artist.pictures({modality: message}).values():
            yield header[0], picture
