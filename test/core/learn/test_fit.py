"""The training loop: it learns, goes on after a kill as if nothing had been, and says why not."""

from __future__ import annotations

import gc
import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning.fabric import Fabric
from safetensors import safe_open
from safetensors.torch import save_file

from robustseg_core import datasets
from robustseg_core.errors import RobustsegError
from robustseg_core.learn import embeddings, journal, loop
from robustseg_core.learn.fit import fit
from robustseg_core.learn.prepare import splits
from robustseg_core.learn.recipe import known_recipes, load_recipe, systems
from robustseg_core.learn.sameness import batch_of, run_of
from robustseg_core.learn.tasks import Task
from robustseg_core.models import checkpoint
from robustseg_core.models.architectures.m_segformer import AnyModalSegmenter
from robustseg_core.types import Batch
from support.learn_data import CLASSES, make_embeddings, make_shards, words
from support.torchrun import train

pytestmark = pytest.mark.slow


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
    page = (tmp_path / "report.html").read_text()
    assert "Training: teacher" in page and f"mIoU {100 * result['best']:.1f} %" in page


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
    pages = [(folder / "report.html").read_text() for folder in (out, tmp_path / "whole")]
    frames = [re.findall(r'src="data:image/png[^"]*"', page)[1:] for page in pages]  # no curves
    assert frames[0] == frames[1] and len(frames[0]) == 3 + 3 + 3 * 5


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


@pytest.mark.parametrize("system", ["any2seg"])  # dropout: resumed, below; rmmss: in stages
def test_two_processes_learn_what_one_learns_from_the_same_global_batch(
    system, data, teacher, tmp_path
):
    """DDP over gloo. Nothing random inside the network, since each process has its own rng."""
    same = {
        "teacher": str(teacher),
        "loss__ohem_threshold": 1.0,
        "optim__steps": 4,
        "network__drop_path": 0.0,
        "network__dropout": 0.0,
    }
    if system == "any2seg":  # scenes are compared within a process
        cache = tmp_path / "cache.safetensors"
        embeddings.save(cache, make_embeddings(datasets.load("shards")([data[0]])))
        same |= {"data__embeddings": str(cache), "distill": {"lscd": {"intra": 0.0}}}
    run([system], data, tmp_path / "one", optim__batch=8, **same)
    train([system], words(*data, optim__batch=4, **same), tmp_path / "two", processes=2)
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)


def weights(out: Path) -> dict[str, torch.Tensor]:
    return checkpoint.load(out / "best.safetensors").state_dict()


class Interrupted(Exception):
    """What `interrupt_at` ends a run with."""


def interrupt_at(step: int):
    def stop(done: int, steps: int, numbers: dict[str, float]) -> None:
        if done == step:
            raise Interrupted

    return stop


def test_a_run_goes_on_in_another_number_of_processes_as_if_nothing_had_been(data, tmp_path):
    """Two epochs of 3 steps with 8 samples: by one process, by two, and by one again."""
    settings = words(
        *data,
        loss__ohem_threshold=1.0,
        network__drop_path=0.0,
        network__dropout=0.0,
        optim__steps=0,
        optim__epochs=2,
        optim__batch=8,
    )
    recipe = load_recipe(["dropout"], settings)
    fit(recipe, tmp_path / "whole")
    out = tmp_path / "run"
    with pytest.raises(Interrupted):
        fit(recipe, out, on_progress=interrupt_at(3))  # a state of 2 is left
    train(["dropout"], settings, out, processes=2, die=5)  # ... and one of 4
    assert fit(recipe, out)["steps"] == 6
    assert len(losses(out)) == 6
    assert losses(out) == pytest.approx(losses(tmp_path / "whole"), rel=1e-4)
    ours, whole = weights(out), weights(tmp_path / "whole")
    for name in whole:
        torch.testing.assert_close(ours[name], whole[name], rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize(
    ("begun", "resumed", "batch"),
    [
        ((4, 1), (4, 1), 4),
        ((4, 1), (4, 2), 4),  # the same recipe: the batch that it had, however many share it
        ((4, 2), (4, 1), 8),
        ((4, 2), (8, 1), 8),  # another one that comes to the same
        ((8, 1), (4, 2), 8),
        ((8, 1), (2, 4), 8),
        ((4, 2), (2, 1), None),
        ((4, 1), (8, 1), None),
    ],
)
def test_the_batch_of_all_processes_together_is_kept_or_refused(begun, resumed, batch, data):
    def run_in(samples: int, processes: int):
        recipe = load_recipe(["dropout"], words(*data, optim__batch=samples))
        return run_of(recipe, *splits(recipe), processes=processes)

    if batch is None:
        with pytest.raises(RobustsegError, match=r"another recipe .all processes together had"):
            batch_of(run_in(*begun), run_in(*resumed), folder=Path("run"))
    else:
        assert batch_of(run_in(*begun), run_in(*resumed), folder=Path("run")) == batch


def test_processes_that_cannot_share_the_batch_are_refused(stopped, data, tmp_path, monkeypatch):
    """What each of three processes would do with a batch of 4, before any talks to another."""
    out = shutil.copytree(stopped, tmp_path / "run")
    before = (out / "state.safetensors").read_bytes()
    real = Fabric.setup

    def setup(self, *parts):
        monkeypatch.setattr(type(self), "world_size", 3)
        return real(self, *parts)

    monkeypatch.setattr(Fabric, "setup", setup)
    with pytest.raises(RobustsegError, match="a batch of 4, which 3 processes cannot share evenly"):
        run(["teacher"], data, out)
    assert (out / "state.safetensors").read_bytes() == before


def interrupted(names, data, out, **more):
    with pytest.raises(Interrupted):
        fit(load_recipe(names, words(*data, **more)), out, on_progress=interrupt_at(4))


def test_what_does_not_change_the_result_does_not_stop_a_resume(data, teacher, tmp_path):
    """Workers, cache, rows of the log, states, and data and teacher that lie elsewhere."""
    more = {"teacher": str(teacher), "optim__steps": 5}
    whole = tmp_path / "whole"
    fit(load_recipe(["anyseg"], words(*data, **more)), whole)
    out = tmp_path / "out"
    interrupted(["anyseg"], data, out, **more)
    moved = [
        shutil.copytree(folder, tmp_path / "moved" / name)
        for folder, name in zip(data, "xy", strict=True)
    ]
    more["teacher"] = str(shutil.copy(teacher, tmp_path / "other.safetensors"))
    others = {"data__workers": 1, "log_every": 3, "save_every": 1, "data__cache": True}
    result = fit(load_recipe(["anyseg"], words(*moved, **more, **others)), out)
    assert result["steps"] == 5
    ours, theirs = weights(out), weights(whole)
    for name in theirs:  # the cache rounds images to float16
        torch.testing.assert_close(ours[name], theirs[name], rtol=2e-2, atol=1e-3)


def test_data_or_a_teacher_that_changed_is_another_recipe(data, teacher, tmp_path):
    more = {"teacher": str(teacher), "optim__steps": 5}
    out = tmp_path / "out"
    interrupted(["anyseg"], data, out, **more)
    other = make_shards(tmp_path / "other" / "a", 24, seed=9)
    with pytest.raises(RobustsegError, match=r"another recipe .data.train was \['.*a'\], is"):
        run(["anyseg"], (other, data[1]), out, **more)
    another = tmp_path / "another.safetensors"
    model = checkpoint.load(teacher)
    with torch.no_grad():
        model.head.classifier.bias.add_(1)
    checkpoint.save(another, model)
    with pytest.raises(RobustsegError, match=r"another recipe .teacher was .*teacher.*another"):
        run(["anyseg"], data, out, **more | {"teacher": str(another)})
    with pytest.raises(RobustsegError, match=r"batch of 4, have one of 6"):
        run(["anyseg"], data, out, **more, optim__batch=6)


def test_a_state_of_an_earlier_version_goes_on_with_its_own_recipe(data, tmp_path):
    interrupted(["teacher"], data, tmp_path)
    path = tmp_path / "state.safetensors"
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = {k: v for k, v in file.metadata().items() if k not in ("identity", "batch")}
    save_file(tensors, path, metadata)
    with pytest.raises(RobustsegError, match=r"another recipe .optim.lr was 0.003, is 0.1"):
        run(["teacher"], data, tmp_path, optim__lr=0.1)
    assert run(["teacher"], data, tmp_path)["steps"] == 6


def changed(path: Path, metadata=None, **tensors) -> None:
    with safe_open(path, "pt") as file:
        old = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        words = file.metadata() | (metadata or {})
    new = {k: v for k, v in {**old, **tensors}.items() if v is not None}
    save_file(new, path, words)


@pytest.mark.parametrize(
    ("metadata", "name", "value", "text"),
    [
        ({}, "model.head.classifier.bias", torch.full((3,), torch.nan), "bias with 3 of 3 values"),
        ({}, "model.head.classifier.bias", torch.zeros(3).long(), "is torch.int64, not"),
        ({}, "model.head.classifier.bias", torch.zeros(4), "size mismatch for head.classifier"),
        ({}, "model.head.classifier.bias", None, "is damaged .*head.classifier.bias"),
        ({}, "optimizer.0.exp_avg", torch.zeros(1), "optimizer.0.exp_avg does not fit"),
        ({}, "optimizer.0.exp_avg", None, "optimizer.0 has"),
        ({}, "optimizer.9999.exp_avg", torch.zeros(1), "optimizer.9999.exp_avg does not fit"),
        ({}, "optimizer.x.exp_avg", torch.zeros(1), "is damaged .*invalid literal"),
        ({"progress": "[1]"}, "", None, "is damaged"),
        ({"progress": '{"step": -1}'}, "", None, "is damaged .it stands at step -1"),
        ({"progress": '{"step": "two"}'}, "", None, "is damaged .*step"),
        ({"progress": '{"step": 10000}'}, "", None, "a run of 10000 steps, and there are 6"),
        ({"scaler": "[" * 100_000}, "", None, "is damaged"),
        ({"identity": "[]"}, "", None, "another recipe"),
        ({"identity": "{"}, "", None, "is damaged"),
        ({"batch": "many"}, "", None, "is damaged"),
        ({"recipe": "3"}, "", None, "is damaged"),
    ],
)
def test_a_state_that_no_run_can_have_left_is_a_sentence(
    metadata, name, value, text, stopped, data, tmp_path
):
    out = shutil.copytree(stopped, tmp_path / "run")
    changed(out / "state.safetensors", metadata, **({name: value} if name else {}))
    before = (out / "state.safetensors").read_bytes()
    with pytest.raises(RobustsegError, match=text) as caught:
        run(["teacher"], data, out)
    assert "\n" not in str(caught.value)
    assert (out / "state.safetensors").read_bytes() == before


@pytest.fixture(scope="module")
def stopped(data, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("stopped")
    interrupted(["teacher"], data, out)
    return out


def test_a_finished_run_says_so(data, tmp_path, caplog):
    run(["teacher"], data, tmp_path)
    before = json.loads((tmp_path / "result.json").read_text())
    assert "finished" not in caplog.text
    assert run(["teacher"], data, tmp_path) == before
    assert "holds a finished run: all its 6 steps are done" in caplog.text


def test_weights_that_are_not_finite_replace_no_state(data, tmp_path):
    """The last gradient of a run is in no loss any more."""
    interrupted(["teacher"], data, tmp_path)
    state = (tmp_path / "state.safetensors").read_bytes()

    def spoil(step, steps, numbers):
        for model in [m for m in gc.get_objects() if type(m) is AnyModalSegmenter and m.training]:
            model.head.classifier.bias.data[0] = torch.nan

    text = r"the run at step 3 has model.head.classifier.bias .*not finite.*is left as it was"
    with pytest.raises(RobustsegError, match=text):
        fit(load_recipe(["teacher"], words(*data, save_every=1)), tmp_path, on_progress=spoil)
    assert (tmp_path / "state.safetensors").read_bytes() == state


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_batch(data, tmp_path):
    text = r"not finite at step 1: ce = (nan|inf).*lower optim.lr"
    with pytest.raises(RobustsegError, match=text):
        run(["teacher"], data, tmp_path, optim__lr=1e30)
    (kept,) = tmp_path.glob("not_finite_1.safetensors")
    with safe_open(kept, "pt") as file:
        assert {"images.rgb", "alive", "label"} <= set(file.keys())


def broken_at(call: int, monkeypatch) -> list[Batch]:
    """Let the loss of one micro-batch be no number; gives the batches, as they are learned from."""
    seen: list[Batch] = []
    real = Task.terms

    def terms(self, student, batch, *rest):
        seen.append(batch)
        found = real(self, student, batch, *rest)
        return {**found, "ce": found["ce"] * torch.nan} if len(seen) == call else found

    monkeypatch.setattr(Task, "terms", terms)
    return seen


def test_one_bad_micro_batch_of_several_stops_the_step_and_is_the_one_that_is_kept(
    data, tmp_path, monkeypatch
):
    seen, steps = broken_at(5, monkeypatch), []
    real = torch.optim.AdamW.step
    monkeypatch.setattr(
        torch.optim.AdamW, "step", lambda self, *rest: steps.append(1) or real(self, *rest)
    )
    with pytest.raises(RobustsegError, match="not finite at step 1: ce = nan; the batch is in"):
        run(["teacher"], data, tmp_path, optim__accumulate=3)
    assert len(seen) == 6  # the second step was computed whole ...
    assert len(steps) == 1  # ... and none of it got into the weights
    with safe_open(tmp_path / "not_finite_1.safetensors", "pt") as file:
        assert torch.equal(file.get_tensor("images.rgb"), seen[4].images["rgb"])


def test_losses_are_brought_to_the_host_only_for_rows_of_the_log(data, tmp_path, monkeypatch):
    fetched = []
    real = Fabric.all_reduce

    def all_reduce(self, tensor, *rest, reduce_op="mean"):
        if reduce_op == "mean":
            fetched.append(tuple(tensor.shape))
        return real(self, tensor, *rest, reduce_op=reduce_op)

    monkeypatch.setattr(Fabric, "all_reduce", all_reduce)
    run(
        ["teacher"],
        data,
        tmp_path,
        log_every=3,
        save_every=6,
        optim__steps=7,
        optim__accumulate=2,
        validate__every=100,
    )
    assert fetched == [(2, 2)] * 3  # steps 3, 6 and 7: (micro-batches, loss and its one term)
    assert [row["step"] for row in journal.read(tmp_path / "log.csv")] == ["3", "6", "7"]


def test_all_processes_stop_when_the_loss_of_one_is_no_number(data, tmp_path):
    out = tmp_path / "run"
    told = train(["teacher"], words(*data, optim__lr=1e30), out, processes=2, die=99)
    assert "the loss is not finite at step" in told
    (kept,) = out.glob("not_finite_*.safetensors")
    with safe_open(kept, "pt") as file:
        assert {"images.rgb", "alive", "label"} <= set(file.keys())
    assert not (out / "result.json").exists()


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
    (
        ["teacher"],
        {"data__embeddings": "cache.safetensors"},
        "'data.embeddings=.*changes nothing, because nothing that recipe 'teacher' distills uses "
        "embeddings; leave it out, or train any2seg",
    ),
    (["teachr"], {}, "no recipe and no file called 'teachr'.*teacher"),
]


@pytest.mark.parametrize(("names", "more", "text"), BAD)
def test_what_cannot_be_trained_is_said_before_anything_is(names, more, text, data, tmp_path):
    with pytest.raises(RobustsegError, match=text):
        run(names, data, tmp_path, **more)
    assert list(tmp_path.iterdir()) == []


def test_equal_runs_leave_equal_files_that_say_what_they_began_with(
    data, teacher, tmp_path, caplog
):
    more = {"network__init": str(teacher), "optim__steps": 2}
    results = [run(["dropout"], data, tmp_path / k, **more) for k in "abc"]
    files = [(tmp_path / k / "best.safetensors").read_bytes() for k in "abc"]
    assert files[0] == files[1] == files[2]
    digest = hashlib.sha256(teacher.read_bytes()).hexdigest()[:16]
    began = f"best.safetensors (SHA-256 {digest})"
    assert results[0]["init"].startswith(f"{began}: all ")
    spec = checkpoint.spec_of(tmp_path / "a" / "best.safetensors")
    assert spec.provenance.endswith(f"; began with {began}")
    assert f"begins with {results[0]['init']}" in caplog.messages
    alone = run(["dropout"], data, tmp_path / "d", optim__steps=1)
    assert alone["init"] == "random weights"
    assert "began" not in checkpoint.spec_of(tmp_path / "d" / "best.safetensors").provenance


def test_validation_sees_missing_sensors_as_the_student_did(data, tmp_path, monkeypatch):
    asked, judge = [], loop.judge

    def asking(*given, missing):
        asked.append(missing)
        return judge(*given, missing=missing)

    monkeypatch.setattr(loop, "judge", asking)
    for missing in ("zero", "skip"):
        run(["dropout"], data, tmp_path / missing, student__missing=missing, optim__steps=1)
    assert asked == ["zero", "skip"]


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


@pytest.mark.parametrize("name", ["unimodal", "rrm", "hpdm"])
def test_a_teacher_of_other_widths_is_refused_by_what_compares_channels(
    name, data, teacher, tmp_path
):
    more = {"teacher": str(teacher), "network__backbone": "b0", "optim__steps": 1}
    with pytest.raises(RobustsegError, match=rf"distill.{name} compares channels.*16.*backbone"):
        run(["dropout"], data, tmp_path / "out", distill={name: {}}, **more)
    assert not (tmp_path / "out").exists()


def test_a_teacher_of_other_images_is_refused(data, teacher, tmp_path):
    model = checkpoint.load(teacher)
    other = {**model.spec.encodings, "depth": {**model.spec.encodings["depth"], "near_m": 1.5}}
    spec = model.spec.model_copy(update={"encodings": other})
    checkpoint.save(tmp_path / "other.safetensors", model, spec)
    with pytest.raises(RobustsegError, match=r"was trained on other images: depth .*near_m"):
        run(["anyseg"], data, tmp_path / "out", teacher=str(tmp_path / "other.safetensors"))
    assert not (tmp_path / "out").exists()


def test_a_corrupt_shard_stops_training_with_its_name(data, tmp_path):
    folder = make_shards(tmp_path / "cut", 8)
    file = folder / "000000.tar"
    raw = bytearray(file.read_bytes())
    raw[2000:2100] = bytes(100)
    file.write_bytes(raw)
    with pytest.raises(RobustsegError, match=r"000000.tar.*damaged.*extract it again"):
        run(["teacher"], (folder, None), tmp_path / "run")


def test_all_shipped_recipes_are_sound():
    assert {"teacher", "dropout", "anyseg", "robustseg_v1", "combined"} <= set(systems())
    collections = {"sim", "deliver", "muses", "mcubes"}
    assert collections <= set(known_recipes()) - set(systems())
    for system in systems():
        for collection in collections:
            recipe = load_recipe([system, collection])
            assert recipe.system == system
