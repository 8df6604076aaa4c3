"""What arrived on each stream, and what became of it: notes about a segmenter at work.

`Probe` watches a `Segmenter` whose network sees nothing, so every decoder, check, stamp guard, view
and synchronizer that decides about a mask is the real one, and the report no second opinion.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from robustseg_core import modalities
from robustseg_core.codecs.fields import as_bytes, header
from robustseg_core.codecs.picture import picture_size
from robustseg_core.codecs.tf_message import Edge, edges
from robustseg_core.engines.blank import blank
from robustseg_core.errors import RobustsegError
from robustseg_core.intake import Intake, Observer, Router
from robustseg_core.models import checkpoint
from robustseg_core.robot.config import RobotConfig
from robustseg_core.segmenter import Segmenter
from robustseg_core.types import (
    Fault,
    Finding,
    LabelMap,
    ModelSpec,
    Rejection,
    kind_of,
    sentence,
)


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


class Probe(Observer):
    """Watches a segmenter that makes empty masks, and keeps account.

    Args:
        config: the robot.
        spec: what the network expects.

    Raises:
        RobustsegError: the robot has none of the network's modalities.
    """

    def __init__(self, config: RobotConfig, spec: ModelSpec) -> None:
        self.segmenter = Segmenter(config, spec, blank(spec), observer=self)
        """To be played to, or fed by the node's `Inputs`."""
        self.logs = {name: StreamLog() for name in self.segmenter.streams}
        self.transforms = 0
        """Messages on /tf_static and /tf."""
        self.transform_refused = ""
        self.frames: set[str] = set()
        """What they join."""

    def pushed(self, modality: str, message: Any, now_ns: int, finding: Finding | None) -> None:
        """Note when it came, what it calls itself, and why it was rejected."""
        log = self.logs[modality]
        log.arrivals_ns.append(now_ns)
        if message is not None:
            try:
                log.stamp_ns, frame_id = header(message)
                log.frames[frame_id] += 1
                if log.size is None and not modalities.load(modality).needs_view:
                    log.size = _size(message)
            except Rejection:
                pass  # the decoder has said so
        log.note(finding)

    def calibrated(self, modality: str, message: Any, finding: Finding | None) -> None:
        """Count it; note why it was refused."""
        log = self.logs[modality]
        log.infos += 1
        if finding is not None:
            log.info_refused = finding.text

    def placed(self, message: Any, finding: Finding | None) -> None:
        """Count them; note which frames they join, and why one was refused."""
        self.transforms += 1
        if finding is not None:
            self.transform_refused = finding.text
        with suppress(Rejection):  # the tree has said so
            for row in edges(message):
                if isinstance(row, Edge):
                    self.frames.update((row.parent, row.child))

    def stepped(self, now_ns: int, label_map: LabelMap | None) -> None:
        """Note which sensors are in a mask, in doubt or not, and why the others are not."""
        if label_map is None:
            return
        healths = self.segmenter.health(now_ns)
        for name, log in self.logs.items():
            used = name in label_map.used
            log.used += used
            log.offered += log.used > 0
            if not used:
                log.left_out(label_map.reasons[name])
            for finding in healths[name].findings if used else ():
                log.alarms[finding.fault] += 1
                log.note(finding)


class Probes(Router):
    """Several probes that hear the same robot, as the node's `Inputs` want it; not stepped here.

    Args:
        config: the robot.
        probes: by camera.
    """

    def __init__(self, config: RobotConfig, probes: Mapping[str, Probe]) -> None:
        self.config = config
        self._intakes = tuple(probe.segmenter.intake for probe in probes.values())

    @property
    def intakes(self) -> tuple[Intake, ...]:
        """Of all of them."""
        return self._intakes


def network_of(config: RobotConfig) -> tuple[ModelSpec, str]:
    """(what the configured network expects, why it cannot be used or "").

    A network that cannot be loaded is stood in for by one that knows every configured stream.
    """
    try:
        return Segmenter.from_config(config).spec, ""
    except RobustsegError as error:
        wanted = tuple(dict.fromkeys(map(kind_of, config.topics)))
        return checkpoint.default_spec(wanted or ("rgb",)), str(error)


def _size(message: Any) -> tuple[int, int] | None:
    """(H, W) of an image, an event sensor or a compressed picture; None: not to be seen."""
    height, width = getattr(message, "height", None), getattr(message, "width", None)
    if isinstance(height, int) and isinstance(width, int):
        return height, width
    data = as_bytes(getattr(message, "data", None))
    return picture_size(data) or picture_size(data[12:])  # behind compressedDepth's header
