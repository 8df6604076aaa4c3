"""The labelled cloud: each point has what the mask says where it lands, whoever measured it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustseg_core import modalities
from robustseg_core.codecs.message_types import CLOUD
from robustseg_core.config import PointsConfig
from robustseg_core.geometry.scene import Scene
from robustseg_core.geometry.view import View
from robustseg_core.output import messages
from robustseg_core.output.cloud import cloud
from robustseg_core.types import IGNORE, Reading
from support.label_maps import a_map, a_spec
from support.makers import camera_info, image, transform, xyz
from support.twins import both

HEIGHT, WIDTH = 30, 40
OPTICAL = (0.5, -0.5, 0.5, 0.5)
RNG = np.random.default_rng(21)
POINTS = RNG.uniform([2, -3, -2], [20, 3, 2], (500, 3)).astype(np.float32)
METRES = RNG.uniform(1, 9, (10, 8)).astype(np.float32)
METRES[3:6, 4:7] = np.nan
IDS = RNG.choice(np.array([0, 1, IGNORE], np.uint8), (HEIGHT, WIDTH))
SURE = RNG.integers(0, 256, (HEIGHT, WIDTH), np.uint8)
READINGS = {
    "depth": image(METRES, "32FC1", frame_id="/camera"),
    "lidar": xyz(POINTS, frame_id="/lidar"),
}


def a_view() -> View:
    view = View((32, 64))
    view.set_camera_info("rgb", camera_info(60, 80, fx=70.0, d=(-0.1, 0.02, 0, 0, 0)))
    view.add_transforms(transform("camera", "lidar", (0.2, -0.1, 0.3), OPTICAL))
    return view


def a_scene(*names: str) -> Scene:
    view, placed = a_view(), {}
    for name in names:
        decoder, message = modalities.load(name)(), READINGS[name]
        reading = Reading(name, 1, message.header.frame_id, decoder.decode(message, 1))
        placed[name] = decoder.placed(reading, view)
    return Scene(view.calibration, placed)


def a_mask(*names: str) -> Any:
    return a_map(ids=IDS, confidence=SURE, scene=a_scene(*names))


def said(*names: str, **options: Any) -> tuple[Any, np.ndarray]:
    """(message, its points by name of field), as NumPy reads it by the message alone."""
    fields = cloud(a_mask(*names), a_spec(), PointsConfig(**options))
    message = messages.to_rosbags(CLOUD, fields)
    formats = {6: "<u4", 7: "<f4"}
    layout = np.dtype(
        {
            "names": [field.name for field in message.fields],
            "formats": [formats[field.datatype] for field in message.fields],
            "offsets": [field.offset for field in message.fields],
            "itemsize": message.point_step,
        }
    )
    assert message.row_step == message.width * message.point_step
    assert len(message.data) == message.height * message.row_step and not message.is_bigendian
    return message, message.data.view(layout).reshape(message.height, message.width)


def check_labels(points: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> None:
    ids = IDS[rows, cols]
    np.testing.assert_array_equal(points["label"], ids)
    np.testing.assert_allclose(points["confidence"], SURE[rows, cols] / 255, rtol=1e-6)
    colors = {0: 0x0000FF, 1: 0x00FF00, IGNORE: 0}
    np.testing.assert_array_equal(points["rgb"].view("<u4"), [colors[i] for i in ids.tolist()])


def positions(points: np.ndarray) -> np.ndarray:
    return np.stack([points[name] for name in "xyz"], axis=-1)


def test_a_scan_keeps_its_frame_and_each_point_has_the_label_of_its_pixel():
    message, points = said("lidar", "depth")
    assert (message.header.frame_id, message.header.stamp.nanosec) == ("lidar", 34)
    assert [field.name for field in message.fields] == [*"xyz", "rgb", "label", "confidence"]
    assert message.height == 1 and message.is_dense
    view = a_view()
    # By the other way: onto a grid of the mask's size, point by point.
    view.size = (HEIGHT, WIDTH)
    found = view.project(view.place("lidar", "lidar", POINTS))
    np.testing.assert_array_equal(positions(points[0]), POINTS[found.index])
    check_labels(points[0], found.rows, found.cols)
    assert 50 < len(found.index) < len(POINTS), "what lands beside the mask is left out"


def test_without_the_lidar_the_points_are_depths():
    message, points = said("depth")
    assert message.header.frame_id == "camera"
    rows, cols = np.nonzero(np.isfinite(METRES))
    landed = positions(points[0])[:, 2]
    measured = METRES[rows, cols]
    assert set(landed.tolist()) <= set(measured.tolist()) and len(landed) > 0.97 * len(measured)
    # A depth pixel covers 3 by 5 of the mask; its center lands in the middle one.
    keep = np.isin(measured, landed)
    check_labels(points[0], 3 * rows[keep] + 1, 5 * cols[keep] + 2)


@pytest.mark.parametrize("name", ["lidar", "depth"])
def test_organized_there_is_one_point_a_pixel_and_it_is_the_nearest(name):
    message, points = said(name, organized=True)
    assert (message.height, message.width, message.is_dense) == (HEIGHT, WIDTH, False)
    rows, cols = np.indices(IDS.shape)
    check_labels(points.ravel(), rows.ravel(), cols.ravel())
    _, loose = said(name)
    placed = a_scene(name).placed[name]
    here = positions(loose[0])
    found = placed.lands(here, (HEIGHT, WIDTH))
    nearest: dict[tuple[int, int], int] = {}
    order = np.argsort(-found.depth_m, kind="stable")
    for at in order.tolist():
        nearest[int(found.rows[at]), int(found.cols[at])] = int(found.index[at])
    known = np.isfinite(positions(points)).all(axis=-1)
    assert set(map(tuple, np.argwhere(known).tolist())) == set(nearest)
    for (row, col), index in nearest.items():
        np.testing.assert_array_equal(positions(points)[row, col], here[index])


@pytest.mark.parametrize(
    ("source", "organized", "alive", "frame"),
    [
        ("auto", False, ("depth", "lidar"), "lidar"),
        ("auto", True, ("depth", "lidar"), "camera"),
        ("auto", True, ("lidar",), "lidar"),
        ("auto", False, ("depth",), "camera"),
        ("lidar", True, ("depth", "lidar"), "lidar"),
        ("depth", False, ("depth", "lidar"), "camera"),
        ("depth", False, ("lidar",), None),
        ("auto", False, (), None),
    ],
)
def test_whose_points_they_are(source, organized, alive, frame):
    points = PointsConfig(source=source, organized=organized)
    fields = cloud(a_mask(*alive), a_spec(), points)
    assert (fields and fields["header"]["frame_id"]) == frame


def test_a_mask_that_nobody_kept_a_scene_of_has_no_points():
    assert cloud(a_map(), a_spec(), PointsConfig()) is None


def test_a_scan_beside_the_image_is_an_empty_cloud(monkeypatch):
    monkeypatch.setitem(READINGS, "lidar", xyz(-POINTS, frame_id="/lidar"))
    message, points = said("lidar")
    assert (message.height, message.width, points.size) == (1, 0, 0)


@given(st.integers(1, 600))
def test_a_cloud_is_never_larger_than_is_wanted(most):
    for name in READINGS:
        _, points = said(name, most=most)
        assert points.size <= most
        _, organized = said(name, most=most, organized=True)
        assert organized.size == IDS.size and np.isfinite(organized["x"]).sum() > 50


def test_our_own_decoder_reads_it():
    """As a driver's cloud, by either message class."""
    message, points = said("lidar")
    for twin in both(message):
        read = modalities.load("lidar")().decode(twin, 1)
        np.testing.assert_array_equal(read.xyz, positions(points[0]))
