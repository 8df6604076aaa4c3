"""Tiny imitations of public data sets on disk, for tests: their structure, none of their content.

`MAKERS` has one function for every file in `robustseg_core/datasets/`; the contract test takes
whatever is in it. A new data set adds a line there.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import h5py
import hdf5plugin
import numpy as np

from robustseg_core.extraction.extract import Extraction, extract
from support.drives import write_drive


class Tree(NamedTuple):
    """What a maker made, and what the data set should find there."""

    paths: list[Path]
    counts: Mapping[str, int]
    """Split -> samples; splits that ignore their name have equal counts."""
    size: tuple[int, int]
    """(H, W) of samples as they are."""
    options: Mapping[str, Any] = {}
    resizes: bool = True
    """Whether another `size` is made of it (else it is refused)."""


def write(path: Path, picture: np.ndarray) -> None:
    """A PNG of an RGB(A) or one-channel array."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if picture.ndim == 3:
        order = [2, 1, 0, 3][: picture.shape[2]]
        picture = np.ascontiguousarray(picture[..., order])
    assert cv2.imwrite(str(path), picture)


def paint(shape: tuple[int, ...], seed: int, low: int = 0, high: int = 256) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, shape).astype(np.uint8)


# --- DELIVER -------------------------------------------------------------------------------------

DELIVER_SIDE = 52
"""1042 in the release; low-resolution events are half of it."""
DELIVER_SCENES = [
    # split, weather, scene, frame: frame numbers repeat on purpose
    ("train", "cloud", "MAP_1_point102", "110100"),
    ("train", "cloud", "MAP_1_point102", "110110"),
    ("train", "cloud", "MAP_2_point7", "110100"),
    ("train", "night", "MAP_2_point7_eventlowres", "110100"),
    ("train", "rain", "MAP_3_point1_motionblur", "000010"),
    ("val", "fog", "MAP_1_point102", "110100"),
    ("val", "sun", "MAP_4_point9_overexposure", "000020"),
    ("val", "sun", "MAP_4_point9_underexposure", "000020"),
    ("test", "rain", "MAP_9_point9_lidarjitter", "000010"),
]


def deliver_value(index: int) -> int:
    """Every file of scene `index` is painted around this value, so that partners can be told."""
    return 20 + 20 * index


def deliver(root: Path, side: int = DELIVER_SIDE, scenes: Iterable[int] | None = None) -> Tree:
    """`scenes`: indices into DELIVER_SCENES; None: all."""
    chosen = range(len(DELIVER_SCENES)) if scenes is None else scenes
    for index in chosen:
        split, weather, scene, frame = DELIVER_SCENES[index]
        value = deliver_value(index)

        def file(folder: str, tag: str, where=(weather, split, scene), name=frame) -> Path:
            return root.joinpath(folder, *where, f"{name}_{tag}_front.png")

        rgb = paint((side, side, 3), index, value, value + 8)
        if index % 2:  # some files of the release have four channels
            rgb = np.dstack([rgb, np.full((side, side), 7, np.uint8)])
        write(file("img", "rgb"), rgb)
        write(file("hha", "depth"), paint((side, side, 3), index + 100, value, value + 8))
        write(file("depth", "depth"), np.full((side, side), value + 1, np.uint8))
        lidar = (side, side) if index % 2 else (side, side, 3)
        write(file("lidar", "lidar"), paint(lidar, index + 200, value, value + 8))
        small = side // 2 if "eventlowres" in scene else side
        event = np.zeros((small, small, 3), np.uint8)
        event[..., 0] = value
        write(file("event", "event"), event)
        stored = paint((side, side), index + 300, 0, 26)
        stored[0, :4] = [0, 1, 25, 255]
        others = np.full((side, side, 2), 99, np.uint8)
        alpha = np.full((side, side), 255, np.uint8)
        write(file("semantic", "semantic"), np.dstack([stored, others, alpha]))
    counts = Counter(DELIVER_SCENES[index][0] for index in chosen)
    return Tree([root], counts, (side, side))


# --- MUSES ---------------------------------------------------------------------------------------

MUSES_SIZE = (54, 96)
"""1080 x 1920 in the release, which is what K is for."""
EVENT_SIZE = (36, 64)
MUSES_SCENES = [
    # split, weather, time of day, name
    ("train", "clear", "day", "REC0001_frame_000010"),
    ("train", "fog", "night", "REC0002_frame_000020"),
    ("train", "snow", "day", "REC0002_frame_000040"),
    ("val", "rain", "night", "REC0003_frame_000010"),
    ("val", "clear", "day", "REC0004_frame_000010"),
    ("test", "snow", "night", "REC0005_frame_000010"),
]
MUSES_CALIB: dict[str, Any] = {
    "intrinsics": {
        "rgb": {"K": [[1000.0, 0, 959.5], [0, 1000.0, 539.5], [0, 0, 1]]},
        "event": {"K": [[33.0, 0, 31.5], [0, 33.0, 17.5], [0, 0, 1]]},
    },
    "extrinsics": {
        # the LiDAR looks along x, with y to the left and z up; the camera along z
        "lidar2rgb": [[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]],
        "event2rgb": [[1.0, 0, 0, 0.1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]],
    },
}


def write_events(path: Path, x: Any, y: Any, t: Any, p: Any) -> None:
    """An `_event_camera.h5` as released: unsigned microseconds, Blosc."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kinds = {"x": np.uint16, "y": np.uint16, "t": np.uint32, "p": np.uint8}
    with h5py.File(path, "w") as file:
        for (name, kind), values in zip(kinds.items(), (x, y, t, p), strict=True):
            file.create_dataset(
                f"events/{name}", data=np.asarray(values, kind), chunks=True, **hdf5plugin.Blosc()
            )
        file["ms_to_idx"] = np.searchsorted(np.asarray(t), np.arange(30) * 1000).astype(np.uint64)


def write_scan(path: Path, points: Any) -> None:
    """A `_lidar.bin` of (N, 3) or (N, 4) points."""
    rows = np.zeros((len(points), 6))
    given = np.asarray(points, np.float64)
    rows[:, : given.shape[1]] = given
    path.parent.mkdir(parents=True, exist_ok=True)
    rows.tofile(path)


def muses_file(root: Path, scene: int, folder: str, ending: str) -> Path:
    split, weather, time_of_day, name = MUSES_SCENES[scene]
    return root / folder / split / weather / time_of_day / f"{name}_{ending}"


def muses(
    root: Path,
    *,
    meta: bool = True,
    png: bool = True,
    size: tuple[int, int] = MUSES_SIZE,
    scenes: Iterable[int] | None = None,
) -> Tree:
    """`scenes`: indices into MUSES_SCENES; None: all."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "calib.json").write_text(json.dumps(MUSES_CALIB))
    listed = {}
    chosen = range(len(MUSES_SCENES)) if scenes is None else scenes
    for index in chosen:
        split, weather, time_of_day, name = MUSES_SCENES[index]
        rng = np.random.default_rng(index)
        write(
            muses_file(root, index, "frame_camera", "frame_camera.png"),
            paint((*size, 3), index),
        )
        count = 300
        write_events(
            muses_file(root, index, "event_camera", "event_camera.h5"),
            rng.integers(0, EVENT_SIZE[1], count),
            rng.integers(0, EVENT_SIZE[0], count),
            np.sort(rng.integers(0, 30_000, count)),
            rng.integers(0, 2, count),
        )
        points = rng.uniform([2, -3, -2, 0], [40, 3, 2, 255], (400, 4))
        write_scan(muses_file(root, index, "lidar", "lidar.bin"), points)
        if split != "test":
            label = paint(size, index + 50, 0, 19)
            label[0, :5] = 255
            write(muses_file(root, index, "gt_semantic", "gt_labelTrainIds.png"), label)
        if png:
            muses_png(root, index, rng, size)
        listed[name] = {
            "split": split,
            "weather": weather,
            "time_of_day": time_of_day,
            "path_to_frame_camera": str(
                muses_file(root, index, "frame_camera", "frame_camera.png").relative_to(root)
            ),
        }
    if meta:
        (root / "meta.json").write_text(json.dumps(listed))
    counts = Counter(MUSES_SCENES[index][0] for index in chosen)
    return Tree([root], counts, size, {"event_size": EVENT_SIZE})


def muses_png(root: Path, scene: int, rng: np.random.Generator, size: tuple[int, int]) -> None:
    """What the SDK's projection writes: cv2.imwrite of arrays, LiDAR as (value + 100) * 150."""
    events = np.zeros((*size, 3), np.uint8)
    events[..., :2] = rng.integers(0, 8, (*size, 2))
    seen = rng.random(size) < 0.3
    lidar = rng.uniform([2, 0, -3], [60, 250, 6], (*size, 3)) * seen[..., None]
    for folder, ending, array in (
        ("event_camera", "event_camera.png", events),
        ("lidar", "lidar.png", ((lidar + 100) * 150).astype(np.uint16)),
    ):
        path = muses_file(root / "projected_to_rgb", scene, folder, ending)
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), array)


# --- MCubeS --------------------------------------------------------------------------------------

MCUBES_SHAPE = (32, 192 + 33)
"""1024 x 1224 in the release; 192 columns are cropped off."""
MCUBES_SPLITS = {
    "train": ["outscene1208_2_0000000150", "outscene1208_2_0000000180", "in_3_0000000001"],
    "val": ["outscene1208_5_0000000010"],
    "test": ["outscene0101_1_0000000020", "outscene0101_1_0000000040"],
}


def mcubes(
    root: Path,
    shape: tuple[int, int] = MCUBES_SHAPE,
    splits: Mapping[str, list[str]] = MCUBES_SPLITS,
) -> Tree:
    """`shape`: of the files; `splits`: split -> names of its samples."""
    (root / "list_folder").mkdir(parents=True)
    names = [name for split in splits.values() for name in split]
    for split, listed in {**splits, "all": names}.items():
        (root / "list_folder" / f"{split}.txt").write_text("\n".join(listed) + "\n")
    for index, name in enumerate(names):
        rng = np.random.default_rng(index)
        rgb = paint((*shape, 3), index)
        write(root / "polL_color" / f"{name}.png", rgb if index % 2 else rgb.astype("u2") * 257)
        angle = rng.uniform(0, np.pi, shape).astype(np.float32)
        for folder, array in (
            ("polL_aolp_sin", np.sin(angle)),
            ("polL_aolp_cos", np.cos(angle)),
            ("polL_dolp", rng.uniform(0, 1, shape).astype(np.float32)),
        ):
            (root / folder).mkdir(exist_ok=True)
            np.save(root / folder / f"{name}.npy", array)
        nir = rng.integers(0, 65536, shape).astype(np.uint16)
        write(root / "NIR_warped" / f"{name}.png", nir)
        mask = np.zeros(shape, np.uint8)
        mask[:4] = 255
        write(root / "NIR_warped_mask" / f"{name}.png", mask)
        label = paint(shape, index + 10, 0, 20)
        label[-1, -3:] = [20, 99, 255]
        write(root / "GT" / f"{name}.png", label)
    counts = {split: len(listed) for split, listed in splits.items()}
    return Tree([root], counts, (shape[0], shape[1] - 192))


# --- recordings ----------------------------------------------------------------------------------

SHARD_SIZE = (32, 64)


def shards(root: Path) -> Tree:
    """What `robustseg extract` makes of a drive of one second."""
    folder = root / "shards"
    account = extract(
        [write_drive(root / "drive", 1.0)], folder, Extraction(size=SHARD_SIZE, shard_size=4)
    )
    counts = dict.fromkeys(("train", "val"), account["samples"])
    return Tree([folder], counts, SHARD_SIZE, resizes=False)


def bag(root: Path) -> Tree:
    """The same drive, as it was recorded."""
    made = shards(root)
    return Tree([root / "drive"], made.counts, Extraction().size)


MAKERS: dict[str, Callable[[Path], Tree]] = {
    "bag": bag,
    "deliver": deliver,
    "mcubes": mcubes,
    "muses": muses,
    "shards": shards,
}
"""Name of the data set -> function of an empty folder that makes its tree there."""
