"""What a run leaves behind: label PNGs, a video, an MCAP for Foxglove and `result.json`.

One recorder serves `robustseg run` and the live demo, so the two can be compared file by file.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robustseg_core import __version__, metrics, outputs
from robustseg_core.bag import BagWriter
from robustseg_core.errors import RobustsegError
from robustseg_core.types import SECOND, LabelMap, ModelSpec

TOPICS = {
    "label_mask": "sensor_msgs/msg/Image",
    "overlay": "sensor_msgs/msg/CompressedImage",
    "status": "diagnostic_msgs/msg/DiagnosticArray",
}
"""What goes into the MCAP, below /robustseg."""
MOMENTS = 12
"""Pictures kept for the report."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A picture for the report."""

    at_s: float
    """Since the start of the recording."""
    used: tuple[str, ...]
    overlay: NDArray[np.uint8]
    """(H, W, 3) RGB."""

    @property
    def caption(self) -> str:
        """When, and made of what."""
        return f"{self.at_s:.2f} s: {', '.join(self.used)}"


class Recorder:
    """Writes a folder of results while masks come in; a context manager.

    Args:
        folder: fresh, as `output_folder.staged` gives it.
        spec: the network's.
        start_ns: when the recording began; what seconds are counted from.
        video_rate_hz: frame rate of the video.

    Raises:
        RobustsegError: the folder cannot be written.
    """

    def __init__(
        self, folder: Path, spec: ModelSpec, *, start_ns: int, video_rate_hz: float = 30.0
    ) -> None:
        self.folder = folder
        self.rows: list[dict[str, Any]] = []
        classes = len(spec.classes)
        self._counts = np.zeros((classes, classes + 1), np.int64)
        self.moments: list[Moment] = []
        """Where a mask is made of others than the one before it; the first few of them only, so
        that memory stays bounded."""
        self._spec = spec
        self._start_ns = start_ns
        self._video = VideoWriter(folder / "overlay.webm", video_rate_hz)
        self._masks = folder / "masks"
        try:
            self._masks.mkdir(parents=True)
        except OSError as error:
            raise RobustsegError(
                f"cannot write to {folder}: {error.strerror}; choose another --out"
            ) from None
        self._bag = BagWriter(folder / "mcap", compress=True)

    def __enter__(self) -> Recorder:
        self._bag.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bag.__exit__(*exc)
        self._video.close()

    def add(
        self,
        label_map: LabelMap,
        overlay: NDArray[np.uint8],
        truth: NDArray[np.uint8] | None = None,
    ) -> None:
        """Keep one mask.

        Args:
            label_map: the mask.
            overlay: (H, W, 3) RGB, as `draw.overlay` makes it.
            truth: (H, W) class ids of the scene at that moment, to score the mask with.

        Raises:
            RobustsegError: the disk is full.
        """
        row = row_of(label_map)
        if truth is not None:
            counts = metrics.confusion(truth, label_map.ids, len(self._spec.classes))
            row["miou"] = round(metrics.mean_iou(counts), 4)
            self._counts += counts
        changed = not self.rows or self.rows[-1]["used"] != row["used"]
        if changed and len(self.moments) < MOMENTS:
            at_s = (label_map.stamp_ns - self._start_ns) / SECOND
            self.moments.append(Moment(at_s, label_map.used, overlay))
        self.rows.append(row)
        name = f"{len(self.rows) - 1:06d}_{label_map.stamp_ns}.png"
        try:  # not by OpenCV, which crashes where the name of a folder is not UTF-8
            png = cv2.imencode(".png", label_map.ids)[1]
            (self._masks / name).write_bytes(png.tobytes())
        except OSError as error:
            raise RobustsegError(
                f"cannot write {self._masks / name}: {error.strerror}; is the disk full?"
            ) from None
        self._video.add(overlay)
        fields = {
            "label_mask": outputs.label_mask(label_map),
            "overlay": outputs.compressed_overlay(overlay, label_map),
            "status": outputs.status(label_map, self._spec),
        }
        for topic, msgtype in TOPICS.items():
            message = outputs.to_rosbags(msgtype, fields[topic])
            self._bag.write(f"/robustseg/{topic}", msgtype, message, label_map.stamp_ns)

    def write_result(self, **more: Any) -> dict[str, Any]:
        """Write `result.json`; `more` joins its top level. Returns what was written.

        `miou`, if there was truth, is that of the counts summed over all masks.
        """
        if self._counts.any():
            more = {**more, "miou": round(metrics.mean_iou(self._counts), 4)}
        result = {
            "robustseg": __version__,
            "trained": self._spec.trained,
            "provenance": self._spec.provenance,
            "modalities": list(self._spec.modalities),
            "start_ns": self._start_ns,
            **more,
            "masks": self.rows,
        }
        text = json.dumps(result, indent=1)
        (self.folder / "result.json").write_text(text + "\n")
        return result


class VideoWriter:
    """A VP8 WebM that grows frame by frame; browsers play it. A context manager.

    Args:
        path: ends in .webm.
        rate_hz: frames a second.
    """

    def __init__(self, path: Path, rate_hz: float) -> None:
        self._path = path
        self._rate_hz = rate_hz
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.release()

    def add(self, picture: NDArray[np.uint8]) -> None:
        """Append a frame: (H, W, 3) RGB; the first one decides the size."""
        if self._writer is None:
            height, width = (n // 2 * 2 for n in picture.shape[:2])  # VP8 wants even sizes
            self._size = (width, height)
            with _quiet(), _plain_name(self._path) as name:
                codec = cv2.VideoWriter.fourcc(*"VP80")
                self._writer = cv2.VideoWriter(name, codec, self._rate_hz, self._size)
        width, height = self._size
        fitting = picture[:height, :width]
        if fitting.shape[:2] != (height, width):  # the camera changed its resolution mid-run
            fitting = cv2.resize(picture, self._size)
        self._writer.write(cv2.cvtColor(fitting, cv2.COLOR_RGB2BGR))


def row_of(label_map: LabelMap) -> dict[str, Any]:
    """A mask's line in `result.json`."""
    return {
        "stamp_ns": label_map.stamp_ns,
        "used": list(label_map.used),
        "reasons": dict(label_map.reasons),
        "states": {name: state.value for name, state in label_map.states.items()},
        "held_ms": _rounded(label_map.held_ms),
        "latency_ms": _rounded(label_map.latency_ms),
    }


def totals(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Sums over a run's rows: masks, rate, use of each modality, latency percentiles."""
    stamps = [row["stamp_ns"] for row in rows]
    # Longest gap and mean rate within a pass; a looped bag's stamps go back.
    steps = [b - a for a, b in pairwise(stamps) if b > a]
    latency = [row["latency_ms"]["total"] for row in rows if "total" in row["latency_ms"]]
    used: dict[str, int] = {}
    for row in rows:
        for name in row["used"]:
            used[name] = used.get(name, 0) + 1
    return {
        "masks": len(rows),
        "rate_hz": round(len(steps) * SECOND / sum(steps), 2) if steps else 0.0,
        "longest_gap_ms": round(max(steps) / 1e6, 1) if steps else 0.0,
        "used": used,
        "latency_ms": {
            f"p{q}": round(float(np.percentile(latency, q)), 1) for q in (50, 95, 99) if latency
        },
    }


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 2) for name, value in values.items()}


@contextmanager
def _plain_name(path: Path) -> Iterator[str]:
    """`path` as OpenCV can open it: it crashes (4.x) on a string with bytes that are not UTF-8.

    Such a folder is opened here, and has another name then while it is open.

    Raises:
        RobustsegError: the file's own name is not UTF-8, or this system has no such other names.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        pass
    else:
        yield str(path)
        return
    folder = None
    try:
        path.name.encode()
        folder = os.open(path.parent, os.O_RDONLY)
        name = f"/proc/self/fd/{folder}/{path.name}"
        if not os.path.isdir(os.path.dirname(name)):
            raise FileNotFoundError
        yield name
    except (UnicodeEncodeError, FileNotFoundError):
        raise RobustsegError(
            f"{path} is not UTF-8, and a video cannot be written under such a name; choose another"
        ) from None
    finally:
        if folder is not None:
            os.close(folder)


@contextmanager
def _quiet() -> Iterator[None]:
    """OpenCV's FFmpeg writes a line to file descriptor 2 about a WebM tag that it then handles."""
    sys.stderr.flush()
    try:
        saved = os.dup(2)
    except OSError:  # no standard error at all
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        with suppress(OSError):
            os.dup2(saved, 2)
        os.close(saved)
