"""Shards give back what was put in, to the pixel and in any order, or say what is wrong."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import tracemalloc
import zlib

import cv2
import numpy as np
import pytest
import webdataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robustseg_core import datasets
from robustseg_core.datasets.shards import Shards
from robustseg_core.errors import RobustsegError
from robustseg_core.extraction.extract import Extraction, extract
from robustseg_core.geometry.view import View
from robustseg_core.modalities import load
from robustseg_core.shards.archive import Index
from robustseg_core.shards.levels import from_png, read_label_png, to_png
from robustseg_core.types import Reading
from support.drives import write_drive
from support.makers import pretend_png

pytestmark = pytest.mark.slow

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


def test_a_part_is_of_the_time_of_each_recording(packed):
    whole = Shards([packed])
    assert whole.ids == [sample.id for sample in whole]
    bounds = ((0.0, 0.3), (0.3, 0.75), (0.75, 1.0))
    parts = [Shards([packed], options={"part": pair}).ids for pair in bounds]
    assert sorted(parts[0] + parts[1] + parts[2]) == sorted(whole.ids) and all(parts)
    stamps = [[int(name.rpartition("_")[2]) for name in part] for part in parts]
    first, last = min(stamps[0]), max(stamps[-1])
    for own, (low, high) in zip(stamps, bounds, strict=True):
        shares = [(stamp - first) / (last - first) for stamp in own]
        assert all(low <= share < high or share == high == 1 for share in shares)
    for part in ((0.5, 0.5), (-0.1, 1), (0, 1.1)):
        with pytest.raises(RobustsegError, match="is no part"):
            Shards([packed], options={"part": part})


def test_the_registry_knows_the_data_set(packed):
    assert {"shards", "bag"} <= set(datasets.available())
    assert datasets.load("shards") is Shards
    png = cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes()
    with pytest.raises(RobustsegError, match="expected class ids in one channel of 8 bits"):
        read_label_png(png)


def reindexed(folder, **change):
    """The index with other entries; None takes one away."""
    index = json.loads((folder / "index.json").read_text()) | change
    index = {key: value for key, value in index.items() if value is not None}
    (folder / "index.json").write_text(json.dumps(index))
    return index


def sample(packed, **change):
    """The samples of the index, the first one changed."""
    first, *others = json.loads((packed / "drive" / "index.json").read_text())["samples"]
    return {"samples": [first | change, *others]}


BAD = [
    ({"format": "robustseg-shards/2"}, "format 'robustseg-shards/2'; expected"),
    ({"format": 1}, "format 1; expected"),
    ({"format": "x" * 10_000}, "of format"),
    ({"modalities": None}, "modalities"),
    ({"modalities": "rgb"}, "modalities is 'rgb'"),
    ({"modalities": []}, "modalities"),
    ({"modalities": ["rgb", "rgb"]}, "'rgb' is there twice"),
    ({"modalities": ["rgb", "label"]}, "'label' is no modality"),
    ({"modalities": ["r\ngb"]}, "is no name"),
    ({"classes": 3}, "classes is 3"),
    ({"classes": ["road"]}, "19 colors for 1 classes"),
    ({"classes": ["a"] * 300, "palette": [[0, 0, 0]] * 300}, "classes"),
    ({"palette": [[0, 0, 256]] * 19}, "palette.0.2 is 256"),
    ({"palette": {}}, "palette is"),
    ({"size": [32]}, "size.1"),
    ({"size": [-32, 64]}, "size.0 is -32"),
    ({"size": [10**12, 64]}, "size.0 is 1000000000000"),
    ({"size": "32x64"}, "size is '32x64'"),
    ({"encodings": []}, "encodings is"),
    ({"encodings": {"rgb": 3}}, "encodings.rgb is 3"),
    ({"tags": {}}, "tags have no scene"),
    ({"tags": {"scene": ["a"]}}, "tags.scene is"),
    ({"tags": None}, "tags"),
    ({"counts": {"used": {"rgb": -1}}}, "counts.used.rgb is -1"),
    ({"counts": []}, "counts is"),
    ({"notices": {"a": 1}}, "notices is"),
    ({"shards": {}}, "shards is"),
    ({"shards": []}, "is in no shard"),
    ({"shards": [{"file": "../../etc/passwd", "bytes": 1}]}, "no name of a file in this folder"),
    ({"shards": [{"file": "/etc/passwd", "bytes": 1}]}, "no name of a file in this folder"),
    ({"shards": [{"file": "..", "bytes": 1}]}, "no name of a file in this folder"),
    ({"shards": [{"file": "a\0", "bytes": 1}]}, "no name of a file in this folder"),
    ({"shards": [{"file": "000000.tar", "bytes": -1}]}, "shards.0.bytes is -1"),
    ({"shards": [{"file": "000000.tar"}]}, "shards.0.bytes"),
    ({"shards": ["000000.tar"]}, "shards.0 is '000000.tar'"),
    ({"samples": {}}, "samples is"),
    ({"samples": []}, "none of the 0 samples"),
    ({"samples": [3]}, "samples.0 is 3"),
    ({"samples": None}, "samples"),
]
SAMPLES = [
    ({"shard": 99}, "is in no shard"),
    ({"shard": -1}, "samples.0.shard is -1"),
    ({"shard": 2**70}, "is in no shard|shard is"),
    ({"id": ["a"]}, "samples.0.id is"),
    ({"id": "x" * 10_000}, "samples.0.id is"),
    ({"members": []}, "samples.0.members is"),
    ({"members": {}}, "has no account"),
    ({"members": {"json": [0, 10]}}, "members.json.2"),
    ({"members": {"json": [-1, 10, 0]}}, "members.json.0 is -1"),
    ({"members": {"json": [0, -1, 0]}}, "members.json.1 is -1"),
    ({"members": {"json": [0, 10**13, 0]}}, "members.json.1 is 10000000000000"),
    ({"members": {"json": [10**13, 10, 0]}}, "json of .* ends at byte 10000000000010 of"),
    ({"members": {"json": [0, 10, 2**32]}}, "members.json.2 is 4294967296"),
    ({"members": {"json": [2**70, 10, 0]}}, "members.json.0 is"),
    ({"members": {"json": [0.5, 10, 0]}}, "members.json.0 is 0.5"),
    ({"members": {"json": None}}, "members.json is None"),
]


@pytest.mark.parametrize(("change", "said"), BAD)
def test_an_index_that_cannot_be_is_a_sentence(packed, tmp_path, change, said):
    folder = copy(packed, tmp_path)
    reindexed(folder, **change)
    with pytest.raises(RobustsegError, match=said) as caught:
        Shards([folder])
    assert len(str(caught.value)) < 700 and str(folder) in str(caught.value)


@pytest.mark.parametrize(("change", "said"), SAMPLES)
def test_a_sample_that_cannot_be_is_a_sentence(packed, tmp_path, change, said):
    folder = copy(packed, tmp_path)
    reindexed(folder, **sample(packed, **change))
    with pytest.raises(RobustsegError, match=said) as caught:
        Shards([folder])
    assert len(str(caught.value)) < 700 and str(folder) in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"null", b"[]", b"3", b"NaN", b"\xff\xfe", b"[" * 10**6, b'{"a":' * 10**5],
)
def test_an_index_that_is_no_index_is_a_sentence(packed, tmp_path, content):
    folder = copy(packed, tmp_path)
    (folder / "index.json").write_bytes(content)
    with pytest.raises(RobustsegError, match=r"index.json .*(cannot be read|of format)"):
        Shards([folder])


def test_an_index_of_terabytes_is_not_read(packed, tmp_path):
    folder = copy(packed, tmp_path)
    os.truncate(folder / "index.json", 1 << 40)  # sparse: it takes no room
    with pytest.raises(
        RobustsegError, match=r"has .*1099511627776 bytes.*the limit of a file of its kind"
    ):
        Shards([folder])
    (folder / "index.json").unlink()
    (folder / "index.json").mkdir()
    with pytest.raises(RobustsegError, match=r"cannot read .*directory"):
        Shards([folder])


def test_the_same_samples_under_another_index_twice_are_refused(packed, tmp_path):
    folder = copy(packed, tmp_path)
    rows = json.loads((folder / "index.json").read_text())["samples"]
    reindexed(folder, samples=[*rows, rows[0]])
    with pytest.raises(RobustsegError, match="a sample is there twice"):
        Shards([folder])


def replaced(folder, name, content):
    """A member of the first sample with depth, with a checksum that says all is well."""
    index = json.loads((folder / "index.json").read_text())
    row = next(row for row in index["samples"] if "depth" in row["members"])
    file = folder / index["shards"][row["shard"]]["file"]
    offset = file.stat().st_size
    with file.open("ab") as shard:
        shard.write(content)
    row["members"][name] = [offset, len(content), zlib.crc32(content)]
    index["shards"][row["shard"]]["bytes"] += len(content)
    (folder / "index.json").write_text(json.dumps(index))


def png(*shape, dtype=np.uint8):
    return cv2.imencode(".png", np.zeros(shape, dtype))[1].tobytes()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("json", b"{", "json of .* is not what was extracted"),
        ("json", b"[" * 10**5, "json of .* is not what was extracted .ValueError: it nests"),
        ("json", b"3", "of drive/.* is not what was extracted .TypeError"),
        ("json", b"{}", "is not what was extracted .KeyError: 'values'"),
        ("json", b'{"values": {"depth": 3, "event": 3, "lidar": 3, "rgb": 3}}', "TypeError"),
        ("json", b'{"values": {"depth": [[0, NaN]], "event": [[0]], "rgb": "x"}}', "ValueError"),
        ("depth", b"", "depth of .* is None, expected .32, 64."),
        ("depth", pretend_png(9000, 9000), r"is \(9000, 9000\), expected \(32, 64\)"),
        ("depth", pretend_png(32, 64), "are no picture"),
        ("depth", png(32, 64, 4), "4 channels.*expected 3"),
        ("label", png(64, 64), r"label of .*is \(64, 64\), expected"),
        ("label", png(32, 64, dtype=np.uint16), "expected class ids in one channel"),
    ],
)
def test_a_member_that_is_not_what_was_extracted_is_a_sentence(
    packed, tmp_path, name, content, said
):
    folder = copy(packed, tmp_path)
    replaced(folder, name, content)
    shards = Shards([folder], modalities=["depth"])
    with pytest.raises(RobustsegError, match=said) as caught:
        shards[0]
    assert str(folder) in str(caught.value)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


def places(tree, path=()):
    """Paths of everything in a tree of JSON."""
    yield path
    pairs = (
        tree.items() if isinstance(tree, dict) else enumerate(tree) if type(tree) is list else ()
    )
    for key, value in pairs:
        yield from places(value, (*path, key))


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_change_of_an_index_is_a_data_set_or_a_sentence(packed, tmp_path, data):
    """One to three values anywhere in it become anything; memory stays small."""
    folder = tmp_path / "shards" / "drive"
    if not folder.exists():
        copy(packed, tmp_path)
    index = json.loads((packed / "drive" / "index.json").read_text())
    tree = {"": index}
    read = [key for key in index if key in Index.model_fields]
    for _ in range(data.draw(st.integers(1, 3))):
        first = data.draw(st.sampled_from(read))
        found = (
            list(places(tree[""].get(first), ("", first))) if type(tree[""]) is dict else [("",)]
        )
        *path, last = data.draw(st.sampled_from(found))
        branch = tree
        for key in path:
            branch = branch[key]
        branch[last] = data.draw(JUNK)
    (folder / "index.json").write_text(json.dumps(tree[""]))
    tracemalloc.start()
    try:
        shards = Shards([folder])
        for k in range(len(shards)):
            assert shards[k].images
    except RobustsegError as error:
        assert len(str(error)) < 1500
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 20_000_000
