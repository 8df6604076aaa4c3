"""Raw MUSES: LiDAR and events land where calibration says, by hand and by OpenCV."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from robustseg_core import datasets
from robustseg_core.errors import RobustsegError
from support.dataset_trees import (
    EVENT_SIZE,
    MUSES_CALIB,
    MUSES_SIZE,
    muses,
    muses_file,
    write_events,
    write_scan,
)

pytestmark = pytest.mark.slow

Muses = datasets.load("muses")
SCALE = 1920 / MUSES_SIZE[1]
"""Pixels of the grid that K is for, per pixel of the tree."""


@pytest.fixture
def own(tmp_path):
    """A tree that a test may change; sample 0 of train is scene 0."""
    muses(tmp_path)
    return tmp_path


def load(root, *, size=None, modalities=None, **options):
    options = {"event_size": EVENT_SIZE, **options}
    return Muses([root], size=size, modalities=modalities, options=options)


def lidar_of(root, points, **options) -> np.ndarray:
    """The encoded scan of `points`, each return one pixel."""
    write_scan(muses_file(root, 0, "lidar", "lidar.bin"), points)
    options.setdefault("lidar", {"grow": 1})
    return load(root, modalities=("lidar",), **options)[0].images["lidar"]


def spot(x: float, y: float, z: float, size=MUSES_SIZE) -> tuple[int, int]:
    """(row, column) by K, worked out by hand, of a point in the LiDAR's frame."""
    u, v = 1000 * -y / x + 959.5, 1000 * -z / x + 539.5
    return int((v + 0.5) * size[0] / 1080), int((u + 0.5) * size[1] / 1920)


def test_a_return_lands_where_the_calibration_says(own):
    lidar = lidar_of(own, [[10, 2.0, 1.0, 51]])
    rows, cols = np.nonzero(lidar[0])
    assert [(int(r), int(c)) for r, c in zip(rows, cols, strict=True)] == [spot(10, 2, 1)]
    at = lidar[:, rows[0], cols[0]]
    np.testing.assert_allclose(at[0], np.sqrt(105) / 80, rtol=1e-5)
    np.testing.assert_allclose(at[1], 51 / 255, rtol=1e-5)
    np.testing.assert_allclose(at[2], (1.0 + 5) / 20, rtol=1e-5)  # height over the camera


@pytest.mark.parametrize("size", [(54, 96), (108, 192), (64, 64), (1080, 1920)])
def test_intrinsics_are_rescaled_to_the_size_of_the_samples(own, size):
    point = (20, -4.0, 1.5)
    lidar = lidar_of(own, [[*point, 9]])  # as the pictures are
    assert np.argwhere(lidar[0]).tolist() == [list(spot(*point))]
    lidar = load(own, modalities=("lidar",), size=size, lidar={"grow": 1})[0].images["lidar"]
    assert np.argwhere(lidar[0]).tolist() == [list(spot(*point, size=size))]


def test_points_behind_the_camera_are_not_in_the_picture(own):
    assert spot(10, 2, 1) == spot(-10, -2, -1)  # dividing by a negative depth would show it
    lidar = lidar_of(own, [[-10, -2, -1, 9], [10, -3, 0, 9]])
    assert np.argwhere(lidar[0]).tolist() == [list(spot(10, -3, 0))]


@pytest.mark.parametrize("order", [1, -1])
def test_the_nearest_of_two_returns_wins_whatever_their_order(own, order):
    lidar = lidar_of(own, [[10, 1, 0, 9], [40, 4, 0, 200]][::order])
    row, col = spot(10, 1, 0)
    np.testing.assert_allclose(lidar[0, row, col], np.sqrt(101) / 80, rtol=1e-5)
    assert np.count_nonzero(lidar[0]) == 1


def test_the_car_itself_is_dropped_and_a_scan_of_nothing_else_is_absent(own):
    lidar = lidar_of(own, [[0.5, 0.1, 0, 9], [np.nan, 1, 1, 1], [10, 1, 0, 9]])
    assert np.count_nonzero(lidar[0]) == 1
    write_scan(muses_file(own, 0, "lidar", "lidar.bin"), [[0.5, 0.1, 0, 9]])
    assert set(load(own)[0].images) == {"rgb", "event"}
    assert set(load(own, nearest_m=0.0)[0].images) == {"rgb", "event", "lidar"}


def events_of(root, x, y, t, p, **options) -> np.ndarray:
    """Counts of ON and OFF events."""
    write_events(muses_file(root, 0, "event_camera", "event_camera.h5"), x, y, t, p)
    data = load(root, modalities=("event",), **options)
    return np.rint(data[0].images["event"] * data.encodings["event"]["clip"])


def test_all_30_ms_of_events_count_though_their_clock_is_unsigned(own):
    t = [0, 1, 15_000, 29_999]
    counts = events_of(own, [32] * 4, [18] * 4, t, [1, 0, 1, 1])
    assert counts.sum((1, 2)).tolist() == [3, 1, 0]
    assert events_of(own, [32], [18], [5], [1]).sum() == 1  # 5 - 30000 would wrap around


def test_a_shorter_window_keeps_the_last_events(own):
    t = [0, 19_999, 20_000, 29_999]
    event = {"window_ms": 10}
    assert events_of(own, [32] * 4, [18] * 4, t, [1, 1, 1, 1], event=event).sum() == 2
    with pytest.raises(RobustsegError, match="window_ms"):
        load(own, event={"window_ms": 31})


def test_events_are_placed_by_rotation_and_both_lenses(own):
    x, y = 40, 10
    counts = events_of(own, [x], [y], [100], [1])
    # K_rgb R K_event^-1, with R the identity; the 0.1 m between them is not known to be parallax
    u, v = (x - 31.5) / 33 * 1000 + 959.5, (y - 17.5) / 33 * 1000 + 539.5
    expected = [0, int((v + 0.5) / SCALE), int((u + 0.5) / SCALE)]
    assert np.argwhere(counts).tolist() == [expected]


def test_events_land_where_stereo_rectification_and_back_puts_them(own):
    # The baselines' way (MUSES' SDK), by OpenCV: independent of our projection.
    turn, _ = cv2.Rodrigues(np.array([0.03, -0.05, 0.02]))
    event2rgb = np.eye(4)
    event2rgb[:3, :3], event2rgb[:3, 3] = turn, (0.12, 0.01, -0.02)
    calib = json.loads(json.dumps(MUSES_CALIB))
    calib["extrinsics"]["event2rgb"] = event2rgb.tolist()
    (own / "calib.json").write_text(json.dumps(calib))
    k_rgb, k_event = (np.array(calib["intrinsics"][c]["K"]) for c in ("rgb", "event"))
    x, y = (a.ravel() for a in np.meshgrid(np.arange(20, 44, 4), np.arange(10, 26, 3)))

    rgb2event = np.linalg.inv(event2rgb)
    r_rgb, r_event, p_rgb, p_event, *_ = cv2.stereoRectify(
        k_rgb,
        None,
        k_event,
        None,
        (1920, 1080),
        rgb2event[:3, :3],
        rgb2event[:3, 3:],
        flags=cv2.CALIB_ZERO_DISPARITY,
    )
    points = np.stack([x, y], -1)[:, None].astype(float)
    points = cv2.undistortPoints(points, k_event, None, R=r_event, P=p_event)
    points = cv2.undistortPoints(points, p_rgb[:, :3], None, R=np.linalg.inv(r_rgb), P=k_rgb)
    expected = {(round(v), round(u)) for u, v in points.reshape(-1, 2).tolist()}

    counts = events_of(own, x, y, np.arange(x.size), np.ones(x.size), size=(1080, 1920))
    assert {(int(r), int(c)) for r, c in np.argwhere(counts[0])} == expected
    assert len(expected) == x.size


def test_many_events_on_a_pixel_saturate_and_do_not_wrap(own):
    data = load(own, modalities=("event",))
    write_events(
        muses_file(own, 0, "event_camera", "event_camera.h5"),
        [32] * 300,
        [18] * 300,
        np.arange(300),
        [1] * 300,
    )
    assert data[0].images["event"].max() == 1.0


def test_an_event_sensor_of_another_size_is_noticed(own):
    path = muses_file(own, 0, "event_camera", "event_camera.h5")
    write_events(path, [1000] * 9, [700] * 9, range(9), [1] * 9)
    with pytest.raises(RobustsegError, match=r"36x64; set options\.event_size"):
        load(own, modalities=("event",))[0]
    assert load(own, modalities=("event",), event_size=(720, 1280))[0].images["event"].shape
