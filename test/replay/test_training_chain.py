"""From nothing to a student that beats chance, by the commands of `training/README.md`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from robustseg_core import datasets, evaluation
from robustseg_core.cli.main import app
from robustseg_core.evaluation.figures import figures
from robustseg_core.metrics import confusion, mean_iou
from robustseg_core.models import checkpoint
from support.tiny_clip import make_clip

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the first test trains all students

TEACHER = ("--teacher", "teacher/best.safetensors")
SPLIT = "first_seed: {seed}\ndrives: {drives}\nseconds: 1.2\npreset: tiny\n"


def robustseg(*words: object, folder: Path) -> str:
    """One command, as a user types it in that folder."""
    here = Path.cwd()
    os.chdir(folder)
    try:
        done = CliRunner().invoke(app, [str(word) for word in words])
    finally:
        os.chdir(here)
    told = f"robustseg {' '.join(map(str, words))}: {done.exception!r}\n{done.output[-3000:]}"
    assert done.exit_code == 0, told
    return done.stdout


@pytest.fixture(scope="module")
def chain(tmp_path_factory) -> Path:
    """Drives, shards, a teacher, the students and their evaluations."""
    folder = tmp_path_factory.mktemp("chain")
    for name, seed, drives in (("train", 11, 3), ("test", 21, 1)):
        (folder / f"{name}.yaml").write_text(SPLIT.format(seed=seed, drives=drives))
    robustseg("sim", "drives", "--split", "train.yaml", "--split", "test.yaml", folder=folder)
    drives = sorted((folder / "drives").glob("*.mcap"))
    robustseg("extract", *drives, "--out", "shards", "--size", "128x96", folder=folder)
    data = ("--set", "data.train=[shards/train_*]", "--set", "data.val=[shards/test_*]")
    robustseg("train", "teacher", "smoke", "--out", "teacher", *data, folder=folder)
    robustseg("train", "anyseg", "smoke", *TEACHER, "--out", "anyseg", *data, folder=folder)
    judge("anyseg", folder)
    return folder


def judge(student: str, folder: Path) -> None:
    """Evaluate every subset of the sensors."""
    only = ("--protocol", "subsets", "--out", f"{student}/eval")
    robustseg("eval", f"{student}/best.safetensors", "shards/test_00021", *only, folder=folder)


def commonest(folder: Path) -> float:
    """mIoU of one who always says the class that is most common in the truth: a strong chance."""
    data = datasets.load("shards")([folder / "shards" / "test_00021"], "test")
    labels = [s.label for k in range(len(data)) if (s := data[k]).label is not None]
    classes = len(data.classes.names)
    best = np.bincount(np.concatenate([x.ravel() for x in labels]), minlength=256)[
        :classes
    ].argmax()
    guess = [np.full_like(label, best) for label in labels]
    counts = sum(confusion(a, b, classes) for a, b in zip(labels, guess, strict=True))
    return mean_iou(counts, absent="zero")


def test_a_student_beats_chance_with_every_sensor_and_on_average_of_all_subsets(chain):
    found = figures(evaluation.load(chain / "anyseg" / "eval"))
    floor = commonest(chain)
    assert found["subsets full"] > 1.5 * floor
    assert found["subsets mean"] > 1.5 * floor
    for name in ("report.html", "table.md", "results.json", "counts.npz"):
        assert (chain / "anyseg" / "eval" / name).stat().st_size > 0


def test_what_was_trained_runs_on_a_recording_and_knows_where_it_is_from(chain):
    model = checkpoint.load(chain / "anyseg" / "best.safetensors")
    assert model.spec.trained and model.spec.calibration is not None
    assert "anyseg, seed 3407, on train_*; best four at step" in model.spec.provenance
    drive = chain / "drives" / "test_00021.mcap"
    robustseg(
        "run",
        drive,
        "--weights",
        "anyseg/best.safetensors",
        "--kill",
        "rgb@0.5+0.4",
        "--out",
        "run",
        folder=chain,
    )
    result = json.loads((chain / "run" / "result.json").read_text())
    assert result["trained"]
    assert result["miou"] > 1.5 * commonest(chain)


def test_a_student_learns_from_language_without_a_teacher_and_is_compared(chain):
    make_clip(chain / "clip")
    shards = sorted((chain / "shards").glob("train_*"))
    robustseg("embed", *shards, "--model", "clip", "--out", "cache.safetensors", folder=chain)
    data = ("--set", "data.train=[shards/train_*]", "--set", "data.val=[shards/test_*]")
    few = ("--set", "optim.steps=8", "--embeddings", "cache.safetensors")
    robustseg("train", "any2seg", "sim", "smoke", "--out", "any2seg", *data, *few, folder=chain)
    result = json.loads((chain / "any2seg" / "result.json").read_text())
    assert (result["terms"], result["notices"]) == (["ce", "lscd"], [])
    judge("any2seg", chain)
    assert len(figures(evaluation.load(chain / "any2seg" / "eval"))) > 0
    results = [f"{name}/eval/results.json" for name in ("anyseg", "any2seg")]
    table = robustseg("eval", "--compare", *results, folder=chain)
    assert "subsets mean" in table
    assert "too few scenes" in table


def test_an_unlabelled_recording_teaches_a_student_and_can_be_labelled(chain, realdata):
    bag = realdata / "collage_four_sensors"
    robustseg("extract", bag, "--out", "plain", "--size", "128x96", "--every", "4", folder=chain)
    few = ("--set", "data.train=[plain]", "--set", "optim.steps=6")
    robustseg(
        "train",
        "anyseg",
        "smoke",
        "--teacher",
        "teacher/best.safetensors",
        "--out",
        "blind",
        *few,
        folder=chain,
    )
    result = json.loads((chain / "blind" / "result.json").read_text())
    assert result["terms"] == ["prediction", "unimodal", "crossmodal"]
    assert result["loss"] > 0
    robustseg(
        "label",
        bag,
        "--weights",
        "teacher/best.safetensors",
        "--out",
        "masks",
        "--every",
        "10",
        "--confidence",
        "0.2",
        folder=chain,
    )
    robustseg(
        "extract", bag, "--out", "labelled", "--size", "128x96", "--labels", "masks", folder=chain
    )
    data = datasets.load("shards")([chain / "labelled"], "train", options={"labelled": True})
    assert len(data) >= 6
