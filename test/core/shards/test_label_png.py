import io

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from robustseg_core.errors import RobustsegError
from robustseg_core.extraction.label_source import Pictures
from robustseg_core.models.classes import CITYSCAPES
from robustseg_core.output.draw import lookup
from robustseg_core.shards.levels import label_png, read_label_png
from robustseg_core.types import IGNORE

COLORS = lookup(CITYSCAPES.palette)
IDS = arrays(
    np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.integers(0, 255)
)


@given(IDS)
def test_pixels_are_ids_for_pillow_and_for_us_and_colors_for_who_looks(ids):
    png = label_png(ids, COLORS)
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.mode == "P"
        np.testing.assert_array_equal(np.asarray(picture), ids)
        np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), COLORS[ids])
    np.testing.assert_array_equal(read_label_png(png), ids)
    assert read_label_png(png).flags.writeable


@given(IDS)
def test_opencv_sees_the_colors_and_never_an_id_by_mistake(ids):
    """It expands palettes whatever it is told: three channels, so nobody takes them for ids."""
    seen = cv2.imdecode(np.frombuffer(label_png(ids, COLORS), np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(seen[..., ::-1], COLORS[ids])


@given(IDS)
def test_without_colors_it_is_gray_and_any_reader_has_the_ids(ids):
    png = label_png(ids)
    seen = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(seen, ids)
    np.testing.assert_array_equal(read_label_png(png), ids)


def test_palettes_of_other_programs_have_fewer_bits_and_are_read_all_the_same(tmp_path):
    ids = np.arange(12, dtype=np.uint8).reshape(3, 4)
    picture = Image.fromarray(ids)
    picture.putpalette([7 * k % 256 for k in range(48)])
    picture.save(tmp_path / "1700000000466666667.png", bits=4, transparency=0)
    np.testing.assert_array_equal(Pictures(tmp_path).at(1700000000466666667), ids)


def test_what_is_cut_short_is_refused():
    rng = np.random.default_rng(0)
    png = label_png(rng.integers(0, 19, (60, 80)).astype(np.uint8), COLORS)
    for length in (40, 800, 900, len(png) // 2):
        with pytest.raises(RobustsegError, match="picture"):
            read_label_png(png[:length])


def test_the_color_of_no_label_is_black_whatever_the_palette():
    ids = np.full((2, 2), IGNORE, np.uint8)
    with Image.open(io.BytesIO(label_png(ids, lookup(((255, 255, 255),) * 254)))) as picture:
        assert picture.convert("RGB").getextrema() == ((0, 0),) * 3
