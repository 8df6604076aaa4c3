"""The training loop: it learns, goes on after a kill as if nothing had been, and says why not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from learn_data import CLASSES, make_shards, words
from safetensors import safe_open

from robustseg_core.errors import RobustsegError
from robustseg_core.learn import journal
from robustseg_core.learn.fit import fit, learning_rate
from robustseg_core.learn.recipe import OptimRecipe, known_recipes, load_recipe
from robustseg_core.models import checkpoint


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("shards")
    return make_shards(folder / "a", 24), make_shards(folder / "b", 6, seed=1)


@pytest.fixture(scope="module")
def teacher(data, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("teacher")
    fit(load_recipe(["teacher"], words(*data, optim__steps=80)), out)
    return out / "best.safetensors"


def run(names, data, out, **more):
    return fit(load_recipe(names, words(*data, **more)), out)


def losses(out: Path) -> list[float]:
    return [float(row["loss"]) for row in journal.read(out / "log.csv")]


def test_a_teacher_learns_and_leaves_a_checkpoint_that_explains_itself(data, tmp_path):
    result = run(["teacher"], data, tmp_path, optim__steps=80, validate__every=20)
    assert result["best"] > 0.6  # a third by chance
    assert min(losses(tmp_path)) < 0.6 * losses(tmp_path)[0]
    model = checkpoint.load(tmp_path / "best.safetensors", classes=CLASSES.names)
    assert model.spec.trained
    assert "teacher" in model.spec.provenance
    assert "best full at step" in model.spec.provenance
    assert model.head_form == "folded"
    with safe_open(tmp_path / "best.safetensors", "pt") as file:
        assert {file.get_tensor(k).dtype for k in file.keys()} == {torch.float16}  # noqa: SIM118
    assert load_recipe([str(tmp_path / "recipe.yaml")]).optim.steps == 80
    assert any((tmp_path / "tensorboard").iterdir())


@pytest.mark.parametrize("system", ["dropout", "anyseg", "robustseg_v1"])
def test_every_system_trains_on_labels(system, data, teacher, tmp_path):
    result = run([system], data, tmp_path, teacher=str(teacher))
    recipe = load_recipe([system])
    assert result["terms"] == ["ce", *recipe.distill]
    row = journal.read(tmp_path / "log.csv")[-1]
    assert float(row["loss"]) == pytest.approx(
        sum(float(row[n]) for n in result["terms"]), rel=1e-4
    )


def test_an_unlabelled_recording_is_training_data_for_a_student(data, teacher, tmp_path):
    plain = make_shards(tmp_path / "plain", 8, labelled=False)
    result = run(["robustseg_v1"], (plain, data[1]), tmp_path / "run", teacher=str(teacher))
    assert result["terms"] == ["prediction", "rrm"]
    assert result["left_out"] == ["hpdm"]
    with pytest.raises(RobustsegError, match="no labels and nothing in the recipe teaches without"):
        run(["dropout"], (plain, data[1]), tmp_path / "none")


@pytest.mark.parametrize("more", [{}, {"optim__ema": 0.9, "optim__accumulate": 2}])
def test_a_run_that_was_killed_goes_on_with_the_very_next_step(more, data, teacher, tmp_path):
    """SIGKILL in mid-epoch, after a state was saved and further steps were lost."""
    settings = words(*data, teacher=str(teacher), optim__steps=9, save_every=4, **more)
    fit(load_recipe(["robustseg_v1"], settings), tmp_path / "whole")
    code = """
import json, os, signal, sys
from pathlib import Path
from robustseg_core.learn.fit import fit
from robustseg_core.learn.recipe import load_recipe
def die(step, steps, numbers):
    if step == 6:
        os.kill(os.getpid(), signal.SIGKILL)
fit(load_recipe(["robustseg_v1"], json.loads(sys.argv[1])), Path(sys.argv[2]), on_progress=die)
"""
    out = tmp_path / "killed"
    done = subprocess.run([sys.executable, "-c", code, json.dumps(settings), str(out)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (out / "result.json").exists()
    fit(load_recipe(["robustseg_v1"], settings), out)
    assert losses(out) == losses(tmp_path / "whole")
    assert len(losses(out)) == 9
    ours = checkpoint.load(out / "best.safetensors").state_dict()
    whole = checkpoint.load(tmp_path / "whole" / "best.safetensors").state_dict()
    assert all(torch.equal(ours[name], whole[name]) for name in whole)


def test_a_finished_run_is_not_trained_again(data, tmp_path):
    first = run(["teacher"], data, tmp_path)
    weights = (tmp_path / "best.safetensors").stat().st_mtime_ns
    again = run(["teacher"], data, tmp_path)
    assert (tmp_path / "best.safetensors").stat().st_mtime_ns == weights
    assert again["loss"] == first["loss"]


def test_another_recipe_does_not_continue_a_run(data, tmp_path):
    run(["teacher"], data, tmp_path)
    with pytest.raises(RobustsegError, match=r"another recipe .optim.lr was 0.003, is 0.1"):
        run(["teacher"], data, tmp_path, optim__lr=0.1)
    (tmp_path / "state.safetensors").write_bytes(b"not a state")
    with pytest.raises(RobustsegError, match=r"is damaged .* delete it"):
        run(["teacher"], data, tmp_path)


@pytest.mark.parametrize("system", ["dropout", "robustseg_v1"])
def test_two_processes_learn_what_one_learns_from_the_same_global_batch(
    system, data, teacher, tmp_path
):
    """DDP over gloo. Nothing random inside the network, since each process has its own dice."""
    same = {
        "teacher": str(teacher), "loss__ohem_threshold": 1.0, "optim__steps": 4,
        "network__drop_path": 0.0, "network__dropout": 0.0,
    }  # fmt: skip
    if system == "robustseg_v1":
        same["distill"] = {"prediction": {"weight": 2.0}}
    run([system], data, tmp_path / "one", optim__batch=8, **same)
    settings = words(*data, optim__batch=4, **same)
    code = """
import json, sys
from pathlib import Path
from robustseg_core.learn.fit import fit
from robustseg_core.learn.recipe import load_recipe
fit(load_recipe([sys.argv[1]], json.loads(sys.argv[2])), Path(sys.argv[3]), device="cpu")
"""
    script = tmp_path / "train.py"
    script.write_text(code)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2",
               "--master_port=29519", str(script), system, json.dumps(settings)]  # fmt: skip
    done = subprocess.run(
        [*command, str(tmp_path / "two")], check=False, capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_batch(data, tmp_path):
    text = r"not finite at step 1: ce = (nan|inf).*lower optim.lr"
    with pytest.raises(RobustsegError, match=text):
        run(["teacher"], data, tmp_path, optim__lr=1e30)
    (kept,) = tmp_path.glob("not_finite_1.safetensors")
    with safe_open(kept, "pt") as file:
        assert {"images.rgb", "alive", "label"} <= set(file.keys())


def test_the_learning_rate_warms_up_and_decays():
    optim = OptimRecipe(lr=1.0, warmup=0.1, warmup_from=0.1, power=0.9)
    rates = [learning_rate(step, 100, optim) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert all(b > a for a, b in pairwise(rates[:10]))
    assert all(b < a for a, b in pairwise(rates[10:]))
    assert rates[50] == pytest.approx((1 - 50 / 101) ** 0.9)
    assert 0 < rates[-1] < 0.03


BAD = [
    (["teacher"], {"data__train": []}, "names no training data"),
    (["teacher"], {"data__train": ["/no/such"]}, "no such folder or file: /no/such"),
    (["teacher"], {"data__train": ["/no/such_*"]}, "nothing is called '/no/such_[*]'"),
    (["teacher"], {"data__modalities": ["rgb", "thermal"]}, "no modality 'thermal'"),
    (["anyseg"], {}, "distills prediction, unimodal, crossmodal but names no teacher"),
    (["anyseg"], {"teacher": "none.safetensors"}, "none.safetensors does not exist"),
    (["teacher"], {"network__backbone": "b9"}, "no backbone called 'b9'"),
    (["teacher"], {"student__dropout": "some"}, "student.dropout is 'some'"),
    (["teacher"], {"distill": {"hdpm": {}}}, "no Distiller called 'hdpm'.*hpdm"),
    (["teacher"], {"distill": {"hpdm": {"wait": 1}}}, "unknown key 'distill.hpdm.wait'.*weight"),
    (["teachr"], {}, "no recipe called 'teachr'.*teacher"),
]


@pytest.mark.parametrize(("names", "more", "text"), BAD)
def test_what_cannot_be_trained_is_said_before_anything_is(names, more, text, data, tmp_path):
    with pytest.raises(RobustsegError, match=text):
        run(names, data, tmp_path, **more)
    assert list(tmp_path.iterdir()) == []


def test_training_and_validation_data_must_fit_together(data, tmp_path):
    with pytest.raises(RobustsegError, match="which is trained on"):
        run(["teacher"], (data[0], data[0]), tmp_path)
    plain = make_shards(tmp_path / "plain", 4, labelled=False)
    with pytest.raises(RobustsegError, match=r"data.val has no labels"):
        run(["teacher"], (data[0], plain), tmp_path / "out")


def test_a_teacher_of_other_classes_or_sensors_is_refused(data, teacher, tmp_path):
    fewer = make_shards(tmp_path / "few", 4, names=("rgb", "lidar"))
    with pytest.raises(RobustsegError, match=r"the teacher .* knows rgb, depth, event, lidar"):
        run(["anyseg"], (fewer, None), tmp_path / "out", teacher=str(teacher))


def test_a_corrupt_shard_stops_training_with_its_name(data, tmp_path):
    folder = make_shards(tmp_path / "cut", 8)
    file = folder / "000000.tar"
    raw = bytearray(file.read_bytes())
    raw[2000:2100] = bytes(100)
    file.write_bytes(raw)
    with pytest.raises(RobustsegError, match=r"000000.tar.*damaged.*extract it again"):
        run(["teacher"], (folder, None), tmp_path / "run")


def test_all_shipped_recipes_are_sound():
    names = set(known_recipes())
    systems = {"teacher", "dropout", "anyseg", "robustseg_v1"}
    collections = {"sim", "deliver", "muses", "mcubes"}
    assert systems | collections <= names
    for system in systems:
        for collection in collections:
            recipe = load_recipe([system, collection])
            assert recipe.system == system
