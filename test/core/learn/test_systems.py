"""RMMSS, RobustSeg 2026, the solo branch: trained, killed, resumed and evaluated in few steps."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from robustseg_core import datasets, evaluation
from robustseg_core.cli.main import app
from robustseg_core.errors import RobustsegError
from robustseg_core.evaluation.figures import figures
from robustseg_core.learn import journal
from robustseg_core.learn.fit import fit
from robustseg_core.learn.prepare import networks, optimizer_of, splits
from robustseg_core.learn.recipe import load_recipe
from robustseg_core.models import checkpoint
from support.learn_data import make_shards, words
from support.torchrun import train

pytestmark = pytest.mark.slow

SENSORS = ("rgb", "lidar")
SIZE = (32, 32)
STEPS = 4


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("shards")
    return (
        make_shards(folder / "a", 8, names=SENSORS, size=SIZE),
        make_shards(folder / "b", 4, seed=1, names=SENSORS, size=SIZE),
    )


@pytest.fixture(scope="module")
def teacher(data, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("teacher")
    fit(load_recipe(["teacher"], words(*data, optim__steps=8)), out)
    return out / "best.safetensors"


def recipe_of(system, data, teacher, /, **more):
    settings = {"teacher": str(teacher), "optim__steps": STEPS, "validate__every": 99, **more}
    return load_recipe([system], words(*data, **settings))


def rows(folder: Path) -> list[dict[str, str]]:
    return journal.read(folder / "log.csv")


class Interrupted(Exception):
    """What a run ends with."""


def interrupted(recipe, out: Path, *, after: int) -> None:
    """Train, and die after so many steps of the whole run."""
    seen = []

    def die(step: int, steps: int, numbers: dict[str, float]) -> None:
        seen.append(step)
        if len(seen) == after:
            raise Interrupted

    with pytest.raises(Interrupted):
        fit(recipe, out, on_progress=die)


@pytest.fixture(scope="module")
def selected(data, teacher, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("rmmss")
    fit(recipe_of("rmmss", data, teacher), out)
    return out


def test_both_stages_of_rmmss_are_one_run(selected, data):
    result = json.loads((selected / "result.json").read_text())
    assert list(result["stages"]) == ["robust", "final"]
    assert result["stages"]["robust"]["terms"] == ["ce", "prediction", "hpdm"]
    assert result["terms"][:3] == ["ce", "prediction", "ifv"]
    assert result["terms"][3:] == ["select_logits", "select_features"]
    top, last = (load_file(p / "best.safetensors") for p in (selected, selected / "final"))
    assert all(torch.equal(top[name], last[name]) for name in last)
    assert load_recipe([str(selected / "recipe.yaml")]).in_stages().keys() == {"robust", "final"}
    row = rows(selected / "final")[-1]
    total = sum(float(row[name]) for name in result["terms"])
    assert float(row["loss"]) == pytest.approx(total, rel=1e-4)


def test_the_share_of_selections_is_in_the_journal(selected):
    for row in rows(selected / "final"):
        for level in ("stage1", "stage2", "stage3", "stage4", "stages", "logits"):
            both = [float(row[f"share_{who}/{level}"]) for who in ("teacher", "robust")]
            assert sum(both) == pytest.approx(1, abs=1e-4)
        each = [float(row[f"share_teacher/stage{s}"]) for s in (1, 2, 3, 4)]
        assert float(row["share_teacher/stages"]) == pytest.approx(sum(each) / 4, abs=1e-4)


def test_what_teaches_is_not_in_the_checkpoint(selected, teacher, data):
    plain, taught = checkpoint.load(teacher), checkpoint.load(selected / "best.safetensors")
    assert {k: v.shape for k, v in plain.state_dict().items()} == {
        k: v.shape for k, v in taught.state_dict().items()
    }
    assert str(plain) == str(taught)
    assert "rmmss" in taught.spec.provenance


@pytest.fixture(scope="module")
def selected_cmnext(data, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cmnext")
    fit(load_recipe(["cmnext"], words(*data, optim__steps=2)), folder / "teacher")
    recipe = recipe_of(
        "rmmss_cmnext", data, folder / "teacher" / "best.safetensors", optim__steps=2
    )
    fit(recipe, folder / "run")
    return folder / "run"


@pytest.mark.parametrize("run", ["selected", "selected_cmnext", "fed_back"])
def test_what_was_trained_is_evaluated(run, data, request):
    found = datasets.load("shards")([data[1]], "test")
    weights = request.getfixturevalue(run) / "best.safetensors"
    results = evaluation.evaluate(weights, found, protocols=["subsets"])
    assert 0 < figures(results)["subsets mean"] <= 1


def test_the_selection_takes_hold_of_cmnext(selected_cmnext):
    assert checkpoint.load(selected_cmnext / "best.safetensors").spec.architecture == "cmnext"
    row = rows(selected_cmnext / "final")[-1]
    assert float(row["share_teacher/stages"]) + float(row["share_robust/stages"]) == pytest.approx(
        1
    )


@pytest.mark.parametrize("after", [3, 7], ids=["in the first", "in the second"])
def test_a_run_in_stages_goes_on_where_it_was_killed(after, selected, data, teacher, tmp_path):
    recipe = recipe_of("rmmss", data, teacher)
    out = tmp_path / "run"
    interrupted(recipe, out, after=after)
    assert not (out / "result.json").exists()
    fit(recipe, out)
    for stage in ("robust", "final"):
        assert rows(out / stage) == rows(selected / stage)
    ours, whole = (load_file(p / "best.safetensors") for p in (out, selected))
    assert all(torch.equal(ours[name], whole[name]) for name in whole)


def test_a_finished_run_in_stages_says_so_once(selected, data, teacher, caplog):
    before = (selected / "result.json").read_text()
    fit(recipe_of("rmmss", data, teacher), selected)
    assert (selected / "result.json").read_text() == before
    said = [r for r in caplog.records if "holds a finished run" in r.message]
    assert len(said) == 1


def test_another_recipe_does_not_continue_a_run_in_stages(selected, data, teacher, tmp_path):
    out = shutil.copytree(selected, tmp_path / "run")
    told = (out / "recipe.yaml").read_text()
    for more, text in (
        ({"stages__final__select__lr": 2.0}, r"final holds .*select.lr was 1.0, is 2.0"),
        ({"seed": 1}, r"robust holds a run of another recipe .seed was 3407, is 1"),
    ):
        with pytest.raises(RobustsegError, match=text):
            fit(recipe_of("rmmss", data, teacher, **more), out)
    with pytest.raises(RobustsegError, match=r"stages were \['robust', 'final'\], are \[\]"):
        fit(recipe_of("anyseg", data, teacher), out)
    assert (out / "recipe.yaml").read_text() == told
    with pytest.raises(RobustsegError, match=r"stages were \[\], are \['robust', 'final'\]"):
        fit(recipe_of("rmmss", data, teacher), shutil.copytree(teacher.parent, tmp_path / "t"))


def selection(out: Path) -> dict[str, torch.Tensor]:
    state = load_file(out / "final" / "state.safetensors")
    return {k: v for k, v in state.items() if k.startswith("selection.")}


def test_the_soft_selection_learns_and_the_hard_one_cannot(selected, data, teacher, tmp_path):
    hard = tmp_path / "hard"
    more = {"stages__final__select__legacy_argmax": True, "stages__robust__optim__steps": 1}
    fit(recipe_of("rmmss", data, teacher, **more), hard)
    soft, stiff = selection(selected), selection(hard)
    moved = [name for name in soft if not torch.equal(soft[name], stiff[name])]
    assert moved == list(soft)
    state = load_file(hard / "final" / "state.safetensors")
    model = [k for k in state if k.startswith("model.") and "num_batches" not in k]
    moments = {k.split(".")[1] for k in state if k.startswith("optimizer.")}
    assert len(moments) <= len(model)  # none for the selection


@pytest.fixture(scope="module")
def fed_back(data, teacher, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("feedback")
    fit(recipe_of("robustseg_2026", data, teacher), out)
    return out


def kept_teacher(out: Path) -> dict[str, torch.Tensor]:
    state = load_file(out / "state.safetensors")
    return {k.removeprefix("teacher."): v for k, v in state.items() if k.startswith("teacher.")}


def test_feedback_moves_the_teacher(fed_back, teacher):
    begun = checkpoint.load(teacher).state_dict()
    moved = kept_teacher(fed_back)
    assert moved.keys() == begun.keys()
    assert all(not torch.equal(moved[name], begun[name]) for name in begun)


def test_the_teacher_learns_at_a_tenth_of_the_rate(data, teacher):
    recipe = recipe_of("robustseg_2026", data, teacher)
    train, _ = splits(recipe)
    made = networks(recipe, train)
    optimizer = optimizer_of(made.student, recipe.optim, {"teacher": (made.teacher, 0.1)})
    rates = {g["part"]: g["lr"] for g in optimizer.param_groups}
    assert rates["teacher"] == pytest.approx(0.1 * rates["student"])
    parameters = [p for g in optimizer.param_groups for p in g["params"]]
    assert len(parameters) == 2 * len(list(made.student.parameters()))


def test_both_begin_equal_unless_told_otherwise(data, teacher):
    recipe = recipe_of("robustseg_2026", data, teacher)
    train, _ = splits(recipe)
    begun = checkpoint.load(teacher).state_dict()
    for more, equal in (({}, True), ({"feedback__equal_start": False}, False)):
        made = networks(recipe_of("robustseg_2026", data, teacher, **more), train)
        assert all(torch.equal(v, begun[k]) for k, v in made.teacher.state_dict().items())
        same = [torch.equal(v, begun[k]) for k, v in made.student.state_dict().items()]
        assert all(same) == equal
    alone = networks(recipe_of("robustseg_2026", data, ""), train)
    for name, value in alone.student.state_dict().items():
        assert torch.equal(alone.teacher.state_dict()[name], value)


def test_feedback_goes_on_with_the_teacher_that_it_had(data, teacher, tmp_path):
    recipe = recipe_of("robustseg_2026", data, teacher, optim__accumulate=2, optim__clip_norm=1.0)
    fit(recipe, tmp_path / "whole")
    out = tmp_path / "run"
    interrupted(recipe, out, after=3)  # a state of step 2 is left
    fit(recipe, out)
    assert rows(out) == rows(tmp_path / "whole")
    ours, whole = kept_teacher(out), kept_teacher(tmp_path / "whole")
    assert all(torch.equal(ours[name], whole[name]) for name in whole)


def test_the_solo_branch_goes_on_with_the_estimate_that_it_had(data, teacher, tmp_path):
    recipe = load_recipe(["dropout"], words(*data, optim__steps=6, student__solo={}))
    result = fit(recipe, tmp_path / "whole")
    assert result["terms"] == ["ce", "solo"]
    interrupted(recipe, tmp_path / "run", after=5)
    fit(recipe, tmp_path / "run")
    assert rows(tmp_path / "run") == rows(tmp_path / "whole")
    kept = [load_file(tmp_path / x / "state.safetensors")["solo.losses"] for x in ("run", "whole")]
    assert torch.equal(*kept)
    assert (kept[0] > 0).any()


@pytest.fixture(scope="module")
def others(data, teacher, tmp_path_factory) -> dict[str, str]:
    """Checkpoints that do not fit: other sensors, other classes, other widths."""
    folder = tmp_path_factory.mktemp("others")
    spec = checkpoint.load(teacher).spec.model_copy(update={"calibration": None})
    changes = {
        "sensors": {"modalities": ("rgb", "depth"), "encodings": {}, "channels": {}},
        "classes": {"classes": ("road", "wall", "sea"), "palette": ((0, 0, 0),) * 3},
        "widths": {"backbone": "b0"},
        "cmnext": {"backbone": "b0", "architecture": "cmnext", "stem": "shared"},
    }
    for name, change in changes.items():
        other = checkpoint.untrained(spec.model_copy(update=change), head="folded")
        checkpoint.save(folder / f"{name}.safetensors", other)
    return {name: str(folder / f"{name}.safetensors") for name in changes}


BAD = [
    ("rmmss", {"teacher": "SENSORS"}, "the teacher .* knows rgb, depth, the data has rgb, lidar"),
    (
        "rmmss",
        {"teacher": "WIDTHS", "stages__robust__distill": {"prediction": {}, "hpdm": {"weight": 0}}},
        "distill.hpdm compares channels.* 16, 32, 64, 96, those of the teacher .* 32, 64, 160, 256",
    ),
    (
        "rmmss",
        {"stages__final__select__robust": "WIDTHS"},
        "teacher .* have 16, 32, 64, 96 chan.* 32, 64, 160, 256",
    ),
    ("rmmss", {"stages__final__select__robust": "CMNEXT"}, "nothing can be selected of the two"),
    ("rmmss", {"stages__final__select__robust": "CLASSES"}, "they first differ at id 2"),
    ("rmmss", {"stages__final__select__robust": "SENSORS"}, "the robust model .* knows rgb, depth"),
    ("rmmss", {"stages__final__select__robust": "no.safetensors"}, "no.safetensors does not exist"),
    ("rmmss", {"stages__final__select__robust": ""}, "selects of two networks but names no robust"),
    ("rmmss", {"stages__final__network__backbone": "b0"}, "stage:robust is of another network"),
    ("rmmss", {"stages__final__network__head_width": 24}, "stage:robust is of another network"),
    ("rmmss", {"teacher": ""}, "distills prediction, hpdm but names no teacher"),
    ("robustseg_2026", {"teacher": "WIDTHS"}, "is of another network: its"),
    ("robustseg_2026", {"teacher": "SENSORS"}, "the teacher .* knows rgb, depth"),
    (
        "robustseg_2026",
        {"teacher": "", "feedback__equal_start": False},
        "equal_start is false and no teacher is named",
    ),
]


@pytest.mark.parametrize(("system", "more", "text"), BAD)
def test_what_does_not_fit_is_said_before_anything_is_written(
    system, more, text, others, data, teacher, tmp_path
):
    more = {k: others.get(v.lower(), v) if isinstance(v, str) else v for k, v in more.items()}
    with pytest.raises(RobustsegError, match=text) as caught:
        fit(recipe_of(system, data, teacher, **more), tmp_path)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_data_without_labels_teaches_no_selection_and_no_teacher(data, teacher, tmp_path):
    plain = make_shards(tmp_path / "plain", 4, names=SENSORS, size=SIZE, labelled=False)
    for system, more, key in (
        ("rmmss", {}, "select"),
        ("robustseg_2026", {}, "feedback"),
        ("anyseg", {"student__solo": {}}, "student.solo"),
    ):
        with pytest.raises(RobustsegError, match=f"^{re.escape(key)} learns from labels"):
            fit(recipe_of(system, (plain, data[1]), teacher, **more), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_two_processes_learn_what_one_learns_in_every_stage(data, teacher, tmp_path):
    """A teacher that learns, then a selection, and a sensor alone in both: gradients are averaged.

    Nothing random inside the networks, since each process has its own rng. Where two sensors are
    about as dominant, rounding decides which one learns: one seed of three that agrees shows it.
    """
    same = {
        "teacher": str(teacher),
        "optim__steps": 3,
        "loss__ohem_threshold": 1.0,
        "network__drop_path": 0.0,
        "network__dropout": 0.0,
        "student__solo": {},
        "stages__robust__feedback": {"lr": 1.0},
        "stages__robust__distill__hpdm__pairing": "same",
        "validate__every": 99,
    }
    compared = []
    for seed in (1, 2, 3):
        folder = tmp_path / str(seed)
        one = words(*data, optim__batch=4, seed=seed, **same)
        fit(load_recipe(["rmmss"], one), folder / "one")
        train(
            ["rmmss"],
            words(*data, optim__batch=2, seed=seed, **same),
            folder / "two",
            processes=2,
        )
        compared = [
            (numbers(ours), numbers(whole))
            for stage in ("robust", "final")
            for ours, whole in zip(
                rows(folder / "two" / stage), rows(folder / "one" / stage), strict=True
            )
        ]
        if all(ours == pytest.approx(whole, rel=5e-3, abs=1e-4) for ours, whole in compared):
            return
    for ours, whole in compared:
        assert ours == pytest.approx(whole, rel=5e-3, abs=1e-4)


def numbers(row: dict[str, str]) -> dict[str, float]:
    return {name: float(value) for name, value in row.items() if value}


BAD_RECIPES = [
    ({"stages": {"One": {}}}, "stages has 'One', which names a folder"),
    ({"stages": {"a": {"stages": {"b": {}}}}}, "stages.a has stages itself"),
    (
        {"stages": {"a": {"teacher": "stage:b"}}},
        "stages.a.teacher is 'stage:b', which is no earlier",
    ),
    ({"stages": {"a": {"optim": {"step": 3}}}}, "unknown key 'stages.a.optim.step'.*steps"),
    ({"stages": {"a": {"student": {"dropout": "x"}}}}, "in stage 'a': student.dropout is 'x'"),
    ({"select": {}}, "select is set, but nothing is distilled"),
    ({"feedback": {}, "select": {}, "distill": {"ifv": {}}}, "select and feedback are both set"),
]


@pytest.mark.parametrize(("tree", "text"), BAD_RECIPES)
def test_a_recipe_that_makes_no_sense_is_a_sentence(tree, text):
    with pytest.raises(RobustsegError, match=text):
        load_recipe(["teacher"], [f"{key}={json.dumps(value)}" for key, value in tree.items()])


def test_a_word_that_every_stage_overrules_is_refused(data, teacher):
    text = "changes nothing, because every stage sets distill.prediction.weight itself"
    stages = {name: {"distill": {"prediction": {"weight": 1}}} for name in ("robust", "final")}
    with pytest.raises(RobustsegError, match=text):
        recipe_of("rmmss", data, teacher, stages=stages, distill__prediction__weight=3)
    recipe = recipe_of("rmmss", data, teacher, network__init="x.pth", optim__lr=0.5)
    robust, final = recipe.in_stages().values()
    assert (robust.network.init, final.network.init) == ("x.pth", "stage:robust")
    assert robust.optim.lr == final.optim.lr == 0.5


def test_a_mistake_in_a_stage_is_told_with_its_line(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("system: mine\nstages:\n  one: {}\n  two:\n    optim: {lr: fast}\n")
    with pytest.raises(RobustsegError, match=r"mine.yaml:5: stages.two.optim.lr is 'fast'"):
        load_recipe([str(path)])


def test_one_command_trains_both_stages_and_one_evaluates_them(data, teacher, tmp_path):
    """From shards to results.json, as training/README.md has it."""
    runner, out = CliRunner(), tmp_path / "run"
    train_ = ["train", "rmmss", "smoke", "--teacher", teacher, "--out", out, "--device", "cpu"]
    given = [f"data.train=[{data[0]}]", f"data.val=[{data[1]}]", "optim.steps=2"]
    given += ["network.head_width=16"]
    done = runner.invoke(app, [str(word) for word in (*train_, *given)])
    assert done.exit_code == 0, done.output
    said = " ".join(done.stderr.split())
    for stage in ("robust", "final"):
        assert f"{stage}: 2 steps in" in said
        assert (out / stage / "log.csv").exists()
    judge = ["eval", out / "best.safetensors", data[1], "--protocol", "subsets", "--device", "cpu"]
    done = runner.invoke(app, [str(word) for word in (*judge, "--out", tmp_path / "eval")])
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "eval" / "results.json").read_text())
