"""A data set in memory for tests of evaluation: random images, some sensors absent, some tags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from robustseg_core.datasets import Dataset, Sample
from robustseg_core.models.checkpoint import default_spec, untrained
from robustseg_core.models.classes import ClassSet
from robustseg_core.types import IGNORE

NAMES = ("rgb", "depth", "event", "lidar")
CLASSES = ClassSet(
    ("road", "wall", "sky", "car"), ((128, 64, 128), (70, 70, 70), (70, 130, 180), (0, 0, 142))
)


class InMemory(Dataset):
    """Samples that are given, as a split."""

    def __init__(
        self,
        samples: Sequence[Sample],
        *,
        modalities: Sequence[str] = NAMES,
        classes: ClassSet = CLASSES,
    ) -> None:
        self.name, self.split, self.size = "memory", "val", None
        self.classes, self.modalities, self.encodings = classes, tuple(modalities), {}
        self._samples = list(samples)

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        return self._samples[index]

    def tags(self, index: int) -> Mapping[str, str]:
        return self._samples[index].tags


def random_samples(
    count: int,
    *,
    size: tuple[int, int] = (64, 64),
    label_size: tuple[int, int] | None = None,
    modalities: Sequence[str] = NAMES,
    lacking: Mapping[int, Sequence[str]] | None = None,
    seed: int = 0,
) -> list[Sample]:
    """Sample i lies in scene i // 2, by day or night in turn; `lacking` takes sensors from some."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(count):
        images = {m: rng.standard_normal((3, *size), dtype=np.float32) for m in modalities}
        label = rng.integers(len(CLASSES.names), size=label_size or size).astype(np.uint8)
        label[:4] = IGNORE
        for name in (lacking or {}).get(i, ()):
            del images[name]
        tags = {
            "scene": f"s{i // 2}",
            "condition": ("day", "night")[i % 2],
            "case": ("", "fog")[i // 2 % 2],
        }
        found.append(Sample(f"f{i}", images, label, tags))
    return found


def network(seed: int = 0, **fields: object):
    """`tiny` with random weights, in double precision so that rounding decides no pixel."""
    fields = {
        "classes": CLASSES.names,
        "palette": CLASSES.palette,
        "size": (64, 64),
        "head_width": 16,
        "provenance": "random weights, seed 0",
    } | fields
    return untrained(default_spec(**fields), seed=seed).double()
