"""The common pixel grid: lenses against OpenCV, transforms against arithmetic, changes mid-run."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustseg_core.config import ViewConfig
from robustseg_core.geometry.camera import Camera
from robustseg_core.geometry.view import View
from robustseg_core.types import Fault, Rejection
from support.makers import camera_info, make, transform
from support.twins import rclpy_twin

RNG = np.random.default_rng(5)
OPTICAL = (-0.5, 0.5, -0.5, 0.5)
"""Pose of an optical frame (z forward) in a body frame (x forward)."""


def ready(**options) -> View:
    view = View((96, 128), ViewConfig(**options))
    view.set_camera_info("rgb", camera_info())
    return view


LENSES = {
    "plumb_bob": (-0.3, 0.1, 0.001, -0.002, -0.02),
    "rational_polynomial": (0.4, -0.2, 0.0005, 0.0008, 0.03, 0.7, -0.1, 0.05),
    "equidistant": (0.05, -0.01, 0.004, -0.001),
}


def lens(model: str) -> Camera:
    return Camera.from_message(camera_info(model=model, d=LENSES[model]))


@pytest.mark.parametrize("model", LENSES)
def test_a_lens_bends_as_opencv_says(model: str) -> None:
    camera = lens(model)
    points = RNG.uniform([-1.2, -0.9, 1.5], [1.2, 0.9, 9], (300, 3))
    u, v, depth_m, index = camera.project(points)
    k = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])
    d, zero = np.array(LENSES[model]), np.zeros(3)
    if model == "equidistant":
        expected, _ = cv2.fisheye.projectPoints(points[:, None], zero, zero, k, d)
    else:
        expected, _ = cv2.projectPoints(points, zero, zero, k, d)
    assert len(index) == 300
    np.testing.assert_allclose(np.stack([u, v], -1), expected.reshape(-1, 2), atol=1e-6)
    np.testing.assert_array_equal(depth_m, points[:, 2])


@pytest.mark.parametrize("model", LENSES)
def test_a_ray_of_a_pixel_projects_onto_that_pixel(model: str) -> None:
    camera = lens(model)
    rays = camera.rays(48, 64)  # an image scaled by ten
    u, v, _, index = camera.project(rays * 3)
    assert len(index) > 0.99 * len(rays)
    np.testing.assert_allclose((u + 0.5) / 10 - 0.5, index % 64, atol=0.05)  # half a camera pixel
    np.testing.assert_allclose((v + 0.5) / 10 - 0.5, index // 64, atol=0.05)


def test_points_far_beside_the_robot_do_not_fold_back_into_the_picture() -> None:
    info = camera_info(d=(-0.4, 0.0, 0, 0, 0))  # r (1 - 0.4 r^2) returns to 0 at r = 1.58
    points = np.array([[1.58, 0, 1], [-1.5, 0.2, 1], [0.1, 0.1, 1]], np.float32)
    camera = Camera.from_message(info)
    assert camera.reach == pytest.approx(1 / np.sqrt(1.2), rel=0.01)
    _, _, _, index = camera.project(points)
    assert index.tolist() == [2]


def test_what_is_behind_the_camera_is_never_seen() -> None:
    found = ready().project(np.array([[0, 0, -2], [0, 0, 0], [np.nan, 0, 1], [0, 0, 2.0]]))
    assert found.index.tolist() == [3]


@given(st.lists(st.tuples(*[st.floats(width=32, allow_nan=True)] * 3), min_size=1, max_size=20))
def test_no_point_lands_outside_the_grid(points) -> None:
    view = ready()
    view.set_camera_info("rgb", camera_info(d=LENSES["plumb_bob"]))
    found = view.project(np.array(points, np.float32))
    rows, cols, depth_m, index = found.rows, found.cols, found.depth_m, found.index
    assert ((rows >= 0) & (rows < 96) & (cols >= 0) & (cols < 128)).all()
    assert (depth_m > 0).all()
    assert (index < len(points)).all()


def test_the_grid_shares_its_edges_with_the_camera() -> None:
    view = View((48, 64))
    view.set_camera_info("rgb", camera_info(height=480, width=640, fx=500.0))
    u = np.array([-0.6, -0.4, 9.4, 9.6, 639.4, 639.6])  # camera pixels; one cell is 10 wide
    points = np.stack([(u - 319.5) / 500, np.zeros(6), np.ones(6)], axis=1)
    found = view.project(points)
    rows, cols, index = found.rows, found.cols, found.index
    assert index.tolist() == [1, 2, 3, 4]
    assert cols.tolist() == [0, 0, 1, 63]
    assert (rows == 24).all()


IDENTITY = (0, 0, 0, 0, 0, 0, 1)


def test_the_nearest_return_hides_those_behind_it() -> None:
    view = ready(extrinsics={"lidar": IDENTITY})
    points = np.array([[0, 0, 5], [0, 0, 2], [0, 0, 9], [1, 0, 3]], np.float32)
    index = view.nearest("lidar", "", points).index
    assert sorted(index[index >= 0].tolist()) == [1, 3]
    found = view.nearest("lidar", "", points, grow=3)
    assert np.count_nonzero(found.index >= 0) == 18
    assert np.array_equal(found.index < 0, np.isinf(found.depth_m))
    assert set(found.index.tolist()) == {-1, 1, 3}
    behind = view.nearest("lidar", "", points * np.float32([1, 1, -1]))
    assert (behind.index < 0).all()


def nearest_slowly(view: View, points: np.ndarray, grow: int) -> np.ndarray:
    """(H * W,) depth of the nearest of the points on each pixel, over whole arrays."""
    found = view.project(view.place("lidar", "", points))
    depth_m = np.full(view.size, np.inf, np.float32)
    np.minimum.at(depth_m, (found.rows, found.cols), found.depth_m)
    largest = np.float32(1e30)  # morphology makes NaN of infinity
    finite = np.minimum(depth_m, largest)
    grown = cv2.erode(finite, np.ones((grow, grow), np.uint8))
    return np.where(grown < largest, grown, np.float32(np.inf)).ravel()


@pytest.mark.parametrize("model", ["none", *LENSES])
@pytest.mark.parametrize("turned", [False, True])
@settings(max_examples=20, deadline=None)
@given(
    count=st.integers(0, 700),
    grow=st.integers(1, 4),
    odd=st.sampled_from([0.0, np.nan, np.inf, 1e20]),
    seed=st.integers(0, 99),
)
def test_one_pass_puts_points_where_four_do(model, turned, count, grow, odd, seed) -> None:
    rng = np.random.default_rng(seed)
    view = View((48, 64), ViewConfig(extrinsics={"lidar": (0.1, -0.2, 0.3, 0.1, 0.2, -0.1, 1)}))
    r = cv2.Rodrigues(np.array([0.02, -0.01, 0.03]))[0].ravel() if turned else np.eye(3).ravel()
    options = {} if model == "none" else {"model": model, "d": LENSES[model]}
    view.set_camera("rgb", replace(Camera.from_message(camera_info(**options)), rotation=tuple(r)))
    points = rng.normal(0, [3, 2, 5], (count, 3)).astype(np.float32)
    points[: count // 50] *= np.float32(odd)
    with np.errstate(all="ignore"):
        found = view.nearest("lidar", "", points, grow=grow)
        expected = nearest_slowly(view, points, grow)
    np.testing.assert_allclose(found.depth_m, expected, rtol=1e-5)
    seen = found.index >= 0
    assert np.array_equal(seen, np.isfinite(found.depth_m))
    there = view.place("lidar", "", points[found.index[seen]])
    if not turned:
        np.testing.assert_array_equal(there[:, 2], found.depth_m[seen])


@given(seed=st.integers(0, 99))
def test_rays_without_a_length_hit_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    view = ready(extrinsics={"depth": IDENTITY})
    rays = rng.uniform(-0.4, 0.4, (300, 3)).astype(np.float32) + np.float32([0, 0, 1])
    lengths = rng.choice(np.float32([0, -1, np.nan, 1, 2.5]), 300)
    with_lengths = view.nearest("depth", "", rays, lengths=lengths)
    good = lengths > 0
    alone = view.nearest("depth", "", rays[good] * lengths[good, None])
    np.testing.assert_array_equal(with_lengths.depth_m, alone.depth_m)
    assert good[with_lengths.index[with_lengths.index >= 0]].all()


# -- where sensors are ------------------------------------------------------------------------


def test_a_chain_of_transforms_is_followed_in_both_directions() -> None:
    view = View((96, 128))
    view.set_camera_info("rgb", camera_info(frame_id="/camera"))
    assert view.missing_for("lidar", "lidar") is Fault.NO_TF
    view.add_transforms(transform("base", "mast", (0, 0, 1)))
    view.add_transforms(transform("/mast", "camera", (0.5, 0, 0), OPTICAL))
    view.add_transforms(transform("base", "roof", (0, 0, 2)))
    assert view.missing_for("lidar", "lidar") is Fault.NO_TF
    view.add_transforms(transform("roof", "lidar", (0, 0.25, 0)))
    assert view.missing_for("lidar", "/lidar") is None
    ahead = view.view_from("lidar", "lidar") @ [4, 0, 0, 1]
    # Body: x 4, y 0.25, z 2; from the camera 3.5 ahead, 0.25 left, 1 up.
    np.testing.assert_allclose(ahead, [-0.25, -1, 3.5, 1], atol=1e-12)


def test_a_child_that_moved_has_its_newest_pose() -> None:
    view = ready()
    view.add_transforms(transform("camera", "lidar", (1, 0, 0)))
    version = view.version
    view.add_transforms(transform("camera", "lidar", (1, 0, 0)))
    assert view.version == version
    view.add_transforms(transform("camera", "lidar", (2, 0, 0)))
    assert view.version > version
    assert view.view_from("lidar", "lidar")[0, 3] == 2


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=20))
def test_cycles_are_harmless(edges: list[tuple[int, int]]) -> None:
    view = View((96, 128))
    view.set_camera_info("rgb", camera_info(frame_id="f0"))
    for parent, child in edges:
        view.add_transforms(transform(f"f{parent}", f"f{child}", (1, 0, 0)))
    for name in range(6):
        if view.missing_for("lidar", f"f{name}") is None:
            assert np.isfinite(view.view_from("lidar", f"f{name}")).all()


def test_configured_extrinsics_replace_the_tree() -> None:
    view = ready(extrinsics={"lidar": (0, 0, 1, 0, 0, 0, 1)})
    assert view.missing_for("lidar", "nobody knows this frame") is None
    assert view.view_from("lidar", "x")[2, 3] == 1


def test_no_transform_says_which_and_how_to_give_it() -> None:
    with pytest.raises(Rejection, match=r"to 'camera' from 'lidar'; .*view.extrinsics.lidar"):
        ready().view_from("lidar", "/lidar")


@pytest.mark.parametrize("quaternion", [(0, 0, 0, 0), (np.nan, 0, 0, 1)])
def test_a_broken_transform_spares_its_neighbours(quaternion) -> None:
    view = ready()
    message = transform("camera", "broken", (0, 0, 0), quaternion)
    message.transforms += transform("camera", "lidar").transforms
    with pytest.raises(Rejection, match="transform camera to broken is"):
        view.add_transforms(message)
    assert view.missing_for("lidar", "lidar") is None
    assert view.missing_for("lidar", "broken") is Fault.NO_TF


# -- calibration ------------------------------------------------------------------------------


def test_a_view_without_calibration_says_so() -> None:
    view = View((96, 128))
    view.add_transforms(transform("camera", "lidar"))
    assert view.missing_for("lidar", "lidar") is Fault.NO_CALIB
    with pytest.raises(Rejection, match=r"view\.intrinsics"):
        view.project(np.ones((1, 3)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"k": np.zeros(9)}, "focal lengths > 0"),
        ({"height": 0}, "0x640 pixels"),
        ({"k": np.full(9, np.nan)}, "K is not finite"),
        ({"d": np.ones(5), "distortion_model": "magic"}, "'magic' with 5 coefficients"),
        ({"d": np.ones(14), "distortion_model": "rational_polynomial"}, "14 coefficients"),
    ],
)
def test_an_uncalibrated_camera_info_is_refused_and_the_last_good_one_stays(change, words) -> None:
    view = ready()
    message = camera_info()
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(Rejection, match=words) as caught:
        view.set_camera_info("rgb", message)
    assert caught.value.finding.fault is Fault.NO_CALIB
    assert view.camera == Camera.from_message(camera_info())


def test_a_camera_info_of_another_picture_is_no_calibration() -> None:
    view = ready(extrinsics={"lidar": (0, 0, 0, 0, 0, 0, 1)})
    view.set_image_size(240, 320)  # a scaled copy is fine
    assert view.missing_for("lidar", "lidar") is None
    view.set_image_size(600, 600)
    assert view.missing_for("lidar", "lidar") is Fault.NO_CALIB


def test_rectified_images_use_p_and_r_and_no_distortion() -> None:
    message = camera_info(d=LENSES["plumb_bob"])
    message.p = np.array([400.0, 0, 300, 0, 0, 410, 200, 0, 0, 0, 1, 0])
    turn = cv2.Rodrigues(np.array([0.0, 0.1, 0]))[0]
    message.r = turn.ravel()
    raw = Camera.from_message(message, rectified=None)
    rectified = Camera.from_message(message, rectified=True)
    assert (raw.fx, raw.distortion) == (500, LENSES["plumb_bob"])
    point = np.array([[0.3, 0.2, 2.0]])
    u, v, _, _ = rectified.project(point)
    x, y, z = turn @ point[0]
    assert u[0] == pytest.approx(400 * x / z + 300)
    assert v[0] == pytest.approx(410 * y / z + 200)


def test_binning_and_region_of_interest_move_the_grid_with_the_image() -> None:
    message = camera_info(height=480, width=640)
    message.binning_x = message.binning_y = 2
    message.roi = make(
        "sensor_msgs/msg/RegionOfInterest",
        x_offset=100,
        y_offset=40,
        height=240,
        width=320,
        do_rectify=True,
    )
    view = View((24, 32))
    view.set_camera_info("rgb", message)
    assert view.camera_size == (120, 160)
    # The principal point (319.5, 239.5) lies at (219.5, 199.5) of the region, of 10-pixel cells.
    found = view.project(np.array([[0, 0, 1.0]]))
    rows, cols = found.rows, found.cols
    assert (rows[0], cols[0]) == (20, 22)


def test_rclpy_messages_calibrate_too() -> None:
    view = View((96, 128))
    view.set_camera_info("rgb", rclpy_twin(camera_info(d=LENSES["plumb_bob"])))
    assert view.camera == Camera.from_message(camera_info(d=LENSES["plumb_bob"]))


def test_calibration_may_change_mid_run() -> None:
    view = ready(extrinsics={"lidar": (0, 0, 0, 0, 0, 0, 1)})
    version = view.version
    view.set_camera_info("rgb", camera_info())
    assert view.version == version
    before = view.project(np.array([[0.3, 0, 1.0]])).cols[0]
    view.set_camera_info("rgb", camera_info(height=960, width=1280))  # same focal length: wider
    assert view.version > version
    assert view.camera_size == (960, 1280)
    assert view.project(np.array([[0.3, 0, 1.0]])).cols[0] < before


def test_who_names_the_mask_size() -> None:
    view = View((96, 128))
    assert view.camera_size == (96, 128)
    view.set_image_size(300, 400, frame_id="/eye")
    assert (view.camera_size, view.frame_id) == ((300, 400), "eye")
    view.set_camera_info("depth", camera_info(height=480, width=640, frame_id="depth"))
    assert (view.camera_size, view.frame_id) == ((480, 640), "depth")
    view.set_camera_info("rgb", camera_info(height=720, width=1280, frame_id="rgb"))
    assert (view.camera_size, view.frame_id) == ((720, 1280), "rgb")
    configured = ready(width=100, height=50, frame_id="mine")
    assert (configured.camera_size, configured.frame_id) == ((50, 100), "mine")


def test_configured_intrinsics_need_no_camera_info() -> None:
    config = ViewConfig(intrinsics=(100, 100, 63.5, 47.5), frame_id="camera")
    view = View((96, 128), config)
    view.add_transforms(transform("camera", "lidar"))
    assert view.missing_for("lidar", "lidar") is None
    found = view.project(np.array([[0.1, 0.2, 1.0]]))
    rows, cols = found.rows, found.cols
    assert (rows[0], cols[0]) == (68, 74)


def test_a_sensor_without_depth_is_scaled_or_turned_onto_the_grid() -> None:
    view = ready()
    table = view.lookup("event", "event", 192, 256)
    assert table.shape == (192 * 256,)
    assert table[0] == 0
    assert table[-1] == 96 * 128 - 1
    assert table[192 // 2 * 256 + 100] == 48 * 128 + 50
    angle = 0.1  # the event camera looks a little to the right
    view.set_camera_info("event", camera_info(height=480, width=640, frame_id="event"))
    quaternion = (0, np.sin(angle / 2), 0, np.cos(angle / 2))
    view.add_transforms(transform("camera", "event", (5, 5, 5), quaternion))
    table = view.lookup("event", "event", 480, 640)
    col = int(((np.tan(angle) * 500 + 319.5) + 0.5) / 5)  # where its axis meets the camera
    assert table[240 * 640 + 320] == pytest.approx(48 * 128 + col, abs=1)
    assert table[240 * 640 + 639] == -1
