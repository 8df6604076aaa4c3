"""A small robot on a fake clock that must survive whatever it is told, and is watched meanwhile.

Four healthy sensors speak at 20 Hz; one message at a time is replaced by something hostile, so that
what is accepted goes all the way: judged, matched, projected, segmented, published.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fuzz.scenery import healthy, place
from robustseg_core.bag.typestore import typestore
from robustseg_core.engines import Engine
from robustseg_core.output import messages
from robustseg_core.segmenter import Segmenter
from robustseg_core.types import IGNORE, MS, SECOND, Bundle, Fault, Finding, LabelMap, sentence
from support import drives

PERIOD_NS = 50 * MS
PUBLISHED: dict[str, tuple[str, Callable[..., dict[str, Any]]]] = {
    "label_mask": ("sensor_msgs/msg/Image", lambda label_map, spec: messages.label_mask(label_map)),
    "status": ("diagnostic_msgs/msg/DiagnosticArray", messages.status),
}


class Complaint(Exception):
    """The product broke a promise."""


class Watch:
    """An engine that checks what the network is given; it runs a real one, or a sum and no more."""

    def __init__(self, classes: int, engine: Engine | None = None) -> None:
        self._classes = classes
        self._engine = engine

    def __call__(self, bundle: Bundle) -> tuple[np.ndarray, np.ndarray]:
        for name, frame in bundle.frames.items():
            if frame.array.dtype != np.float32 or not np.isfinite(frame.array).all():
                raise Complaint(f"frame of {name} is not finite, or no float32")
            if not 0 <= frame.quality <= 1:
                raise Complaint(f"quality of {name} is {frame.quality}")
        if self._engine is not None:
            return self._engine(bundle)
        total = sum(frame.array[0] for frame in bundle.frames.values())
        ids = (np.abs(total) * 8).astype(np.int64) % self._classes
        return ids.astype(np.uint8), np.full(ids.shape, 255, np.uint8)


class Robot:
    """One segmenter's life; `tell` it something hostile, as often as you like."""

    def __init__(self, engine: Engine | None = None) -> None:
        spec = drives.engine().spec
        self.classes = len(spec.classes)
        self.segmenter = Segmenter(drives.robot(), spec, Watch(self.classes, engine))
        self.now_ns = 0
        self.masks = 0
        self.used: set[str] = set()
        """Modalities of the newest mask."""
        self._count = 0
        self._calibrated = False
        for _ in range(4):
            self.tick()

    def tell(self, stream: str, message: Any) -> Finding | None:
        """A healthy tick, then one in which `message` stands for the stream's own.

        Returns:
            Why it was rejected.

        Raises:
            Complaint: a promise was broken: an internal error, a bad label, a mask that no
                subscriber could read.
            Exception: whatever the product let through.
        """
        self.tick()
        if stream in drives.ALL:
            refusal = self.tick(stream, message)
        elif stream == "tf":
            refusal = self.segmenter.push_transforms(message)
        else:
            refusal = self.segmenter.push_camera_info(stream.partition(":")[2] or "rgb", message)
        if stream not in drives.ALL:
            self._calibrated = False
            self.tick(calibrate=False)
        if refusal is not None and refusal.fault is Fault.INTERNAL:
            raise Complaint(f"internal error: {refusal.text}")
        return refusal

    def tick(
        self, stream: str = "", message: Any = None, *, calibrate: bool = True
    ) -> Finding | None:
        """50 ms of the robot's time; the refusal is that of `message`."""
        self.now_ns += PERIOD_NS
        stamp_ns = drives.EPOCH + self.now_ns
        self._count += 1
        if calibrate and not self._calibrated:
            place(self.segmenter, ("rgb", "depth", "event"))
            self._calibrated = True
        refusal = None
        for name in drives.ALL:
            if name == stream:
                refusal = self.segmenter.push(name, message, self.now_ns)
            else:
                self.segmenter.push(name, healthy(name, self._count, stamp_ns), self.now_ns)
            self._step(self.now_ns)
        end_ns = self.now_ns + PERIOD_NS - 1
        at_ns = self.now_ns
        while (wake_ns := self.segmenter.wake_ns(at_ns)) is not None and wake_ns <= end_ns:
            at_ns = wake_ns
            self._step(at_ns)
        return refusal

    def dress(self, message: Any) -> Any:
        """Give a fresh message the stamp and number with which `tell` wants it."""
        if hasattr(message, "header"):
            stamp = message.header.stamp
            stamp.sec, stamp.nanosec = divmod(self.now_ns + 2 * PERIOD_NS + drives.EPOCH, SECOND)
        if hasattr(message, "seq"):
            message.seq = self._count + 2
        return message

    def _step(self, now_ns: int) -> None:
        label_map = self.segmenter.step(now_ns)
        if label_map is not None:
            self.masks += 1
            self.used = set(label_map.used)
            self._inspect(label_map)

    def _inspect(self, label_map: LabelMap) -> None:
        ids = label_map.ids
        if ids.dtype != np.uint8 or not ((ids < self.classes) | (ids == IGNORE)).all():
            raise Complaint(f"a label is none of {self.classes} classes")
        if ids.shape != self.segmenter.intake.view.camera_size:
            raise Complaint(f"mask is {ids.shape}, camera {self.segmenter.intake.view.camera_size}")
        for name, reasons in label_map.reasons.items():
            if any(finding.fault is Fault.INTERNAL for finding in reasons):
                raise Complaint(f"{name} is absent: {sentence(reasons)}")
        if self.masks % 16 == 0:  # costs more than the rest
            for msgtype, fields in PUBLISHED.values():
                message = messages.to_rosbags(msgtype, fields(label_map, self.segmenter.spec))
                typestore().serialize_cdr(message, msgtype)


def memory_mb(field: str) -> float:
    """`VmSize`, `VmRSS` or `VmHWM` of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    return 0.0
