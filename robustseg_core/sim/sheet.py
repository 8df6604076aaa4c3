"""What a drive looks like: a contact sheet and a video, drawn from its bag as a robot sees it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from robustseg_core.bag import Bag
from robustseg_core.errors import RobustsegError
from robustseg_core.models import checkpoint
from robustseg_core.output import draw
from robustseg_core.output.film import VideoWriter
from robustseg_core.output.timeline import Places, Timeline
from robustseg_core.recording.labels import open_truth
from robustseg_core.recording.replay import replay
from robustseg_core.recording.survey import survey
from robustseg_core.segmenter import Segmenter
from robustseg_core.sim.produce import workshop
from robustseg_core.storage.output_folder import place
from robustseg_core.types import SECOND, LabelMap, ModelSpec

COLUMNS = ("rgb", "depth", "lidar", "event", "label", "overlay")
TILE = (200, 320)
"""(H, W) of one picture of the sheet."""


def add_pictures(path: Path) -> tuple[Path, Path]:
    """`path.png` and `path.webm` beside a drive, unless they are there; what is there stays.

    Raises:
        RobustsegError: the disk is full.
    """
    sheet, film = path.with_suffix(".png"), path.with_suffix(".webm")
    with workshop(path) as folder:
        if not (os.path.lexists(sheet) and os.path.lexists(film)):
            for drawn in draw_drive(path, folder):
                if drawn.exists() and not os.path.lexists(path.with_suffix(drawn.suffix)):
                    place(drawn, path.with_suffix(drawn.suffix))
    return sheet, film


def draw_drive(path: Path, folder: Path, *, rows: int = 4) -> tuple[Path, Path]:
    """Write a contact sheet of `rows` moments of a drive and a film of it into `folder`.

    Raises:
        RobustsegError: the disk is full.
    """
    sheet, film = folder / f"{path.stem}.png", folder / f"{path.stem}.webm"
    with (
        Bag(path) as bag,
        open_truth([path]) as truth,
        VideoWriter(film, banner="not all sensors") as video,
    ):
        places = Places(timeline := Timeline(bag.spans))
        robot = survey(bag).robot()
        spec = checkpoint.default_spec(size=(192, 320)).model_copy(update={"trained": True})
        blank = np.zeros(spec.size, np.uint8)
        segmenter = Segmenter(robot, spec, lambda bundle: (blank, blank))
        period_ns = bag.duration_ns // rows
        lines: list[NDArray[np.uint8]] = []
        for label_map in replay(bag, segmenter):
            at_ns = places.place_ns(label_map)
            label = truth.at(label_map.stamp_ns, label_map.recording)
            if label is None or set(label_map.used) != set(spec.modalities):
                continue
            tiles = _tiles(replace(label_map, ids=label), label, spec)
            line = np.hstack([_fit(tiles[name], name) for name in COLUMNS])
            video.add(line, at_ns / SECOND)
            if at_ns >= period_ns * (len(lines) + 0.5):
                lines.append(line)
        try:
            video.finish(timeline.duration_s)
        except RobustsegError as error:
            film.unlink(missing_ok=True)
            raise RobustsegError(f"{error} {path} is complete, make room to draw it") from None
    if lines:
        picture = cv2.imencode(".png", cv2.cvtColor(np.vstack(lines), cv2.COLOR_RGB2BGR))[1]
        try:
            sheet.write_bytes(picture.tobytes())
        except OSError as error:
            raise RobustsegError(
                f"cannot write {sheet}: {error.strerror}; {path} is complete, make room to draw it"
            ) from None
    return sheet, film


def _tiles(
    label_map: LabelMap, label: NDArray[np.uint8], spec: ModelSpec
) -> dict[str, NDArray[np.uint8]]:
    """Each sensor alone, the truth, and the truth over the camera's picture."""
    frames = label_map.bundle.frames.items()
    tiles = {name: draw.seen_by(frame, spec) for name, frame in frames}
    tiles["label"] = draw.colorize(label, spec)
    tiles["overlay"] = draw.blend(tiles["rgb"], label, spec)
    return tiles


def _fit(picture: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
    interpolation = cv2.INTER_NEAREST if name in ("label", "lidar") else cv2.INTER_AREA
    fitted = cv2.resize(picture, TILE[::-1], interpolation=interpolation)
    cv2.putText(fitted, name, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1)
    return fitted.astype(np.uint8)
