"""The readers against the published ones: figures that those returned for the same trees."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from robustseg_core import datasets
from robustseg_core.codecs.picture_file import read_picture
from robustseg_core.datasets import Dataset, Sample, _published
from robustseg_core.errors import RobustsegError
from support import ROOT, golden_trees
from support.dataset_trees import write
from support.golden import ints

pytestmark = pytest.mark.slow

FIGURES = ROOT / "test/data/golden"
MUSES = {"form": "png", "png_folder": ".", "legacy_void_as_road": True}
MCUBES = {"legacy_val_is_test": True, "legacy_keep_invalid_nir": True}
TREES: Mapping[str, Callable[[Path], Path]] = {
    "deliver/small": lambda root: golden_trees.deliver(root, 52, 3),
    "deliver/large": lambda root: golden_trees.deliver(root, 1042, 1),
    "muses/small": lambda root: golden_trees.muses(root, (54, 96), 2),
    "muses/large": lambda root: golden_trees.muses(root, (1080, 1920), 1),
    "mcubes": golden_trees.mcubes,
}


class Call(NamedTuple):
    """How ours is asked for what the published reader returned under `figures`."""

    tree: str
    figures: str
    size: tuple[int, int] | None
    options: Mapping[str, Any]


CALLS = [
    *(Call(f"deliver/{t}", f"deliver/{t}/native", None, {}) for t in ("small", "large")),
    *(
        Call(
            f"deliver/{tree}",
            f"deliver/{tree}/to_{side}{suffix}",
            (side, side),
            {"legacy_resize": how},
        )
        for tree, side, suffix, how in (
            ("small", 32, "_antialias", "antialias"),
            ("small", 32, "_no_antialias", "plain"),
            ("small", 1024, "", "antialias"),  # nothing to widen where it grows
            ("small", 1024, "", "plain"),
            ("large", 1024, "_antialias", "antialias"),
            ("large", 1024, "_no_antialias", "plain"),
        )
    ),
    *(
        Call(
            f"muses/{tree}",
            f"muses/{tree}/{whose}",
            (1024, 1024),
            MUSES | {"legacy_unnormalized": whose},
        )
        for tree in ("small", "large")
        for whose in ("anyseg", "robustseg")
    ),
    Call("mcubes", "mcubes/to_1024", (1024, 1024), MCUBES),
]


@cache
def figures() -> tuple[dict[str, Any], Mapping[str, np.ndarray]]:
    """What the published readers returned: moments, and every nth element."""
    told = json.loads((FIGURES / "readers.json").read_text())
    with np.load(FIGURES / "readers.npz") as arrays:
        return told, dict(arrays)


@pytest.fixture(scope="module")
def roots(tmp_path_factory) -> Callable[[str], Path]:
    """A tree by its name, made once."""
    return cache(lambda name: TREES[name](tmp_path_factory.mktemp("tree") / "root"))


@pytest.fixture(
    params=CALLS, ids=lambda call: "-".join([call.figures, *map(str, call.options.values())])
)
def call(request) -> Call:
    return request.param


@pytest.fixture
def data(call, roots) -> Dataset:
    kind = datasets.load(call.tree.partition("/")[0])
    return kind([roots(call.tree)], "val", size=call.size, options=call.options)


def compared(call: Call, data: Dataset) -> list[tuple[str, Sample]]:
    """Key of the figures and sample, of those that there are figures of."""
    keys = [f"{call.figures}/{index}" for index in range(len(data))]
    found = [(key, data[i]) for i, key in enumerate(keys) if key in figures()[0]]
    assert found
    return found


def test_images_are_those_of_the_published_reader(call, data):
    told, arrays = figures()
    for key, sample in compared(call, data):
        assert list(sample.images) == [m for m in told[key] if m != "label"]
        for name, image in sample.images.items():
            want = told[key][name]
            assert list(image.shape) == want["shape"]
            scale = 255 if data.name == "muses" else 1
            near = {"rtol": 0, "atol": 1e-6 * scale, "err_msg": f"{key}/{name}"}
            np.testing.assert_allclose(
                golden_trees.every(image, 16), arrays[f"{key}/{name}"], **near
            )
            row = image[:, image.shape[1] // 2, :96]
            np.testing.assert_allclose(row, arrays[f"{key}/{name}_row"], **near)
            wide = image.reshape(3, -1).astype(np.float64)
            assert wide.min(1) == pytest.approx(want["min"], abs=1e-6 * scale)
            assert wide.max(1) == pytest.approx(want["max"], abs=1e-6 * scale)
            for power, moment in ((1, "sum"), (2, "sum_of_squares")):
                slack = 1e-5 * (np.abs(wide) ** power).sum()
                assert (wide**power).sum(1) == pytest.approx(want[moment], abs=slack), key
            if name != "rgb":  # black is no zero after the mean
                assert np.count_nonzero(image) / image.size == pytest.approx(want["share_nonzero"])


def test_labels_are_those_of_the_published_reader(call, data):
    told, arrays = figures()
    for key, sample in compared(call, data):
        want, label = told[key]["label"], sample.label
        assert list(label.shape) == want["shape"]
        np.testing.assert_array_equal(golden_trees.every(label, 64), arrays[f"{key}/label"])
        values, counts = np.unique(label, return_counts=True)
        assert dict(zip(map(str, values), counts.tolist(), strict=True)) == want["histogram"]
        assert golden_trees.position_sum(label) == want["position_sum"]


def test_a_deep_picture_is_what_pillow_reads_of_it(tmp_path):
    write(tmp_path / "deep.png", ints(1, (20, 30, 3), 65536).astype(np.uint16))
    with Image.open(tmp_path / "deep.png") as picture:
        theirs = np.asarray(picture.convert("RGB"))
    ours = read_picture(tmp_path / "deep.png")
    assert ours.dtype == np.uint16
    np.testing.assert_array_equal(_published.eight_bits(ours), theirs)


def test_usual_resizing_keeps_what_the_published_one_blends(roots):
    """The default moves no label against its image and invents no values where nothing was."""
    data = datasets.load("deliver")([roots("deliver/small")], "val", size=(32, 32))
    assert set(np.unique(data[0].images["event"])) == {0.0, 1.0}
    legacy = datasets.load("deliver")(
        [roots("deliver/small")], "val", size=(32, 32), options={"legacy_resize": "antialias"}
    )
    assert len(np.unique(legacy[0].images["event"])) > 2
    assert data.fingerprint() != legacy.fingerprint()


def test_a_stretched_picture_ends_at_0_and_255():
    assert _published.stretched(np.full((2, 2), 7, np.uint8)).tolist() == [[0, 0], [0, 0]]
    made = _published.stretched(np.array([[3, 4], [5, 13]], np.uint8))
    np.testing.assert_allclose(made, [[0, 25.5], [51, 255]], rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "options", "complaint"),
    [
        ("deliver", {"legacy_resize": True}, "legacy_resize is True.*'antialias' or 'plain'"),
        (
            "muses",
            {"form": "png", "legacy_unnormalized": True},
            "legacy_unnormalized is True.*'anyseg' or 'robustseg'",
        ),
    ],
)
def test_a_habit_says_whose_it_is(kind, options, complaint, tmp_path):
    with pytest.raises(RobustsegError, match=complaint):
        datasets.load(kind)([tmp_path], "val", options=options)
