"""The nouns of robustseg, and the map of the system.

    message -> Reading -> Frame -> Bundle -> alive -> student -> LabelMap -> topics

Alphabet, everywhere: B batch, M modalities, C channels, H W pixels, K classes, S stages,
N packed (sample, modality) images. Times are integers of nanoseconds, and always arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from robustseg_core.errors import RobustsegError

if TYPE_CHECKING:
    from torch import Tensor

IGNORE = 255
"""The label of a pixel that nobody knows; `vision_msgs/LabelInfo` reserves the top id for it."""

ALARM = 0.5
"""A content finding that leaves less quality than this crossed its limit."""

MS = 1_000_000
SECOND = 1_000_000_000


class Fault(str, Enum):
    """Everything that goes wrong with a sensor: one vocabulary for making, finding and reporting.

    The value is the word that appears in `LabelMap.reasons`, in diagnostics and in result files.
    """

    SILENT = "silent"
    """Nothing arrives (PX4: off; diagnostics: timeout)."""
    SLOW = "slow"
    """The rate is below half of the expected one."""
    LOSSY = "lossy"
    """Messages are missing here and there (PX4: intermittent)."""
    BURSTS = "bursts"
    """Many messages are delivered at once, and their stamps go on: used, and told once."""
    NEVER_SEEN = "never_seen"
    """Configured, but not one message came since the start."""
    STARTING = "starting"
    """Good so far, but too few messages yet to be believed."""
    RECOVERING = "recovering"
    """Good again, and on probation until it has stayed good."""

    ZERO_STAMP = "zero_stamp"
    REPEATED_STAMP = "repeated_stamp"
    OUT_OF_ORDER = "out_of_order"
    OFFSET = "offset"
    """The stamp lies more than a second from where its peers' stamps say it should, or has moved by
    more than `sync.offset_ms` for good. A slow delivery looks the same."""
    LATE = "late"
    """Alive, but its newest data is too old to be used beside this reference."""

    FORMAT = "format"
    """Size, step, encoding, fields or payload do not fit together, or do not decode."""
    FRAME_ID = "frame_id"
    """The sensor calls its frame by another name than before, and nothing places that one."""
    RESOLUTION = "resolution"
    """The sensor's pixels became more or fewer: one warning, and it goes on."""
    NO_CALIB = "no_calib"
    """No usable `CameraInfo` for a modality that must be projected."""
    NO_TF = "no_tf"
    """No transform from the sensor's frame to the view's."""

    STUCK = "stuck"
    """New stamps, the same payload (PX4: stuck; openpilot: frozen)."""
    BLACK = "black"
    SATURATED = "saturated"
    FLAT = "flat"
    """No structure: all pixels nearly the same."""
    COVERED = "covered"
    """Part of the field of view says nothing."""
    BLURRED = "blurred"
    NOISY = "noisy"
    """Neighboring values have too little, or nothing, to do with each other."""
    DISCOLORED = "discolored"
    """The balance of the colors is not what it used to be: a plane of color is lost."""
    INVALID_DEPTH = "invalid_depth"
    DEPTH_UNIT = "depth_unit"
    EMPTY_CLOUD = "empty_cloud"
    SPARSE_CLOUD = "sparse_cloud"
    """Far fewer returns, or lasers, than this sensor usually has."""
    NEAR_RETURNS = "near_returns"
    """Much of the scan ends right before the sensor: dust, spray, dirt, a cover."""
    UNDECODABLE = "undecodable"
    """A payload that means nothing: event words, events off the sensor, impossible points."""
    NO_EVENTS = "no_events"
    """Packets arrive and hold no event: normal before a still scene, so never fatal."""
    EVENT_FLOOD = "event_flood"
    HOT_PIXELS = "hot_pixels"
    POLARITY = "polarity"
    """Nearly all events say brighter, or nearly all darker."""
    SEQUENCE_GAP = "sequence_gap"
    """Numbered packets are missing."""
    SENSOR_CLOCK = "sensor_clock"
    """The sensor's own time does not advance, though header stamps do."""

    DISABLED = "disabled"
    INTERNAL = "internal"
    """An exception in our own code: counted, logged, survived."""


class State(str, Enum):
    """What the health monitor believes of one stream."""

    DISABLED = "DISABLED"
    WAITING = "WAITING"
    LIVE = "LIVE"
    DEGRADED = "DEGRADED"
    DEAD = "DEAD"
    RECOVERING = "RECOVERING"

    @property
    def usable(self) -> bool:
        """Whether the stream may enter a bundle."""
        return self in (State.LIVE, State.DEGRADED)


@dataclass(frozen=True, slots=True)
class Finding:
    """One piece of evidence against one message or one stream."""

    fault: Fault
    fatal: bool
    """True: the message is rejected, never used. False: it is used, and the score goes down."""
    text: str = ""
    """The measured value beside its limit, for people: "mean 1.2 grey levels, limit 8"."""
    score: float = 0.0
    """Quality in [0, 1] that this finding leaves of the frame; 0 when fatal."""
    final: bool = False
    """Fatal, and the next message can be no better: no second one is waited for."""

    @property
    def alarm(self) -> bool:
        """Whether it is worth reporting; a remark above `ALARM` only lowers the quality."""
        return self.fatal or self.score < ALARM

    def __str__(self) -> str:
        return f"{self.fault.value}: {self.text}" if self.text else self.fault.value


class Rejection(RobustsegError):
    """Raised by decoders: this message cannot be used, and here is why."""

    def __init__(self, fault: Fault, text: str, *, final: bool = False) -> None:
        super().__init__(text)
        self.finding = Finding(fault, fatal=True, text=text, final=final)


@dataclass(frozen=True, slots=True)
class Reading:
    """One message, decoded in the sensor's own geometry; not yet on the view's pixel grid."""

    modality: str
    stamp_ns: int
    """When the sensor saw it (header stamp), not when it arrived."""
    frame_id: str
    data: Any
    """What the modality's `decode` returned: an image, metres, points or events."""
    quality: float = 1.0
    """Score in [0, 1] from the content checks; feeds gated fusion."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One modality on the view's pixel grid, ready for the network."""

    modality: str
    stamp_ns: int
    array: NDArray[np.float32]
    """(C, H, W) float32, encoded as the `ModelSpec` says."""
    quality: float = 1.0


@dataclass(frozen=True, slots=True)
class Bundle:
    """What the student sees at once. Missing is absent: never a zero image, never None."""

    stamp_ns: int
    frames: Mapping[str, Frame]


@dataclass(slots=True)
class Batch:
    """Bundles side by side, as tensors."""

    images: dict[str, Tensor]
    """modality -> (B, C, H, W) float32; rows of a modality that is not alive are never read."""
    alive: Tensor
    """(B, M) bool, columns in the order of `ModelSpec.modalities`."""
    label: Tensor | None = None
    """(B, H, W) int64, `IGNORE` where unknown."""


@dataclass(slots=True)
class Prediction:
    """What the network returns: logits, and what it saw per modality before fusion."""

    logits: Tensor
    """(B, K, h, w); the caller decides how to enlarge them."""
    features: list[Tensor]
    """S packed stages of (N, C_s, H_s, W_s): one row per alive (sample, modality) pair."""
    sample: Tensor
    """(N,) int64: the sample that each packed row belongs to."""
    modality: Tensor
    """(N,) int64: the column of `alive` that each packed row belongs to."""


@dataclass(frozen=True, slots=True)
class LabelMap:
    """The product: one label per pixel, and an account of who made it."""

    ids: NDArray[np.uint8]
    """(H, W) class ids, `IGNORE` where unlabelled, in the camera's own size."""
    confidence: NDArray[np.uint8]
    """(H, W) probability of the winning class, 0..255."""
    stamp_ns: int
    frame_id: str
    used: tuple[str, ...]
    """The modalities that made this mask, in the order of `ModelSpec.modalities`."""
    reasons: Mapping[str, str]
    """modality -> why it is not in `used`."""
    states: Mapping[str, State]
    held_ms: Mapping[str, float]
    """Age of each used frame beside the mask's stamp."""
    latency_ms: Mapping[str, float]
    """Stage -> duration; `total` is from the start of the step to the finished map."""
    bundle: Bundle
    """What the student saw: for drawing and for explaining."""


class ModelSpec(BaseModel):
    """Everything needed to rebuild and feed a network; stored inside every checkpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    modalities: tuple[str, ...] = Field(min_length=1)
    """Order of the columns of `alive`."""
    classes: tuple[str, ...] = Field(min_length=2, max_length=IGNORE)
    palette: tuple[tuple[int, int, int], ...]
    """RGB per class."""
    backbone: str = "tiny"
    size: tuple[int, int] = (384, 512)
    """(H, W) of the network's input; both divide by 32."""
    fusion: str = "mean"
    head_width: int = Field(default=768, gt=0)
    """Embedding width of the all-MLP head; the published systems use 768 for every backbone."""
    stem: str = Field(default="shared", pattern="^(shared|per_modality)$")
    norm: str = Field(default="shared", pattern="^(shared|per_modality)$")
    encodings: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)
    """modality -> options of its encoding, as the modality's `Encoding` model spells them."""
    trained: bool = False
    provenance: str = "random weights"
    """Where the weights come from: recipe, data, commit."""

    @model_validator(mode="after")
    def _consistent(self) -> ModelSpec:
        if len(self.palette) != len(self.classes):
            raise ValueError(
                f"palette has {len(self.palette)} colours for {len(self.classes)} classes; "
                "give one RGB triple per class"
            )
        height, width = self.size
        if height % 32 or width % 32 or height <= 0 or width <= 0:
            up = tuple(max(32, -(-n // 32) * 32) for n in self.size)
            raise ValueError(
                f"size is {height}x{width}; both must divide by 32; use {up[0]}x{up[1]}"
            )
        if strange := set(self.encodings) - set(self.modalities):
            raise ValueError(
                f"encodings name {sorted(strange)}, which are not in {self.modalities}"
            )
        return self


@dataclass(frozen=True, slots=True)
class Health:
    """The monitor's opinion of one stream at one moment."""

    state: State
    findings: tuple[Finding, ...] = ()
    """Why it is not LIVE, strongest first; empty when it is."""
    since_ns: int | None = None
    """Steady time of the last change of state."""
    rate_hz: float | None = None
    age_ms: float | None = None
    """Steady time since the last arrival."""
    score: float = 1.0
    received: int = 0
    rejected: Mapping[Fault, int] = field(default_factory=dict)

    @property
    def reason(self) -> str:
        """One line: why this stream is not simply LIVE."""
        return "; ".join(map(str, self.findings))
