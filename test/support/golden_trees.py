"""The trees that the recorded figures of the published readers are of, made by formula.

Structure, sizes and oddities of the public releases; none of their content.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from support.dataset_trees import write
from support.golden import blocky, ids, ints, sparse, unit

DELIVER = (
    ("MAP_1_point102", "cloud", "110100"),
    (
        "MAP_2_point7_eventlowres",
        "night",
        "110110",
    ),
    ("MAP_3_point9_lidarjitter", "rain", "000010"),
)
MUSES = ("fog/night", "REC0001_frame_000010"), ("rain/day", "REC0002_frame_000020")
MCUBES = ("outscene1208_1_0000000001", "outscene1208_2_0000000002")


def _bytes(array: np.ndarray) -> np.ndarray:
    return (array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array).astype(np.uint8)


def deliver(root: Path, side: int, scenes: int) -> Path:
    """DELIVER's val split: a fourth channel, small events, labels beside other channels."""
    size = (side, side)
    for i, (scene, weather, frame) in enumerate(DELIVER[:scenes]):
        s = 4000 + 20 * i
        rgb = blocky(s, *size, 3, side=13, grain=40)
        lidar = sparse(s + 4, *size, 1, share=0.06, top=256)
        label = ids(s + 8, *size, 7, [*range(26), 255])
        events = side // 2 if i == 1 else side
        u = unit(s + 6, (events, events))
        fired = [255 * (u < 0.05), 0 * u, 255 * ((u >= 0.05) & (u < 0.1))]
        if i == 1:
            rgb = np.dstack([rgb, np.full(size, 255)])
            label = np.dstack([label, np.full((*size, 2), 99)])
        if i == 2:
            lidar = lidar.repeat(3, 2)
        for folder, tag, picture in (
            ("img", "rgb", rgb),
            ("hha", "depth", blocky(s + 2, *size, 3, side=13, grain=8)),
            ("lidar", "lidar", lidar),
            ("event", "event", np.dstack(fired)),
            ("semantic", "semantic", label),
        ):
            write(
                root / folder / weather / "val" / scene / f"{frame}_{tag}_front.png",
                _bytes(picture),
            )
    return root


def muses(root: Path, size: tuple[int, int], scenes: int) -> Path:
    """MUSES' val split in its PNG form."""
    for i, (where, name) in enumerate(MUSES[:scenes]):
        s = 5000 + 20 * i
        hit = (unit(s + 4, size) < 0.05)[..., None]
        lidar = 15000 + np.where(hit, ints(s + 5, (*size, 3), 12000), 0)
        for folder, tag, picture in (
            ("frame_camera", "frame_camera", _bytes(blocky(s, *size, 3, side=15, grain=40))),
            ("event_camera", "event_camera", _bytes(sparse(s + 2, *size, 3, share=0.05, top=200))),
            ("lidar", "lidar", lidar.astype(np.uint16)),
            ("gt_semantic", "gt_labelTrainIds", _bytes(ids(s + 6, *size, 9, [*range(19), 255]))),
        ):
            write(root / folder / "val" / where / f"{name}_{tag}.png", picture)
    return root


def mcubes(root: Path) -> Path:
    """MCubeS at its real size, one sample with 16 bits and one with 8."""
    size = (1024, 1224)
    for split in ("train", "val", "test"):
        path = root / "list_folder" / f"{split}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(MCUBES) + "\n")
    for i, name in enumerate(MCUBES):
        s = 6000 + 20 * i
        deep = {"grain": 4000, "top": 65536} if i == 0 else {"grain": 40}
        kind = np.uint16 if i == 0 else np.uint8
        turned = _blocks_of_8(unit(s + 2, (size[0] // 8, size[1] // 8)) * 6 - 3)
        mask = np.zeros(size, np.uint8)
        mask[:, -30:] = 255
        label = ids(s + 6, *size, 12, [*range(20), 255]).astype(np.uint8)
        color = blocky(s, *size, 3, side=16, **deep).astype(kind)
        near = blocky(s + 4, *size, 1, side=16, **deep)[..., 0].astype(kind)
        write(root / "polL_color" / f"{name}.png", color)
        write(root / "NIR_warped" / f"{name}.png", near)
        write(root / "NIR_warped_mask" / f"{name}.png", mask)
        write(root / "GT" / f"{name}.png", label)
        for folder, array in (
            ("polL_aolp_sin", turned / 4),
            ("polL_aolp_cos", 0.9 - turned * turned / 16),
            ("polL_dolp", _blocks_of_8(unit(s + 3, (size[0] // 8, size[1] // 8)))),
        ):
            (root / folder).mkdir(exist_ok=True)
            np.save(root / folder / f"{name}.npy", array.astype(np.float32))
    return root


def _blocks_of_8(array: np.ndarray) -> np.ndarray:
    return array.repeat(8, 0).repeat(8, 1)


def every(array: np.ndarray, parts: int) -> np.ndarray:
    """Every (side // parts)th row and column of (..., H, W)."""
    high, wide = array.shape[-2:]
    return array[..., :: max(1, high // parts), :: max(1, wide // parts)]


def position_sum(label: np.ndarray) -> int:
    """Changes if labels move."""
    flat = label.astype(np.int64).ravel()
    return int((flat * (np.arange(len(flat)) % 997 + 1)).sum())
