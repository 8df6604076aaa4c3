"""The product: `push` messages as they come, `step` to get masks; live, replayed and tested alike.

message -> (Intake) -> set -> encode -> Frame -> Bundle -> student -> LabelMap
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from robustseg_core import modalities
from robustseg_core.engines import Engine, Labels, LackingError, NoMaskError
from robustseg_core.engines.fallback import FallbackEngine
from robustseg_core.engines.weights import engine_of, weights_of
from robustseg_core.errors import RobustsegError
from robustseg_core.evidence.crosscheck import CrossCheck
from robustseg_core.evidence.sight import Sight, step_of
from robustseg_core.geometry.scene import Placed, Scene
from robustseg_core.geometry.view import View, still
from robustseg_core.intake import (
    HEALTH_DECIDES,
    NOBODY,
    Act,
    Decode,
    Intake,
    Observer,
    Policy,
    Register,
    Router,
    each_for_itself,
)
from robustseg_core.modalities._base import Modality, moment
from robustseg_core.models import architectures
from robustseg_core.models.calibration import Promise
from robustseg_core.models.novelty import NoveltyMonitor
from robustseg_core.robot.config import RobotConfig
from robustseg_core.sync.synchronizer import Match
from robustseg_core.types import (
    MS,
    Bundle,
    Fault,
    Finding,
    Frame,
    Health,
    LabelMap,
    ModelSpec,
    Reading,
    Rejection,
    State,
    kind_of,
    streams_of,
)

log = logging.getLogger(__name__)

FAILED = "failed"
"""What comes of a step that raised."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A set of which nothing could be encoded."""

    stamp_ns: int
    absent: Mapping[str, Finding]
    """Why not, of each sensor."""


Outcome: TypeAlias = LabelMap | Lost | Finding | str | None
"""What came of a step: a mask, a lost set, why the network made none, `FAILED`, or no set."""


_Key: TypeAlias = tuple[tuple[tuple[str, int], ...], int]
"""Streams and the stamps of their newest readings, and the version of the view."""
_Stance: TypeAlias = NDArray[np.float64] | None
"""`View.stance`."""


@dataclass(frozen=True, slots=True)
class Due:
    """A set that is ready for the network."""

    now_ns: int
    match: Match[Reading]
    bundle: Bundle
    used: tuple[str, ...]
    """The streams that the bundle is made of."""
    absent: dict[str, Finding]
    """Why others are not in it."""
    start_ns: int
    """By the stopwatch: when the step began, ..."""
    decoded_ns: int
    """... when all was decoded, ..."""
    encoded_ns: int
    """... and when all was on the view's grid."""


class Segmenter(Router):
    """Any sensors in, label maps out.

    `push*` and `offer` may be called from one thread while another calls `step`. It is used, never
    derived from: who wants to watch or to vary it gives an observer or a policy. `push*` or
    `offer`, `step`, `wake_ns`, `health` and `reset` are all that driving it takes, though half of
    them are the intake's; what the transport or an account needs beside them is asked of `intake`.

    Args:
        config: the robot.
        spec: what the network expects.
        engine: runs the network.
        observer: is told what is pushed, what became of it, and each mask.
        policy: who may enter a set; default: whom the health monitor believes.
        stopwatch_ns: measures our own latency, nothing else.
        decode: as of `Intake`.
        camera: which of several cameras this is (`LabelMap.camera`).

    Raises:
        RobustsegError: the robot has several cameras (`Rig` takes them), or none of the network's
            modalities, or not one that it needs, or it wants a promise that the network does not
            give (`alpha`).
    """

    def __init__(
        self,
        config: RobotConfig,
        spec: ModelSpec,
        engine: Engine,
        *,
        observer: Observer = NOBODY,
        policy: Policy = HEALTH_DECIDES,
        stopwatch_ns: Callable[[], int] = time.perf_counter_ns,
        decode: Decode = each_for_itself,
        camera: str = "",
    ) -> None:
        cameras = config.camera_names
        config = config.of_camera(*cameras) if len(cameras) == 1 else config.alone()
        self.config = config
        self.spec = spec
        self.camera = camera
        self.intake = Intake(config, spec, observer=observer, policy=policy, decode=decode)
        self.masks = 0
        self.lost = 0
        """Sets of which nothing could be encoded, so that they made no mask."""
        self.lost_reasons = Register()
        """Why, of each modality."""
        self.refused = Register()
        """Sets of which the network made no mask, by the sensors that they were of."""
        self._refusal: Finding | None = None
        self.outcome: Lost | Finding | None = None
        """Why the newest step made no mask, though there was a set."""
        kinds = dict.fromkeys(decoder.kind for decoder in self.intake.modalities.values())
        for name in architectures.needs(spec):
            if name not in kinds:
                raise RobustsegError(
                    f"the network ({spec.architecture}) makes no mask without {name}, and the robot"
                    f" has {', '.join(self.intake.modalities)}; set streams.{name}.topic, or use "
                    "weights that do without it"
                )
        self._promise = Promise(spec, config.alpha)
        self.novelty = NoveltyMonitor(spec)
        """Whether sensors show what the network knows."""
        self.crosscheck = CrossCheck(tuple(kinds), self._sight)
        """Whether sensors show what the others show."""
        self._encoders: dict[str, Modality] = {}
        """modality -> who encodes it: its stream's decoder, or of several streams, one for all."""
        for kind in kinds:
            own = [d for d in self.intake.modalities.values() if d.kind == kind]
            self._encoders[kind] = own[0]
            if len(own) > 1:
                merged = modalities.load(kind)(encoding=spec.encodings.get(kind))
                self._encoders[kind] = merged
                self.intake.view.set_pose(kind, np.eye(4))  # they are brought into the view's frame
        self._engine = engine
        self._observer = observer
        self._stopwatch_ns = stopwatch_ns
        self._configs: deque[RobotConfig] = deque()
        """What is to be in force from the next step on."""
        self._encoded: dict[str, tuple[_Key, list[_Stance], Frame | Finding]] = {}
        """modality -> (newest stamps and view, where the mounts stood, what was made of it, or why
        nothing can be seen)."""

    @classmethod
    def from_config(cls, config: RobotConfig) -> Segmenter:
        """A segmenter with the configured checkpoint, or with the one that is shipped.

        Raises:
            RobustsegError: the checkpoint, the device or the streams cannot be used.
        """
        return cls(config, *engine_of(config))

    @staticmethod
    def spec_of(config: RobotConfig) -> ModelSpec:
        """What the configured network expects; of a robot that has no stream yet, of any.

        Raises:
            RobustsegError: the checkpoint cannot be used.
        """
        known = list(dict.fromkeys(map(kind_of, config.topics))) or modalities.ranked()
        return weights_of(config.weights, known, size=config.input_shape).spec

    @property
    def intakes(self) -> tuple[Intake, ...]:
        """The one."""
        return (self.intake,)

    @property
    def trouble(self) -> str:
        """What is wrong with the network or its device; empty: nothing.

        Where it is the device, masks come all the same.
        """
        if self._refusal is not None:
            return f"{self._refusal} ({self.refused.total()} sets)"
        return self._engine.trouble if isinstance(self._engine, FallbackEngine) else ""

    def remarks(self) -> list[str]:
        """What people should know of the drive so far beside each sensor's health, a sentence each.

        Calibration that was refused or that changed, sets that made no mask, those that the network
        made none of, sensors whose clock moved or that come in bursts or whose pictures are new to
        the network, streams that it does not know or cannot be fed.
        """
        intake, known = self.intake, ", ".join(self.spec.modalities)
        lost = "; ".join(f"{name}: {found} ({n} times)" for name, found, n in self.lost_reasons)
        return [
            *(f"{what}: {found} ({n} messages)" for what, found, n in intake.calibration_rejected),
            *(f"{what}: {found.text} ({n} times)" for what, found, n in intake.calibration_changed),
            *([f"{self.lost} sets made no mask, nothing could be encoded: {lost}"] * bool(lost)),
            *(f"{found.text} ({n} sets)" for _, found, n in self.refused),
            *(f"{name}: {finding}" for name, finding in intake.moved.items()),
            *(f"{name}: {finding}" for name, finding in intake.bursts.items()),
            *self.novelty.remarks(),
            *(f"{name} is ignored: the network knows {known}" for name in intake.ignored),
            *(f"{name} is ignored: {found.text}" for name, found in intake.unfed.items()),
        ]

    def step(self, now_ns: int) -> LabelMap | None:
        """A label map, if one is due: made of what is alive, on time, never twice the same.

        A set of which nothing can be encoded makes none; it is counted in `lost`.
        """
        due = self.begin(now_ns)
        label_map = None if due is None else self.infer(due)
        self.tell(now_ns, label_map)
        return label_map

    def infer(self, due: Due) -> LabelMap | None:
        """The mask of a set, by this segmenter's engine."""
        labels: Labels | NoMaskError
        try:
            labels = self._engine(due.bundle)
        except NoMaskError as error:
            labels = error
        except BaseException:
            self.fail(due.now_ns)
            raise
        return self.finish(due, labels)

    def tell(self, now_ns: int, label_map: LabelMap | None) -> None:
        """The step is over: tell the journal and the observer what it has made."""
        self._ended(now_ns, self.outcome if label_map is None else label_map)
        self._observer.stepped(now_ns, label_map)

    def fail(self, now_ns: int) -> None:
        """Tell the journal that a step which has begun raised; `begin` and `finish` do."""
        self._ended(now_ns, FAILED)

    def _ended(self, now_ns: int, outcome: Outcome) -> None:
        with self.intake.turn():
            self.intake.journal.note(Act.END, now_ns, "", outcome)

    def begin(self, now_ns: int) -> Due | None:
        """The first half of `step`: the set that is due, ready for the network; None: none is."""
        self.outcome = None
        try:
            return self._begin(now_ns)
        except BaseException:
            self.fail(now_ns)
            raise

    def _begin(self, now_ns: int) -> Due | None:
        while self._configs:
            self.config = self._configs.popleft()
            self.intake.configure(self.config, now_ns)
        start_ns = self._stopwatch_ns()
        with self.intake.turn():  # so that who does it all again finds nothing between
            match = self.intake.poll(now_ns)
            if match is None:
                return None
            decoded_ns = self._stopwatch_ns()
            bundle, used, absent = self._encode(match, now_ns)
            bundle, used = self._compare(match, bundle, used, absent)
        encoded_ns = self._stopwatch_ns()
        if not bundle.frames:
            self.lost += 1
            self.outcome = Lost(match.stamp_ns, absent)
            for name, finding in absent.items():
                self.lost_reasons.add(name, finding)
            return None
        return Due(now_ns, match, bundle, used, absent, start_ns, decoded_ns, encoded_ns)

    def finish(self, due: Due, labels: Labels | NoMaskError) -> LabelMap | None:
        """The second half: the mask, of what the network says of a set, or why it says nothing."""
        try:
            return self._finish(due, labels)
        except BaseException:
            self.fail(due.now_ns)
            raise

    def _finish(self, due: Due, labels: Labels | NoMaskError) -> LabelMap | None:
        match, bundle, absent, now_ns = due.match, due.bundle, due.absent, due.now_ns
        if isinstance(labels, NoMaskError):
            self._refuse(bundle, labels, now_ns, absent)
            return None
        ids, confidence = labels
        self._refusal = None
        self.novelty.look(bundle)
        ids = self._promise.kept(ids, confidence, bundle)
        inferred_ns = self._stopwatch_ns()
        healths, view = self.intake.health(now_ns, act=Act.TOLD), self.intake.view
        absent |= self.intake.unfed
        used = due.used
        height, width = view.camera_size
        label_map = LabelMap(
            ids=enlarge(ids, height, width),
            confidence=enlarge(confidence, height, width),
            stamp_ns=bundle.stamp_ns,
            frame_id=view.frame_id or match.items[used[0]][-1].payload.frame_id,
            used=used,
            reasons={
                name: _why(name, healths, absent)
                for name in streams_of(self.spec.modalities, self.config.topics)
                if name not in used or healths[name].state is not State.LIVE
            },
            states={name: health.state for name, health in healths.items()},
            held_ms={name: match.held_ns[name] / MS for name in used},
            latency_ms={
                "queue": (now_ns - match.came_ns) / MS,
                "decode": (due.decoded_ns - due.start_ns) / MS,
                "encode": (due.encoded_ns - due.decoded_ns) / MS,
                "infer": (inferred_ns - due.encoded_ns) / MS,
                "total": (self._stopwatch_ns() - due.start_ns) / MS,
            },
            bundle=bundle,
            came_ns=match.came_ns,
            scene=self._scene(match, used),
            camera=self.camera,
        )
        self.masks += 1
        return label_map

    def wake_ns(self, now_ns: int) -> int | None:
        """When `step` wants to be called if nothing arrives before; None: no need."""
        return self.intake.wake_ns(now_ns)

    def health(self, now_ns: int, *, wait: bool = True) -> dict[str, Health]:
        """What is believed of each stream, and why; see `Intake.health`."""
        return self.intake.health(now_ns, wait=wait)

    def reset(self, now_ns: int) -> None:
        """Forget stamps, sets and states (lifecycle activate, `~/reset`); learned rates stay."""
        with self.intake.turn():
            self.intake.reset(now_ns)
            self.crosscheck.reset()

    def configure(self, config: RobotConfig) -> None:
        """Other values of what may change in mid-drive, from the next step on.

        May be called from any thread; states, rates and medians stay.

        Args:
            config: this robot's; all that takes effect at activation (`Parameter.live`) is as it
                was, or is ignored until then.

        Raises:
            RobustsegError: it lacks a stream that is listened to.
        """
        self._configs.append(self.own(config))

    def own(self, config: RobotConfig) -> RobotConfig:
        """What `configure` would take of a robot's configuration.

        Raises:
            RobustsegError: as of `configure`.
        """
        cameras = config.camera_names
        own = config.of_camera(*cameras) if len(cameras) == 1 else config.alone()
        for name in self.intake.modalities:
            if name not in own.streams:
                raise RobustsegError(
                    f"the new configuration has no stream {name}, which is listened to; switch it "
                    f"off by streams.{name}.mode=off, or make a new segmenter"
                )
        return own

    def warm_up(self) -> None:
        """Compile all loops, run the network on each sensor and on all: no first mask is late."""
        for decoder in self.intake.modalities.values():
            decoder.warm_up()
        self.crosscheck.warm_up()
        frames = {}
        for name in self._encoders:
            blank = np.zeros((self.spec.channels_of(name), *self.spec.size), np.float32)
            frames[name] = Frame(name, 0, blank)
        needed = architectures.needs(self.spec)
        for names in (*((n,) for n in frames), tuple(frames)):
            kept = {name: frames[name] for name in frames if name in (*needed, *names)}
            self._engine(Bundle(0, kept))

    def _encode(
        self, match: Match[Reading], now_ns: int
    ) -> tuple[Bundle, tuple[str, ...], dict[str, Finding]]:
        """Frames of a set, the streams that they are of, and who is absent, with the reason.

        Absent is a sensor that cannot be placed after all, and one that looks elsewhere, so that
        nothing of what it says is in the image. One that has nothing to say (a still scene, seen by
        an event camera) is used.
        """
        frames: dict[str, Frame] = {}
        used = set[str]()
        absent = dict(match.absent)
        for kind in dict.fromkeys(map(kind_of, match.items)):
            names = [name for name in match.items if kind_of(name) == kind]
            placed = self._placed(names, match, now_ns, absent)
            if not placed:
                continue
            made = self._made(kind, placed, match, now_ns, absent)
            if isinstance(made, Finding):
                for name in placed:
                    absent[name] = self._tell(name, now_ns, made.fault, made.text)
            elif made is not None:
                frames[kind] = made
                used |= placed.keys()
        return Bundle(match.stamp_ns, frames), tuple(n for n in self.streams if n in used), absent

    def _placed(
        self,
        names: Sequence[str],
        match: Match[Reading],
        now_ns: int,
        absent: dict[str, Finding],
    ) -> dict[str, _Stance]:
        """stream -> where its mount stands, of those whose readings can be brought into the view.

        One stream is asked where it is when it is encoded; of several, each by itself.
        """
        view, stances = self.intake.view, dict[str, _Stance]()
        for name in names:
            newest = match.items[name][-1].payload
            at = moment(newest, match.stamp_ns)
            try:
                if len(names) > 1:
                    view.view_from(name, newest.frame_id, at)
                stances[name] = view.stance(name, newest.frame_id, at)
            except Rejection as rejection:
                absent[name] = self._tell(name, now_ns, rejection.finding.fault, str(rejection))
        return stances

    def _made(
        self,
        kind: str,
        placed: Mapping[str, _Stance],
        match: Match[Reading],
        now_ns: int,
        absent: dict[str, Finding],
    ) -> Frame | Finding | None:
        """What the network sees of the streams of a modality, or why it looks elsewhere.

        None: they could not be encoded, and `absent` says why.
        """
        view, decoder = self.intake.view, self._encoders[kind]
        stamps = tuple((name, match.items[name][-1].stamp_ns) for name in placed)
        key, stances = (stamps, view.version), list(placed.values())
        cached = self._encoded.get(kind)
        try:
            same = (
                cached is not None
                and cached[0] == key
                and all(still(a, b) for a, b in zip(cached[1], stances, strict=True))
            )
            if cached is not None and same and not decoder.accumulates:
                key, stances, made = cached  # held: the same scan beside the next image
            else:
                made = self._seen(decoder, self._readings(kind, placed, match), match.stamp_ns)
        except Rejection as rejection:
            fault, text = rejection.finding.fault, str(rejection)
        except Exception as error:
            log.exception("encoding %s failed", " ".join(placed))
            fault, text = Fault.INTERNAL, f"{type(error).__name__}: {error}"
        else:
            self._encoded[kind] = (key, stances, made)
            return made
        for name in placed:
            absent[name] = self._tell(name, now_ns, fault, text)
        return None

    def _readings(
        self, kind: str, names: Collection[str], match: Match[Reading]
    ) -> Sequence[Reading]:
        """What is encoded of a modality: a stream's readings, or the one of several streams."""
        some = [[item.payload for item in match.items[name]] for name in names]
        if self._encoders[kind].name in names:
            return some[0]
        newest = sorted((readings[-1] for readings in some), key=lambda one: one.stamp_ns)
        return [self._encoders[kind].merge(newest, self.intake.view, match.stamp_ns)]

    def _compare(
        self,
        match: Match[Reading],
        bundle: Bundle,
        used: tuple[str, ...],
        absent: dict[str, Finding],
    ) -> tuple[Bundle, tuple[str, ...]]:
        """The bundle without who is proven wrong; who is merely suspected counts for less."""
        if not self.config.health.compare:
            self.crosscheck.reset()
            self.intake.compared({})
            return bundle, used
        view = self.intake.view
        _, cell_deg = view.cells(step_of(self.spec.size))
        known = {  # of others nobody knows where they look
            kind_of(name)
            for name in used
            if view.located(name, match.items[name][-1].payload.frame_id)
        }
        looked = {kind: frame for kind, frame in bundle.frames.items() if kind in known}
        self.crosscheck.look(looked, bundle.stamp_ns, cell_deg)
        findings = self.crosscheck.findings
        streams = self.streams
        self.intake.compared({n: findings[kind_of(n)] for n in streams if kind_of(n) in findings})
        if not findings:
            return bundle, used
        frames = dict(bundle.frames)
        for kind in findings.keys() & frames.keys():
            if findings[kind].fatal:
                absent |= {name: findings[kind] for name in used if kind_of(name) == kind}
                del frames[kind]
            else:
                quality = frames[kind].quality * findings[kind].score
                frames[kind] = replace(frames[kind], quality=quality)
        kept = tuple(name for name in used if kind_of(name) in frames)
        return Bundle(bundle.stamp_ns, frames), kept

    def _sight(self, frame: Frame) -> Sight | None:
        """What of a frame can be held against others."""
        lengths, _ = self.intake.view.cells(step_of(self.spec.size))
        return self._encoders[frame.modality].sight(frame, lengths)

    def _scene(self, match: Match[Reading], used: Sequence[str]) -> Scene:
        """The camera and the distances of a mask that is made of these sensors, by modality."""
        view, placed = self.intake.view, dict[str, Placed]()
        for kind in dict.fromkeys(map(kind_of, used)):
            with suppress(Rejection):  # its transform went while the mask was made
                decoder = self._encoders[kind]
                if not decoder.ranges:
                    continue
                own = [name for name in used if kind_of(name) == kind]
                reading = self._readings(kind, own, match)[-1]
                if (found := decoder.placed(reading, view, match.stamp_ns)) is not None:
                    placed[kind] = found
        return Scene(view.calibration, placed)

    def _seen(
        self, decoder: Modality, readings: Sequence[Reading], stamp_ns: int
    ) -> Frame | Finding:
        """What the network sees of a sensor, or why it looks elsewhere."""
        view = self.intake.view
        frame = encode(decoder, readings, view, stamp_ns)
        if frame.array.any():
            return frame
        for reading in reversed(readings):
            astray = decoder.astray(reading, view, stamp_ns)
            if astray and decoder.timely(reading, stamp_ns):
                return Finding(Fault.OUTSIDE, fatal=False, text=astray, score=1.0)
        return frame

    def _refuse(
        self, bundle: Bundle, error: NoMaskError, now_ns: int, absent: Mapping[str, Finding]
    ) -> None:
        """Note that the network makes no mask of a set, under the fault that it is due to."""
        who, fault, text = " ".join(bundle.frames), Fault.INTERNAL, str(error)
        if isinstance(error, LackingError):
            who = error.modality
            why = _why(who, self.intake.health(now_ns, act=Act.TOLD), absent)
            fault = why[0].fault if why else fault
            text = (
                f"{who} is out ({fault.value}), and the network ({self.spec.architecture}) makes "
                "no mask without it; use weights that do"
            )
        self._refusal = self.outcome = Finding(fault, fatal=True, text=text)
        if self.refused.add(who, self._refusal):
            log.error(text)

    def _tell(self, name: str, now_ns: int, fault: Fault, text: str) -> Finding:
        """Tell that a sensor could not be encoded."""
        finding = Finding(fault, fatal=False, text=text, score=1.0)
        self.intake.notice(name, now_ns, finding)
        return finding


def encode(decoder: Modality, readings: Sequence[Reading], view: View, stamp_ns: int) -> Frame:
    """What the network sees of a sensor in a set stamped `stamp_ns`; readings are oldest first.

    Raises:
        Rejection: NO_CALIB or NO_TF, where the view cannot place this sensor.
    """
    array = decoder.encode(readings, view, stamp_ns)
    quality = min(reading.quality for reading in readings)
    return Frame(decoder.kind, readings[-1].stamp_ns, array, quality)


def _why(
    name: str, healths: Mapping[str, Health], absent: Mapping[str, Finding]
) -> tuple[Finding, ...]:
    """Why a modality is not LIVE, or not in a mask though it is; the strongest first."""
    if name not in healths:
        nobody = Finding(Fault.DISABLED, fatal=False, text="not configured", score=1.0)
        return (absent.get(name, nobody),)
    health = healths[name]
    if health.state.usable and name in absent:
        return (absent[name],)
    if health.state is State.LIVE:  # while this mask was being made
        return (
            Finding(Fault.STARTING, fatal=False, text="believed since a moment ago", score=1.0),
        )
    return health.findings


def enlarge(array: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """(H, W) labels at the camera's size; nearest, since labels cannot be mixed."""
    if array.shape == (height, width):
        return array
    resized = cv2.resize(array, (width, height), interpolation=cv2.INTER_NEAREST)
    return resized.astype(np.uint8, copy=False)
