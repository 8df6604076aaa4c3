"""MUSES: its lists and labels, the PNG form, what the papers did, and damaged files."""

from __future__ import annotations

import json
import shutil
import sys

import cv2
import numpy as np
import pytest

from robustseg_core import datasets, modalities
from robustseg_core.errors import RobustsegError
from robustseg_core.metrics import confusion, iou
from robustseg_core.models.classes import CITYSCAPES
from robustseg_core.types import IGNORE
from support.dataset_trees import (
    EVENT_SIZE,
    MUSES_CALIB,
    MUSES_SIZE,
    muses,
    muses_file,
    write,
)

pytestmark = pytest.mark.slow

Muses = datasets.load("muses")
OPTIONS = {"event_size": EVENT_SIZE}
PNG = {"form": "png"}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("muses")
    muses(root)
    return root


@pytest.fixture
def own(tmp_path):
    """A tree that a test may change; sample 0 of train is scene 0."""
    muses(tmp_path)
    return tmp_path


def load(root, split="train", **options):
    more = {k: options.pop(k) for k in ("size", "modalities") if k in options}
    return Muses([root], split, options={**OPTIONS, **options}, **more)


def test_a_network_trained_on_the_raw_form_runs_on_a_robot(tree):
    for modality, encoding in load(tree).encodings.items():
        live = modalities.load(modality)(encoding=encoding)
        assert live.encoding.model_dump(mode="json") == encoding
    assert load(tree).encodings["event"]["window_ms"] == 30


def test_png_pictures_are_not_taken_for_what_a_robot_encodes(tree):
    for modality in ("event", "lidar"):
        with pytest.raises(RobustsegError, match="representation"):
            modalities.load(modality)(encoding=load(tree, **PNG).encodings[modality])


def png_file(root, folder):
    return muses_file(root / "projected_to_rgb", 0, folder, f"{folder}.png")


def test_16_bit_pictures_of_lidar_are_metres_again(own):
    values = np.zeros((*MUSES_SIZE, 3))
    values[7, 9] = (20.0, 51.0, -1.5)  # range, intensity, height under the LiDAR
    stored = ((values + 100) * 150).astype(np.uint16)
    assert cv2.imwrite(str(png_file(own, "lidar")), stored)
    lidar = load(own, **PNG)[0].images["lidar"]
    assert np.argwhere(lidar[0]).tolist() == [[7, 9]]
    np.testing.assert_allclose(lidar[:, 7, 9], [20 / 80, 51 / 255, 3.5 / 20], atol=1e-4)
    assert not lidar[:, 0, 0].any()  # (0 + 100) * 150 is no return, not 100


def test_counts_in_pictures_keep_on_and_off_apart(own):
    counts = np.zeros((*MUSES_SIZE, 3), np.uint8)
    counts[3, 4] = (2, 1, 0)  # ON, OFF, nothing, as the SDK's array has them
    assert cv2.imwrite(str(png_file(own, "event_camera")), counts)
    event = load(own, **PNG)[0].images["event"]
    np.testing.assert_allclose(event[:, 3, 4], [0.4, 0.2, 0], atol=1e-6)


def test_pictures_may_lie_beside_the_raw_files(own):
    for folder in ("event_camera", "lidar"):
        shutil.copytree(own / "projected_to_rgb" / folder, own / folder, dirs_exist_ok=True)
    shutil.rmtree(own / "projected_to_rgb")
    with pytest.raises(RobustsegError, match=r"projected_to_rgb/event_camera \(event\)"):
        load(own, **PNG)
    assert set(load(own, **PNG, png_folder=".")[0].images) == {"rgb", "event", "lidar"}


def test_void_is_road_only_for_comparison_with_the_papers(tree):
    label, legacy = (load(tree, legacy_void_as_road=on)[0].label for on in (False, True))
    assert (label[0, :5] == IGNORE).all()
    assert (legacy[0, :5] == 0).all()
    known = label != IGNORE
    np.testing.assert_array_equal(label[known], legacy[known])
    # The same answer is worth less where void is scored as road.
    answer = np.where(known, label, 13)
    scores = [iou(confusion(truth, answer, len(CITYSCAPES.names)))[0] for truth in (label, legacy)]
    assert scores[0] == 1.0
    assert scores[1] < 1.0


def test_unnormalized_pictures_are_floats_up_to_255(tree):
    plain, legacy = load(tree, **PNG)[0], load(tree, **PNG, legacy_unnormalized="robustseg")[0]
    stored = cv2.imread(str(muses_file(tree, 0, "frame_camera", "frame_camera.png")))[..., ::-1]
    np.testing.assert_allclose(legacy.images["rgb"].transpose(1, 2, 0), stored, atol=1e-3)
    assert (legacy.images["lidar"].min(), legacy.images["lidar"].max()) == (0, 255)
    assert plain.images["lidar"].max() <= 1
    counts = cv2.imread(str(png_file(tree, "event_camera")))[..., ::-1]
    np.testing.assert_array_equal(legacy.images["event"].transpose(1, 2, 0), counts)
    with pytest.raises(RobustsegError, match=r"set options\.form to png"):
        load(tree, legacy_unnormalized="anyseg")


def test_tags_say_recording_and_weather_and_time(tree):
    data = load(tree)
    assert [data[i].id for i in range(3)] == [
        "train/clear/day/REC0001_frame_000010",
        "train/fog/night/REC0002_frame_000020",
        "train/snow/day/REC0002_frame_000040",
    ]
    assert data.tags(1) == {"scene": "REC0002", "condition": "fog/night"}
    assert data.classes == CITYSCAPES


def test_folders_tell_the_same_as_the_list(own):
    with_list = [load(own, split) for split in ("train", "val", "test")]
    (own / "meta.json").unlink()
    for data in with_list:
        again = load(own, data.split)
        assert again.entries == data.entries


def test_the_test_split_has_no_labels(tree):
    data = load(tree, "test")
    assert not data.labelled
    assert data[0].label is None
    assert data[0].images["lidar"].shape == (3, *MUSES_SIZE)
    assert load(tree, "val").labelled


def test_labels_that_are_not_train_ids_are_refused(own):
    path = muses_file(own, 0, "gt_semantic", "gt_labelTrainIds.png")
    write(path, np.full(MUSES_SIZE, 33, np.uint8))
    with pytest.raises(RobustsegError, match=r"labelTrainIds\.png holds the id 33"):
        load(own)[0]


def test_a_label_of_another_size_than_the_picture_is_refused(own):
    path = muses_file(own, 0, "gt_semantic", "gt_labelTrainIds.png")
    write(path, np.zeros((50, 96), np.uint8))
    with pytest.raises(RobustsegError, match=r"frame_camera\.png is 54x96, its label 50x96"):
        load(own)[0]


def test_missing_folders_are_all_named(own):
    (own / "calib.json").unlink()
    shutil.rmtree(own / "lidar")
    with pytest.raises(RobustsegError, match=r"lidar \(lidar\), calib\.json \(calibration\)"):
        load(own)
    assert set(load(own, modalities=("rgb",))[0].images) == {"rgb"}


@pytest.mark.parametrize(
    ("folder", "ending", "bad"),
    [
        ("event_camera", "event_camera.h5", b"not HDF5 at all"),
        ("event_camera", "event_camera.h5", None),
        ("lidar", "lidar.bin", b"\0" * 50),
        ("lidar", "lidar.bin", None),
        ("frame_camera", "frame_camera.png", b"\x89PNG"),
        ("gt_semantic", "gt_labelTrainIds.png", None),
    ],
)
def test_a_damaged_file_is_named(own, folder, ending, bad):
    path = muses_file(own, 0, folder, ending)
    if bad is None:
        path.unlink()
    else:
        path.write_bytes(bad)
    with pytest.raises(RobustsegError, match=rf"{path.name}.*again"):
        load(own)[0]


def test_events_without_polarity_are_refused(own):
    import h5py

    path = muses_file(own, 0, "event_camera", "event_camera.h5")
    with h5py.File(path, "a") as file:
        del file["events/p"]
    with pytest.raises(RobustsegError, match=r"no events/x, y, t and p"):
        load(own)[0]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda c: c["extrinsics"].pop("lidar2rgb"), "lidar2rgb"),
        (lambda c: c["intrinsics"]["rgb"].update(K=[1, 2]), "no calibration"),
        (lambda c: c["intrinsics"]["event"].update(K=[[0] * 3] * 3), "focal"),
    ],
)
def test_a_damaged_calibration_is_named(own, change, word):
    calib = json.loads(json.dumps(MUSES_CALIB))
    change(calib)
    (own / "calib.json").write_text(json.dumps(calib))
    with pytest.raises(RobustsegError, match=rf"calib\.json.*{word}"):
        load(own)


@pytest.mark.parametrize("text", ["{", "[1]", '{"a": {"weather": "fog"}}'])
def test_a_damaged_list_is_named(own, text):
    (own / "meta.json").write_text(text)
    with pytest.raises(RobustsegError, match=r"meta\.json (is no list|cannot be read as JSON)"):
        load(own)


def test_a_missing_library_is_named_with_the_way_to_get_it(tree, monkeypatch):
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    with pytest.raises(
        RobustsegError, match=r"hdf5plugin is not installed; pip install 'robustseg\[train\]'"
    ):
        load(tree)[0]
    assert load(tree, modalities=("rgb", "lidar"))[0].images["lidar"].any()
