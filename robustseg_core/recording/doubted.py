"""Pictures of a recording that no mask brings along: of sensors that are believed broken, and of
the camera where a node gave its own picture up."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustseg_core import modalities
from robustseg_core.bag import Recording
from robustseg_core.codecs.fields import stamp_of
from robustseg_core.geometry.view import View
from robustseg_core.intake import Observer
from robustseg_core.types import SECOND, Finding, LabelMap, ModelSpec, Reading, Rejection, kind_of

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
