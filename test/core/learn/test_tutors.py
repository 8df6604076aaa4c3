"""Who learns from whom in one step, and who does not: gradients of single terms."""

from __future__ import annotations

from collections import Counter
from functools import partial

import pytest
import torch

from robustseg_core import distill
from robustseg_core.distill import Lesson
from robustseg_core.distill._rows import dominant
from robustseg_core.learn.losses import label_loss
from robustseg_core.learn.prepare import optimizer_of
from robustseg_core.learn.recipe import Recipe
from robustseg_core.learn.solo import Solo
from robustseg_core.learn.tasks import Task
from robustseg_core.learn.tutors import FrozenTeacher, LearningTeacher, Selecting
from robustseg_core.models import checkpoint
from robustseg_core.types import Batch
from support.lessons import blocks

pytestmark = pytest.mark.slow

NAMES = ("rgb", "depth", "lidar")
BATCH = 3
PREDICTION = {"prediction": {"weight": 2.0}}


def network(seed: int, **fields: object):
    names = fields.pop("modalities", NAMES)
    spec = checkpoint.default_spec(
        names, classes=tuple("abcde"), palette=((0, 0, 0),) * 5, head_width=8, **fields
    )
    return checkpoint.untrained(spec, seed=seed, head="folded", drop_path=0.0, dropout=0.0)


def batch_of(seed: int = 0, *, size: tuple[int, int] = (32, 64)) -> Batch:
    rng = torch.Generator().manual_seed(seed)
    images = {name: torch.randn(BATCH, 3, *size, generator=rng) for name in NAMES}
    label = blocks(BATCH, size, 5, rng, ignored=False)
    label[:, :, :8] = 255
    return Batch(images, torch.ones(BATCH, len(NAMES), dtype=torch.bool), label)


def recipe_of(**fields: object) -> Recipe:
    return Recipe.model_validate({"distill": PREDICTION, **fields})


def rng(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def step(task: Task, student, batch: Batch | None = None) -> dict[str, torch.Tensor]:
    terms = task.terms(student, batch or batch_of(), rng(1), rng(2))
    assert list(terms) == task.names
    return terms


def moved(module: torch.nn.Module) -> set[str]:
    """Names of the parameters that got a gradient that is not 0."""
    return {
        name
        for name, p in module.named_parameters()
        if p.grad is not None and bool(p.grad.abs().sum() > 0)
    }


def feedback_task(**fields: object) -> tuple[Task, torch.nn.Module, torch.nn.Module]:
    how = fields.pop("feedback", {})
    recipe = recipe_of(distill={**PREDICTION, "ifv": {"weight": 12.0}}, feedback=how, **fields)
    student, teacher = network(1), network(2)
    return Task(recipe, NAMES, teacher=teacher), student.train(), teacher.train()


def test_the_terms_of_the_teacher_teach_the_teacher_alone():
    task, student, teacher = feedback_task()
    terms = step(task, student)
    (terms["teacher_ce"] + terms["teacher_ifv"]).backward(retain_graph=True)
    assert moved(student) == set()
    assert moved(teacher) == {name for name, _ in teacher.named_parameters()}
    teacher.zero_grad()
    (terms["ce"] + terms["prediction"] + terms["ifv"]).backward()
    assert moved(teacher) == set()
    assert moved(student) == {name for name, _ in student.named_parameters()}


@pytest.mark.parametrize("kind", ["frozen", "learning"])
def test_only_feedback_moves_the_teacher(kind):
    """One step of the optimizer: without feedback the teacher stays bit-equal."""
    if kind == "learning":
        task, student, teacher = feedback_task()
        assert isinstance(task.tutor, LearningTeacher)
        assert task.learners == {"teacher": (teacher, 0.1)}
    else:
        student, teacher = network(1).train(), network(2)
        task = Task(recipe_of(), NAMES, teacher=teacher)
        assert isinstance(task.tutor, FrozenTeacher)
        assert task.learners == {}
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    optimizer = optimizer_of(student, task.recipe.optim, task.learners)
    sum(step(task, student).values()).backward()
    optimizer.step()
    same = [torch.equal(value, before[name]) for name, value in teacher.state_dict().items()]
    assert all(same) if kind == "frozen" else not any(same)


def test_rows_of_dominant_sensors_pass_no_gradient_on():
    """Of the inputs: an image that dominates everywhere gets none, another one does."""
    task, *_ = feedback_task()
    batch = batch_of()
    for image in batch.images.values():
        image.requires_grad_()
    answer = task.tutor.answer(batch, (batch.images, batch.alive))
    lesson = Lesson(answer, answer, BATCH, len(NAMES), 5, batch.label, rng())
    best = torch.stack(
        [
            dominant(answer, lesson, s, distill._pixels.known_at(lesson, x.shape[2:]))
            for s, x in enumerate(answer.features)
        ]
    )  # (S, N)
    assert best.sum(1).tolist() == [BATCH * 2] * 4  # ceil(3 / 2) of each sample
    torch.manual_seed(0)
    (answer.logits * torch.randn_like(answer.logits)).sum().backward()
    always, never = 0, 0
    for row, (sample, column) in enumerate(zip(answer.sample, answer.modality, strict=True)):
        got = batch.images[NAMES[column]].grad[sample].abs().sum()
        if best[:, row].all():
            always += 1
            assert got == 0
        elif not best[:, row].any():
            never += 1
            assert got > 0
    assert always and never


def test_the_fusion_of_a_teacher_that_learns_is_frozen_with_its_dominant_sensors():
    for freeze in (True, False):
        recipe = recipe_of(feedback={"freeze_dominant": freeze})
        teacher = network(2, fusion="gated")
        Task(recipe, NAMES, teacher=teacher)
        frozen = {name for name, p in teacher.named_parameters() if not p.requires_grad}
        fusion = {name for name, _ in teacher.named_parameters() if name.startswith("fusions.")}
        assert fusion and frozen == (fusion if freeze else set())


def test_a_teacher_without_held_rows_says_what_it_says_anyway():
    """Holding gradients back changes no value."""
    whole = []
    for freeze in (True, False):
        task, _, _ = feedback_task(feedback={"freeze_dominant": freeze})
        batch = batch_of()
        whole.append(task.tutor.answer(batch, (batch.images, batch.alive)))
    torch.testing.assert_close(whole[0].logits, whole[1].logits)
    for held, free in zip(whole[0].fused, whole[1].fused, strict=True):
        torch.testing.assert_close(held, free)


@pytest.mark.parametrize(("weight", "expected"), [(None, 12.0), (3.0, 3.0), (0.0, 0.0)])
def test_the_teachers_weight_of_ifv_is_the_students_unless_it_is_set(weight, expected):
    how = {} if weight is None else {"weight": weight}
    one, student, _ = feedback_task(feedback=how)
    other, _, _ = feedback_task(feedback={"weight": 1.0})
    ours, unit = (step(task, student)["teacher_ifv"] for task in (one, other))
    torch.testing.assert_close(ours, expected * unit)


def selecting_task(**how: object):
    recipe = recipe_of(distill={**PREDICTION, "ifv": {"weight": 12.0}}, select=how)
    student, teacher, robust = network(1), network(2), network(3)
    task = Task(recipe, NAMES, teacher=teacher, robust=robust)
    assert isinstance(task.tutor, Selecting)
    return task, student.train(), teacher, robust


def test_the_selection_learns_from_labels_alone_and_the_student_from_the_selection():
    task, student, teacher, robust = selecting_task()
    selection = task.tutor.selection
    terms = step(task, student)
    terms["select_logits"].backward(retain_graph=True)
    assert moved(selection) == {n for n, _ in selection.named_parameters() if "logits" in n}
    selection.zero_grad()
    terms["select_features"].backward(retain_graph=True)
    assert moved(selection) == {n for n, _ in selection.named_parameters() if "stages" in n}
    assert moved(student) == set()
    selection.zero_grad()
    (terms["ce"] + terms["prediction"] + terms["ifv"]).backward()
    assert moved(student) == {name for name, _ in student.named_parameters()}
    assert moved(selection) == set()
    for frozen in (teacher, robust):
        assert not any(p.requires_grad for p in frozen.parameters())
        assert not frozen.training


def test_as_released_nothing_learns_to_select():
    task, student, *_ = selecting_task(legacy_argmax=True)
    sum(step(task, student).values()).backward()
    assert all(p.grad is None for p in task.tutor.selection.parameters())


def test_what_is_selected_of_equal_networks_is_what_they_say():
    """Then the second stage is plain distillation from the teacher, on fused maps."""
    task, _, teacher, _ = selecting_task()
    task.tutor.robust = teacher
    batch = batch_of()
    answer = task.tutor.answer(batch, (batch.images, batch.alive))
    said = teacher(batch.images, batch.alive)
    torch.testing.assert_close(answer.logits, said.logits)
    for mine, its in zip(answer.fused, said.fused, strict=True):
        torch.testing.assert_close(mine, its)
    assert answer.sample.tolist() == list(range(BATCH))
    assert set(answer.modality.tolist()) == {0}


@pytest.mark.parametrize("sees", ["full", "dropped"])
def test_the_robust_model_sees_what_the_recipe_says(sees):
    task, student, teacher, robust = selecting_task(robust_sees=sees)
    seen = {}

    def note(name: str, _, args) -> None:
        seen[name] = args[1]

    for name, model in (("teacher", teacher), ("robust", robust), ("student", student)):
        model.register_forward_pre_hook(partial(note, name))
    batch = batch_of()
    recipe = task.recipe.model_copy(
        update={"student": task.recipe.student.model_copy(update={"dropout": "uniform"})}
    )
    task.recipe = recipe
    step(task, student, batch)
    assert seen["teacher"].all()
    assert not seen["student"].all()
    assert torch.equal(seen["robust"], seen["student" if sees == "dropped" else "teacher"])


def test_the_weakest_sensor_is_drawn_most_often():
    solo = Solo(3, memory=0.5)
    assert solo.chances().tolist() == pytest.approx([1 / 3] * 3)
    solo.hear(0, torch.tensor(1.0), torch.tensor(True))
    solo.hear(1, torch.tensor(9.0), torch.tensor(False))  # nobody had it
    solo.settle(lambda table: table)
    assert solo.losses.tolist() == [1, 0, 0]
    solo.hear(0, torch.tensor(2.0), torch.tensor(True))
    solo.hear(0, torch.tensor(4.0), torch.tensor(True))
    solo.hear(2, torch.tensor(4.0), torch.tensor(True))
    solo.settle(lambda table: table.mul_(2))  # two processes that heard the same
    assert solo.losses.tolist() == [2, 0, 4]
    assert solo.chances().tolist() == pytest.approx([0.2, 0.4, 0.4])
    drawn = Counter(solo.draw(rng(seed)) for seed in range(400))
    assert drawn[0] == pytest.approx(80, abs=35)


def test_the_solo_pass_shows_one_sensor_to_those_that_have_it():
    recipe = Recipe.model_validate({"student": {"solo": {"weight": 3.0}}})
    task = Task(recipe, NAMES)
    student, batch = network(1).train(), batch_of()
    batch.alive[1, :2] = False  # whichever is drawn but the last: this sample lacks it
    seen = []
    student.register_forward_pre_hook(lambda _, args: seen.append(args[1]))
    task.solo.losses.copy_(torch.tensor([5.0, 1e-9, 1e-9]))
    terms = step(task, student, batch)
    assert list(terms) == ["ce", "solo"]
    plain, alone = seen
    assert torch.equal(plain, batch.alive)
    assert alone.tolist() == [[True, False, False], [False, False, True], [True, False, False]]
    label = batch.label.clone()
    label[1] = 255
    expected = 3 * label_loss(recipe.loss, student(batch.images, alone).logits, label)
    torch.testing.assert_close(terms["solo"], expected)
    fused = label_loss(recipe.loss, student(batch.images, plain).logits, batch.label)
    torch.testing.assert_close(terms["ce"], 2 * fused)


@pytest.mark.parametrize("architecture", ["m_segformer", "cmnext", "swift"])
def test_a_frozen_teacher_answers_folded_what_it_would_have_said(architecture):
    spec = checkpoint.default_spec(
        NAMES,
        classes=tuple("abcde"),
        palette=((0, 0, 0),) * 5,
        head_width=16,
        architecture=architecture,
        size=(64, 96),
    )
    teacher = checkpoint.untrained(spec, seed=3, head="published")
    for name, buffer in teacher.named_buffers():  # as if it had been trained
        if name.endswith("running_mean"):
            buffer.uniform_(-0.3, 0.3)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2.0)
    before = torch.random.get_rng_state()
    tutor = FrozenTeacher(teacher)
    assert torch.equal(before, torch.random.get_rng_state()), "what follows is as it was"
    assert teacher.head_form == "published" and tutor.teacher is not teacher
    assert tutor.teacher.head_form == "folded" or architecture == "swift"
    batch = batch_of(size=(64, 96))
    with torch.no_grad():
        plain = teacher.eval()(batch.images, batch.alive)
    said = tutor.answer(batch, (batch.images, batch.alive))
    torch.testing.assert_close(said.logits, plain.logits, rtol=1e-5, atol=1e-5)
    for ours, theirs in ((said.features, plain.features), (said.fused, plain.fused)):
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    assert not any(p.requires_grad for p in tutor.teacher.parameters())
