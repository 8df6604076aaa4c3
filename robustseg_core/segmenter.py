"""The product: `push` messages as they come, `step` to get masks; live, replayed and tested alike.

    message -> decode -> judge -> admit -> Reading -> set -> encode -> Frame -> Bundle -> LabelMap

Whatever is wrong with a message, it is rejected, counted and named, and nothing stops.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robustseg_core import modalities
from robustseg_core.config import RobotConfig
from robustseg_core.engines.eager import EagerEngine, pick_device
from robustseg_core.errors import RobustsegError, did_you_mean
from robustseg_core.health import HealthMonitor
from robustseg_core.modalities import Modality
from robustseg_core.models import checkpoint
from robustseg_core.stamps import Stamped, StampGuard
from robustseg_core.sync import Match, Synchronizer
from robustseg_core.types import (
    MS,
    SECOND,
    Bundle,
    Fault,
    Finding,
    Frame,
    Health,
    LabelMap,
    ModelSpec,
    Reading,
    Rejection,
)
from robustseg_core.view import View

log = logging.getLogger(__name__)

Engine = Callable[[Bundle], tuple[NDArray[np.uint8], NDArray[np.uint8]]]


def stamp_of(message: Any) -> int:
    """The header stamp in nanoseconds, of rclpy's or rosbags' message."""
    stamp = message.header.stamp
    return int(stamp.sec) * SECOND + int(stamp.nanosec)


@dataclass(slots=True)
class Counts:
    """What happened so far, for people who ask why."""

    pushed: Counter[str] = field(default_factory=Counter)
    masks: int = 0
    used: Counter[str] = field(default_factory=Counter)
    jumps: int = 0
    skipped: int = 0
    calibration_rejected: Counter[str] = field(default_factory=Counter)


class Segmenter:
    """Any sensors in, label maps out.

    `push*` may be called from one thread while another calls `step`. `now_ns` is a clock that only
    goes forward: the steady clock on a robot, the recording time in a replay.

    Args:
        config: the robot.
        spec: what the network expects.
        engine: runs the network.
        stopwatch_ns: measures our own latency, nothing else.

    Raises:
        RobustsegError: the robot has none of the network's modalities.
    """

    def __init__(
        self,
        config: RobotConfig,
        spec: ModelSpec,
        engine: Engine,
        *,
        stopwatch_ns: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self.config = config
        self.spec = spec
        self.view = View(spec.size, config.view)
        self.counts = Counts()
        streams = {
            n: config.streams[n]
            for n in spec.modalities
            if n in config.streams and config.streams[n].topic
        }
        if not streams:
            raise RobustsegError(
                f"streams name {sorted(config.streams)}, but the network knows "
                f"{list(spec.modalities)}; configure at least one of these"
            )
        self._engine = engine
        self._stopwatch_ns = stopwatch_ns
        self._modalities: dict[str, Modality] = {
            name: modalities.load(name)(encoding=spec.encodings.get(name), limits=stream.limits)
            for name, stream in streams.items()
        }
        self._guard: StampGuard[Reading] = StampGuard(
            config.sync, {name: stream.rate_hz for name, stream in streams.items()}
        )
        self._sync: Synchronizer[Reading] = Synchronizer(
            config.sync, streams, [n for n, m in self._modalities.items() if m.accumulates]
        )
        self._health = HealthMonitor(config.health, streams)
        self._encoded: dict[str, tuple[tuple[Any, ...], Frame]] = {}
        self._lock = threading.Lock()

    @classmethod
    def from_config(cls, config: RobotConfig) -> Segmenter:
        """A segmenter with the configured checkpoint, or with an untrained `tiny` if there is none.

        Raises:
            RobustsegError: the checkpoint, the device or the streams cannot be used.
        """
        device = pick_device(config.device)
        if config.weights:
            model = checkpoint.load(Path(config.weights))
        else:
            wanted = [n for n, s in config.streams.items() if s.topic]
            order = [n for n in checkpoint.default_spec().modalities if n in wanted]
            names = tuple(order + sorted(set(wanted) - set(order)))
            if not names:
                raise RobustsegError(
                    "no stream has a topic; set streams.<modality>.topic, "
                    "as `robustseg inspect BAG` prints it"
                )
            model = checkpoint.untrained(checkpoint.default_spec(names))
            log.warning("no weights given: masks come from an UNTRAINED network, for plumbing only")
        return cls(config, model.spec, EagerEngine(model, device))

    @property
    def streams(self) -> tuple[str, ...]:
        """The modalities that this segmenter listens to."""
        return tuple(self._modalities)

    # -- in ---------------------------------------------------------------------------------------

    def push(self, modality: str, message: Any, now_ns: int) -> Finding | None:
        """Take one message.

        Args:
            modality: one of `streams`.
            message: rclpy's or rosbags' message.
            now_ns: when it arrived.

        Returns:
            Why the message was rejected, or None: it is used, or still under consideration.

        Raises:
            RobustsegError: no such modality.
        """
        try:
            decoder = self._modalities[modality]
        except KeyError:
            way_out = did_you_mean(modality, self._modalities)
            raise RobustsegError(f"no stream called {modality!r}; {way_out}") from None
        with self._lock:
            self.counts.pushed[modality] += 1
            self._health.arrived(modality, now_ns)
        try:
            reading, notes, digest = self._read(decoder, message)
        except Rejection as rejection:
            return self._reject(modality, now_ns, rejection.finding)
        except Exception as error:
            log.exception("decoding a message of %s failed", modality)
            finding = Finding(Fault.INTERNAL, True, f"{type(error).__name__}: {error}")
            return self._reject(modality, now_ns, finding)
        with self._lock:
            return self._take(decoder, reading, notes, digest, now_ns)

    def reject(self, modality: str, now_ns: int, finding: Finding) -> None:
        """Count a message that never became one (its serialized form did not parse)."""
        with self._lock:
            self.counts.pushed[modality] += 1
            self._health.arrived(modality, now_ns)
        self._reject(modality, now_ns, finding)

    def push_camera_info(self, modality: str, message: Any) -> Finding | None:
        """Take the calibration of a camera, depth camera or event camera; cheap if unchanged."""
        stream = self.config.streams[modality]
        rectified = "rect" in stream.topic if stream.rectified is None else stream.rectified
        try:
            with self._lock:
                self.view.set_camera_info(modality, message, rectified=rectified)
        except Rejection as rejection:
            self.counts.calibration_rejected[f"{modality}: {rejection}"] += 1
            return rejection.finding
        return None

    def push_transforms(self, message: Any) -> None:
        """Take static transforms (tf2_msgs/TFMessage)."""
        with self._lock:
            self.view.add_transforms(message)

    # -- out --------------------------------------------------------------------------------------

    def step(self, now_ns: int) -> LabelMap | None:
        """A label map, if one is due: made of what is alive, on time, never twice the same."""
        start_ns = self._stopwatch_ns()
        with self._lock:
            match = self._sync.poll(now_ns, self._health.usable(now_ns))
            self.counts.skipped = self._sync.skipped
        if match is None:
            return None
        bundle, absent = self._encode(match)
        encoded_ns = self._stopwatch_ns()
        if not bundle.frames:
            return None
        ids, confidence = self._engine(bundle)
        inferred_ns = self._stopwatch_ns()
        with self._lock:
            healths = self._health.report(now_ns)
            height, width = self.view.camera_size
            frame_id = self.view.frame_id
        used = tuple(name for name in self.spec.modalities if name in bundle.frames)
        label_map = LabelMap(
            ids=_enlarge(ids, height, width),
            confidence=_enlarge(confidence, height, width),
            stamp_ns=bundle.stamp_ns,
            frame_id=frame_id or match.items[used[0]][-1].payload.frame_id,
            used=used,
            reasons={
                name: _why(name, healths, absent)
                for name in self.spec.modalities
                if name not in bundle.frames
            },
            states={name: health.state for name, health in healths.items()},
            held_ms={name: match.held_ns[name] / MS for name in used},
            latency_ms=_durations(start_ns, encoded_ns, inferred_ns, self._stopwatch_ns()),
            bundle=bundle,
        )
        self.counts.masks += 1
        self.counts.used.update(used)
        return label_map

    def wake_ns(self, now_ns: int) -> int | None:
        """When `step` wants to be called if nothing arrives before; None: no need."""
        with self._lock:
            return self._sync.wake_ns(now_ns, self._health.usable(now_ns))

    def health(self, now_ns: int) -> dict[str, Health]:
        """What is believed of each stream, and why."""
        with self._lock:
            return self._health.report(now_ns)

    def reset(self, now_ns: int) -> None:
        """Forget stamps, sets and states (lifecycle activate, `~/reset`); learned rates stay."""
        with self._lock:
            self._sync.reset()
            self._guard.reset()
            self._health.reset(now_ns)
            for decoder in self._modalities.values():
                decoder.reset()

    def warm_up(self) -> None:
        """Run the network once on every sensor alone and on all, so that no first mask is late."""
        blank = np.zeros((3, *self.spec.size), np.float32)
        frames = {name: Frame(name, 0, blank) for name in self.streams}
        for names in (*((n,) for n in frames), tuple(frames)):
            self._engine(Bundle(0, {name: frames[name] for name in names}))

    # -- the steps in between ---------------------------------------------------------------------

    def _read(self, decoder: Modality, message: Any) -> tuple[Reading, tuple[Finding, ...], int]:
        """Decode and judge; raises the first fatal finding as a Rejection."""
        stamp_ns = stamp_of(message)
        data = decoder.decode(message, stamp_ns)
        findings = tuple(decoder.judge(data))
        fatal = next((finding for finding in findings if finding.fatal), None)
        if fatal is not None:
            raise Rejection(fatal.fault, fatal.text)
        reading = Reading(
            modality=decoder.name,
            stamp_ns=stamp_ns,
            frame_id=message.header.frame_id.lstrip("/"),
            data=data,
            quality=min((finding.score for finding in findings), default=1.0),
        )
        return reading, findings, decoder.digest(message)

    def _reject(self, modality: str, now_ns: int, finding: Finding) -> Finding:
        with self._lock:
            self._health.reject(modality, now_ns, finding)
        return finding

    def _take(
        self,
        decoder: Modality,
        reading: Reading,
        notes: tuple[Finding, ...],
        digest: int,
        now_ns: int,
    ) -> Finding | None:
        """Stamp, freeze and calibration checks; what passes goes to the synchronizer."""
        name = decoder.name
        missing = decoder.usable(reading.frame_id, self.view)
        self._health.block(name, _blocked(missing, name, reading.frame_id, self.view))
        verdict: Finding | None = None
        admission = self._guard.admit(Stamped(name, reading.stamp_ns, now_ns, reading))
        for other, finding in admission.rejected:
            self._health.reject(other, now_ns, finding)
            verdict = finding if other == name else verdict
        if admission.jump_ns is not None:
            log.warning("all stamps moved by %.2f s: one reset", admission.jump_ns / SECOND)
            self.counts.jumps += 1
            self._sync.reset()
        frozen = self._health.stuck(name, now_ns, digest)
        for message in admission.accepted:
            if message.modality == name and frozen is not None:
                self._health.reject(name, now_ns, frozen)
                verdict = frozen
                continue
            mine = message.payload is reading
            self._health.accept(message.modality, now_ns, notes if mine else ())
            self._sync.push(message)
        return verdict

    def _encode(self, match: Match[Reading]) -> tuple[Bundle, dict[str, str]]:
        """Frames of a set; a sensor that cannot be placed after all is absent, with the reason."""
        frames: dict[str, Frame] = {}
        absent = dict(match.absent)
        for name, items in match.items.items():
            key = (items[-1].stamp_ns, len(items), self.view.version)
            decoder = self._modalities[name]
            cached = self._encoded.get(name)
            if cached is not None and cached[0] == key and not decoder.accumulates:
                frames[name] = cached[1]
                continue
            readings = [item.payload for item in items]
            try:
                array = decoder.encode(readings, self.view, match.stamp_ns)
            except Rejection as rejection:
                absent[name] = str(rejection.finding)
                continue
            except Exception as error:
                log.exception("encoding %s failed", name)
                finding = Finding(Fault.INTERNAL, True, f"{type(error).__name__}: {error}")
                absent[name] = str(finding)
                continue
            quality = min(reading.quality for reading in readings)
            frames[name] = Frame(name, items[-1].stamp_ns, array, quality)
            self._encoded[name] = (key, frames[name])
        return Bundle(match.stamp_ns, frames), absent


def _blocked(missing: Fault | None, name: str, frame_id: str, view: View) -> Finding | None:
    if missing is None:
        return None
    if missing is Fault.NO_TF:
        text = f"no transform from {frame_id!r} to {view.frame_id!r}; publish /tf_static or set "
        return Finding(missing, False, text + f"view.extrinsics.{name}")
    text = "no usable CameraInfo yet; publish it, or set view.intrinsics"
    return Finding(missing, False, text)


def _why(name: str, healths: Mapping[str, Health], absent: Mapping[str, str]) -> str:
    """One line: why a modality is not in a mask."""
    if name not in healths:
        return "not configured"
    health = healths[name]
    if health.state.usable and name in absent:
        return f"{Fault.LATE.value}: {absent[name]}" if ":" not in absent[name] else absent[name]
    return health.reason or absent.get(name, health.state.value)


def _durations(start_ns: int, encoded_ns: int, inferred_ns: int, end_ns: int) -> dict[str, float]:
    return {
        "encode": (encoded_ns - start_ns) / MS,
        "infer": (inferred_ns - encoded_ns) / MS,
        "total": (end_ns - start_ns) / MS,
    }


def _enlarge(array: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """(H, W) labels at the camera's size; nearest, since labels cannot be mixed."""
    if array.shape == (height, width):
        return array
    resized = cv2.resize(array, (width, height), interpolation=cv2.INTER_NEAREST)
    return resized.astype(np.uint8, copy=False)
