"""A mask's camera, resized, and points that land where the network saw them."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustseg_core import modalities
from robustseg_core.config import ViewConfig
from robustseg_core.errors import RobustsegError
from robustseg_core.geometry.camera import Camera
from robustseg_core.geometry.view import View
from robustseg_core.types import Reading
from support.makers import camera_info, image, transform, xyz

RNG = np.random.default_rng(11)
BENT = (-0.2, 0.05, 0.001, -0.001, 0.01)
OPTICAL = (0.5, -0.5, 0.5, 0.5)
POINTS = RNG.uniform([2, -3, -2], [20, 3, 2], (400, 3)).astype(np.float32)


def a_view(**options) -> View:
    view = View((64, 96), ViewConfig(**options))
    view.set_camera_info("rgb", camera_info(60, 80, fx=70.0, d=BENT))
    view.add_transforms(
        transform("camera", "lidar", translation=(0.2, -0.1, 0.3), quaternion=OPTICAL)
    )
    return view


def reading(name: str, message) -> Reading:
    return Reading(name, 1, message.header.frame_id, modalities.load(name)().decode(message, 1))


@given(
    st.integers(8, 300),
    st.integers(8, 300),
    st.sampled_from([(), BENT]),
    st.sampled_from([(0, 0, 0, 0), (8, 4, 40, 64)]),
)
def test_a_resized_camera_sees_each_point_at_the_same_place_of_its_image(height, width, d, roi):
    info = camera_info(60, 80, fx=70.0, d=d)
    info.p = np.array([65, 0, 40, 0, 0, 64, 31, 0, 0, 0, 1, 0], np.float64)
    info.roi.x_offset, info.roi.y_offset, info.roi.height, info.roi.width = roi
    info.binning_x = info.binning_y = 2
    camera = Camera.from_message(info)
    small = camera.scaled(height, width)
    assert (small.height, small.width, small.binning) == (height, width, (1, 1))
    assert small.image_size == (height, width)
    points = RNG.uniform([-1, -1, 1], [1, 1, 5], (50, 3))
    (u, v, *_), (su, sv, *_) = camera.project(points), small.project(points)
    np.testing.assert_allclose((su + 0.5) / width, (u + 0.5) / camera.width, atol=1e-9)
    np.testing.assert_allclose((sv + 0.5) / height, (v + 0.5) / camera.height, atol=1e-9)
    # P, too: the principal point stays at the same share of the (cropped) picture.
    fx, fy, cx, cy = small.p
    assert fx == pytest.approx(65 * width / camera.width)
    assert fy == pytest.approx(64 * height / camera.height)
    assert (cx + 0.5) / width == pytest.approx((40 - roi[0] + 0.5) / camera.width)
    assert (cy + 0.5) / height == pytest.approx((31 - roi[1] + 0.5) / camera.height)
    again = small.scaled(camera.height, camera.width)
    np.testing.assert_allclose(
        [again.fx, again.fy, again.cx, again.cy, *again.p],
        [camera.fx, camera.fy, camera.cx, camera.cy, *camera.p],
    )


def test_how_raw_images_are_rectified_is_kept_and_projects_nothing():
    info = camera_info(60, 80, fx=70.0, d=BENT)
    turn, _ = cv2.Rodrigues(np.array([0.01, -0.02, 0.005]))
    info.r, info.p[[0, 5]] = turn.ravel(), 66.0
    raw, plain = Camera.from_message(info), Camera.from_message(camera_info(60, 80, 70.0, d=BENT))
    assert raw.r == tuple(turn.ravel()) and raw.p[:2] == (66.0, 66.0)
    assert plain.r == plain.p == ()
    assert replace(raw, p=(), r=()) == plain and plain.changes(raw) == ""
    rectified = Camera.from_message(info, rectified=True)
    assert (rectified.fx, rectified.rotation) == (66.0, tuple(turn.ravel()))
    assert rectified.p == rectified.r == ()


def test_a_calibration_of_another_picture_is_none_of_the_mask():
    view = a_view()
    assert view.calibration == view.camera
    view.set_image_size(80, 80)
    assert view.camera is not None and view.calibration is None
    told = View((64, 96), ViewConfig(intrinsics=(70, 70, 40, 40)))
    told.set_image_size(80, 80)
    assert told.calibration == told.camera
    assert View((64, 96)).calibration is None


def test_points_of_a_scan_land_where_the_network_saw_them():
    view, lidar = a_view(), modalities.load("lidar")()
    scan = reading("lidar", xyz(POINTS))
    placed = lidar.placed(scan, view)
    points = lidar.points(placed, 10_000)
    np.testing.assert_array_equal(points, scan.data.xyz)
    found = placed.lands(points, view.size)
    expected = view.project(view.place("lidar", scan.frame_id, points))
    np.testing.assert_array_equal(found.index, expected.index)
    np.testing.assert_array_equal([found.rows, found.cols], [expected.rows, expected.cols])
    seen = placed.nearest(points, view.size)
    np.testing.assert_array_equal(seen.index, view.nearest("lidar", scan.frame_id, points).index)
    assert 50 < len(found.index) < 400, "some lie beside the image"


def test_a_scene_stays_when_the_view_learns():
    view, lidar = a_view(), modalities.load("lidar")()
    placed = lidar.placed(reading("lidar", xyz(POINTS)), view)
    before = placed.lands(POINTS, (60, 80))
    view.add_transforms(transform("camera", "lidar", translation=(5, 0, 0), quaternion=OPTICAL))
    view.set_camera_info("rgb", camera_info(60, 80, fx=50.0))
    after = placed.lands(POINTS, (60, 80))
    np.testing.assert_array_equal(before.index, after.index)
    np.testing.assert_array_equal(before.cols, after.cols)


DEPTH_M = cv2.resize(RNG.uniform(1, 9, (6, 8)).astype(np.float32), (40, 30))


def test_pixels_of_an_aligned_depth_image_land_on_themselves():
    view, depth = a_view(), modalities.load("depth")()
    holes = DEPTH_M.copy()
    holes[5:9, 3:20] = np.nan
    seen = reading("depth", image(holes, "32FC1", frame_id="camera"))
    placed = depth.placed(seen, view)
    points = depth.points(placed, 10_000)
    assert len(points) == np.count_nonzero(np.isfinite(holes)) and points.dtype == np.float32
    found = placed.lands(points, (30, 40))
    rows, cols = np.nonzero(np.isfinite(holes))
    np.testing.assert_array_equal(found.rows, rows[found.index])
    np.testing.assert_array_equal(found.cols, cols[found.index])
    np.testing.assert_allclose(found.depth_m, holes[found.rows, found.cols], rtol=1e-5)
    assert len(found.index) > 0.97 * len(points)


def test_pixels_of_a_depth_camera_of_its_own_lie_in_its_own_frame():
    view, depth = a_view(), modalities.load("depth")()
    view.set_camera_info("depth", camera_info(30, 40, fx=30.0, frame_id="tof"))
    view.add_transforms(transform("camera", "tof", translation=(0.1, 0, 0)))
    seen = reading("depth", image(DEPTH_M, "32FC1", frame_id="tof"))
    placed = depth.placed(seen, view)
    points = depth.points(placed, 10_000)
    rays = Camera.from_message(camera_info(30, 40, fx=30.0)).rays(30, 40)
    np.testing.assert_allclose(points, rays * DEPTH_M.reshape(-1, 1), rtol=1e-6)
    found = placed.nearest(points, view.size)
    rays, lengths = view.rays("depth", 30, 40), DEPTH_M.ravel()
    expected = view.nearest("depth", "tof", rays, lengths=lengths)
    np.testing.assert_array_equal(found.index, expected.index)


@given(st.integers(1, 2000))
def test_there_are_never_more_points_than_are_wanted(most: int):
    view = a_view()
    for name, message in (
        ("lidar", xyz(POINTS)),
        ("depth", image(DEPTH_M, "32FC1", frame_id="camera")),
    ):
        decoder = modalities.load(name)()
        placed = decoder.placed(reading(name, message), view)
        whole, some = decoder.points(placed, 1 << 20), decoder.points(placed, most)
        assert 0 < len(some) <= most
        assert {tuple(point) for point in some} <= {tuple(point) for point in whole}
        assert len(some) >= min(most, len(whole)) / 4.1


def test_without_a_lens_nothing_has_a_place():
    bare = View((64, 96))
    seen = reading("depth", image(DEPTH_M, "32FC1", frame_id="camera"))
    assert modalities.load("depth")().placed(seen, bare) is None
    assert modalities.load("lidar")().placed(reading("lidar", xyz(POINTS)), bare) is None


def test_who_knows_no_distances_has_no_points():
    for name in modalities.available():
        kind = modalities.load(name)
        assert kind.ranges is (name in ("depth", "lidar"))
        if not kind.ranges:
            assert kind().placed(Reading(name, 1, "camera", None), a_view()) is None
    placed = modalities.load("lidar")().placed(reading("lidar", xyz(POINTS)), a_view())
    with pytest.raises(RobustsegError, match="lidar knows no distances"):
        modalities.load("rgb").points(placed, 10)
