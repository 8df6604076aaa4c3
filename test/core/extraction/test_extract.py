"""What is extracted is what the node would have seen; once, whole, and with the right labels."""

from __future__ import annotations

import json
from collections import Counter

import cv2
import numpy as np
import pytest

from robustseg_core import modalities
from robustseg_core.bag import Bag
from robustseg_core.datasets.shards import Shards
from robustseg_core.errors import RobustsegError
from robustseg_core.extraction.extract import Extraction, extract
from robustseg_core.geometry.transforms import pose
from robustseg_core.recording.replay import replay
from robustseg_core.recording.robot import robot_for
from robustseg_core.recording.scene import scene_of
from robustseg_core.segmenter import Segmenter
from robustseg_core.types import IGNORE, MS, SECOND
from support.drives import (
    ALL,
    EPOCH,
    LABEL,
    OPTICAL,
    RATES,
    SIZE,
    engine,
    truth,
    truths,
    write_drive,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    return write_drive(tmp_path_factory.mktemp("bags") / "drive.with.dots", 1.0, truths(1.0))


@pytest.fixture(scope="module")
def plain(drive):
    """The same without labels."""
    return write_drive(drive.with_name("plain"), 1.0)


def options(**more):
    return Extraction(size=SIZE, **more)


def test_the_student_learns_from_exactly_what_the_node_sees(drive, tmp_path):
    account = extract([drive], tmp_path, options())
    with Bag(drive) as bag:
        segmenter = Segmenter(robot_for(bag, None, ()), engine().spec, engine())
        seen = [label_map.bundle for label_map in replay(bag, segmenter)]
    shards = Shards([tmp_path])
    assert account["samples"] == len(shards) == len(seen) >= 20
    for sample, bundle in zip(shards, seen, strict=True):
        assert sample.id.endswith(f"_{bundle.stamp_ns}") and set(sample.images) == set(
            bundle.frames
        )
        for name, frame in bundle.frames.items():
            assert np.abs(sample.images[name] - frame.array).max() < 1e-5
    assert shards.encodings == engine().spec.encodings and shards.modalities == ALL


def test_every_label_is_that_of_its_moment(drive, tmp_path):
    account = extract([drive], tmp_path, options())
    shards = Shards([tmp_path], options={"labelled": True})
    assert account["labelled"] == len(shards) >= 9
    rows = (2 * np.arange(32) + 1) * 48 // 64  # the pixel under each center
    for sample in shards:
        stamp = int(sample.id.rpartition("_")[2])
        k = round((stamp - EPOCH) * RATES["rgb"] / SECOND)
        near = min((k - k % 2, k + k % 2), key=lambda j: abs(EPOCH + j * 50 * MS - stamp))
        assert np.array_equal(sample.label, truth(near)[rows])


def test_without_labels_there_is_a_notice_and_where_required_an_error(plain, tmp_path):
    account = extract([plain], tmp_path / "auto", options())
    assert account["labelled"] == 0 and Shards([tmp_path / "auto"])[0].label is None
    assert account["recordings"][0]["notices"] == ["no set has a label: there is no label topic"]
    assert (
        extract([plain], tmp_path / "none", options(labels="none"))["recordings"][0]["notices"]
        == []
    )
    with pytest.raises(RobustsegError, match="has no topic of labels; give a folder"):
        extract([plain], tmp_path / "required", options(labels="required"))
    assert not (tmp_path / "required" / "plain").exists()
    with pytest.raises(
        RobustsegError, match=r"neither one of auto.*nor a topic.*did you mean '/rgb'"
    ):
        extract([plain], tmp_path / "typo", options(labels="/rgbb"))


def test_labels_come_from_a_topic_or_from_a_folder_alike(drive, plain, tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for k in range(0, 20, 2):
        cv2.imwrite(str(pictures / f"{k:06d}_{EPOCH + k * 50 * MS}.png"), truth(k))
    (pictures / "readme.txt").write_text("no label")
    extract([drive], tmp_path / "topic", options(labels=LABEL))
    extract([plain], tmp_path / "folder", options(labels=str(pictures)))
    ours, theirs = Shards([tmp_path / "topic"]), Shards([tmp_path / "folder"])
    assert ours.labelled and len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert (a.label is None) == (b.label is None)
        assert a.label is None or np.array_equal(a.label, b.label)


@pytest.mark.parametrize(
    "picture, name, said",
    [
        (np.zeros((4, 4, 3), np.uint8), f"{EPOCH + 100 * MS}.png", "one channel of 8 bits"),
        (
            np.zeros((4, 4), np.uint8),
            f"{EPOCH - 9 * SECOND}.png",
            "within 20 ms of any set: labels",
        ),
        (np.zeros((4, 4), np.uint8), "frame.png", "holds no label; expected 8-bit PNGs"),
        (np.full((4, 4), 31, np.uint8), f"{EPOCH + 100 * MS}.png", "id 31, but there are 19"),
    ],
)
def test_a_folder_of_labels_that_cannot_be_used_is_an_error(plain, tmp_path, picture, name, said):
    (tmp_path / "pictures").mkdir()
    cv2.imwrite(str(tmp_path / "pictures" / name), picture)
    with pytest.raises(RobustsegError, match=said):
        extract([plain], tmp_path / "out", options(labels=str(tmp_path / "pictures")))
    assert not list((tmp_path / "out").glob("*")), "nothing half is left"


def test_a_class_map_is_applied_and_carried_along(drive, tmp_path):
    path = tmp_path / "two.yaml"
    path.write_text(
        "ids: {0: 0, 1: 0, 13: 1}\nclasses: [ground, car]\npalette: [[9, 9, 9], [0, 0, 142]]\n"
    )
    extract([drive], tmp_path / "two", options(class_map=path))
    shards = Shards([tmp_path / "two"], options={"labelled": True})
    assert shards.classes.names == ("ground", "car") and shards.classes.palette[1] == (0, 0, 142)
    assert {int(v) for s in shards for v in np.unique(s.label)} == {0, 1, IGNORE}
    index = json.loads((tmp_path / "two" / scene_of(drive) / "index.json").read_text())
    assert index["recipe"]["class_map"]["ids"] == {"0": 0, "1": 0, "13": 1}
    path.write_text("{11: 12}\n")
    extract([drive], tmp_path / "plain", options(class_map=path))
    kept = Shards([tmp_path / "plain"], options={"labelled": True})
    assert {int(v) for s in kept for v in np.unique(s.label)} == {12, IGNORE}
    path.write_text("ids: {11: 300}\n")
    with pytest.raises(RobustsegError, match=r"ids hold 300; an id lies in 0 to 255"):
        extract([drive], tmp_path / "wrong", options(class_map=path))


def test_the_calibration_goes_along(drive, tmp_path):
    extract([drive], tmp_path, options())
    found = json.loads((tmp_path / scene_of(drive) / "index.json").read_text())["calibration"]
    # the camera has 48x64 pixels, fx 60; the grid shares its outer edges
    assert np.allclose(found["intrinsics"], [[60, 0, 31.5], [0, 40, 15.5], [0, 0, 1]])
    assert found["frame_id"] == "camera" and found["camera_size"] == [48, 64]
    assert np.allclose(found["view_from"]["lidar"], pose(0, 0, 0, *OPTICAL))
    assert found["cameras"]["rgb"]["fx"] == 60


def test_a_part_of_the_drive_and_every_third_set_can_be_taken(drive, tmp_path):
    extract([drive], tmp_path / "all", options())
    extract([drive], tmp_path / "third", options(every=3))
    extract([drive], tmp_path / "part", options(start_s=0.4, duration_s=0.3))
    stamps = {
        name: [int(s.id.rpartition("_")[2]) for s in Shards([tmp_path / name])]
        for name in ("all", "third", "part")
    }
    assert stamps["third"] == stamps["all"][::3]
    part = [(stamp - EPOCH) / SECOND for stamp in stamps["part"]]
    assert min(part) > 0.3 and max(part) < 0.7 and len(part) in range(5, 9)
    assert {s.id for s in Shards([tmp_path / "part"])} <= {s.id for s in Shards([tmp_path / "all"])}


def test_what_was_extracted_is_not_extracted_again_unless_it_would_differ(drive, tmp_path):
    first = extract([drive], tmp_path, options())
    tar = next(tmp_path.glob("*/*.tar"))
    before, inode = tar.read_bytes(), tar.stat().st_ino
    again = extract([drive], tmp_path, options())
    assert first["recordings"][0]["made"] and not again["recordings"][0]["made"]
    assert tar.stat().st_ino == inode
    with pytest.raises(RobustsegError, match=r"made with every 1, wanted is 2.*or overwrite it"):
        extract([drive], tmp_path, options(every=2))
    assert tar.read_bytes() == before
    fewer = extract([drive], tmp_path, options(every=2), overwrite=True)
    assert fewer["samples"] == -(-first["samples"] // 2)
    extract([drive], tmp_path / "twin", options())
    assert next((tmp_path / "twin").glob("*/*.tar")).read_bytes() == before, "the same bytes"


def test_what_is_not_ours_is_never_replaced(drive, tmp_path):
    folder = tmp_path / scene_of(drive)
    folder.mkdir()
    (folder / "thesis.tex").write_text("...")
    with pytest.raises(RobustsegError, match=r"holds 'thesis.tex', which robustseg did not write"):
        extract([drive], tmp_path, options(), overwrite=True)
    assert (folder / "thesis.tex").exists()


def test_recordings_are_extracted_in_parallel_to_the_same_bytes(drive, plain, tmp_path):
    shares = []
    one = extract(
        [drive, plain], tmp_path / "one", options(), on_progress=lambda *a: shares.append(a)
    )
    two = extract([drive, plain], tmp_path / "two", options(), jobs=2)
    assert one == two and [r["name"] for r in two["recordings"]] == [scene_of(drive), "plain"]
    for file in (tmp_path / "one").glob("*/*.*"):
        if file.is_dir():
            continue  # our account of the folder, with times in it
        assert file.read_bytes() == (tmp_path / "two" / file.parent.name / file.name).read_bytes()
    assert shares == sorted(shares) and shares[-1] == (1.0, one["samples"])
    assert len(Shards([tmp_path / "one"])) == one["samples"]


def test_one_bad_recording_does_not_stop_the_others(drive, tmp_path):
    (tmp_path / "broken.mcap").write_bytes(b"\x89MCAP0\r\n")
    with pytest.raises(RobustsegError, match=r"1 of 2 recordings failed; .*broken.mcap"):
        extract([tmp_path / "broken.mcap", drive], tmp_path / "out", options())
    assert len(Shards([tmp_path / "out"])) >= 20
    with pytest.raises(RobustsegError, match="both called 'plain'"):
        extract([drive.with_name("plain"), tmp_path / "plain.mcap"], tmp_path / "out", options())
    with pytest.raises(RobustsegError, match="no recording was given"):
        extract([], tmp_path / "out", options())


def test_a_recording_that_gives_no_set_says_why(drive, tmp_path):
    never = options(overrides=("health.good_to_start=999",))
    with pytest.raises(RobustsegError, match=r"no sample came of .*rgb was never used: starting"):
        extract([drive], tmp_path, never)
    assert not list(tmp_path.iterdir())


def test_a_sensor_that_the_robot_lacks_is_absent_and_an_unknown_one_an_error(tmp_path):
    bag = write_drive(tmp_path / "drive", 0.5)
    robot_yaml = tmp_path / "robot.yaml"
    robot_yaml.write_text("streams: {rgb: {topic: /rgb}, depth: {topic: /depth}}\n")
    account = extract([bag], tmp_path / "out", options(params=robot_yaml, modalities=ALL))
    assert account["recordings"][0]["used"]["lidar"] == 0 and account["complete"] == 0
    assert all(set(s.images) <= {"rgb", "depth"} for s in Shards([tmp_path / "out"]))
    with pytest.raises(RobustsegError, match="no sample has 'lidar'; leave it out"):
        Shards([tmp_path / "out"], modalities=["rgb", "lidar"])
    index = next((tmp_path / "out").rglob("index.json"))
    index.write_text(index.read_text().replace('"unused": {}', '"unused": {"lidar": "silent"}'))
    with pytest.raises(RobustsegError, match=r"no sample has 'lidar' \(silent\); leave it out"):
        Shards([tmp_path / "out"], modalities=["rgb", "lidar"])
    only = extract([bag], tmp_path / "only", options(modalities=("rgb",)))
    assert only["recordings"][0]["used"] == {"rgb": only["samples"]}
    for wrong, said in (
        ({"modalities": ("radr",)}, "no Modality called 'radr'"),
        ({"encodings": {"radar": {}}}, "encodings name 'radar'"),
        ({"encodings": {"depth": {"nearm": 1}}}, "unknown key 'encodings.depth.nearm'"),
    ):
        with pytest.raises(RobustsegError, match=said):
            extract([bag], tmp_path / "wrong", options(**wrong))


def test_the_conditions_of_a_simulated_drive_become_its_tag(tmp_path):
    bag = write_drive(tmp_path / "drive", 0.5)
    recipe = {"recipe": {"seed": 3, "conditions": ["night", "rain"]}}
    (tmp_path / "drive.json").write_text(json.dumps(recipe))
    extract([bag], tmp_path / "out", options())
    assert Shards([tmp_path / "out"]).tags(0) == {"scene": "drive", "condition": "night+rain"}


@pytest.mark.parametrize(
    "name, scene",
    [
        ("drive.mcap", "drive"),
        ("v1.2.mcap.zst", "v1.2"),
        ("a b/c.bag", "c"),
        ("my drive.db3", "my_drive"),
        (".hidden.mcap", "hidden"),
    ],
)
def test_a_recording_is_called_by_its_name(tmp_path, name, scene):
    assert scene_of(tmp_path / name) == scene


def test_an_unlabelled_recording_of_four_real_sensors_is_material(realdata, tmp_path):
    bag = realdata / "collage_four_sensors"
    account = extract([bag], tmp_path, options())
    (row,) = account["recordings"]
    assert (account["samples"], account["labelled"], account["complete"]) == (60, 0, 49)
    assert row["used"] == {"rgb": 59, "depth": 57, "event": 60, "lidar": 49}
    shards = Shards([tmp_path])
    full = [sample for sample in shards if len(sample.images) == 4]
    assert len(full) == 49 and not shards.labelled
    assert all((a != 0).any() for sample in full for a in sample.images.values())


def test_what_every_leaves_out_is_not_encoded(drive, tmp_path, monkeypatch):
    """Of it, the camera alone is looked at: whether the set would have been numbered."""
    counts = Counter()
    for name in ALL:
        kind = modalities.load(name)

        def counted(self, *args, encode=kind.encode, name=name):
            counts[name] += 1
            return encode(self, *args)

        monkeypatch.setattr(kind, "encode", counted)
    all_of_it = extract([drive], tmp_path / "all", options())["samples"]
    whole = dict(counts)
    counts.clear()
    fifth = extract([drive], tmp_path / "fifth", options(every=5))["samples"]
    assert fifth == pytest.approx(all_of_it / 5, abs=1)
    assert counts["rgb"] == whole["rgb"] and counts["event"] <= fifth + 1
    assert max(counts[name] for name in ("depth", "lidar")) <= fifth + 1
