"""Shards give back what was put in, to the pixel and in any order, or say what is wrong."""

from __future__ import annotations

import json
import pickle
import shutil

import cv2
import numpy as np
import pytest
import webdataset
from drives import write_drive
from hypothesis import given
from hypothesis import strategies as st

from robustseg_core import datasets
from robustseg_core.datasets._levels import from_png, read_label_png, to_png
from robustseg_core.datasets.shards import Shards
from robustseg_core.errors import RobustsegError
from robustseg_core.extraction.extract import Extraction, extract
from robustseg_core.modalities import load
from robustseg_core.types import Reading
from robustseg_core.view import View

SMALL = {"size": (32, 64), "shard_size": 4}


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """Shards of a drive of one second: 32x64, four samples a file."""
    folder = tmp_path_factory.mktemp("packed")
    bag = write_drive(folder / "drive", 1.0)
    extract([bag], folder / "shards", Extraction(**SMALL))
    return folder / "shards"


def copy(packed, tmp_path):
    return shutil.copytree(packed, tmp_path / "shards") / "drive"


def test_a_camera_image_comes_back_exactly_from_eight_bits():
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    rgb = load("rgb")()
    array = rgb.encode([Reading("rgb", 0, "camera", image)], View((48, 64)), 0)
    png, values = to_png(array)
    picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    assert picture.dtype == np.uint8 and np.array_equal(picture[..., ::-1], image)
    assert np.abs(from_png(png, values) - array).max() < 1e-6
    assert np.array_equal(rgb.picture(from_png(png, values)), image)


def test_event_counts_come_back_exactly_and_equal_channels_are_stored_once():
    counts = np.random.default_rng(1).integers(0, 6, (2, 32, 64)).astype(np.float32)
    array = np.concatenate([np.minimum(counts / 5, 1), np.zeros((1, 32, 64), np.float32)])
    png, values = to_png(array)
    assert np.array_equal(from_png(png, values), array)
    one = np.repeat(np.random.default_rng(2).random((1, 32, 64), dtype=np.float32), 3, axis=0)
    png, values = to_png(one)
    assert len(values) == 1 and np.abs(from_png(png, values) - one).max() < 8e-6


@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 1e4), st.floats(-1e3, 1e3))
def test_any_image_comes_back_within_a_65535th_of_its_span(seed, scale, offset):
    random = np.random.default_rng(seed)
    array = (random.random((3, 8, 8)) * scale + offset).astype(np.float32)
    array[random.integers(3)] = 0
    back = from_png(*to_png(array))
    span = np.ptp(array, axis=(1, 2))[:, None, None]
    rounding = np.spacing(np.float32(np.abs(array).max())) * 4
    assert (np.abs(back - array) <= span / 131070 + span * 1e-6 + rounding).all()
    assert (back[array == 0] == 0).all() or offset < 0


def test_an_image_that_is_not_finite_is_refused():
    array = np.zeros((3, 8, 8), np.float32)
    array[1, 2, 3] = np.nan
    with pytest.raises(RobustsegError, match="not finite"):
        to_png(array)


def test_samples_are_whole_and_can_be_read_in_any_order(packed):
    shards = Shards([packed])
    assert shards.name == "shards" and shards.size == shards.shape == (32, 64)
    assert shards.modalities == ("rgb", "depth", "event", "lidar")
    assert len(shards.classes.names) == len(shards.classes.palette) == 19
    assert len(list((packed / "drive").glob("*.tar"))) == -(-len(shards) // 4)
    backwards = [shards[i].id for i in reversed(range(len(shards)))]
    assert backwards == [sample.id for sample in shards][::-1]
    assert len(set(backwards)) == len(shards) and all(i.startswith("drive/") for i in backwards)
    for sample in shards:
        assert sample.label is None and sample.tags == {"scene": "drive", "condition": ""}
        assert all(a.shape == (3, 32, 64) and a.dtype == np.float32 for a in sample.images.values())
    assert not shards.labelled
    with pytest.raises(IndexError):
        shards[len(shards)]


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset leaves them open
def test_the_webdataset_library_opens_the_same_samples(packed):
    shards = Shards([packed])
    files = [str(file) for file in sorted((packed / "drive").glob("*.tar"))]
    theirs = list(webdataset.WebDataset(files, shardshuffle=False))
    assert [sample["__key__"] for sample in theirs] == [sample.id for sample in shards]
    for ours, sample in zip(shards, theirs, strict=True):
        account = json.loads(sample["json"])
        assert set(account["values"]) == set(ours.images)
        for name, array in ours.images.items():
            assert np.array_equal(from_png(sample[f"{name}.png"], account["values"][name]), array)
    decoded = next(iter(webdataset.WebDataset(files, shardshuffle=False).decode("rgb8")))
    assert decoded["json"]["id"] == theirs[0]["__key__"]


def test_a_worker_process_gets_a_data_set_that_reads_the_same(packed):
    shards = Shards([packed])
    twin = pickle.loads(pickle.dumps(shards))  # noqa: S301 (our own bytes)
    assert np.array_equal(twin[3].images["rgb"], shards[3].images["rgb"])


def test_what_is_wanted_decides_which_samples_there_are(packed):
    everything = Shards([packed])
    complete = Shards([packed], options={"complete": True})
    assert 0 < len(complete) < len(everything)
    assert all(len(sample.images) == 4 for sample in complete)
    lidar = Shards([packed], modalities=["lidar", "rgb"])
    assert lidar.modalities == ("lidar", "rgb") and set(lidar.encodings) == {"lidar", "rgb"}
    assert all(s.images and set(s.images) <= {"lidar", "rgb"} for s in lidar)
    assert len(Shards([packed], modalities=["lidar"])) < len(everything)
    with pytest.raises(RobustsegError, match=r"none of the .* samples .* is left"):
        Shards([packed], options={"labelled": True})


@pytest.mark.parametrize(
    "how, said",
    [
        ({"modalities": ["lidr"]}, "no modality 'lidr'; did you mean 'lidar'"),
        ({"size": (64, 64)}, "samples of 32x64, wanted is 64x64.*extract again"),
        ({"options": {"complet": True}}, "unknown key .*complet.*did you mean 'complete'"),
    ],
)
def test_what_the_shards_lack_is_an_error_with_the_way_out(packed, how, said):
    with pytest.raises(RobustsegError, match=said):
        Shards([packed], **how)


def test_a_damaged_sample_is_named_and_the_others_still_read(packed, tmp_path):
    folder = copy(packed, tmp_path)
    index = json.loads((folder / "index.json").read_text())
    row = index["samples"][5]
    offset, size, _ = row["members"]["rgb"]
    with (folder / index["shards"][row["shard"]]["file"]).open("r+b") as file:
        file.seek(offset + size // 2)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1]))
    shards = Shards([folder])
    said = rf"000001.tar: rgb of {row['id']} is damaged.*delete .*drive and extract it again"
    with pytest.raises(RobustsegError, match=said):
        shards[5]
    assert shards[4].id and shards[6].id


def damage(folder, kind):
    tar = folder / "000001.tar"
    if kind == "short":
        tar.write_bytes(tar.read_bytes()[:-512])
    elif kind == "gone":
        tar.unlink()
    elif kind == "index":
        (folder / "index.json").write_text('{"format": "robustseg-sh')
    elif kind == "foreign":
        (folder / "index.json").write_text('{"format": "somebody-else/3"}')


@pytest.mark.parametrize(
    "kind, said",
    [
        ("short", r"000001.tar has \d+ bytes; expected \d+; copy it again"),
        ("gone", "000001.tar is missing"),
        ("index", "index.json cannot be read"),
        ("foreign", "format 'somebody-else/3'; expected 'robustseg-shards/1'"),
    ],
)
def test_a_folder_that_lost_something_is_refused_before_training(packed, tmp_path, kind, said):
    folder = copy(packed, tmp_path)
    damage(folder, kind)
    with pytest.raises(RobustsegError, match=said):
        Shards([folder])


def test_a_folder_without_shards_says_how_to_make_some(tmp_path):
    (tmp_path / ".drive.partial").mkdir()
    (tmp_path / ".drive.partial" / "index.json").write_text("{}")
    with pytest.raises(RobustsegError, match=r"holds no shards.*robustseg extract"):
        Shards([tmp_path])
    with pytest.raises(RobustsegError, match="no such folder"):
        Shards([tmp_path / "nowhere"])


def test_shards_that_disagree_are_not_mixed(packed, tmp_path):
    bag = write_drive(tmp_path / "other", 0.5)
    extract([bag], tmp_path / "shards", Extraction(**SMALL, encodings={"depth": {"near_m": 1.0}}))
    with pytest.raises(RobustsegError, match=r"encodings .*0\.5.* has .*1\.0.*same options"):
        Shards([packed, tmp_path / "shards"])
    with pytest.raises(RobustsegError, match="both of the recording 'drive'"):
        Shards([packed, copy(packed, tmp_path / "again")])


def test_the_registry_knows_the_data_set(packed):
    assert {"shards", "bag"} <= set(datasets.available())
    assert datasets.load("shards") is Shards
    png = cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes()
    with pytest.raises(RobustsegError, match="expected class ids in one channel of 8 bits"):
        read_label_png(png)
