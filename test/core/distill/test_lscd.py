"""LSCD is the relations of its docstring, and 0 where they are equal."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from robustseg_core.distill.lscd import Lscd
from robustseg_core.types import Prediction
from support import lessons

D = lessons.WIDTH


def built(**options) -> Lscd:
    torch.manual_seed(0)
    term = Lscd(options)
    term.build(channels=lessons.WIDTHS[-1], width=D)
    return term.double()


def cos(a: Tensor, b: Tensor) -> Tensor:
    return torch.cosine_similarity(a, b, dim=0)


def apart(ours: list[Tensor], theirs: list[Tensor]) -> Tensor:
    p, q = ((torch.stack(x) / 0.1).softmax(0) for x in (theirs, ours))
    return (p * (p / q).log()).sum()


def slow(lesson, term: Lscd) -> Tensor:
    """The sum of the class docstring, pair by pair."""
    seen = lesson.student
    u = {}
    for row, (b, m) in enumerate(zip(seen.sample.tolist(), seen.modality.tolist(), strict=True)):
        u[b, m] = term.project(seen.features[-1][row].mean((1, 2)))
    v, t, T = lesson.embeddings, lesson.text, lesson.class_text
    inter, classes = [], []
    for b in range(lesson.batch):
        own = [m for sample, m in u if sample == b]
        rows = []
        for a in own:
            ours = [cos(u[b, a], u[b, m]) for m in own] + [cos(u[b, a], t[b])]
            theirs = [cos(v[b, a], v[b, m]) for m in own] + [cos(v[b, a], t[b])]
            rows.append(apart(ours, theirs))
        inter.append(torch.stack(rows).mean())
        grid = lesson.label[b, ::32, ::32]
        shown = [k for k in range(lesson.classes) if (grid == k).any()]
        rows = []
        for a in own:
            row = next(r for r, key in enumerate(u) if key == (b, a))
            each = []
            for k in shown:
                mean = seen.features[-1][row][:, grid == k].mean(1)
                names = range(lesson.classes)
                ours = [cos(term.project(mean), T[n]) for n in names]
                each.append(apart(ours, [cos(T[k], T[n]) for n in names]))
            rows.append(torch.stack(each).mean() if each else torch.zeros(()).double())
        classes.append(torch.stack(rows).mean())
    intra = []
    for m in range(lesson.modalities):
        have = [b for b in range(lesson.batch) if (b, m) in u]
        pairs = [(i, j) for i in have for j in have if i != j]
        if pairs:
            squares = [(cos(u[i, m], u[j, m]) - cos(v[i, m], v[j, m])) ** 2 for i, j in pairs]
            intra.append(torch.stack(squares).mean())
    parts = [torch.stack(x).mean() for x in (inter, intra, classes) if x]
    return torch.stack(parts).sum()


@pytest.mark.parametrize(
    "has", [((1, 1, 1), (1, 1, 1)), ((1, 0, 1), (0, 0, 1), (1, 1, 1))], ids=str
)
def test_the_term_is_its_formula(has):
    lesson = lessons.lesson(has, [[1, 1, 1]] * len(has), dtype=torch.float64, ignored=False)
    term = built()
    torch.testing.assert_close(term(lesson), slow(lesson, term), rtol=1e-9, atol=1e-12)


def says(lesson, embeddings: Tensor) -> tuple:
    """A lesson and a term whose student's embeddings are these, at every position."""
    term = Lscd({})
    term.build(channels=D, width=D)
    with torch.no_grad():
        term.project.weight.copy_(torch.eye(D))
        term.project.bias.zero_()
    seen = lesson.student
    last = embeddings[seen.sample, seen.modality][:, :, None, None].expand(-1, -1, 2, 4)
    last = last.clone().requires_grad_()
    student = Prediction(seen.logits, [*seen.features[:-1], last], seen.sample, seen.modality)
    return replace(lesson, student=student), term.double(), last


@pytest.mark.parametrize("form", ["mse", "kl"])
def test_equal_relations_leave_nothing_to_learn(form):
    """Of the same embeddings, and of any rotation of them: only relations count."""
    lesson = lessons.lesson(lessons.ALL, dtype=torch.float64)
    lesson = replace(lesson, class_text=None)
    whole, term, last = says(lesson, 3 * lesson.embeddings)
    term.options = term.Options(form=form)
    loss = term(whole)
    assert loss.abs() < 1e-12
    loss.backward()
    assert last.grad.abs().max() < 1e-7
    rotation = torch.linalg.qr(torch.randn(D, D, dtype=torch.float64))[0]
    turned, term, _ = says(replace(lesson, text=None), lesson.embeddings @ rotation)
    term.options = term.Options(form=form)
    assert term(turned).abs() < 1e-12
    other, term, _ = says(lesson, lesson.embeddings.flip(0))
    assert term(other) > 1e-3


def test_a_class_that_says_its_name_leaves_nothing_to_learn():
    lesson = lessons.lesson(lessons.ALL, size=(64, 128), dtype=torch.float64, ignored=False)
    whole, term, _ = says(lesson, lesson.embeddings)
    grid = whole.label[:, ::32, ::32]  # (B, 2, 4)
    named = lesson.class_text[grid].permute(0, 3, 1, 2)[whole.student.sample]
    student = Prediction(
        whole.student.logits, [named], whole.student.sample, whole.student.modality
    )
    assert term.to_classes(named, replace(whole, student=student)).abs() < 1e-12
    assert term.to_classes(-named, replace(whole, student=student)) > 0.1


def test_a_sensor_that_nobody_embedded_is_left_out():
    lesson = lessons.lesson(lessons.ALL, dtype=torch.float64)
    term = built(classes=0.0)
    gone = lesson.embeddings.clone()
    gone[0, 1] = 0
    fewer = lessons.lesson(((1, 0, 1), (1, 1, 1)), dtype=torch.float64)
    seen = lesson.student
    kept = ~((seen.sample == 0) & (seen.modality == 1))
    student = Prediction(
        seen.logits, [x[kept] for x in seen.features], seen.sample[kept], seen.modality[kept]
    )
    fewer = replace(lesson, student=student)
    torch.testing.assert_close(term(replace(lesson, embeddings=gone)), term(fewer))


def test_a_missing_caption_is_left_out():
    lesson = lessons.lesson(lessons.ALL, dtype=torch.float64)
    term = built(classes=0.0, intra=0.0)
    none = term(replace(lesson, text=None))
    torch.testing.assert_close(term(replace(lesson, text=torch.zeros_like(lesson.text))), none)
    assert not torch.isclose(term(lesson), none)
