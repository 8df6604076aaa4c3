"""The product: `push` messages as they come, `step` to get masks; live, replayed and tested alike.

message -> (Intake) -> set -> encode -> Frame -> Bundle -> student -> LabelMap
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from robustseg_core.engines import Engine, NotFiniteError
from robustseg_core.engines.eager import EagerEngine, pick_device
from robustseg_core.engines.fallback import FallbackEngine
from robustseg_core.errors import RobustsegError
from robustseg_core.geometry.view import View
from robustseg_core.intake import Intake, tally
from robustseg_core.modalities._base import Modality
from robustseg_core.models import checkpoint
from robustseg_core.models.anymodal import AnyModalSegmenter
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
)

log = logging.getLogger(__name__)


class Segmenter:
    """Any sensors in, label maps out.

    `push*` may be called from one thread while another calls `step`. `now_ns` is a clock that only
    goes forward: the steady clock on a robot, the recording's time in a replay.

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
        self.intake = Intake(config, spec)
        self.masks = 0
        self.lost = 0
        """Sets of which nothing could be encoded, so that they made no mask."""
        self.lost_reasons: Counter[str] = Counter()
        """`modality: reason` of these, and how often."""
        self.refused: Counter[str] = Counter()
        """Why the network made no mask of a set -> of how many."""
        self._refusal = ""
        self._engine = engine
        self._stopwatch_ns = stopwatch_ns
        self._encoded: dict[str, tuple[tuple[int, int], Frame]] = {}

    @classmethod
    def from_config(cls, config: RobotConfig) -> Segmenter:
        """A segmenter with the configured checkpoint, or with the one that is shipped.

        Raises:
            RobustsegError: the checkpoint, the device or the streams cannot be used.
        """
        device = pick_device(config.device)
        model = network(config.weights, list(config.topics))
        return cls(config, model.spec, engine_of(model, device, cpu_threads=config.cpu_threads))

    @property
    def streams(self) -> tuple[str, ...]:
        """The modalities that this segmenter listens to."""
        return tuple(self.intake.modalities)

    @property
    def trouble(self) -> str:
        """What is wrong with the network or its device; empty: nothing.

        Where it is the device, masks come all the same.
        """
        if self._refusal:
            return f"{Fault.INTERNAL.value}: {self._refusal} ({self.refused.total()} sets)"
        return self._engine.trouble if isinstance(self._engine, FallbackEngine) else ""

    @property
    def view(self) -> View:
        """The pixel grid, as known so far."""
        return self.intake.view

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
        return self.intake.push(modality, message, now_ns)

    def reject(self, modality: str, now_ns: int, finding: Finding) -> None:
        """Count a message that never became one (its serialized form did not parse)."""
        self.intake.reject(modality, now_ns, finding)

    def missed(self, modality: str, until_ns: int) -> None:
        """Messages came until then, and were lost on our side: no silence of the sensor."""
        self.intake.missed(modality, until_ns)

    def push_camera_info(self, modality: str, message: Any) -> Finding | None:
        """Take the calibration of a camera, depth camera or event camera; cheap if unchanged."""
        return self.intake.push_camera_info(modality, message)

    def push_transforms(self, message: Any) -> Finding | None:
        """Take static transforms (tf2_msgs/TFMessage); why one was rejected, or None."""
        return self.intake.push_transforms(message)

    def reject_calibration(self, topic: str, finding: Finding) -> None:
        """Count a CameraInfo or transform that never became one (it did not parse)."""
        self.intake.reject_calibration(topic, finding)

    def remarks(self) -> list[str]:
        """What people should know of the drive so far beside each sensor's health, a sentence each.

        Calibration that was refused or that changed, sets that made no mask, those that the network
        made none of, sensors whose clock moved or that come in bursts, streams that it does not
        know.
        """
        intake, known = self.intake, ", ".join(self.spec.modalities)
        lost = "; ".join(f"{text} ({count} times)" for text, count in self.lost_reasons.items())
        return [
            *(f"{text} ({n} messages)" for text, n in intake.calibration_rejected.items()),
            *(f"{text} ({n} times)" for text, n in intake.calibration_changed.items()),
            *([f"{self.lost} sets made no mask, nothing could be encoded: {lost}"] * bool(lost)),
            *(f"{text} ({n} sets)" for text, n in self.refused.items()),
            *(f"{name}: {finding}" for name, finding in intake.moved.items()),
            *(f"{name}: {finding}" for name, finding in intake.bursts.items()),
            *(f"{name} is ignored: the network knows {known}" for name in intake.ignored),
        ]

    def step(self, now_ns: int) -> LabelMap | None:
        """A label map, if one is due: made of what is alive, on time, never twice the same.

        A set of which nothing can be encoded makes none; it is counted in `lost`.
        """
        start_ns = self._stopwatch_ns()
        match = self.intake.poll(now_ns)
        if match is None:
            return None
        bundle, absent = self._encode(match, now_ns)
        encoded_ns = self._stopwatch_ns()
        if not bundle.frames:
            self.lost += 1
            for name, reason in absent.items():
                tally(self.lost_reasons, f"{name}: {reason}", "other reasons")
            return None
        try:
            ids, confidence = self._engine(bundle)
        except NotFiniteError as error:
            self._refusal = str(error)
            if self._refusal not in self.refused:
                log.error(self._refusal)
            self.refused[self._refusal] += 1
            return None
        self._refusal = ""
        inferred_ns = self._stopwatch_ns()
        healths = self.intake.health(now_ns)
        used = tuple(name for name in self.spec.modalities if name in bundle.frames)
        height, width = self.view.camera_size
        label_map = LabelMap(
            ids=enlarge(ids, height, width),
            confidence=enlarge(confidence, height, width),
            stamp_ns=bundle.stamp_ns,
            frame_id=self.view.frame_id or match.items[used[0]][-1].payload.frame_id,
            used=used,
            reasons={
                name: _why(name, healths, absent)
                for name in self.spec.modalities
                if name not in used or healths[name].state is not State.LIVE
            },
            states={name: health.state for name, health in healths.items()},
            held_ms={name: match.held_ns[name] / MS for name in used},
            latency_ms={
                "encode": (encoded_ns - start_ns) / MS,
                "infer": (inferred_ns - encoded_ns) / MS,
                "total": (self._stopwatch_ns() - start_ns) / MS,
            },
            bundle=bundle,
        )
        self.masks += 1
        return label_map

    def wake_ns(self, now_ns: int) -> int | None:
        """When `step` wants to be called if nothing arrives before; None: no need."""
        return self.intake.wake_ns(now_ns)

    def health(self, now_ns: int) -> dict[str, Health]:
        """What is believed of each stream, and why."""
        return self.intake.health(now_ns)

    def reset(self, now_ns: int) -> None:
        """Forget stamps, sets and states (lifecycle activate, `~/reset`); learned rates stay."""
        self.intake.reset(now_ns)

    def warm_up(self) -> None:
        """Compile decoders and run the network on each sensor and on all: no first mask is late."""
        for decoder in self.intake.modalities.values():
            decoder.warm_up()
        blank = np.zeros((3, *self.spec.size), np.float32)
        frames = {name: Frame(name, 0, blank) for name in self.streams}
        for names in (*((n,) for n in frames), tuple(frames)):
            self._engine(Bundle(0, {name: frames[name] for name in names}))

    def _encode(self, match: Match[Reading], now_ns: int) -> tuple[Bundle, dict[str, str]]:
        """Frames of a set; a sensor that cannot be placed after all is absent, with the reason."""
        frames: dict[str, Frame] = {}
        absent = dict(match.absent)
        for name, items in match.items.items():
            decoder = self.intake.modalities[name]
            key = (items[-1].stamp_ns, self.view.version)
            cached = self._encoded.get(name)
            if cached is not None and cached[0] == key and not decoder.accumulates:
                frames[name] = cached[1]  # held: the same scan beside the next image
                continue
            readings = [item.payload for item in items]
            try:
                frame = encode(decoder, readings, self.view, match.stamp_ns)
            except Rejection as rejection:
                absent[name] = self._tell(name, now_ns, rejection.finding.fault, str(rejection))
                continue
            except Exception as error:
                log.exception("encoding %s failed", name)
                text = f"{type(error).__name__}: {error}"
                absent[name] = self._tell(name, now_ns, Fault.INTERNAL, text)
                continue
            frames[name] = frame
            self._encoded[name] = (key, frames[name])
        return Bundle(match.stamp_ns, frames), absent

    def _tell(self, name: str, now_ns: int, fault: Fault, text: str) -> str:
        """Tell that a sensor could not be encoded; the words."""
        finding = Finding(fault, False, text, score=1.0)
        self.intake.notice(name, now_ns, finding)
        return str(finding)


def engine_of(model: AnyModalSegmenter, device: torch.device, *, cpu_threads: int = 0) -> Engine:
    """What runs a network: on a GPU, the CPU stands by for the day when it fails."""
    engine = EagerEngine(model, device, cpu_threads=cpu_threads)
    if device.type == "cpu":
        return engine
    cpu = torch.device("cpu")
    return FallbackEngine(engine, lambda: EagerEngine(model, cpu, cpu_threads=cpu_threads))


def encode(decoder: Modality, readings: Sequence[Reading], view: View, stamp_ns: int) -> Frame:
    """What the network sees of a sensor in a set stamped `stamp_ns`; readings are oldest first.

    Raises:
        Rejection: NO_CALIB or NO_TF, where the view cannot place this sensor.
    """
    array = decoder.encode(readings, view, stamp_ns)
    quality = min(reading.quality for reading in readings)
    return Frame(decoder.name, readings[-1].stamp_ns, array, quality)


def network(weights: str, streams: Sequence[str]) -> AnyModalSegmenter:
    """The network that a robot means: a checkpoint's path, empty for the shipped one, `untrained`.

    Raises:
        RobustsegError: there is no stream, or the checkpoint cannot be used.
    """
    if not streams:
        raise RobustsegError(
            "no stream has a topic; set streams.<modality>.topic, "
            "as `robustseg inspect BAG` prints it"
        )
    if not weights:
        log.warning("no weights given: the shipped student knows simulated streets only")
        return checkpoint.load(checkpoint.SHIPPED)
    if weights != "untrained":
        return checkpoint.load(Path(weights))
    usual = [name for name in checkpoint.default_spec().modalities if name in streams]
    others = sorted(set(streams) - set(usual))
    log.warning("masks come from an UNTRAINED network, for plumbing only")
    return checkpoint.untrained(checkpoint.default_spec((*usual, *others)))


def _why(name: str, healths: Mapping[str, Health], absent: Mapping[str, str]) -> str:
    """One line: why a modality is not LIVE, or not in a mask though it is."""
    if name not in healths:
        return "not configured"
    health = healths[name]
    if health.state.usable and name in absent:
        return absent[name]
    if health.state is State.LIVE:  # while this mask was being made
        return f"{Fault.STARTING.value}: believed since a moment ago"
    return health.reason or health.state.value


def enlarge(array: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """(H, W) labels at the camera's size; nearest, since labels cannot be mixed."""
    if array.shape == (height, width):
        return array
    resized = cv2.resize(array, (width, height), interpolation=cv2.INTER_NEAREST)
    return resized.astype(np.uint8, copy=False)
