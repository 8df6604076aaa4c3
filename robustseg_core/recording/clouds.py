"""`robustseg view`: the labelled clouds of a recording, one after the other, for people.

They are the node's `~/points`: of the LiDAR, and of depth while the LiDAR is not used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robustseg_core.bag import Bag, Recorded
from robustseg_core.engines.weights import engine_of
from robustseg_core.errors import RobustsegError
from robustseg_core.faults import FaultSpec
from robustseg_core.geometry.view import moved
from robustseg_core.output.cloud import labelled
from robustseg_core.output.cloud_picture import cloud_picture
from robustseg_core.output.timeline import Places, Timeline
from robustseg_core.recording.inject import FaultyBag
from robustseg_core.recording.pipeline import Deferred, Inference
from robustseg_core.recording.replay import replay
from robustseg_core.recording.robot import check_streams, robot_for
from robustseg_core.segmenter import Segmenter
from robustseg_core.storage.output_folder import staged
from robustseg_core.types import SECOND, ModelSpec


@dataclass(frozen=True, slots=True)
class Shot:
    """The labelled cloud of one mask."""

    at_s: float
    """Since the start of the recording."""
    xyz: NDArray[np.float32]
    """(N, 3) metres in the camera's optical frame: x right, y down, z ahead."""
    ids: NDArray[np.uint8]
    """(N,) class ids."""
    used: tuple[str, ...]
    """What the mask was made of."""
    source: str
    """Whose points they are."""

    @property
    def caption(self) -> str:
        """When, whose points, and what labelled them."""
        return f"{self.at_s:.2f} s: points of {self.source}, mask of {', '.join(self.used)}"


@contextmanager
def clouds(
    paths: Sequence[Path],
    *,
    params: Path | None = None,
    overrides: Iterable[str] = (),
    faults: Sequence[FaultSpec] = (),
    seed: int = 0,
    every_s: float = 0.0,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[tuple[ModelSpec, Iterator[Shot]]]:
    """The network's spec, and the clouds of recordings, as they are asked for.

    Of several cameras, those of one: `cameras=[NAME]` among `overrides` says which.

    Args:
        paths: recordings, played one after the other.
        params: robot.yaml; None: the streams are guessed.
        overrides: `key=value` words; they win.
        faults: what is done to sensors on purpose.
        seed: of the faults.
        every_s: seconds from cloud to cloud at least; the network makes no other masks.
        on_progress: called with (messages read, messages in all).

    Raises:
        RobustsegError: the recording, the configuration or the checkpoint cannot be used.
    """
    with Bag(paths) as bag:
        if not bag.message_count:
            raise RobustsegError(f"{bag.paths[0]} holds no message; record it again")
        robot = robot_for(bag, params, overrides)
        check_streams(bag, robot)
        source = FaultyBag(bag, faults, seed=seed, topics=robot.topics) if faults else bag
        spec, engine = engine_of(robot)
        segmenter = Segmenter(robot, spec, Deferred(spec))
        infer = Inference(spec, engine, alpha=robot.alpha, refused=segmenter.refused)
        numbers = count(1)

        def read(_recorded: Recorded) -> None:
            on_progress(next(numbers), bag.message_count)

        def made() -> Iterator[Shot]:
            places, due_ns = Places(Timeline(bag.spans)), 0
            for closed in replay(source, segmenter, on_message=read):
                at_ns = places.place_ns(closed)
                if at_ns < due_ns or labelled(closed, robot.points) is None:
                    continue
                if (label_map := infer(closed)) is None:
                    continue
                found = labelled(label_map, robot.points)
                assert found is not None
                due_ns = at_ns + round(every_s * SECOND)
                xyz = moved(found.xyz, found.camera_from_points)
                here = np.isfinite(xyz).all(axis=1)
                yield Shot(
                    at_ns / SECOND,
                    np.ascontiguousarray(xyz[here]),
                    found.ids[here],
                    label_map.used,
                    found.placed.reading.modality,
                )

        yield spec, made()


def write_pictures(
    spec: ModelSpec, shots: Iterable[Shot], out: Path, inputs: Sequence[Path]
) -> dict[str, Any]:
    """A PNG of each cloud in a folder, named by its second.

    Args:
        spec: the network's.
        shots: in their order.
        out: the folder; pictures of an earlier call are replaced, other files stay.
        inputs: what is read; `out` must not be it.

    Returns:
        `out`, and `clouds`: of each `picture`, `at_s`, `source`, `used` and how many `points`.

    Raises:
        RobustsegError: `out` cannot be written, or there is no cloud.
    """
    told: list[Mapping[str, Any]] = []
    with staged(out, command="view", inputs=inputs) as folder:
        for number, shot in enumerate(shots):
            name = f"{number:06d}_{shot.at_s:.3f}s.png"
            image = cloud_picture(shot.xyz, shot.ids, spec, shot.caption)
            png = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
            (folder / name).write_bytes(png)
            told.append(
                {
                    "picture": name,
                    "at_s": round(shot.at_s, 6),
                    "source": shot.source,
                    "used": list(shot.used),
                    "points": len(shot.ids),
                }
            )
        if not told:
            raise no_cloud()
    return {"out": str(out), "clouds": told}


def no_cloud() -> RobustsegError:
    """What is to be raised where there is nothing to see."""
    return RobustsegError(
        "no mask has points: none was made of a LiDAR or of depth, or no lens is known; "
        "`robustseg doctor` says why of each sensor"
    )
