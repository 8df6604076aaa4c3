"""Prototype distillation: what a class looks like to one sensor, learned from another sensor."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from robustseg_core.distill._base import Distiller, Lesson
from robustseg_core.distill._measures import divergence
from robustseg_core.distill._pixels import (
    NOWHERE,
    class_means,
    full_precision,
    label_at,
    labelled,
    nothing,
    one_hot,
    wide,
)
from robustseg_core.distill._rows import Rows, drawn, table


class Hpdm(Distiller):
    """Hybrid prototype distillation (arXiv 2505.12861).

        p_c = mean feature of the pixels of class c               (per sample, stage, modality)
        L   = 1/B sum_b sum_stages sum_slots mean over channels and present classes of
              G_c (log G_c - log P_c),   G, P = softmax over the classes of the teacher's and the
              student's prototypes, for each channel by itself

    A slot is a modality that the student has (all of them where missing ones are zero images), and
    its partner one of the teacher's modalities of the same sample, drawn anew for every step,
    sample and stage:

    * `shuffled`: without replacement. With as many slots as sensors this is the paper's random
      permutation; with fewer, the slots get as many different partners;
    * `random`: with replacement;
    * `same`: its own modality, and then 0 when the student is the teacher;
    * `legacy_random`: as released with zero images. There the slots are the teacher's: each of its
      modalities once, and the partner is one of the student's, drawn with replacement.

    Only classes that the sample shows at the stage's resolution compete in the softmax; in the
    released code absent ones compete as zeros (`legacy_absent`). It also divides each prototype by
    its pixel count a second time (`legacy_double_norm`), which silences all but rare classes and is
    why its weight of 100 is not the default here.
    """

    needs_label: ClassVar[bool] = True
    needs_equal_widths: ClassVar[bool] = True

    class Options(Distiller.Options):
        """`pairing=legacy_random` (with zero images; `same` where sensors are skipped), both
        `legacy_*` and weight 100 are the released term.
        """

        weight: float = Field(15.0, ge=0, description="Factor of this term in the loss.")
        pairing: Literal["shuffled", "same", "random", "legacy_random"] = Field(
            "shuffled", description="Which of the teacher's modalities each slot learns from."
        )
        legacy_double_norm: bool = Field(
            default=False, description="Divide prototypes by their pixel counts twice, as released."
        )
        legacy_absent: bool = Field(
            default=False, description="Let absent classes compete as zeros, as released."
        )

    options: Options

    @full_precision
    def forward(self, lesson: Lesson) -> Tensor:
        """The sum of divergences over stages and slots, per sample; see the class."""
        label = labelled(lesson, self.name)
        total = nothing(lesson)
        for student_feat, teacher_feat in zip(
            lesson.student.features, lesson.teacher.features, strict=True
        ):
            here, there = self.partners(lesson)
            sample = lesson.student.sample[here]
            student, teacher = wide(student_feat), wide(teacher_feat.detach())
            size = (student.shape[2], student.shape[3])
            hot = one_hot(label_at(label, size), lesson.classes, student.dtype)  # (B, K, P)
            count = hot.sum(2)  # (B, K)
            p = class_means(student, hot, lesson.student.sample)[here]  # (n, K, C)
            g = class_means(teacher, hot.to(teacher.dtype), lesson.teacher.sample)[there]
            if self.options.legacy_double_norm:
                p, g = (x / count[sample].clamp(min=1)[..., None] for x in (p, g))
            if self.options.legacy_absent:
                competing = count.new_full((lesson.batch,), lesson.classes)
            else:
                competing = (count > 0).sum(1)
                shown = (count > 0)[sample][..., None]  # (n, K, 1)
                p, g = p.where(shown, NOWHERE), g.where(shown, NOWHERE)
            apart = divergence(p, g, axis=1).mean(1)  # (n,)
            total = total + (apart / competing[sample].clamp(min=1)).sum()
        return total / lesson.batch

    def partners(self, lesson: Lesson) -> tuple[Rows, Rows]:
        """(n,) rows of the student and (n,) rows of the teacher that are paired at one stage.

        Draws from `lesson.generator` once, whatever the order of the rows; not for `same`.
        """
        student, teacher, pairing = lesson.student, lesson.teacher, self.options.pairing
        if pairing == "same":
            return slice(None), table(teacher, lesson)[student.sample, student.modality]
        if pairing == "legacy_random":
            return drawn(teacher, student, lesson, replacement=True), slice(None)
        return slice(None), drawn(student, teacher, lesson, replacement=pairing == "random")
