"""What the readers of the data sets return, on trees made by formula, at the released sizes too."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from robustseg_core import datasets
from robustseg_core.datasets import Sample
from support import golden_trees
from support.golden import golden
from support.parity import Row

TITLE = "Readers"
NOTE = """\
Images: the numbers are sums over the first recorded image; the difference is the greatest of all
images, in their every nth element (a level is 1/255, or 1 of 255 for MUSES), extremes, and moments
relative to that of the absolute values. Labels: the numbers are the sum of label x place, the
difference counts the pixels, the histogram's bins and the places that are not theirs."""
ALLOWED = 1e-6

_MUSES = {"form": "png", "png_folder": ".", "legacy_void_as_road": True}
_MCUBES = {"legacy_val_is_test": True, "legacy_keep_invalid_nir": True}
TREES: Mapping[str, Callable[[Path], Path]] = {
    "deliver/small": lambda root: golden_trees.deliver(root, 52, 3),
    "deliver/large": lambda root: golden_trees.deliver(root, 1042, 1),
    "muses/small": lambda root: golden_trees.muses(root, (54, 96), 2),
    "muses/large": lambda root: golden_trees.muses(root, (1080, 1920), 1),
    "mcubes": golden_trees.mcubes,
}


class Call(NamedTuple):
    """How ours is asked for what the published reader returned under `figures`."""

    what: str
    tree: str
    figures: str
    side: int | None = None
    options: Mapping[str, Any] = {}


CALLS = [
    Call("DELIVER 52x52", "deliver/small", "native"),
    *(
        Call(
            f"DELIVER {side}x{side} to {to}x{to}, {how}",
            f"deliver/{tree}",
            f"to_{to}{suffix}",
            to,
            {"legacy_resize": how},
        )
        for tree, side, to, how, suffix in (
            ("small", 52, 32, "antialias", "_antialias"),
            ("small", 52, 32, "plain", "_no_antialias"),
            ("small", 52, 1024, "antialias", ""),  # nothing to widen where it grows
            ("small", 52, 1024, "plain", ""),
            ("large", 1042, 1024, "antialias", "_antialias"),
            ("large", 1042, 1024, "plain", "_no_antialias"),
        )
    ),
    Call("DELIVER 1042x1042", "deliver/large", "native"),
    *(
        Call(
            f"MUSES {size} to 1024x1024, {whose}",
            f"muses/{tree}",
            whose,
            1024,
            {**_MUSES, "legacy_unnormalized": whose},
        )
        for tree, size in (("small", "54x96"), ("large", "1080x1920"))
        for whose in ("anyseg", "robustseg")
    ),
    Call("MCubeS 1024x1224 to 1024x1024", "mcubes", "to_1024", 1024, _MCUBES),
]


def rows() -> Iterator[Row]:
    """Two for each call: images, labels."""
    with TemporaryDirectory() as folder:
        roots = {name: make(Path(folder) / name) for name, make in TREES.items()}
        for call in CALLS:
            yield from compared(call, roots[call.tree])


def compared(call: Call, root: Path) -> Iterator[Row]:
    """Ours beside the figures, for all samples that there are figures of."""
    size = None if call.side is None else (call.side, call.side)
    kind = datasets.load(call.tree.partition("/")[0])
    data = kind([root], "val", size=size, options=call.options)
    facts = golden("readers").facts
    keys = [f"{call.tree}/{call.figures}/{index}" for index in range(len(data))]
    pairs = [(key, data[index]) for index, key in enumerate(keys) if key in facts]
    key, first = pairs[0]
    name, image = next(iter(first.images.items()))
    assert first.label is not None
    yield Row(
        f"{call.what}, images",
        sum(facts[key][name]["sum"]),
        float(image.sum(dtype=np.float64)),
        max(image_difference(key, sample, name) for key, sample in pairs for name in sample.images),
        ALLOWED,
    )
    yield Row(
        f"{call.what}, labels",
        facts[key]["label"]["position_sum"],
        golden_trees.position_sum(first.label),
        sum(label_difference(key, sample) for key, sample in pairs),
        0,
    )


def image_difference(key: str, sample: Sample, name: str) -> float:
    """Of one image: elements, extremes and moments of its channels."""
    told = golden("readers")
    image, want = sample.images[name], told.facts[key][name]
    expected = [m for m in told.facts[key] if m != "label"]
    if list(image.shape) != want["shape"] or list(sample.images) != expected:
        return math.inf
    few, row = golden_trees.every(image, 16), image[:, image.shape[1] // 2, :96]
    wide = image.reshape(len(image), -1).astype(np.float64)
    level = 255 if key.startswith("muses") else 1
    apart = [
        few - told.arrays[f"{key}/{name}"],
        row - told.arrays[f"{key}/{name}_row"],
        wide.min(1) - want["min"],
        wide.max(1) - want["max"],
    ]
    # Black is no zero after the mean, so that only the others have gaps to count.
    gaps = 0.0 if name == "rgb" else np.count_nonzero(image) / image.size - want["share_nonzero"]
    moments = [
        np.abs((wide**power).sum(1) - want[moment]) / np.maximum((np.abs(wide) ** power).sum(1), 1)
        for power, moment in ((1, "sum"), (2, "sum_of_squares"))
    ]
    found = [np.abs(a).max() / level for a in apart]
    return float(max(*found, *(m.max() for m in moments), abs(gaps)))


def label_difference(key: str, sample: Sample) -> float:
    """Of one label: sampled pixels, bins of the histogram, and the sum that tells places."""
    told = golden("readers")
    label, want = sample.label, told.facts[key]["label"]
    if label is None or list(label.shape) != want["shape"]:
        return math.inf
    values, counts = np.unique(label, return_counts=True)
    bins = dict(zip(map(str, values), counts.tolist(), strict=True))
    wrong = np.count_nonzero(golden_trees.every(label, 64) != told.arrays[f"{key}/label"])
    wrong += sum(bins.get(k) != want["histogram"].get(k) for k in {*bins, *want["histogram"]})
    return float(wrong + (golden_trees.position_sum(label) != want["position_sum"]))
