"""Shards that a small network can learn from in a few steps: squares of classes, seen by four."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from robustseg_core.datasets import Dataset
from robustseg_core.learn.embeddings import Embeddings
from robustseg_core.models.checkpoint import default_spec
from robustseg_core.models.classes import ClassSet
from robustseg_core.shards.archive import FORMAT, ShardWriter, write_index
from robustseg_core.shards.levels import label_png, to_png

NAMES = ("rgb", "depth", "event", "lidar")
CLASSES = ClassSet(("road", "wall", "sky"), ((128, 64, 128), (70, 70, 70), (70, 130, 180)))
SIZE = (32, 64)
EMBEDDED = 6
"""Numbers of an embedding."""


def make_shards(
    folder: Path,
    count: int,
    *,
    seed: int = 0,
    labelled: bool = True,
    names: tuple[str, ...] = NAMES,
    classes: ClassSet = CLASSES,
    size: tuple[int, int] = SIZE,
) -> Path:
    """`count` samples in one shard folder: blocks of 16 x 16, whose class every sensor hints at."""
    rng = np.random.default_rng(seed)
    spec = default_spec(names, size=size)
    folder.mkdir(parents=True)
    with ShardWriter(folder, shard_size=64) as writer:
        for k in range(count):
            blocks = rng.integers(len(classes.names), size=(size[0] // 16, size[1] // 16))
            label = blocks.repeat(16, 0).repeat(16, 1).astype(np.uint8)
            members, values = {}, {}
            for column, name in enumerate(names):
                color = np.eye(len(classes.names))[label][..., [0, 1, -1]]  # (H, W, 3)
                picture = np.resize(color.transpose(2, 0, 1), (spec.channels_of(name), *size))
                noise = rng.uniform(-0.2, 0.2, picture.shape) * (column + 1)
                image = np.clip(picture + noise, 0, 1).astype(np.float32)
                members[f"{name}.png"], values[name] = to_png(image)
            if labelled:
                members["label.png"] = label_png(label)
            account = {"id": f"{folder.name}/{k:06d}", "values": values}
            members["json"] = json.dumps(account).encode()
            writer.add(f"{folder.name}/{k:06d}", k, members)
    write_index(
        folder,
        {
            "format": FORMAT,
            "modalities": list(names),
            "classes": list(classes.names),
            "palette": [list(color) for color in classes.palette],
            "encodings": {n: dict(spec.encodings[n]) for n in names},
            "size": list(size),
            "tags": {"scene": folder.name, "condition": "clear"},
            "counts": {
                "samples": count,
                "labelled": count * labelled,
                "complete": count,
                "used": dict.fromkeys(names, count),
            },
            "notices": [],
            "shards": writer.shards,
            "samples": writer.rows,
        },
    )
    return folder


def make_embeddings(dataset: Dataset, *, captions: bool = True) -> Embeddings:
    """Random ones of a data set."""
    rng = np.random.default_rng(0)

    def rows(*shape: int) -> np.ndarray:
        return rng.normal(size=(*shape, EMBEDDED)).astype(np.float32)

    n, m, k = len(dataset), len(dataset.modalities), len(dataset.classes.names)
    return Embeddings(
        "cache.safetensors",
        tuple(dataset[row].id for row in range(n)),
        tuple(dataset.modalities),
        tuple(dataset.classes.names),
        dataset.fingerprint(),
        "noise",
        rows(n, m),
        rows(k),
        rows(n) if captions else None,
    )


def words(train: Path, val: Path | None = None, **more: object) -> list[str]:
    """`key=value` words of the smallest recipe, for `load_recipe`."""
    table = {
        "data.train": [str(train)],
        "data.val": [str(val)] if val else [],
        "data.workers": 0,
        "network.backbone": "tiny",
        "network.head": "folded",
        "network.head_width": 16,
        "optim.steps": 6,
        "optim.batch": 4,
        "optim.lr": 3e-3,
        "augment.scale": [1, 1],
        "validate.calibrate": 0,
        "log_every": 1,
        "save_every": 2,
    } | {key.replace("__", "."): value for key, value in more.items()}
    return [f"{key}={json.dumps(value)}" for key, value in table.items()]
