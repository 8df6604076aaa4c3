"""The nouns of robustseg, and the map of the system.

    message -> Reading -> Frame -> Bundle -> alive -> student -> LabelMap -> topics

Alphabet, everywhere: B batch, M modalities, C channels, H W pixels, K classes, S stages,
N packed (sample, modality) images. Times are integers of nanoseconds, and always arguments.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, model_validator

from robustseg_core.errors import RobustsegError
from robustseg_core.strict import Strict

if TYPE_CHECKING:
    from torch import Tensor

IGNORE = 255
"""The label of a pixel that nobody knows; `vision_msgs/LabelInfo` reserves the top id for it."""

BLIND = "sees nothing: covered, broken, or nothing there"
"""What is said of a sensor whose message is empty: from it alone, nobody can tell which it is."""

ALARM = 0.5
"""A content finding that leaves less quality than this crossed its limit."""

MS = 1_000_000
SECOND = 1_000_000_000


class Fault(str, Enum):
    """Everything that goes wrong with a sensor: one vocabulary for making, finding and reporting.

    The value is the word for it in diagnostics and in result files. Whatever is grouped, counted or
    compared goes by this, never by a text.
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
    RECALIBRATED = "recalibrated"
    """Calibration or place became others in mid-drive: one notice, and the new ones are used."""

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
    DIM = "dim"
    """Far darker than in the last minutes, and with less contrast: an exposure, a lamp, a cover."""
    HAZY = "hazy"
    """A pale veil: what used to be dark is not any more. Dust, fog, glare."""
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
    """Nearly all events say brighter, or all darker, or the opposite of what a camera sees."""
    SEQUENCE_GAP = "sequence_gap"
    """Numbered packets are missing."""
    SENSOR_CLOCK = "sensor_clock"
    """The sensor's own time does not advance, though header stamps do."""

    MISALIGNED = "misaligned"
    """What it shows lies elsewhere than its peers have it: a knocked mount, a wrong transform."""
    MIRRORED = "mirrored"
    """It shows left and right exchanged."""
    UNRELATED = "unrelated"
    """It shows nothing of what its peers show: another place, or another time."""
    RANGE_SCALE = "range_scale"
    """Its distances are its peers', times something."""

    OUTSIDE = "outside"
    """It measured something, and nothing of that lies in the view, or in the window of time."""

    OVERLOADED = "overloaded"
    """Not the sensor's: its messages wait for this computer, or are lost for want of time."""
    DISABLED = "disabled"
    ACKNOWLEDGED = "acknowledged"
    """Somebody has said that this sensor is dead: it is not used, and nobody is alarmed."""
    INTERNAL = "internal"
    """An exception in our own code: counted, logged, survived."""

    @property
    def blind(self) -> bool:
        """Whether a broken sensor and an empty scene look the same: a white wall, a tunnel's exit,
        a sky without a return. State and exclusion are those of a fault; its text says so.
        """
        return self in _BLIND

    @property
    def partial(self) -> bool:
        """Whether it also tells of a part of the view; such a finding is not fatal."""
        return self in (Fault.COVERED, Fault.INVALID_DEPTH)


_BLIND = (
    Fault.BLACK,
    Fault.SATURATED,
    Fault.FLAT,
    Fault.COVERED,
    Fault.INVALID_DEPTH,
    Fault.EMPTY_CLOUD,
    Fault.NO_EVENTS,
)


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
    _: KW_ONLY
    fatal: bool
    """True: the message is rejected, never used. False: it is used, and the score goes down."""
    text: str = ""
    """The measured value beside its limit, for people: "mean 1.2 grey levels, limit 8"; nothing
    reads it but people."""
    score: float = 0.0
    """Quality in [0, 1] that it leaves of the frame, the less the surer it is; 0 when fatal ..."""
    left: float = 0.0
    """... but this at least: a finding may be certain of what hardly hurts."""
    final: bool = False
    """Fatal, and the next message can be no better: no second one is waited for."""
    value: float | None = None
    """What was measured, where it is one number ..."""
    limit: float | None = None
    """... what it was held against ..."""
    unit: str = ""
    """... and the unit of both."""

    @property
    def alarm(self) -> bool:
        """Whether it is worth reporting; a remark above `ALARM` only lowers the quality."""
        return self.fatal or self.score < ALARM

    @property
    def told(self) -> str:
        """`text`, and what it may mean where the sensor saw nothing at all."""
        if not self.fault.blind or (self.fault.partial and not self.fatal):
            return self.text
        return f"{BLIND} ({self.text})" if self.text else BLIND

    def __str__(self) -> str:
        return f"{self.fault.value}: {self.told}" if self.told else self.fault.value


Reasons = Mapping[str, tuple[Finding, ...]]
"""stream -> what is said of it, the strongest first."""


def kind_of(stream: str) -> str:
    """The modality of a stream: `rgb` of `rgb.front`, and of `rgb`."""
    return stream.partition(".")[0]


def name_of(stream: str) -> str:
    """What tells a stream from others of its modality: `front` of `rgb.front`, nothing of `rgb`."""
    return stream.partition(".")[2]


def streams_of(modalities: Iterable[str], streams: Iterable[str]) -> tuple[str, ...]:
    """The streams of these modalities, in their order; a modality that has none is itself there."""
    known = tuple(streams)
    return tuple(
        name for kind in modalities for name in [s for s in known if kind_of(s) == kind] or [kind]
    )


def sentence(findings: Iterable[Finding]) -> str:
    """Findings in one line, for people."""
    return "; ".join(map(str, findings))


class Rejection(RobustsegError):
    """Raised by decoders: this message cannot be used, and here is why."""

    def __init__(self, fault: Fault, text: str, *, final: bool = False) -> None:
        super().__init__(text)
        self.finding = Finding(fault, fatal=True, text=text, final=final)


@dataclass(frozen=True, slots=True)
class Reading:
    """One message, decoded in the sensor's own geometry; not yet on the view's pixel grid."""

    modality: str
    """Or the stream, where a modality has several."""
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
    quality: Tensor | None = None
    """(B, M) float32 in [0, 1], 1 for a sensor that is well; None: all are."""
    intact: Mapping[str, Tensor] = field(default_factory=dict)
    """modality -> its images before they were damaged, where any of the batch were: what a teacher
    gets to see."""
    embeddings: Tensor | None = None
    """(B, M, D) what a vision-language model makes of each image; zeros where it saw none."""
    text: Tensor | None = None
    """(B, D) ... of each sample's caption; zeros where there is none."""


@dataclass(slots=True)
class Prediction:
    """What the network returns: logits, and what it saw before and after its sensors met."""

    logits: Tensor
    """(B, K, h, w); the caller decides how to enlarge them."""
    features: list[Tensor]
    """S packed stages of (N, C_s, H_s, W_s): one row per alive (sample, modality) pair."""
    sample: Tensor
    """(N,) int64: the sample that each packed row belongs to."""
    modality: Tensor
    """(N,) int64: the column of `alive` that each packed row belongs to."""
    fused: list[Tensor] = field(default_factory=list)
    """S maps of (B, C_s, h_s, w_s), what the head got; empty where nobody kept them."""
    on_host: tuple[Tensor, Tensor] | None = None
    """`sample` and `modality` on the processor, where they were made: who reads them there does not
    wait for the device. None: they are only where they are."""


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
    """The streams that made this mask, in the order of `ModelSpec.modalities`."""
    reasons: Reasons
    """stream -> why it is not LIVE, used or not, or not in `used` though it is LIVE; and of a
    modality that the robot has none of."""
    states: Mapping[str, State]
    held_ms: Mapping[str, float]
    """Age of each used frame beside the mask's stamp."""
    latency_ms: Mapping[str, float]
    """Stage -> duration; `total` is from the start of the step to the finished map, and `queue` is
    before it."""
    bundle: Bundle
    """What the student saw: for drawing and for explaining."""
    recording: int = 0
    """Which of several recordings in a row it was made of, where it is a replay's."""
    made_ns: int | None = None
    """When it was made, in nanoseconds since the start of the replay (`timeline`); None: live."""
    came_ns: int | None = None
    """When the message came that gave it its stamp, on the clock of who pushed it."""
    scene: Any = None
    """`geometry.scene.Scene`: its camera, and where the points of its sensors lie; None: nobody
    kept it."""
    camera: str = ""
    """Which of several cameras it is of; empty: there is one."""

    def streams(self, modalities: Iterable[str]) -> tuple[str, ...]:
        """As `streams_of`, of those that the robot has; for a line, or a status, of each."""
        return streams_of(modalities, self.states)


def network_size(height: int, width: int) -> tuple[int, int]:
    """The least size, not below this one, that a network takes: sides of 32, 64, 96, ... pixels."""
    return max(32, -(-height // 32) * 32), max(32, -(-width // 32) * 32)


def parse_size(text: str) -> tuple[int, int]:
    """(H, W) of a word like 640x400, which is width by height as people say it.

    Raises:
        RobustsegError: it is no such word.
    """
    width, times, height = text.partition("x")
    if not (times and width.isdecimal() and height.isdecimal()):
        raise RobustsegError(f"size is {text!r}; write WIDTHxHEIGHT, e.g. 640x400")
    return int(height), int(width)


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names, if people can read each of them, and none is there twice.

    Raises:
        ValueError: one that cannot be shown, or that means two things.
    """
    for name in names:
        if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
            raise ValueError(
                f"{name[:LONGEST_NAME]!r} is no name; give 1 to {LONGEST_NAME} characters that "
                "can be printed"
            )
    if twice := [name for place, name in enumerate(names) if name in names[:place]]:
        raise ValueError(f"{twice[0]!r} is there twice; give each name once")
    return names


LONGEST_NAME = 100
"""Characters of the name of a class or a modality."""
WIDEST_HEAD = 4096
LONGEST_SIDE = 8192
"""Pixels along a side of a network's input."""
MOST_SCORES = 1 << 28
"""Classes times pixels of one mask: 1 GiB of logits."""
CHANNELS = 3
"""Of an image of which nothing else is said."""
MOST_CHANNELS = 64
_FEW_CLASSES = 16
"""Features of fewer classes than this take more memory than their logits."""
LONGEST_TEXT = 10_000
"""Characters of a provenance, and of all encodings or options as JSON."""

Names = Annotated[tuple[str, ...], AfterValidator(_distinct)]
"""Names of classes or modalities."""
_Level = Annotated[int, Field(ge=0, le=255)]
Color = tuple[_Level, _Level, _Level]
"""RGB."""


class DataSpec(Strict):
    """The public collection that weights belong to, and how those who published them read it.

    What `robustseg eval` goes by where its caller says nothing else; the size is the network's.
    """

    kind: str = Field(min_length=1, max_length=LONGEST_NAME)
    """A data set, as `robustseg list` names them."""
    split: str = Field(default="val", pattern="^(train|val|test)$")
    options: Mapping[str, Any] = Field(default_factory=dict)
    """Options of the data set."""
    missing: str = Field(default="skip", pattern="^(skip|zero)$")
    """How a missing sensor is represented in the published figures."""

    @model_validator(mode="after")
    def _bounded(self) -> DataSpec:
        _expect_short("options", self.options, "the data set")
        return self


SURE = 256
"""A threshold of confidence that no pixel reaches: nothing can be promised of such a pixel."""
MOST_ALPHAS, MOST_SUBSETS = 16, 1024
_Threshold = Annotated[int, Field(ge=0, le=SURE)]
Thresholds = Annotated[
    tuple[Annotated[tuple[_Threshold, ...], Field(max_length=IGNORE)], ...],
    Field(max_length=MOST_ALPHAS),
]
"""(A, K): by alpha and class, the least confidence, 0..255, of a pixel that keeps its label."""


class Trust(Strict):
    """What the confidence of a network means while certain sensors are alive."""

    temperature: float = Field(1.0, ge=0.01, le=100)
    """Logits are divided by it before confidence is made of them, with all sensors well."""
    slope: float = Field(0.0, ge=-10, le=10)
    """log(temperature) grows by slope * (1 - q), q the mean quality told of the alive sensors."""
    well: Thresholds = ()
    """Thresholds while q is at least `models.calibration.WELL` ..."""
    ailing: Thresholds = ()
    """... and below that."""


class Calibration(Strict):
    """How sure a network may be, as `robustseg calibrate` found it (docs/specs/confidence.md)."""

    alphas: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(max_length=MOST_ALPHAS)
    """Shares of wrong pixels, ascending, for which there are thresholds."""
    subsets: Mapping[str, Trust] = Field(max_length=MOST_SUBSETS)
    """Names of the alive sensors, joined by `+` in the network's order -> what holds of them."""
    overall: Trust
    """What holds where a subset is not listed."""
    data: str = Field("", max_length=1000)
    """What it was fitted on, for people."""

    @model_validator(mode="after")
    def _ascends(self) -> Calibration:
        if list(self.alphas) != sorted(set(self.alphas)):
            raise ValueError(f"alphas are {self.alphas}; give each once, ascending")
        return self

    def check(self, modalities: tuple[str, ...], classes: int) -> None:
        """Nothing, if it fits a network of these.

        Raises:
            ValueError: it is of another one.
        """
        shape = [classes] * len(self.alphas)
        for name, trust in {**self.subsets, "overall": self.overall}.items():
            names = [m for m in modalities if m in name.split("+")]
            if name != "overall" and "+".join(names) != name:
                raise ValueError(
                    f"calibration has a subset {name!r}; expected some of {', '.join(modalities)}, "
                    "in this order, joined by +"
                )
            for rows in (trust.well, trust.ailing):
                if [len(row) for row in rows] != shape:
                    raise ValueError(
                        f"calibration of {name} has thresholds of {[len(r) for r in rows]}; "
                        f"expected {len(self.alphas)} rows of {classes}"
                    )


MOST_REFERENCES = 512
_LONGEST_DESCRIPTION = 1024
_Description = Annotated[tuple[float, ...], Field(min_length=1, max_length=_LONGEST_DESCRIPTION)]


class References(Strict):
    """Pictures of one sensor that a network knows, N descriptions of D numbers each.

    `models/novelty.py` makes them, and says of another picture how new it is.
    """

    mean: _Description
    """(D,), of all descriptions that these were chosen from ..."""
    scale: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)]
    """... and their deviation."""
    pictures: tuple[tuple[Annotated[int, Field(ge=-9999, le=9999)], ...], ...] = Field(
        min_length=2, max_length=MOST_REFERENCES
    )
    """(N, D), standardized by these, in tenths."""

    @model_validator(mode="after")
    def _even(self) -> References:
        lengths = {len(self.mean), len(self.scale), *map(len, self.pictures)}
        if len(lengths) > 1:
            raise ValueError(f"descriptions have {sorted(lengths)} numbers; expected one length")
        return self


class ModelSpec(Strict):
    """Everything needed to rebuild and feed a network; stored inside every checkpoint.

    It may come from anywhere, so each field is bounded: by what a network of that form costs.
    """

    modalities: Names = Field(min_length=1, max_length=32)
    """Order of the columns of `alive`."""
    classes: Names = Field(min_length=2, max_length=IGNORE)
    palette: tuple[Color, ...] = Field(max_length=IGNORE)
    """RGB per class."""
    architecture: str = Field(default="m_segformer", max_length=LONGEST_NAME)
    """A file of `models/architectures/`."""
    options: Mapping[str, Any] = Field(default_factory=dict)
    """What the architecture is told, as its `Options` model spells it."""
    backbone: str = Field(default="tiny", max_length=LONGEST_NAME)
    size: tuple[int, int] = (384, 512)
    """(H, W) of the network's input; both divide by 32."""
    fusion: str = Field(default="mean", max_length=LONGEST_NAME)
    head_width: int = Field(default=768, gt=0, le=WIDEST_HEAD)
    """Embedding width of the all-MLP head; the published systems use 768 for every backbone."""
    stem: str = Field(default="shared", pattern="^(shared|per_modality)$")
    norm: str = Field(default="shared", pattern="^(shared|per_modality)$")
    encodings: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)
    """modality -> options of its encoding, as the modality's `Encoding` model spells them."""
    channels: Mapping[str, int] = Field(default_factory=dict)
    """modality -> C of its images, where that is not `CHANNELS`."""
    data: DataSpec | None = None
    """The public collection that it belongs to, if it does."""
    calibration: Calibration | None = None
    """What its confidence means; None: nobody measured it."""
    references: Mapping[str, References] = Field(default_factory=dict)
    """modality -> pictures that it knows; of one that is not listed nobody says what is new."""
    trained: bool = False
    provenance: str = Field(default="random weights", max_length=LONGEST_TEXT)
    """Where the weights come from: recipe, data, commit."""

    @model_validator(mode="after")
    def _consistent(self) -> ModelSpec:
        if len(self.palette) != len(self.classes):
            raise ValueError(
                f"palette has {len(self.palette)} colours for {len(self.classes)} classes; "
                "give one RGB triple per class"
            )
        height, width = self.size
        if (up := network_size(height, width)) != self.size:
            raise ValueError(
                f"size is {height}x{width}; both must divide by 32; use {up[0]}x{up[1]}"
            )
        scores = height * width * max(len(self.classes), _FEW_CLASSES)
        if max(height, width) > LONGEST_SIDE or scores > MOST_SCORES:
            raise ValueError(
                f"size is {height}x{width} for {len(self.classes)} classes, more than a network "
                f"here may hold ({LONGEST_SIDE} along a side, {MOST_SCORES} classes times pixels); "
                "use a smaller one"
            )
        self._check_channels()
        if strange := set(self.encodings) - set(self.modalities):
            raise ValueError(
                f"encodings name {sorted(strange)}, which are not in {self.modalities}"
            )
        _expect_short("encodings", self.encodings, "each modality's `Encoding`")
        _expect_short("options", self.options, "the architecture")
        if self.calibration is not None:
            self.calibration.check(self.modalities, len(self.classes))
        if strange := set(self.references) - set(self.modalities):
            raise ValueError(
                f"references name {sorted(strange)}, which are not in {self.modalities}"
            )
        return self

    def channels_of(self, modality: str) -> int:
        """C of the images of a modality."""
        return self.channels.get(modality, CHANNELS)

    def _check_channels(self) -> None:
        if strange := set(self.channels) - set(self.modalities):
            raise ValueError(f"channels name {sorted(strange)}, which are not in {self.modalities}")
        counts = {name: self.channels_of(name) for name in self.modalities}
        for name, count in counts.items():
            if not 1 <= count <= MOST_CHANNELS:
                raise ValueError(f"{name} has {count} channels; expected 1 to {MOST_CHANNELS}")
        if self.stem == "shared" and len(set(counts.values())) > 1:
            told = ", ".join(f"{name} {count}" for name, count in counts.items())
            raise ValueError(
                f"a shared stem takes images of one number of channels, and these have {told}; "
                "use stem: per_modality"
            )


def _expect_short(what: str, tree: Mapping[str, Any], whose: str) -> None:
    try:
        length = len(json.dumps(tree, default=str))
    except (RecursionError, ValueError):  # endlessly deep, or in a circle
        length = LONGEST_TEXT + 1
    if length > LONGEST_TEXT:
        raise ValueError(
            f"{what} have more than {LONGEST_TEXT} characters; give the options of {whose}, and no "
            "more"
        )


@dataclass(frozen=True, slots=True)
class Health:
    """The monitor's opinion of one stream at one moment."""

    state: State
    findings: tuple[Finding, ...] = ()
    """Why it is not LIVE, strongest first; what is told of a LIVE one; mostly empty when it is."""
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
        return sentence(self.findings)
