"""`adapt` on a drive of seconds: the whole chain, what it says, and what it refuses."""

from __future__ import annotations

import json
import re

import pytest
import torch
from typer.testing import CliRunner

from robustseg_core.cli.main import app
from robustseg_core.datasets.shards import Shards
from robustseg_core.errors import RobustsegError
from robustseg_core.learn import adapt as chain
from robustseg_core.learn.adapt import Adaptation, adapt
from robustseg_core.models import checkpoint
from robustseg_core.types import IGNORE
from support.drives import SIZE, truths, write_drive
from support.tiny_segformer import make_segformer

pytestmark = pytest.mark.slow

pytest.importorskip("transformers")
pytest.importorskip("lightning")

WORDS = ("optim.steps=3", "optim.batch=2", "data.workers=0", "augment=null")
HOW = Adaptation(confidence=0.3, frames=20, words=WORDS, device="cpu")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A drive, one with labels, a teacher, a student."""
    folder = tmp_path_factory.mktemp("world")
    write_drive(folder / "drive", 2.2)
    make_segformer(folder / "teacher")
    spec = checkpoint.default_spec(size=SIZE, trained=True)
    checkpoint.save(folder / "student.safetensors", checkpoint.untrained(spec, seed=1))
    return folder


@pytest.fixture(scope="module")
def made(world, tmp_path_factory):
    out = tmp_path_factory.mktemp("mine")
    stages = []
    account = adapt(
        [world / "drive"],
        world / "teacher",
        out,
        HOW,
        student=world / "student.safetensors",
        on_stage=stages.append,
    )
    assert stages == ["reading", "labelling", "extracting", "learning", "calibrating", "judging"]
    return out, account


def test_a_drive_becomes_a_student_and_a_report(made, world):
    out, account = made
    assert account == json.loads((out / "report.json").read_text())
    student = checkpoint.load(out / "student.safetensors")
    before = checkpoint.load(world / "student.safetensors")
    assert student.spec.modalities == ("rgb", "depth", "event", "lidar")
    assert student.spec.classes == before.spec.classes and student.spec.size == SIZE
    assert student.spec.calibration is not None and before.spec.calibration is None
    ours, theirs = student.state_dict(), before.state_dict()
    assert any(not torch.equal(ours[name], theirs[name]) for name in ours)
    assert account["teacher"]["classes"] == {
        "road": "road",
        "tree": "vegetation",
        "sky, heaven": "sky",
        "car": "car",
    }
    assert account["teacher"]["ignored"] == ["windowpane"]
    assert any("windowpane" in notice for notice in account["notices"])
    assert set(account["against"]) == {"teacher"}
    table = account["against"]["teacher"]
    assert len(table["after"]["miou"]) == 15 == len(table["before"]["miou"])
    for when in ("before", "after"):
        for lost in table[when]["lost"].values():
            assert lost["cost"] == pytest.approx(table[when]["full"] - lost["miou"], abs=2e-6)


def test_what_is_judged_was_never_learned_from(made):
    out, account = made
    parts = [
        Shards([out / "shards" / "drive"], options={"part": part})
        for part in (chain.TRAINED, chain.HELD_OUT)
    ]
    stamps = [[int(name.rpartition("_")[2]) for name in part.ids] for part in parts]
    assert max(stamps[0]) + 50_000_000 < min(stamps[1])
    counts = [account["parts"][name]["frames"] for name in ("learned_from", "held_out")]
    assert counts == [len(part) for part in parts] and min(counts) >= chain.FEWEST
    recipe = (out / "run" / "recipe.yaml").read_text()
    assert re.search(r"part:\s+- 0.0\s+- 0.65", recipe)


def test_unsure_pixels_teach_nothing(made):
    out, _ = made
    labels = [sample.label for sample in Shards([out / "shards"])]
    share = sum((label == IGNORE).mean() for label in labels) / len(labels)
    assert 0 < share < 1


def test_called_again_it_does_nothing_twice(made, world, monkeypatch):
    out, account = made
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.suffix != ".json"}

    def never(*_args, **_named):
        raise AssertionError("done already")

    monkeypatch.setattr(chain.adapt_report, "judge", never)
    again = adapt(
        [world / "drive"], world / "teacher", out, HOW, student=world / "student.safetensors"
    )
    assert again == account
    after = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.suffix != ".json"}
    changed = {path.name for path in before if before[path] != after.get(path)}
    assert changed <= {".robustseg", out.name, "run"}  # who held the folders
    with pytest.raises(RobustsegError, match=r"made with sure 0.3, wanted is 0.5"):
        adapt(
            [world / "drive"],
            world / "teacher",
            out,
            HOW.model_copy(update={"confidence": 0.5}),
            student=world / "student.safetensors",
        )


def test_the_page_says_whose_opinion_it_is(made):
    page = (made[0] / "report.html").read_text()
    assert "By the teacher's opinion" in page and "without rgb" in page
    assert page.count("<figure>") == 4 * 4 and "windowpane" in page


def test_a_drive_with_labels_is_judged_by_them_too(world, tmp_path):
    path = write_drive(tmp_path / "labelled", 2.2, extra=truths(2.2))
    options = {
        "--teacher": world / "teacher",
        "--out": tmp_path / "mine",
        "--from": world / "student.safetensors",
        "--confidence": 0.3,
        "--frames": 50,
        "--jobs": 1,
        "--device": "cpu",
    }
    words = [str(part) for pair in options.items() for part in pair]
    words += [part for word in WORDS for part in ("--set", word)]
    done = CliRunner().invoke(app, ["adapt", str(path), *words])
    assert done.exit_code == 0, done.output
    account = json.loads((tmp_path / "mine" / "report.json").read_text())
    table = account["against"]["truth"]
    assert 0 <= table["teacher"] <= 1 and table["frames"] >= 4
    assert "the teacher, camera alone" in done.output
    doubted = table["teacher"] < table["before"]["full"]
    assert doubted == any("take a better teacher" in notice for notice in account["notices"])


@pytest.mark.parametrize(
    "names, seconds, how, said",
    [
        (("depth", "lidar"), 0.4, {}, "has no camera for the teacher"),
        (("rgb",), 0.4, {}, "a camera and no other sensor"),
        (
            ("rgb", "depth"),
            0.5,
            {},
            r"the part of the drives that is \w+ .*too few labelled frames: \d",
        ),
        (("rgb", "depth"), 2.2, {"confidence": 1.0}, "is 1 sure of no pixel"),
    ],
    ids=["no camera", "one sensor", "too short", "never sure"],
)
def test_what_cannot_be_learned_from_is_a_sentence(world, tmp_path, names, seconds, how, said):
    path = write_drive(tmp_path / "drive", seconds, names=names)
    with pytest.raises(RobustsegError, match=said):
        adapt(
            [path],
            world / "teacher",
            tmp_path / "mine",
            HOW.model_copy(update=how),
            student=world / "student.safetensors",
        )


def test_a_teacher_of_no_known_class_is_refused_before_anything_is_written(world, tmp_path):
    make_segformer(tmp_path / "strange", ("foo", "bar"))
    with pytest.raises(RobustsegError, match="none of the teacher's 2 classes"):
        adapt(
            [world / "drive"],
            tmp_path / "strange",
            tmp_path / "mine",
            HOW,
            student=world / "student.safetensors",
        )
    assert not (tmp_path / "mine").exists()
