"""Cross-modal distillation: two sensors' features are as alike as the teacher's are."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from robustseg_core.distill._base import Distiller, Lesson
from robustseg_core.distill._pixels import full_precision, known_at, nothing, wide
from robustseg_core.distill._rows import pairs, table

TINY = 1e-16
"""Least squared norm of a channel that has a direction."""
EDGE = 1e-4
"""Least and 1 - greatest probability in `form=kl`."""


class CrossmodalDistiller(Distiller):
    """Cross-modal distillation (CMD) of AnySeg (arXiv 2411.17141), in its safe form.

        c_ab = mean over channels of the cosine between the maps of modalities a and b
        L    = 1/B sum_b mean over stages, mean over pairs a < b present of (c_ab^S - c_ab^T)^2

    Maps are flattened over the known pixels (all, without labels). A sample whose student has fewer
    than two sensors adds 0. `form=kl` compares p = (1 + c)/2 as probabilities of a coin instead:
    the safe reading of the paper's formula, whose logarithm of a cosine may not exist.

    `legacy_code` is the released form: log-softmax over the height for the student and softmax over
    the height for the teacher, so that it is not 0 for equal features; one matrix over all maps of
    the whole batch, so that different samples are compared too; mean square over its N^2 entries,
    summed over stages, divided by B. Ignored pixels count there.
    """

    class Options(Distiller.Options):
        """The published weight is 10."""

        weight: float = Field(10.0, ge=0, description="Factor of this term in the loss.")
        form: Literal["square", "kl"] = Field(
            "square", description="Squared difference of cosines, or divergence of (1 + c)/2."
        )
        legacy_code: bool = Field(
            default=False, description="As released: not 0 for equal features."
        )

    options: Options

    @property
    def of_sensors(self) -> str:
        """Always, but for the released form, which compares samples, too."""
        return "" if self.options.legacy_code else self.name

    @full_precision
    def forward(self, lesson: Lesson) -> Tensor:
        """The mean difference between the two matrices of likeness; see the class."""
        if self.options.legacy_code:
            return _released(lesson)
        total = nothing(lesson)
        # rows of the student decide which pairs there are; the teacher has them all
        present = table(lesson.student, lesson) >= 0  # (B, M)
        both = (present[:, :, None] & present[:, None]).triu(1)  # (B, M, M)
        count = both.sum((1, 2)).clamp(min=1)  # (B,)
        stages = list(zip(lesson.student.features, lesson.teacher.features, strict=True))
        for student_feat, teacher_feat in stages:
            known = known_at(lesson, (student_feat.shape[2], student_feat.shape[3]))
            student = _likeness(wide(student_feat), table(lesson.student, lesson), known)
            teacher = _likeness(wide(teacher_feat.detach()), table(lesson.teacher, lesson), known)
            if self.options.form == "square":
                apart = (student - teacher) ** 2
            else:
                apart = _coins(student, teacher)
            total = total + ((both * apart).sum((1, 2)) / count).sum()
        return total / (len(stages) * lesson.batch)


def _likeness(features: Tensor, rows: Tensor, known: Tensor | None) -> Tensor:
    """(B, M, M) channel means of cosines; meaningless where a modality is absent.

    Args:
        features: (n, C, h, w).
        rows: (B, M), as `table` gives; -1 where absent.
        known: (B, h, w) bool, or None.
    """
    B, M = rows.shape
    C = features.shape[1]
    maps = features[rows.clamp(min=0).flatten()].view(B, M, C, -1)  # absent ones: any row
    if known is not None:
        maps = maps * known.view(B, 1, 1, -1)
    maps = maps.transpose(1, 2).contiguous()  # (B, C, M, P)
    products = maps @ maps.transpose(2, 3)  # (B, C, M, M)
    inverse = products.diagonal(dim1=2, dim2=3).clamp(min=TINY).rsqrt()  # (B, C, M)
    return (products * inverse[..., None] * inverse[..., None, :]).mean(1)


def _coins(student: Tensor, teacher: Tensor) -> Tensor:
    """KL of two coins that show heads with probability (1 + c)/2, the teacher's first."""
    q = ((1 + student) / 2).clamp(EDGE, 1 - EDGE)
    p = ((1 + teacher) / 2).clamp(EDGE, 1 - EDGE)
    return p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()


def _released(lesson: Lesson) -> Tensor:
    here, there = pairs(lesson)
    total = nothing(lesson)
    for student_feat, teacher_feat in zip(
        lesson.student.features, lesson.teacher.features, strict=True
    ):
        student = wide(student_feat[here]).log_softmax(2).flatten(2)  # (n, C, P)
        teacher = wide(teacher_feat.detach()[there]).softmax(2).flatten(2)
        total = total + F.mse_loss(_mixed(student), _mixed(teacher))
    return total / lesson.batch


def _mixed(maps: Tensor) -> Tensor:
    """(n, n) channel means of cosines between all rows of the batch, whoever's they are."""
    unit = F.normalize(maps, dim=2, eps=1e-8).flatten(1)
    return unit @ unit.T / maps.shape[1]
