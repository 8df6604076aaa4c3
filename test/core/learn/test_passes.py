"""What one step of learning shows to whom: both passes, how well each sensor is, what was whole."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning.fabric import Fabric

from robustseg_core import distill
from robustseg_core.errors import RobustsegError
from robustseg_core.evaluation import evaluate
from robustseg_core.evaluation.figures import trial_scores
from robustseg_core.learn import journal, tasks
from robustseg_core.learn.corrupt import CorruptConfig, corrupt
from robustseg_core.learn.fit import fit
from robustseg_core.learn.loader import Loader
from robustseg_core.learn.loop import _to
from robustseg_core.learn.prepare import network, optimizer_of, splits
from robustseg_core.learn.recipe import OptimRecipe, ValidationRecipe, load_recipe
from robustseg_core.learn.tasks import Task
from robustseg_core.learn.validate import four, judge, subsets_of
from robustseg_core.models import checkpoint
from robustseg_core.models.subsets import short, subsets
from robustseg_core.types import IGNORE, Batch
from support.learn_data import make_shards, words

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("shards")
    return make_shards(folder / "a", 12), make_shards(folder / "b", 7, seed=1)


class Watched:
    """A network that keeps what it was shown."""

    head_form = "folded"

    def __init__(self, model) -> None:
        self.model, self.seen = model, []

    def __call__(self, images, alive, quality=None):
        self.seen.append((images, alive, quality))
        return self.model(images, alive, quality)

    def forward_views(self, images, views, quality=None):
        self.seen += [(images, view, quality) for view in views]
        return self.model.forward_views(images, views, quality)

    def eval(self):
        return self

    def requires_grad_(self, *, requires_grad):
        return self


def generators() -> tuple[torch.Generator, torch.Generator]:
    return torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)


def step(data, **more):
    """(terms, student, teacher, batch) of one step of `combined`."""
    recipe = load_recipe(["combined"], words(*data, **more))
    train, _ = splits(recipe)
    loader = Loader(train, batch=8, corrupt=recipe.corrupt, seed=3)
    batch = next(loader.batches())
    student = Watched(network(recipe, train))
    teacher = Watched(checkpoint.untrained(student.model.spec, seed=9))
    task = Task(recipe, train.modalities, teacher=teacher)
    terms = task.terms(student, batch, *generators())
    assert list(terms) == task.names
    return terms, student, teacher, batch


def test_the_student_passes_twice_and_the_teacher_once(data) -> None:
    terms, student, teacher, batch = step(data, corrupt__p=0.0)
    assert list(terms) == ["ce", "ce_full", "prediction", "hpdm", "ifv", "prediction_full"]
    (_, dropped, _), (_, whole, _) = student.seen
    assert torch.equal(whole, batch.alive) and dropped.sum() < whole.sum()
    assert len(teacher.seen) == 1
    assert batch.quality is None and batch.intact == {}


def test_passes_that_are_one_batch_say_what_they_say_one_after_the_other(data) -> None:
    """But for what their dropout draws, and BatchNorms, which see all of them at once."""
    calm = {"corrupt__p": 0.5, "network__drop_path": 0.0, "network__dropout": 0.0}
    calm["student__solo"] = {}
    apart, whoever, *_ = step(data, **calm)
    united, student, *_ = step(data, **calm, student__together=True)
    assert list(united) == list(apart)
    for name, value in united.items():
        torch.testing.assert_close(value, apart[name], atol=1e-4, rtol=1e-4)
    for (_, here, _), (_, there, _) in zip(student.seen, whoever.seen, strict=True):
        assert torch.equal(here, there)


def test_passes_as_one_batch_need_sensors_that_are_encoded_by_themselves(data) -> None:
    recipe = load_recipe(["cmnext"], words(*data, student__together=True))
    train, _ = splits(recipe)
    with pytest.raises(
        RobustsegError, match=r"student\.together needs a network that encodes each"
    ):
        Task(recipe, train.modalities, student=network(recipe, train).spec)
    with pytest.raises(RobustsegError, match=r"student\.missing is 'zero'"):
        load_recipe(["robustseg_2026"], words(*data, student__together=True))


def test_a_term_on_the_full_pass_has_its_own_weight(data) -> None:
    once, *_ = step(data, corrupt__p=0.0, distill__prediction__full_weight=1.0)
    twice, *_ = step(data, corrupt__p=0.0, distill__prediction__full_weight=2.0)
    torch.testing.assert_close(twice["prediction_full"], 2 * once["prediction_full"])
    torch.testing.assert_close(twice["prediction"], once["prediction"])


def test_a_full_weight_without_a_full_pass_is_refused(data) -> None:
    with pytest.raises(RobustsegError, match=r"distill.prediction.full_weight is 1.0.*with_full"):
        load_recipe(["combined"], words(*data, student__with_full=False))


@pytest.mark.parametrize("network", ["m_segformer", "m_segformer, own stems", "cmnext", "swift"])
@pytest.mark.parametrize(
    "student",
    [
        {},
        {"with_full": True},
        {"with_full": True, "together": True},
        {"solo": {}},
        {"missing": "zero", "with_full": True, "per_batch": True},
    ],
    ids=["subset", "full", "together", "solo", "zero"],
)
def test_no_pass_waits_for_a_number_of_the_device(
    network: str, student: dict, data, monkeypatch
) -> None:
    """What lies on `meta` has no numbers: who copies one to the host there fails.

    The loss does, to know how many pixels it keeps; another stands in its place.
    """

    def plain(_rule, logits, label):
        large = F.interpolate(logits, label.shape[1:], mode="bilinear", align_corners=False)
        return F.cross_entropy(large, label, ignore_index=IGNORE)

    monkeypatch.setattr(tasks, "label_loss", plain)
    architecture, _, own = network.partition(", ")
    if architecture == "cmnext" and "together" in student:
        pytest.skip("its sensors meet in the encoder")
    told = {f"student__{key}": value for key, value in student.items()}
    recipe = load_recipe(["dropout"], words(*data, **told))
    train, _ = splits(recipe)
    batch = next(Loader(train, batch=8, seed=3).batches())
    spec = checkpoint.default_spec(
        train.modalities, size=(64, 64), architecture=architecture
    ).model_copy(update={"stem": "per_modality", "norm": "per_modality"} if own else {})
    there = _to(batch, torch.device("meta"))
    assert there.alive.device.type == "cpu" and there.label.is_meta
    made = checkpoint.untrained(spec).train().to("meta")
    task = Task(recipe, train.modalities, student=spec)
    terms = task.terms(made, there, *generators())
    assert list(terms) == task.names
    assert all(term.is_meta for term in terms.values())
    torch.stack(list(terms.values())).sum().backward()


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("name", [n for n in distill.available() if n != "lscd"])
def test_no_distiller_waits_for_a_number_of_the_device(
    name: str, together: bool, data, monkeypatch
) -> None:
    """Whose rows are whose was known before they went there; as above, with a teacher."""
    monkeypatch.setattr(tasks, "label_loss", lambda _rule, logits, label: logits.mean())
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # unknown on `meta`
    options = {"noise": False} if name == "rrm" else {}  # no generator of `meta` draws
    told = words(*data, distill={name: options}, student__together=together)
    recipe = load_recipe(["dropout"], told)
    train, _ = splits(recipe)
    there = _to(next(Loader(train, batch=8, seed=3).batches()), torch.device("meta"))
    made, teacher = (
        checkpoint.untrained(network(recipe, train).spec, seed=seed).to("meta") for seed in (1, 2)
    )
    task = Task(recipe, train.modalities, student=made.spec, teacher=Watched(teacher))
    terms = task.terms(made.train(), there, *generators())
    assert list(terms) == task.names and terms[name].is_meta
    terms[name].backward()


@pytest.mark.parametrize("together", [False, True])
def test_a_student_teaches_itself_what_it_says_with_all_sensors(together: bool, data) -> None:
    """The subset pass learns from the full one, which learns nothing; nobody else is asked."""
    more = {"distill": {"prediction": {"of": "full", "weight": 3.0, "temperature": 2.0}}}
    recipe = load_recipe(
        ["dropout"],
        words(*data, **more, student__with_full=True, student__together=together),
    )
    train, _ = splits(recipe)
    batch = next(Loader(train, batch=8, seed=3).batches())
    said = []

    class Recorded(Watched):
        def __call__(self, *shown):
            said.append(super().__call__(*shown))
            return said[-1]

        def forward_views(self, *shown):
            said.extend(super().forward_views(*shown))
            return said

    task = Task(recipe, train.modalities)
    terms = task.terms(Recorded(network(recipe, train)), batch, *generators())
    assert list(terms) == task.names == ["ce", "ce_full", "prediction"]
    subset, full = (prediction.logits for prediction in said)
    p, q = (
        F.interpolate(x, batch.label.shape[1:], mode="bilinear", align_corners=False) / 2.0
        for x in (full, subset)
    )
    each = F.kl_div(q.log_softmax(1), p.log_softmax(1), reduction="none", log_target=True).sum(1)
    expected = 3.0 * 2.0**2 * each[batch.label != IGNORE].mean()
    torch.testing.assert_close(terms["prediction"], expected)
    taught, teaching = torch.autograd.grad(
        terms["prediction"], [subset, full], allow_unused=True, retain_graph=True
    )
    assert teaching is None and taught.abs().sum() > 0
    (alone,) = torch.autograd.grad(terms["ce_full"], [full])
    assert alone.abs().sum() > 0


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({}, "asks the student's own pass with all sensors, and there is none"),
        ({"with_full": True, "full_weight": 1.0}, "full_weight would compare with itself"),
        ({"with_full": True, "select": {}}, "select is set, but distill has only prediction"),
    ],
)
def test_a_student_that_cannot_teach_itself_is_refused(more: dict, text: str, data) -> None:
    told = {"of": "full", **{k: v for k, v in more.items() if k == "full_weight"}}
    rest = {"student__with_full": more.get("with_full", False)}
    rest |= {k: v for k, v in more.items() if k == "select"}
    with pytest.raises(RobustsegError, match=text):
        load_recipe(["dropout"], words(*data, distill={"prediction": told}, **rest))


def test_a_student_does_not_teach_itself_where_nobody_labelled(data) -> None:
    more = {"distill": {"prediction": {"of": "full"}}, "student__with_full": True}
    recipe = load_recipe(["dropout"], words(*data, **more))
    with pytest.raises(RobustsegError, match="nothing in the recipe teaches without them"):
        Task(recipe, ("rgb", "depth", "event", "lidar"), labelled=False)


def test_the_student_is_told_how_well_sensors_are_and_the_teacher_sees_them_whole(data) -> None:
    _, student, teacher, batch = step(data, corrupt__p=0.5, corrupt__told=1.0)
    assert batch.quality is not None and batch.intact
    for _, _, quality in student.seen:
        assert quality is batch.quality
    images, alive, quality = teacher.seen[0]
    assert quality is None and torch.equal(alive, batch.alive)
    spoilt = 0
    for column, name in enumerate(student.model.spec.modalities):
        for row in range(len(alive)):
            same = torch.equal(images[name][row], batch.images[name][row])
            if same:
                continue
            spoilt += 1
            assert batch.quality[row, column] < 1
    assert spoilt == int((batch.quality < 1).sum()) > 0


@pytest.mark.parametrize(("told", "low", "high"), [(0.0, 0, 0), (1.0, 1, 1), (0.5, 0.3, 0.7)])
def test_a_share_of_the_broken_is_told(told: float, low: float, high: float) -> None:
    rng = np.random.default_rng(0)
    image = np.full((3, 32, 32), 0.5, np.float32)
    config = CorruptConfig(p=1, faults=("gaussian_noise",), strength=(0.2, 0.9), told=told)
    done = [corrupt({"rgb": image}, rng, config)[1]["rgb"].quality for _ in range(200)]
    share = np.mean([quality < 1 for quality in done])
    assert low <= share <= high
    assert all(quality == 1 or 0.1 <= quality <= 0.8 for quality in done)


def test_the_head_learns_at_its_own_rate(data) -> None:
    recipe = load_recipe(["teacher"], words(*data))
    model = network(recipe, splits(recipe)[0])
    optimizer = optimizer_of(model, OptimRecipe(lr=1e-3, head_lr=10.0))
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        assert rates[id(parameter)] == pytest.approx(1e-2 if name.startswith("head.") else 1e-3)
    assert len(rates) == len(list(model.parameters()))


@pytest.mark.parametrize(("rule", "count"), [("full", 4), ("four", 4), ("mean", 15)])
def test_validation_looks_at_as_many_subsets_as_its_rule_needs(rule, count, data) -> None:
    names = ("rgb", "depth", "event", "lidar")
    assert len(subsets_of(rule, names)) == count
    recipe = load_recipe(["teacher"], words(*data))
    train, val = splits(recipe)
    model = network(recipe, train)
    fabric = Fabric(accelerator="cpu", devices=1)
    found = judge(model, val, ValidationRecipe(rule=rule), fabric).figures
    per = {name: value for name, value in found.items() if name != "val"}
    assert len(per) == count
    wanted = {
        "full": per["val/RDEL"],
        "four": np.mean([per[f"val/{s}"] for s in ("R", "RD", "EL", "RDEL")]),
        "mean": np.mean(list(per.values())),
    }
    assert found["val"] == pytest.approx(wanted[rule])


def test_missing_sensors_are_judged_as_eval_does(data) -> None:
    recipe = load_recipe(["dropout"], words(*data))
    train, val = splits(recipe)
    model, fabric = network(recipe, train), Fabric(accelerator="cpu", devices=1)
    found = {}
    for missing, protocol in (("skip", "subsets"), ("zero", "emm")):
        rule = ValidationRecipe(rule="mean")
        found[missing] = judge(model, val, rule, fabric, missing=missing).figures
        results = evaluate(model, val, protocols=[protocol], absent="skip", device="cpu")
        means = trial_scores(results.counts.sum(1), absent="skip")
        for trial, value in zip(results.trials, means, strict=True):
            assert found[missing][f"val/{short(trial.subset)}"] == pytest.approx(value)
    assert found["zero"] != found["skip"]
    assert found["zero"]["val/RDEL"] == found["skip"]["val/RDEL"]


class OneOf:
    """A fabric of one of several processes, whose sums the test makes."""

    device = torch.device("cpu")

    def __init__(self, rank: int, world: int, sums: list[torch.Tensor]) -> None:
        self.global_rank, self.world_size, self._sums = rank, world, sums

    def all_reduce(self, tensor: torch.Tensor, reduce_op: str) -> torch.Tensor:
        assert reduce_op == "sum"
        self._sums.append(tensor.clone())
        return tensor.copy_(torch.stack(self._sums).sum(0))


@pytest.mark.parametrize("world", [2, 3, 9])
def test_processes_share_the_validation_and_find_what_one_finds(world: int, data) -> None:
    recipe = load_recipe(["teacher"], words(*data))
    train, val = splits(recipe)
    model = network(recipe, train)
    alone = judge(model, val, ValidationRecipe(), Fabric(accelerator="cpu", devices=1)).figures
    sums: list[torch.Tensor] = []
    for rank in range(world):  # more processes than samples: some have nothing to do
        together = judge(model, val, ValidationRecipe(), OneOf(rank, world, sums)).figures
    assert together == alone


def test_a_journal_of_ones_own_is_told_every_row(data, tmp_path) -> None:
    told: list[tuple[int, dict]] = []

    class Mine:
        def __init__(self, folder: Path, step: int) -> None:
            assert folder == tmp_path and step == 0

        def add(self, step: int, numbers) -> None:
            told.append((step, dict(numbers)))

        def close(self) -> None:
            told.append((-1, {}))

    recipe = load_recipe(["teacher"], words(*data, optim__steps=4, log_every=2, validate__every=4))
    fit(recipe, tmp_path, journals=(journal.CsvJournal, Mine))
    assert [at for at, _ in told] == [2, 4, -1]
    rows = journal.read(tmp_path / "log.csv")
    assert [float(row["loss"]) for row in rows] == pytest.approx(
        [numbers["loss"] for _, numbers in told[:2]], rel=1e-5
    )


def test_a_compiled_student_learns_what_a_plain_one_learns(data, tmp_path, monkeypatch) -> None:
    """The graph is captured in earnest; only the code generator is left out, for its minutes."""
    more = {"optim__steps": 3, "network__drop_path": 0.0, "network__dropout": 0.0}
    recipe = load_recipe(["dropout"], words(*data, **more))
    fit(recipe, tmp_path / "plain")
    real, calls = torch.compile, []

    def eager(model, **options):
        calls.append(model)
        return real(model, **{**options, "backend": "eager"})

    monkeypatch.setattr(torch, "compile", eager)
    fit(recipe, tmp_path / "compiled", compiled=True)
    assert calls
    plain, compiled = (
        [float(row["loss"]) for row in journal.read(tmp_path / name / "log.csv")]
        for name in ("plain", "compiled")
    )
    assert compiled == pytest.approx(plain, rel=1e-4)
    assert checkpoint.load(tmp_path / "compiled" / "best.safetensors").spec.trained


def test_four_of_two_sensors_are_fewer() -> None:
    assert four(("a", "b")) == [("a",), ("a", "b"), ("a", "b"), ("a", "b")]
    assert subsets_of("four", ("a", "b")) == [("a",), ("a", "b")]
    assert subsets_of("mean", ("a", "b")) == subsets(("a", "b"))


def test_a_batch_knows_quality_only_where_something_is_broken(data) -> None:
    recipe = load_recipe(["teacher"], words(*data))
    train, _ = splits(recipe)
    batch = next(Loader(train, batch=4).batches())
    assert isinstance(batch, Batch) and batch.quality is None and batch.intact == {}
