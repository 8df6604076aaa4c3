"""What every file in `distill/` promises: a term that teaches the student and nobody else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from robustseg_core import distill
from robustseg_core.distill import NOBODY, Distiller, Lesson
from robustseg_core.errors import RobustsegError
from robustseg_core.models.architectures.m_segformer import AnyModalSegmenter
from robustseg_core.models.classes import CITYSCAPES
from robustseg_core.types import IGNORE, ModelSpec, Prediction
from support import lessons

NAMES = distill.available()
CALM = {"hpdm": {"pairing": "same"}}
"""Options of those that are 0 for equal features only when nothing random is drawn."""
MORE = [
    ("prediction", {"at": "quarter"}),
    ("prediction", {"temperature": 2.0}),
    ("unimodal", {"axis": "spatial"}),
    ("unimodal", {"axis": "height"}),
    ("unimodal", {"dominant_only": True}),
    ("crossmodal", {"form": "kl"}),
    ("ifv", {"maps": "all"}),
    ("ifv", {"maps": "others"}),
    ("ifv", {"per_position": True}),
    ("ifv", {"maps": "fused"}),
    ("rrm", {"noise": False}),
    ("lscd", {"form": "kl"}),
    ("rrm", {"legacy_spread": True}),
    ("hpdm", {"legacy_absent": True, "pairing": "same"}),
    ("hpdm", {"legacy_double_norm": True, "pairing": "same"}),
]
TAUGHT = [name for name in NAMES if distill.load(name).needs_teacher]
"""Those that compare what two networks make of pixels."""
CASES = [(name, CALM.get(name, {})) for name in NAMES] + MORE
each = pytest.mark.parametrize(("name", "options"), CASES, ids=str)
each_taught = pytest.mark.parametrize(
    ("name", "options"), [case for case in CASES if case[0] in TAUGHT], ids=str
)
every = pytest.mark.parametrize("name", NAMES)
every_taught = pytest.mark.parametrize("name", TAUGHT)
MASKS = st.integers(1, 3).flatmap(
    lambda batch: st.lists(
        st.lists(st.integers(0, 1), min_size=3, max_size=3).filter(any),
        min_size=batch,
        max_size=batch,
    )
)


def make(name: str, options: dict | None = None, channels: int = lessons.WIDTHS[-1]) -> Distiller:
    torch.manual_seed(0)
    made = distill.load(name)(options)
    made.build(channels=channels, width=lessons.WIDTH)
    return made


def again(lesson: Lesson, **changes) -> Lesson:
    """The lesson with the generator as it was at first."""
    return replace(lesson, generator=torch.Generator().manual_seed(0), **changes)


def student_gradients(lesson: Lesson) -> list[Tensor]:
    own = [lesson.student.logits, *lesson.student.features]
    return [x.grad for x in own if x.grad is not None]


def shuffled(seen: Prediction, seed: int) -> Prediction:
    order = torch.randperm(len(seen.sample), generator=torch.Generator().manual_seed(seed))
    features = [x[order] for x in seen.features]
    return Prediction(seen.logits, features, seen.sample[order], seen.modality[order])


def repaint(lesson: Lesson, change: Callable[[Tensor, int], Tensor]) -> Lesson:
    """Both networks' outputs changed, given (tensor, stride); the label stays."""

    def repainted(seen: Prediction) -> Prediction:
        features = [change(x, 4 << s) for s, x in enumerate(seen.features)]
        # enlarging mixes neighbours, so logits change only well inside
        logits = change(seen.logits, 8)
        return Prediction(logits, features, seen.sample, seen.modality)

    return again(lesson, student=repainted(lesson.student), teacher=repainted(lesson.teacher))


@pytest.mark.slow
@each
@given(student_has=MASKS)
@settings(max_examples=8)
def test_any_subset_of_sensors_gives_a_finite_scalar_and_gradients(name, options, student_has):
    teacher_has = [[1, 1, 1]] * len(student_has)
    lesson = lessons.lesson(student_has, teacher_has, size=(32, 96))
    loss = make(name, options)(lesson)
    assert loss.shape == ()
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert loss > -1e-6
    loss.backward()
    assert all(grad.isfinite().all() for grad in student_gradients(lesson))


@each
def test_the_student_learns_and_the_teacher_does_not(name, options):
    lesson = lessons.lesson(lessons.ALL)
    make(name, options)(lesson).backward()
    grads = student_gradients(lesson)
    assert grads
    assert all(grad.abs().sum() > 0 for grad in grads)
    assert all(x.grad is None for x in [lesson.teacher.logits, *lesson.teacher.features])


@each_taught
def test_a_student_that_is_its_teacher_has_nothing_to_learn(name, options):
    lesson = lessons.lesson(lessons.ALL)
    student = Prediction(
        lesson.teacher.logits.detach().clone().requires_grad_(),
        [x.detach().clone().requires_grad_() for x in lesson.teacher.features],
        lesson.teacher.sample,
        lesson.teacher.modality,
    )
    same = replace(lesson, student=student)
    loss = make(name, options)(same)
    assert loss.abs() < 1e-6
    loss.backward()
    assert all(grad.abs().max() < 1e-5 for grad in student_gradients(same))


@each_taught
def test_pixels_that_nobody_labelled_never_count(name, options):
    lesson = lessons.lesson(size=(64, 160))  # the left 64 columns are unlabelled
    rng = torch.Generator().manual_seed(9)

    def noise_on_the_left(x: Tensor, stride: int) -> Tensor:
        x = x.detach().clone()
        left = x[..., : 64 // stride]
        left += 3 * torch.randn(left.shape, generator=rng)
        return x.requires_grad_()

    term = make(name, options)
    changed = repaint(lesson, noise_on_the_left)
    torch.testing.assert_close(term(again(lesson)), term(again(changed)), rtol=1e-5, atol=1e-7)
    term(again(changed)).backward()
    left = [
        x.grad[..., : 64 // (4 << s)]
        for s, x in enumerate(changed.student.features)
        if x.grad is not None
    ]
    assert all(grad.abs().max() == 0 for grad in left)

    def noise_on_the_right(x: Tensor, stride: int) -> Tensor:
        x = x.detach().clone()
        x[..., 64 // stride :] += torch.randn(x[..., 64 // stride :].shape, generator=rng)
        return x

    other = repaint(lesson, noise_on_the_right)
    assert not torch.isclose(term(again(lesson)), term(again(other)), rtol=1e-4)


@each_taught
def test_a_sample_without_one_labelled_pixel_adds_nothing(name, options):
    lesson = lessons.lesson()
    label = torch.full_like(lesson.label, IGNORE)
    loss = make(name, options)(replace(lesson, label=label))
    loss.backward()
    if not (name == "hpdm" and options.get("legacy_absent")):
        assert loss == 0
    assert all(grad.abs().sum() == 0 for grad in student_gradients(lesson))


@every
def test_the_order_of_packed_rows_does_not_matter(name):
    lesson = lessons.lesson(((1, 1, 0), (1, 0, 1)))
    term = make(name)
    expected = term(again(lesson))
    for seed in range(3):
        mixed = again(
            lesson,
            student=shuffled(lesson.student, seed),
            teacher=shuffled(lesson.teacher, seed + 10),
        )
        torch.testing.assert_close(term(mixed), expected)


@every
def test_one_sensor_left_can_still_be_taught(name):
    lesson = lessons.lesson(((0, 1, 0), (0, 0, 1)))
    loss = make(name)(lesson)
    loss.backward()
    assert loss.isfinite()
    assert all(grad.isfinite().all() for grad in student_gradients(lesson))


@every_taught
def test_samples_teach_independently_of_their_neighbours(name):
    """A batch is the mean of its samples, whatever subset each of them has."""
    term = make(name, {"noise": False} if name == "rrm" else CALM.get(name))
    lesson = lessons.lesson(((1, 1, 0), (0, 1, 1)))
    alone = []
    for sample in range(2):
        parts = {}
        for side in ("student", "teacher"):
            seen: Prediction = getattr(lesson, side)
            own = seen.sample == sample
            parts[side] = Prediction(
                seen.logits[sample : sample + 1],
                [x[own] for x in seen.features],
                seen.sample[own] - sample,
                seen.modality[own],
            )
        label = lesson.label[sample : sample + 1]
        alone.append(term(again(lesson, batch=1, label=label, **parts)))
    torch.testing.assert_close(term(again(lesson)), sum(alone) / 2)


@every
def test_a_drive_without_labels_teaches_or_says_what_is_missing(name):
    lesson = lessons.lesson(labelled=False)
    term = make(name)
    if term.needs_label:
        with pytest.raises(RobustsegError, match=f"{name} needs labels"):
            term(lesson)
    else:
        loss = term(lesson)
        assert loss.isfinite()
        assert loss > 0


@every
def test_mixed_precision_changes_the_last_digits_only(name):
    lesson = lessons.lesson()
    term = make(name, {"noise": False} if name == "rrm" else CALM.get(name))

    def half(seen: Prediction) -> Prediction:
        features = [x.detach().bfloat16().requires_grad_() for x in seen.features]
        return Prediction(
            seen.logits.detach().bfloat16().requires_grad_(), features, seen.sample, seen.modality
        )

    expected = term(lesson)
    halved = again(lesson, student=half(lesson.student), teacher=half(lesson.teacher))
    with torch.autocast("cpu", torch.bfloat16):
        loss = term(halved)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, rtol=0.02, atol=1e-5)
    loss.backward()
    assert all(grad.isfinite().all() for grad in student_gradients(halved))


@every
def test_a_misspelt_option_is_an_error_with_the_way_out(name):
    with pytest.raises(RobustsegError, match="did you mean 'weight'"):
        make(name, {"wieght": 1.0})


@every
def test_a_student_network_gets_gradients_from_a_teacher_network(name):
    torch.manual_seed(0)
    spec = ModelSpec(
        modalities=("rgb", "depth", "lidar"),
        classes=CITYSCAPES.names,
        palette=CITYSCAPES.palette,
        backbone="tiny",
        head_width=16,
        size=(64, 64),
    )
    student, teacher = AnyModalSegmenter(spec), AnyModalSegmenter(spec).eval()
    images = {m: torch.randn(2, 3, 64, 64) for m in spec.modalities}
    alive = torch.tensor([[1, 1, 0], [1, 0, 1]]).bool()
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        asked = teacher(images, torch.ones_like(alive))
    seen = student(images, alive)
    label = lessons.blocks(2, (64, 64), len(spec.classes), rng, ignored=False)
    read = [torch.randn(*shape, lessons.WIDTH) for shape in ((2, 3), (2,), (len(spec.classes),))]
    lesson = Lesson(seen, asked, 2, 3, len(spec.classes), label, rng, *read)
    make(name, channels=student.encoder.channels[-1])(lesson).backward()
    first = next(student.encoder.parameters())
    assert first.grad.isfinite().all()
    assert first.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("name", "options"), [*CASES, ("crossmodal", {"legacy_code": True})], ids=str
)
def test_a_term_about_single_sensors_says_so(name, options):
    one_row = [(1, 0, 0)] * 3  # of a sample, as a selection has
    term = make(name, options)
    loss = term(lessons.lesson(one_row, one_row))
    if not term.needs_embeddings:  # there is an embedding of the sensor, but none of the selection
        assert bool(loss == 0) == bool(term.of_sensors)
    assert term.of_sensors in ("", name, f"{name}.maps=others")


@pytest.mark.parametrize("name", [name for name in NAMES if name not in TAUGHT])
def test_what_needs_no_teacher_asks_none(name):
    lesson = lessons.lesson()
    term = make(name)
    assert torch.equal(term(again(lesson, teacher=NOBODY)), term(again(lesson)))


@every
def test_what_a_term_learns_itself_gets_gradients(name):
    term = make(name)
    term(lessons.lesson()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in term.parameters())


@pytest.mark.parametrize("name", [n for n in NAMES if distill.load(n).needs_embeddings])
def test_without_embeddings_there_is_nothing_to_learn(name):
    lesson = lessons.lesson()
    for term, there in ((distill.load(name)(), lesson.embeddings), (make(name), None)):
        loss = term(again(lesson, embeddings=there))
        loss.backward()
        assert loss == 0
        assert all(grad.abs().sum() == 0 for grad in student_gradients(lesson))
