"""The product itself, with a notebook: what arrived on each stream, and what became of it.

`Probe` is a `Segmenter` whose network sees nothing, so every decoder, judge, stamp guard, view
and synchronizer that decides about a mask is the real one, and a verdict is never a second opinion.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from robustseg_core import modalities
from robustseg_core.codecs.fields import as_bytes, header
from robustseg_core.codecs.picture import picture_size
from robustseg_core.engines.blank import blank
from robustseg_core.errors import RobustsegError
from robustseg_core.geometry.transforms import TransformTree, strip
from robustseg_core.models import checkpoint
from robustseg_core.robot.config import RobotConfig
from robustseg_core.segmenter import Segmenter
from robustseg_core.types import Fault, Finding, LabelMap, ModelSpec, Rejection, sentence


@dataclass(slots=True)
class StreamLog:
    """Of one stream."""

    arrivals_ns: array[int] = field(default_factory=lambda: array("q"))
    stamp_ns: int | None = None
    """Of the newest message with a header."""
    frames: Counter[str] = field(default_factory=Counter)
    size: tuple[int, int] | None = None
    """(H, W) of the first image."""
    texts: dict[Fault, str] = field(default_factory=dict)
    """The first word for word reason of each fault, rejected or only remarked."""
    alarms: Counter[Fault] = field(default_factory=Counter)
    """Masks during which something was said of the stream, though it was used."""
    used: int = 0
    offered: int = 0
    """Masks since the first that it was in."""
    reasons: Counter[Fault] = field(default_factory=Counter)
    """Why it was not in the others: the strongest fault of each ..."""
    why: dict[Fault, str] = field(default_factory=dict)
    """... and what was said when it was told last."""
    infos: int = 0
    """CameraInfo messages for this stream."""
    info_refused: str = ""

    def note(self, finding: Finding | None) -> None:
        """Keep the first text of each fault."""
        if finding is not None:
            self.texts.setdefault(finding.fault, finding.told)

    def left_out(self, findings: Sequence[Finding]) -> None:
        """A mask was made without it, for these reasons."""
        fault = findings[0].fault
        self.reasons[fault] += 1
        self.why[fault] = sentence(findings)


class Probe(Segmenter):
    """A `Segmenter` that makes empty masks and keeps account; `replay` and the node's `Inputs` do
    not know the difference.

    Args:
        config: the robot.
        spec: what the network expects.

    Raises:
        RobustsegError: the robot has none of the network's modalities.
    """

    def __init__(self, config: RobotConfig, spec: ModelSpec) -> None:
        super().__init__(config, spec, blank(spec))
        self.logs = {name: StreamLog() for name in self.streams}
        self.transforms = 0
        """Messages on /tf_static."""
        self.transform_refused = ""
        self.frames: set[str] = set()
        """What /tf_static joins."""
        self.moving = TransformTree()
        """What /tf joins; the segmenter does not listen to it."""

    def push(self, modality: str, message: Any, now_ns: int) -> Finding | None:
        """As `Segmenter.push`."""
        log = self.logs[modality]
        log.arrivals_ns.append(now_ns)
        try:
            log.stamp_ns, frame_id = header(message)
            log.frames[frame_id] += 1
            if log.size is None and not modalities.load(modality).needs_view:
                log.size = _size(message)
        except Rejection:
            pass  # the decoder will say so
        finding = super().push(modality, message, now_ns)
        log.note(finding)
        return finding

    def reject(self, modality: str, now_ns: int, finding: Finding) -> None:
        """As `Segmenter.reject`."""
        self.logs[modality].arrivals_ns.append(now_ns)
        self.logs[modality].note(finding)
        super().reject(modality, now_ns, finding)

    def push_camera_info(self, modality: str, message: Any) -> Finding | None:
        """As `Segmenter.push_camera_info`."""
        log = self.logs[modality]
        log.infos += 1
        finding = super().push_camera_info(modality, message)
        if finding is not None:
            log.info_refused = finding.text
        return finding

    def push_transforms(self, message: Any) -> Finding | None:
        """As `Segmenter.push_transforms`."""
        self.transforms += 1
        finding = super().push_transforms(message)
        if finding is not None:
            self.transform_refused = finding.text
        for stamped in getattr(message, "transforms", None) or ():
            parent = getattr(getattr(stamped, "header", None), "frame_id", None)
            child = getattr(stamped, "child_frame_id", None)
            self.frames.update(strip(name) for name in (parent, child) if isinstance(name, str))
        return finding

    def step(self, now_ns: int) -> LabelMap | None:
        """As `Segmenter.step`."""
        label_map = super().step(now_ns)
        if label_map is not None:
            healths = self.health(now_ns)
            for name, log in self.logs.items():
                log.used += name in label_map.used
                log.offered += log.used > 0
                if name not in label_map.used:
                    log.left_out(label_map.reasons[name])
                for finding in healths[name].findings if name in label_map.used else ():
                    log.alarms[finding.fault] += 1
                    log.note(finding)
        return label_map


def network_of(config: RobotConfig) -> tuple[ModelSpec, str]:
    """(what the configured network expects, why it cannot be used or "").

    A network that cannot be loaded is stood in for by one that knows every configured stream.
    """
    try:
        return Segmenter.from_config(config).spec, ""
    except RobustsegError as error:
        wanted = tuple(name for name, stream in config.streams.items() if stream.topic)
        return checkpoint.default_spec(wanted or ("rgb",)), str(error)


def _size(message: Any) -> tuple[int, int] | None:
    """(H, W) of an image, an event sensor or a compressed picture; None: not to be seen."""
    height, width = getattr(message, "height", None), getattr(message, "width", None)
    if isinstance(height, int) and isinstance(width, int):
        return height, width
    data = as_bytes(getattr(message, "data", None))
    return picture_size(data) or picture_size(data[12:])  # behind compressedDepth's header
