"""A teacher's masks become labels where the teacher is sure, and go back into the shards."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from robustseg_core.bag import Bag
from robustseg_core.datasets.shards import Shards
from robustseg_core.errors import RobustsegError
from robustseg_core.extraction.extract import Extraction, extract
from robustseg_core.extraction.label import label_bags
from robustseg_core.faults import parse_kill
from robustseg_core.models import checkpoint
from robustseg_core.recording.replay import replay
from robustseg_core.recording.run import run_bags
from robustseg_core.segmenter import Segmenter
from robustseg_core.types import IGNORE
from support.drives import SIZE, engine, robot, write_drive

pytestmark = pytest.mark.slow

NAMES = ("ground", "thing", "sky")
COLORS = ((1, 2, 3), (4, 5, 6), (7, 8, 9))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """Random weights that call themselves trained; three classes of its own."""
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    spec = checkpoint.default_spec(size=SIZE, classes=NAMES, palette=COLORS, trained=True)
    model = checkpoint.untrained(spec, seed=1)
    with torch.no_grad():
        model.head.classifier.weight *= 10  # sure of some pixels, and not of others
    checkpoint.save(path, model)
    return path


@pytest.fixture(scope="module")
def bags(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bags")
    return [write_drive(folder / "first", 0.5), write_drive(folder / "second", 0.4)]


@pytest.fixture(scope="module")
def labels(bags, teacher, tmp_path_factory):
    out = tmp_path_factory.mktemp("labels")
    label_bags(bags, teacher, out, overrides=["device=cpu"], confidence_threshold=0.4)
    return out


def read(path):
    return np.asarray(Image.open(path))


def test_masks_are_the_node_s_where_the_teacher_is_sure(labels, bags, teacher):
    config = robot().model_copy(update={"weights": str(teacher), "device": "cpu"})
    with Bag(bags[0]) as bag:
        seen = list(replay(bag, Segmenter.from_config(config)))
    account = json.loads((labels / "first" / "labels.json").read_text())
    assert [row["stamp_ns"] for row in account["masks"]] == [m.stamp_ns for m in seen]
    assert account["classes"] == list(NAMES) and account["palette"] == [list(c) for c in COLORS]
    unsure = 0
    for row, label_map in zip(account["masks"], seen, strict=True):
        mask, confidence = (
            read(labels / "first" / d / row["file"]) for d in ("masks", "confidence")
        )
        assert mask.shape == (48, 64) and mask.dtype == np.uint8
        assert np.array_equal(confidence, label_map.confidence)
        sure = confidence >= 0.4 * 255
        assert np.array_equal(mask[sure], label_map.ids[sure]) and (mask[~sure] == IGNORE).all()
        assert row["labelled_share"] == pytest.approx(sure.mean(), abs=1e-4)
        assert row["used"] == list(label_map.used)
        unsure += (~sure).sum()
    assert unsure > 0, "the threshold was put to use"


def test_the_threshold_decides_how_much_is_labelled(bags, teacher, tmp_path):
    shares = [
        label_bags(bags[:1], teacher, tmp_path / str(t), confidence_threshold=t)["labelled_share"]
        for t in (0.0, 0.4, 1.0)
    ]
    assert shares[0] == 1.0 > shares[1] > shares[2]


def test_the_masks_are_labels_for_extract_with_the_teacher_s_classes(labels, bags, tmp_path):
    account = extract(bags, tmp_path, Extraction(size=SIZE, labels=str(labels)))
    shards = Shards([tmp_path])
    assert account["labelled"] == account["samples"] == len(shards)
    assert shards.classes.names == NAMES and shards.classes.palette == COLORS
    for sample in shards:
        scene, _, name = sample.id.partition("/")
        mask = read(labels / scene / "masks" / f"{name}.png")
        rows = (2 * np.arange(32) + 1) * 48 // 64
        assert np.array_equal(sample.label, mask[rows])


def test_what_is_sure_may_be_decided_later(labels, bags, teacher, tmp_path):
    label_bags(bags[:1], teacher, tmp_path / "all", confidence_threshold=0.0)
    for name, folder, sure in (("then", labels, 0.0), ("later", tmp_path / "all", 0.4)):
        extract(bags[:1], tmp_path / name, Extraction(size=SIZE, labels=str(folder), sure=sure))
    then, later = (Shards([tmp_path / name]) for name in ("then", "later"))
    for one, other in zip(then, later, strict=True):
        assert one.id == other.id and np.array_equal(one.label, other.label)
    (file,) = list((tmp_path / "all" / "first" / "confidence").glob("000003_*.png"))
    file.unlink()
    with pytest.raises(RobustsegError, match=rf"{file.name}: .*write it again"):
        how = Extraction(size=SIZE, labels=str(tmp_path / "all"), sure=0.4)
        extract(bags[:1], tmp_path / "gone", how)


def test_sets_without_a_label_may_be_skipped(bags, teacher, tmp_path):
    label_bags(bags[:1], teacher, tmp_path / "few", confidence_threshold=0.0, every=3)
    how = Extraction(size=SIZE, labels=str(tmp_path / "few"), unlabelled="skip")
    account = extract(bags[:1], tmp_path / "out", how)
    assert account["samples"] == account["labelled"] > 0
    stamps = [int(name.rpartition("_")[2]) for name in Shards([tmp_path / "out"]).ids]
    made = (tmp_path / "few" / "first" / "masks").iterdir()
    assert stamps == sorted(int(file.stem.partition("_")[2]) for file in made)
    with pytest.raises(RobustsegError, match=r"no sample came of .*there is no label topic"):
        extract(bags[:1], tmp_path / "none", Extraction(size=SIZE, unlabelled="skip"))


def test_labels_of_another_recording_are_refused(labels, bags, tmp_path):
    one = Extraction(size=SIZE, labels=str(labels / "second"))
    with pytest.raises(RobustsegError, match=r"holds labels of 'second', not of .*first"):
        extract(bags[:1], tmp_path, one)
    assert extract(bags[1:], tmp_path, one)["labelled"] > 0


def test_better_labels_are_not_taken_for_the_old_ones(bags, teacher, tmp_path):
    how = Extraction(size=SIZE, labels=str(tmp_path / "labels"))
    label_bags(bags[:1], teacher, tmp_path / "labels", confidence_threshold=0.4)
    extract(bags[:1], tmp_path / "out", how)
    label_bags(bags[:1], teacher, tmp_path / "labels", confidence_threshold=0.0, overwrite=True)
    with pytest.raises(RobustsegError, match=r"made with labels .*overwrite"):
        extract(bags[:1], tmp_path / "out", how)


def test_a_recording_is_labelled_once(labels, bags, teacher):
    before = {file: file.stat().st_ino for file in labels.rglob("*.png")}
    same = {"overrides": ["device=cpu"], "confidence_threshold": 0.4}
    again = label_bags(bags, teacher, labels, **same)
    assert not any(row["made"] for row in again["recordings"])
    assert {file: file.stat().st_ino for file in labels.rglob("*.png")} == before
    with pytest.raises(RobustsegError, match=r"made with confidence_threshold 0.4, wanted is 0.5"):
        label_bags(bags, teacher, labels, confidence_threshold=0.5)


def test_every_second_set_and_the_progress_of_all(bags, teacher, tmp_path):
    shares = []
    every = label_bags(
        bags, teacher, tmp_path, every=2, on_progress=lambda share, n: shares.append((share, n))
    )
    assert shares == sorted(shares) and shares[-1] == (1.0, every["samples"])
    stamps = [int(f.stem.partition("_")[0]) for f in (tmp_path / "first" / "masks").iterdir()]
    assert all(number % 2 == 0 for number in stamps)


def test_an_untrained_teacher_is_named(bags, tmp_path):
    path = tmp_path / "plumbing.safetensors"
    checkpoint.save(path, checkpoint.untrained(engine().spec))
    account = label_bags(bags[:1], path, tmp_path / "out")
    assert "untrained: these labels mean nothing" in account["recordings"][0]["notices"][-1]


@pytest.mark.parametrize(
    "how, said",
    [
        ({"confidence_threshold": 70}, "threshold is 70; a probability"),
        ({"every": 0}, "every is 0"),
        ({"checkpoint": "nowhere.safetensors"}, "nowhere.safetensors does not exist"),
        ({"overrides": ["streams.rgb.topc=/x"]}, "unknown key"),
    ],
)
def test_what_cannot_be_used_is_said_before_anything_is_written(bags, teacher, tmp_path, how, said):
    given = {"checkpoint": teacher} | how
    weights = tmp_path / given.pop("checkpoint")
    with pytest.raises(RobustsegError, match=said):
        label_bags(bags[:1], weights, tmp_path / "out", **given)
    assert not list((tmp_path / "out").glob("*"))


def test_weights_that_overflow_make_no_label_and_no_run_a_success(bags, tmp_path):
    """Finite on disk, and not where they are used: exit code 2, and how many sets it cost."""
    model = checkpoint.untrained(checkpoint.default_spec(size=SIZE, trained=True))
    with torch.no_grad():
        model.head.classifier.weight.fill_(3e38)
        model.head.norm.bias.fill_(3.0)
    path = tmp_path / "overflows.safetensors"
    checkpoint.save(path, model)
    text = r"no mask (came|was made).*logits of rgb, .* are not finite.*\(\d+ sets\)"
    with pytest.raises(RobustsegError, match=text):
        label_bags(bags[:1], path, tmp_path / "labels", overrides=["device=cpu"])
    words = [f"weights={path}", "device=cpu"]
    with pytest.raises(RobustsegError, match=text):
        run_bags(bags[:1], overrides=words, out=tmp_path / "run")


def test_weights_that_overflow_on_one_sensor_are_a_notice(bags, tmp_path):
    spec = checkpoint.default_spec(size=SIZE, trained=True, stem="per_modality")
    model = checkpoint.untrained(spec)
    with torch.no_grad():
        model.encoder.stages[0].embed.proj[1].weight.fill_(3e38)
    path = tmp_path / "overflows.safetensors"
    checkpoint.save(path, model)
    words = [f"weights={path}", "device=cpu"]
    kills = [parse_kill("depth@0.2+9")]
    result = run_bags(bags[:1], overrides=words, out=tmp_path / "run", faults=kills)
    assert any("are not finite" in notice and "sets)" in notice for notice in result["notices"])
    assert result["masks"]
