"""DELIVER: labels, partners, corner cases, and the ways in which its files are odd."""

from __future__ import annotations

import shutil

import cv2
import numpy as np
import pytest

from robustseg_core import datasets
from robustseg_core.datasets.deliver import CASES, split_scene
from robustseg_core.errors import RobustsegError
from robustseg_core.types import IGNORE
from support.dataset_trees import DELIVER_SCENES, DELIVER_SIDE, deliver, deliver_value, paint, write

Deliver = datasets.load("deliver")
MEAN = np.array([0.485, 0.456, 0.406], np.float32)[:, None, None]
STD = np.array([0.229, 0.224, 0.225], np.float32)[:, None, None]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("deliver")
    deliver(root)
    return root


@pytest.fixture
def own(tmp_path):
    """A tree that a test may damage."""
    deliver(tmp_path)
    return tmp_path


def scene(split: str) -> list[int]:
    """Indices into DELIVER_SCENES of a split, as the data set orders them."""
    found = [i for i, row in enumerate(DELIVER_SCENES) if row[0] == split]
    return sorted(found, key=lambda i: DELIVER_SCENES[i][1:])


def test_void_is_unknown_and_the_first_class_is_zero(tree):
    label = Deliver([tree])[0].label
    assert label[0, :4].tolist() == [IGNORE, 0, 24, IGNORE]
    assert len(Deliver.classes.names) == 25
    assert Deliver.classes.names[24] == "truck"
    assert Deliver.classes.palette[5] == (157, 234, 50)


def test_labels_are_read_from_the_first_channel_only(tree):
    # The other channels hold 99, which would be an impossible id.
    path = tree / "semantic/cloud/train/MAP_1_point102/110100_semantic_front.png"
    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert stored.shape == (DELIVER_SIDE, DELIVER_SIDE, 4)
    expected = stored[..., 2].astype(int) - 1  # OpenCV's red
    expected[(expected == -1) | (expected == 254)] = IGNORE
    np.testing.assert_array_equal(Deliver([tree])[0].label, expected)


def test_every_partner_belongs_to_its_camera_image_though_frame_numbers_repeat(tree):
    for split in ("train", "val", "test"):
        for sample, index in zip(Deliver([tree], split), scene(split), strict=True):
            value = deliver_value(index)
            rgb = (sample.images["rgb"] * STD + MEAN) * 255
            assert value - 0.01 <= rgb.min() <= rgb.max() <= value + 7.01
            for modality in ("depth", "lidar"):
                image = sample.images[modality] * 255
                assert value <= round(float(image.min())) <= round(float(image.max())) < value + 8
            event = sample.images["event"] * 255
            assert np.unique(np.rint(event[0])).tolist() == [value]
            assert not event[1:].any()


def test_an_image_with_alpha_is_its_first_three_channels(tree):
    index = next(i for i, row in enumerate(DELIVER_SCENES) if row[0] == "train" and i % 2)
    _, weather, name, frame = DELIVER_SCENES[index]
    path = tree / "img" / weather / "train" / name / f"{frame}_rgb_front.png"
    assert cv2.imread(str(path), cv2.IMREAD_UNCHANGED).shape[2] == 4
    sample = Deliver([tree])[scene("train").index(index)]
    expected = paint((DELIVER_SIDE, DELIVER_SIDE, 3), index, 20 + 20 * index, 28 + 20 * index)
    rgb = (sample.images["rgb"] * STD + MEAN) * 255
    np.testing.assert_allclose(rgb.transpose(1, 2, 0), expected, atol=1e-3)


def test_a_gray_lidar_picture_is_repeated_to_three_channels(tree):
    lidar = Deliver([tree])[scene("train").index(1)].images["lidar"]  # odd scenes are gray
    np.testing.assert_array_equal(lidar[0], lidar[1])
    np.testing.assert_array_equal(lidar[0], lidar[2])


def test_events_of_half_the_size_are_enlarged_to_the_camera_s(own):
    folder = own / "event/night/train/MAP_2_point7_eventlowres"
    side = DELIVER_SIDE // 2
    small = np.zeros((side, side, 3), np.uint8)
    small[3, 5] = (0, 0, 255)
    write(folder / "110100_event_front.png", small)
    sample = Deliver([own], options={"cases": ["eventlowres"]})[0]
    event = sample.images["event"]
    assert event.shape == (3, DELIVER_SIDE, DELIVER_SIDE)
    rows, cols = np.nonzero(event[2])
    assert (set(rows), set(cols)) == ({6, 7}, {10, 11})
    assert set(np.unique(event)) == {0.0, 1.0}  # nearest: nothing is blended


def test_hha_is_the_depth_unless_raw_is_asked_for(tree):
    hha, raw = (Deliver([tree], options={"depth": kind}) for kind in ("hha", "raw"))
    assert hha.encodings["depth"] != raw.encodings["depth"]
    value = deliver_value(scene("train")[0])
    np.testing.assert_allclose(raw[0].images["depth"], (value + 1) / 255, atol=1e-6)
    assert np.ptp(hha[0].images["depth"]) > 0


def test_a_robot_refuses_a_network_trained_on_hha(tree):
    from robustseg_core import modalities

    with pytest.raises(RobustsegError, match="representation"):
        modalities.load("depth")(encoding=Deliver([tree]).encodings["depth"])
    modalities.load("rgb")(encoding=Deliver([tree]).encodings["rgb"])  # and takes this one


def test_tags_say_place_weather_and_case(tree):
    data = Deliver([tree], "val")
    assert [dict(data.tags(i)) for i in range(3)] == [
        {"scene": "MAP_1_point102", "condition": "fog", "case": "none"},
        {"scene": "MAP_4_point9", "condition": "sun", "case": "overexposure"},
        {"scene": "MAP_4_point9", "condition": "sun", "case": "underexposure"},
    ]


@pytest.mark.parametrize("case", CASES)
def test_a_corner_case_is_read_from_the_scene_s_name(case):
    name = "MAP_1_point102" if case == "none" else f"MAP_1_point102_{case}"
    assert split_scene(name) == ("MAP_1_point102", case)


def test_a_case_in_the_name_of_the_root_is_no_case(tmp_path):
    root = tmp_path / "eventlowres_study" / "DELIVER"
    deliver(root)
    cases = [sample.tags["case"] for sample in Deliver([root])]
    assert sorted(cases) == ["eventlowres", "motionblur", "none", "none", "none"]
    assert len(Deliver([root], options={"cases": ["eventlowres"]})) == 1


def test_weathers_and_cases_filter_within_the_split(tree):
    assert len(Deliver([tree], options={"conditions": ["cloud"]})) == 3
    assert len(Deliver([tree], options={"conditions": ["cloud"], "cases": ["none"]})) == 3
    with pytest.raises(RobustsegError, match=r"no train sample.*widen options\.cases"):
        Deliver([tree], options={"conditions": ["night", "rain"], "cases": ["none"]})
    with pytest.raises(RobustsegError, match="sunny"):
        Deliver([tree], options={"conditions": ["sunny"]})


def test_missing_folders_are_all_named_with_what_they_hold(own):
    for folder in ("hha", "event", "semantic"):
        shutil.rmtree(own / folder)
    with pytest.raises(RobustsegError, match=r"hha \(depth\), event \(event\), semantic \(labels"):
        Deliver([own])


def test_a_sensor_that_was_not_downloaded_can_be_left_out(own):
    shutil.rmtree(own / "event")
    data = Deliver([own], modalities=("rgb", "lidar"))
    assert set(data[0].images) == {"rgb", "lidar"}


def test_a_split_without_samples_says_where_it_looked(own):
    shutil.rmtree(own / "img" / "rain" / "test")
    with pytest.raises(RobustsegError, match=r"no test sample.*img/.*/test/<scene>"):
        Deliver([own], "test")


def test_a_label_of_another_size_is_refused_with_both_sizes(own):
    path = own / "semantic/cloud/train/MAP_1_point102/110100_semantic_front.png"
    write(path, np.ones((40, 40), np.uint8))
    with pytest.raises(RobustsegError, match=r"rgb_front\.png is 52x52, its label 40x40"):
        Deliver([own])[0]


def test_an_impossible_class_is_refused(own):
    path = own / "semantic/cloud/train/MAP_1_point102/110100_semantic_front.png"
    write(path, np.full((DELIVER_SIDE, DELIVER_SIDE), 26, np.uint8))
    with pytest.raises(RobustsegError, match=r"semantic_front\.png holds the id 26"):
        Deliver([own])[0]


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "gone"])
def test_a_damaged_file_is_named(own, damage):
    path = own / "lidar/cloud/train/MAP_1_point102/110100_lidar_front.png"
    whole = path.read_bytes()
    bad = {"cut": whole[: len(whole) // 2], "empty": b"", "text": b"404 not found" * 20}
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(bad[damage])
    with pytest.raises(RobustsegError, match=r"110100_lidar_front\.png.*again"):
        Deliver([own])[0]


def test_two_roots_are_one_too_many(tree, tmp_path):
    with pytest.raises(RobustsegError, match="one root"):
        Deliver([tree, tmp_path])
