"""The published readers' habits; what they return is compared in test/parity (part `readers`)."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from robustseg_core import datasets
from robustseg_core.codecs.picture_file import read_picture
from robustseg_core.datasets import _published
from robustseg_core.errors import RobustsegError
from support import golden_trees
from support.dataset_trees import write
from support.golden import ints


def test_a_deep_picture_is_what_pillow_reads_of_it(tmp_path):
    write(tmp_path / "deep.png", ints(1, (20, 30, 3), 65536).astype(np.uint16))
    with Image.open(tmp_path / "deep.png") as picture:
        theirs = np.asarray(picture.convert("RGB"))
    ours = read_picture(tmp_path / "deep.png")
    assert ours.dtype == np.uint16
    np.testing.assert_array_equal(_published.eight_bits(ours), theirs)


def test_usual_resizing_invents_nothing_where_the_published_one_blends(tmp_path):
    root = golden_trees.deliver(tmp_path / "deliver", 52, 1)
    usual, published = (
        datasets.load("deliver")([root], "val", size=(32, 32), options={"legacy_resize": how})
        for how in (None, "plain")
    )
    assert set(np.unique(usual[0].images["event"])) == {0.0, 1.0}
    assert len(np.unique(published[0].images["event"])) > 2
    assert (usual[0].label != published[0].label).any()
    assert usual.fingerprint() != published.fingerprint()


@pytest.mark.parametrize("how", [_published.nearest, _published.bicubic])
def test_one_size_is_no_resizing(how):
    picture = ints(2, (9, 7, 3), 256).astype(np.uint8)
    np.testing.assert_array_equal(how(picture, (9, 7)), picture)
    for wide in (False, True):
        same = _published.bilinear(picture[..., 0], (9, 7), antialias=wide)
        np.testing.assert_array_equal(same, picture[..., 0])


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
