"""Logit distillation: a divergence between the class probabilities of teacher and student."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from robustseg_core.distill._base import Distiller, Lesson
from robustseg_core.distill._measures import divergence
from robustseg_core.distill._pixels import full_precision, label_at, wide
from robustseg_core.models.resize import resize_logits
from robustseg_core.types import IGNORE

PUBLISHED = 50.0
"""Weight of the mean over pixels and classes (arXiv 2411.17141, arXiv 2505.12861)."""


class PredictionDistiller(Distiller):
    """Modality-agnostic distillation (MAD) of AnySeg (arXiv 2411.17141).

        L = mean over labelled pixels of T^2 KL( softmax(teacher / T) || softmax(student / T) )

    with the softmax over classes. The direction is the released code's, not that of the paper's
    formula. That code takes `KLDivLoss('mean')` x 50, which also divides by K: the same as 50/K
    times this term, or 2.0 for DELIVER's 25 classes, 2.63 for MUSES' 19, 2.5 for MCubeS' 20, which
    is the weight of a recipe that names none. It also counts pixels that nobody labelled
    (`legacy_ignored`). Without labels all pixels count. Ours are `unlabelled`, the term beside
    labels of a teacher that leaves out what it is unsure of, and `of: full`, where the student
    teaches itself: the pass with a subset learns what the pass with all sensors says in the same
    step, which passes no gradient on.
    """

    class Options(Distiller.Options):
        """With `legacy_ignored` and `legacy_mean` the term is the released one."""

        weight: float | None = Field(  # type: ignore[assignment]  # read by `weight` alone
            None,
            ge=0,
            description="Factor of this term; null: the published 50, which is 50/K for K classes "
            "without `legacy_mean`.",
        )
        temperature: float = Field(
            1.0, gt=0, description="T: softens both predictions; the term grows by T^2 in return."
        )
        of: Literal["teacher", "full"] = Field(
            "teacher",
            description="Whose prediction: a teacher's, or that of the student itself with all "
            "sensors in the same step (no teacher, no pass more); needs student.with_full.",
        )
        at: Literal["full", "quarter"] = Field(
            "full", description="Compare at the input's size (as published) or as the head says it."
        )
        unlabelled: bool = Field(
            default=False,
            description="Count the pixels alone that nobody labelled: where labels say nothing, "
            "the teacher does.",
        )
        legacy_ignored: bool = Field(
            default=False, description="Count ignored pixels too, as released."
        )
        legacy_mean: bool = Field(
            default=False, description="Divide by K, as released; the weight is 50 then."
        )

    options: Options

    @property
    def asks(self) -> Literal["teacher", "full"]:
        """As the recipe says."""
        return self.options.of

    def weight(self, classes: int) -> float:
        """Of the recipe; if it names none, the published one."""
        if self.options.weight is not None:
            return self.options.weight
        return PUBLISHED if self.options.legacy_mean else PUBLISHED / classes

    @full_precision
    def forward(self, lesson: Lesson) -> Tensor:
        """The mean divergence per pixel; see the class."""
        options, label = self.options, lesson.label
        student, teacher = wide(lesson.student.logits), wide(lesson.teacher.logits.detach())
        h, w = student.shape[2:]
        if options.at == "full":
            known = lesson.size or (4 * h, 4 * w)  # most heads answer at a quarter of it
            size = known if label is None else (label.shape[1], label.shape[2])
            student, teacher = resize_logits(student, size), resize_logits(teacher, size)
        else:
            teacher = resize_logits(teacher, (h, w))  # another architecture's may be finer
            label = None if label is None else label_at(label, (h, w))
        T = options.temperature
        each = T**2 * divergence(student / T, teacher / T, axis=1)  # (B, H, W)
        if options.legacy_mean:
            each = each / lesson.classes
        if label is None or options.legacy_ignored:
            return each.mean()
        seen = (label == IGNORE) if options.unlabelled else (label != IGNORE)
        return torch.where(seen, each, 0).sum() / seen.sum().clamp(min=1)
