"""Each distiller against its formula written out in loops, in float64: values and gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from robustseg_core import distill
from robustseg_core.distill import Lesson
from robustseg_core.distill._rows import dominant
from robustseg_core.distill.rrm import regularization
from support import lessons, slow_losses

pytestmark = pytest.mark.slow

SIZE = (32, 96)
DELIVER_CLASSES, MUSES_CLASSES, MCUBES_CLASSES = 25, 19, 20


def school(**changes) -> Lesson:
    options = {"size": SIZE, "dtype": torch.float64} | changes
    return lessons.lesson(((1, 1, 1), (1, 0, 1), (0, 1, 0)), ((1, 1, 1),) * 3, **options)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def both_ways(term: Tensor, lesson: Lesson) -> list[Tensor]:
    """The value, and the gradients of everything that the student made."""
    inputs = [lesson.student.logits, *lesson.student.features]
    grads = torch.autograd.grad(term, inputs, allow_unused=True)
    return [term.detach(), *(g if g is not None else torch.zeros(()) for g in grads)]


def all_mean(student: Tensor, teacher: Tensor, axis: int) -> Tensor:
    """KLDivLoss('mean') of the released code: over all elements. Asked by name, PyTorch warns."""
    each = F.kl_div(student.log_softmax(axis), teacher.softmax(axis), reduction="none")
    return each.mean().clamp(min=0)


def assert_same(ours: Tensor, slow: Tensor, lesson: Lesson) -> None:
    for a, b in zip(both_ways(ours, lesson), both_ways(slow, lesson), strict=True):
        torch.testing.assert_close(a, b.expand_as(a), rtol=1e-9, atol=1e-12)


FORMULAS: list[tuple[str, dict, Callable[[Lesson], Tensor]]] = [
    ("prediction", {}, slow_losses.prediction),
    ("prediction", {"temperature": 3.0}, lambda x: slow_losses.prediction(x, T=3.0)),
    ("unimodal", {}, slow_losses.unimodal),
    ("unimodal", {}, slow_losses.unimodal_by_class),
    ("unimodal", {"axis": "spatial"}, lambda x: slow_losses.unimodal(x, "spatial")),
    ("unimodal", {"axis": "height"}, lambda x: slow_losses.unimodal(x, "height")),
    ("crossmodal", {}, slow_losses.crossmodal),
    ("crossmodal", {}, slow_losses.crossmodal_by_map),
    ("crossmodal", {"form": "kl"}, lambda x: slow_losses.crossmodal(x, "kl")),
    ("ifv", {}, slow_losses.ifv),
    ("ifv", {"maps": "all"}, lambda x: slow_losses.ifv(x, dominant_only=False)),
    (
        "ifv",
        {"maps": "all", "legacy_width_axis": True},
        lambda x: slow_losses.ifv(x, dominant_only=False, rows=True),
    ),
    ("ifv", {"maps": "fused"}, lambda x: slow_losses.ifv(x, fused=True)),
    (
        "ifv",
        {"maps": "fused", "legacy_width_axis": True},
        lambda x: slow_losses.ifv(x, fused=True, rows=True),
    ),
]


@pytest.mark.parametrize(
    ("name", "options", "slow"), FORMULAS, ids=lambda value: getattr(value, "__name__", str(value))
)
def test_the_vectorized_term_is_the_formula(name, options, slow):
    lesson = school()
    assert_same(distill.load(name)(options)(lesson), slow(lesson), lesson)


@pytest.mark.parametrize("axis", ["channel", "spatial", "height"])
def test_an_unlabelled_drive_is_taught_by_the_same_formula(axis):
    lesson = school(labelled=False)
    ours = distill.load("unimodal")({"axis": axis})(lesson)
    assert_same(ours, slow_losses.unimodal(lesson, axis), lesson)
    assert_same(distill.load("crossmodal")()(lesson), slow_losses.crossmodal(lesson), lesson)


@pytest.mark.parametrize("classes", [DELIVER_CLASSES, MUSES_CLASSES, MCUBES_CLASSES])
def test_the_published_weight_of_50_is_50_over_k_per_pixel(classes):
    lesson = school(classes=classes, ignored=False)
    student, teacher = (
        F.interpolate(x, SIZE, mode="bilinear", align_corners=False)
        for x in (lesson.student.logits, lesson.teacher.logits.detach())
    )
    published = all_mean(student, teacher, 1)
    kind = distill.load("prediction")
    ours = kind()
    torch.testing.assert_close(50 / classes * ours(lesson), 50 * published)
    legacy = kind({"legacy_mean": True, "legacy_ignored": True})
    torch.testing.assert_close(legacy(school(classes=classes)), published)
    assert ours.weight(classes) == 50 / classes
    assert legacy.weight(classes) == 50
    assert kind({"weight": 3}).weight(classes) == 3


def test_prediction_may_speak_where_no_label_does():
    kind, lesson = distill.load("prediction"), school()
    assert lesson.label is not None
    known = lesson.label != 255
    parts = [kind({"unlabelled": flag})(lesson) for flag in (False, True)]
    whole = kind({"legacy_ignored": True})(lesson)
    share = known.float().mean()
    torch.testing.assert_close(share * parts[0] + (1 - share) * parts[1], whole)


def test_unimodal_legacy_is_the_released_code():
    lesson = school()
    term = distill.load("unimodal")({"axis": "height", "legacy_mean": True, "legacy_ignored": True})
    released = sum(all_mean(mine, its, 1) for _, _, mine, its, _ in slow_losses.couples(lesson))
    assert_same(term(lesson), released / lesson.batch, lesson)


@pytest.mark.parametrize("stages", [(1,), (2, 4)])
def test_unimodal_teaches_the_stages_that_it_is_told(stages):
    lesson = school()
    distill.load("unimodal")({"stages": stages})(lesson).backward()
    taught = [x.grad is not None and bool(x.grad.any()) for x in lesson.student.features]
    assert taught == [stage in stages for stage in (1, 2, 3, 4)]


def test_crossmodal_legacy_is_the_released_code_and_not_zero_for_equal_features():
    lesson = school()
    rows, match = lesson.pairs
    released = lesson.student.logits.new_zeros(())
    for mine, its in zip(lesson.student.features, lesson.teacher.features, strict=True):
        students = mine[rows].log_softmax(2)
        teachers = its.detach()[match].softmax(2)
        entries = [
            [
                F.cosine_similarity(m[a].flatten(1), m[b].flatten(1)).mean()
                for m in (students, teachers)
            ]
            for a in range(len(rows))
            for b in range(len(rows))
        ]
        released = released + sum((s - t) ** 2 for s, t in entries) / len(entries)
    term = distill.load("crossmodal")({"legacy_code": True})
    assert_same(term(lesson), released / lesson.batch, lesson)
    equal = replace(lesson, student=lesson.teacher)
    floor = term(equal).item()
    assert floor > 0.01
    assert distill.load("crossmodal")()(equal).item() == 0


HPDM = [
    ({}, {}),
    ({"legacy_double_norm": True}, {"double": True}),
    ({"legacy_absent": True}, {"absent": True}),
    ({"legacy_double_norm": True, "legacy_absent": True}, {"double": True, "absent": True}),
]


@pytest.mark.parametrize("pairing", ["shuffled", "random", "same", "legacy_random"])
@pytest.mark.parametrize(("options", "slow"), HPDM, ids=str)
def test_prototypes_are_the_formula_whatever_the_pairing(pairing, options, slow):
    lesson = school(classes=25)  # many of them absent at coarse stages
    term = distill.load("hpdm")({"pairing": pairing} | options)
    own = replace(lesson, generator=rng(4))
    partners = [term.partners(own) for _ in lesson.student.features]
    ours = term(replace(lesson, generator=rng(4)))
    assert_same(ours, slow_losses.hpdm(lesson, partners, **slow), lesson)


def partner_modalities(pairing: str, throws: int = 600) -> list[list[tuple[int, ...]]]:
    """Per sample, the modalities of the other network that its slots got in each throw."""
    lesson = replace(school(), generator=rng())
    term = distill.load("hpdm")({"pairing": pairing})
    got: list[list[tuple[int, ...]]] = [[], [], []]
    for _ in range(throws):
        here, there = term.partners(lesson)
        assert torch.equal(lesson.teacher.sample[there], lesson.student.sample[here])
        if pairing == "legacy_random":
            assert there == slice(None)  # every slot of the teacher once
            slots, columns = lesson.teacher.sample, lesson.student.modality[here]
        else:
            assert here == slice(None)
            slots, columns = lesson.student.sample, lesson.teacher.modality[there]
        for sample in range(3):
            got[sample].append(tuple(columns[slots == sample].tolist()))
    return got


def test_shuffled_partners_are_a_fair_permutation():
    full, two, one = partner_modalities("shuffled")
    assert all(sorted(throw) == [0, 1, 2] for throw in full)
    assert len(set(full)) == 6
    assert min(full.count(throw) for throw in set(full)) > 60  # 100 expected; 5 sigma below
    assert all(len(set(throw)) == 2 for throw in two)
    assert len(set(two)) == 6
    assert {throw[0] for throw in one} == {0, 1, 2}


def test_random_partners_are_independent_and_uniform():
    full, _, one = partner_modalities("random")
    assert len(set(full)) == 27
    for slot in range(3):
        for modality in range(3):
            share = sum(throw[slot] == modality for throw in full) / len(full)
            assert share == pytest.approx(1 / 3, abs=0.1)  # 5 sigma
    assert {throw[0] for throw in one} == {0, 1, 2}


def test_released_partners_are_drawn_for_each_slot_of_the_teacher():
    full, two, one = partner_modalities("legacy_random")
    assert len(set(full)) == 27
    assert set(two) == {(a, b, c) for a in (0, 2) for b in (0, 2) for c in (0, 2)}
    assert set(one) == {(1, 1, 1)}
    for slot in range(3):
        assert sum(throw[slot] == 0 for throw in two) / len(two) == pytest.approx(1 / 2, abs=0.1)


def test_a_partner_is_a_sensor_that_the_sample_has():
    lesson = lessons.lesson(((1, 0, 1), (0, 1, 0)), ((1, 0, 1), (0, 1, 1)), size=SIZE)
    for pairing in ("shuffled", "random", "legacy_random"):
        term = distill.load("hpdm")({"pairing": pairing})
        for _ in range(50):
            here, there = term.partners(lesson)
            assert torch.equal(lesson.teacher.sample[there], lesson.student.sample[here])


def test_dominant_sensors_are_the_half_most_like_the_fused_feature():
    lesson = lessons.lesson(
        ((1, 1, 1, 1), (1, 1, 0, 1)), ((1, 1, 1, 1), (1, 1, 0, 1)), size=SIZE, seed=3
    )
    for stage, maps in enumerate(lesson.teacher.features):
        known = slow_losses.small_label(lesson.label, maps) != 255
        chosen = dominant(lesson.teacher, lesson, stage, known)
        for sample in range(2):
            own = lesson.teacher.modality[chosen & (lesson.teacher.sample == sample)]
            assert sorted(own.tolist()) == sorted(slow_losses.best_half(lesson, stage, sample))
            assert len(own) == 2


def test_what_is_not_dominant_to_the_learner_is_taught_in_feedback():
    """The two halves are all; the full network learns, and its dominant rows get no gradient."""
    forward = school()
    lesson = replace(forward, student=forward.teacher, teacher=forward.student)
    term = distill.load("ifv")({"maps": "others"})
    lesson.student.logits.requires_grad_()
    grads = torch.autograd.grad(term(lesson), lesson.student.features)
    for stage, grad in enumerate(grads):
        known = slow_losses.small_label(lesson.label, grad) != 255
        chosen = dominant(lesson.student, lesson, stage, known)
        assert grad[chosen].abs().max() == 0
        here, _ = lesson.pairs
        taught = torch.zeros_like(chosen)
        taught[here] = True
        if stage < 2:  # at coarser ones, hardly a pixel is known
            assert (grad[taught & ~chosen].flatten(1).abs().sum(1) > 0).all()
        assert grad[~taught].abs().max() == 0


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("copies", [1, 5])
def test_the_closed_form_of_rrm_is_the_twice_differentiated_definition(axis, copies):
    student = torch.randn(2, copies, 6, 4, 5, generator=rng(1), dtype=torch.float64)
    teacher = torch.randn(2, copies, 6, 4, 5, generator=rng(2), dtype=torch.float64)
    student.requires_grad_()
    n = copies * 6 * 4 * 5
    closed = n**2 * regularization(student, teacher, None, axis=axis + 1)
    defined = torch.stack([slow_losses.fisher(student[i], teacher[i], axis) for i in range(2)])
    torch.testing.assert_close(closed, defined, rtol=1e-10, atol=0)
    (ours,) = torch.autograd.grad(closed.sum(), student, retain_graph=True)
    (theirs,) = torch.autograd.grad(defined.sum(), student)
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("height", [False, True])
@pytest.mark.parametrize("own_noise", [False, True])
def test_rrm_sums_the_definition_over_stages_and_sensors(height, own_noise):
    lesson = school(ignored=False, size=(64, 64))  # two rows at the coarsest stage
    weights = (0.02, 0.005, 0.002, 0.0003)
    term = distill.load("rrm")(
        {"legacy_height": height, "legacy_noise": own_noise, "legacy_scale": True, "copies": 2}
    )
    thrown = replace(lesson, generator=rng(8))
    here, there = lesson.pairs
    slow = lesson.student.logits.new_zeros(())
    for stage, weight in enumerate(weights):
        mine, its = term.noisy(
            thrown,
            lesson.student.features[stage][here],
            lesson.teacher.features[stage].detach()[there],
            there,
        )
        axis = 2 if height else 1
        parts = [slow_losses.fisher(s, t, axis) for s, t in zip(mine, its, strict=True)]
        slow = slow + weight * sum(parts)
    ours = term(replace(lesson, generator=rng(8)))
    for a, b in zip(both_ways(ours, lesson), both_ways(slow / lesson.batch, lesson), strict=True):
        torch.testing.assert_close(a, b.expand_as(a), rtol=1e-7, atol=1e-9)


def test_rrm_between_sensors_is_that_of_the_pairs_it_drew(monkeypatch):
    lesson = lessons.lesson(((1, 1, 1),) * 2, ((1, 1, 1),) * 2, size=SIZE, dtype=torch.float64)
    across = distill.load("rrm")({"pairing": "legacy_random", "noise": False})
    turned = torch.tensor([2, 3, 4, 5, 0, 1])  # rows are sensor by sensor
    monkeypatch.setattr("robustseg_core.distill.rrm.drawn", lambda *_, **__: turned)
    features = [x[turned] for x in lesson.student.features]
    other = replace(lesson, student=replace(lesson.student, features=features))
    same = distill.load("rrm")({"noise": False})
    torch.testing.assert_close(across(lesson), same(other))
    monkeypatch.undo()
    assert across(lesson) != same(lesson)


def test_the_default_weights_of_rrm_are_the_released_run_at_256_pixels_and_b0():
    kind = distill.load("rrm")
    for stage, (weight, width) in enumerate(
        zip(kind().options.stage_weights, (32, 64, 160, 256), strict=True)
    ):
        n = 10 * width * (64 >> stage) ** 2
        assert 1.2e-14 * n**2 == pytest.approx(weight, rel=0.1)


def test_noise_is_as_large_as_the_channels_spread_at_each_pixel():
    features = torch.randn(1, 8, 3, 4, generator=rng(), dtype=torch.float64)
    features *= torch.linspace(0.1, 3, 12, dtype=torch.float64).view(3, 4)
    lesson = lessons.lesson(((1,),), ((1,),), size=SIZE)
    term = distill.load("rrm")({"copies": 100, "legacy_noise": True})
    mine, its = term.noisy(lesson, features, features, torch.zeros(1, dtype=torch.long))
    assert mine.shape == (1, 100, 8, 3, 4)
    spread = (mine - features[:, None]).std((1, 2))
    torch.testing.assert_close(spread, features.std(1, unbiased=False), rtol=0.15, atol=0)
    assert not torch.equal(mine, its)


def test_the_released_spread_is_that_of_the_repeated_features_and_is_differentiated():
    features = torch.randn(2, 8, 3, 4, generator=rng(), dtype=torch.float64, requires_grad=True)
    term = distill.load("rrm")({"copies": 3, "legacy_spread": True})
    repeated = features.repeat_interleave(3, 1).std(1)
    spread = term.spread(features[:, None])[:, 0, 0]
    torch.testing.assert_close(spread, repeated)
    (ours,) = torch.autograd.grad(spread.sum(), features, retain_graph=True)
    (theirs,) = torch.autograd.grad(repeated.sum(), features)
    torch.testing.assert_close(ours, theirs)
    assert not distill.load("rrm")().spread(features[:, None]).requires_grad
