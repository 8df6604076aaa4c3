"""A picture of a labelled cloud: what is nearer hides what is behind it, and colors are classes."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from robustseg_core.output.cloud_picture import (
    EYE,
    GROUND,
    TARGET,
    UNLABELLED,
    cloud_picture,
    viewer_from_camera,
)
from robustseg_core.types import IGNORE
from support.label_maps import a_spec

SIZE = (120, 200)


def seen(xyz, ids) -> np.ndarray:
    points = np.array(xyz, np.float32).reshape(-1, 3)
    return cloud_picture(points, np.array(ids, np.uint8), a_spec(), size=SIZE)


def colors(picture) -> set[tuple[int, ...]]:
    return set(map(tuple, picture.reshape(-1, 3).tolist())) - {GROUND}


def test_who_looks_sees_the_target_in_the_middle_and_what_is_right_on_the_right():
    pose = viewer_from_camera()
    np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)
    assert np.linalg.det(pose) > 0.999
    np.testing.assert_allclose(pose @ [*EYE, 1], [0, 0, 0, 1], atol=1e-12)
    x, y, z, _ = pose @ [*TARGET, 1]
    assert abs(x) < 1e-12 and abs(y) < 1e-12 and z > 10
    rows, cols = np.nonzero((seen([TARGET], [0]) != GROUND).any(-1))
    assert abs(rows.mean() - 59.5) <= 1 and abs(cols.mean() - 99.5) <= 1
    right = np.add(TARGET, (3, 0, 0))
    assert np.nonzero((seen([right], [0]) != GROUND).any(-1))[1].mean() > 110
    low = np.add(TARGET, (0, 1, 0))
    assert np.nonzero((seen([low], [0]) != GROUND).any(-1))[0].mean() > 62


def test_the_nearer_point_of_a_ray_hides_the_other():
    behind = np.add(TARGET, np.subtract(TARGET, EYE))
    assert colors(seen([behind, TARGET], [0, 1])) == {a_spec().palette[1]}
    assert colors(seen([TARGET, behind], [0, 1])) == {a_spec().palette[0]}


def test_who_has_no_label_is_gray_and_who_has_no_place_is_not_there():
    assert colors(seen([TARGET], [IGNORE])) == {UNLABELLED}
    assert colors(seen([(np.nan, 0, 0), (0, 0, -90)], [0, 1])) == set()
    assert colors(seen([], [])) == set()


@given(st.lists(st.tuples(*[st.floats(-200, 200)] * 3), max_size=30))
def test_whatever_the_points_it_is_a_picture_in_known_colors(points):
    ids = [n % 2 for n in range(len(points))]
    picture = seen(points, ids)
    assert picture.shape == (*SIZE, 3) and picture.dtype == np.uint8
    assert colors(picture) <= set(a_spec().palette)


def test_a_caption_is_written():
    blank = seen([], [])
    points = np.zeros((0, 3), np.float32)
    told = cloud_picture(points, np.zeros(0, np.uint8), a_spec(), "1.00 s: rgb", size=SIZE)
    assert (told != blank).any()
