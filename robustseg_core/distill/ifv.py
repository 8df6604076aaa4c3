"""Intra-class variation: how typical each pixel is of its class, as the teacher has it."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
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
from robustseg_core.distill._rows import dominant, fused_mean, pairs
from robustseg_core.types import IGNORE

TEMPERATURE = 2.0
"""T of the released code."""


class Ifv(Distiller):
    """Intra-class feature variation of the dominant modalities (RobustSeg, CVPR 2026).

    The centre map holds at each pixel the prototype of the pixel's class; the map of typicality is
    the cosine along channels between the feature and it. With a softmax over positions,

        L = 1/B sum_b sum_stages sum_maps
            T^2 KL( softmax(map of the teacher / T) || softmax(map of the student / T) )

    Only known pixels compete. One distribution holds them all, so that the term does not grow with
    the image. The released code takes one distribution for each image row and *sums* their
    divergences (`KLDivLoss('batchmean')` of one sample); pixels without a label keep their own
    feature there, so that their cosine is 1, and count (`legacy_width_axis`). The published weight
    12 belongs to that sum. A sum over the H_s rows of a map is about H_s times what one
    distribution gives, so the same 12 pulls H_s times less here (256 to 32 times from the finest
    stage to the coarsest at 1024 pixels): a weight of ours, to be tuned. `per_position` divides by
    the number of positions, as `KLDivLoss('mean')` would; then the weight must grow with the image.

    Which `maps` are compared: those of each `dominant` sensor, the half of a sample's sensors most
    like the teacher's fused feature (`_rows`); where the student has none of them, nothing is
    learned, as dense imitation of weak sensors (`all`) hurts. `others` are those that are not
    dominant to the one who *learns*: for feedback, where the full network learns from the student.
    The code that was released compares one `fused` map of a sample instead, the mean over the
    student's sensors beside that over all of the teacher's; its loop over single sensors is
    unpublished.
    """

    needs_label: ClassVar[bool] = True

    class Options(Distiller.Options):
        """Weight 12 was published with `legacy_width_axis`, and released with `maps=fused`, too."""

        weight: float = Field(12.0, ge=0, description="Factor of this term in the loss.")
        maps: Literal["dominant", "others", "all", "fused"] = Field(
            "dominant",
            description="Of which sensors, per sample and stage: the better half, the others, all "
            "one by one, or (as released) the mean over all.",
        )
        legacy_width_axis: bool = Field(
            default=False,
            description="The sum over one distribution per image row, ignored pixels too, as "
            "released: grows with the image.",
        )
        per_position: bool = Field(
            default=False, description="Divide by the number of positions that compete."
        )

    options: Options

    @property
    def of_sensors(self) -> str:
        """Where it is about the others: one row dominates itself."""
        return f"{self.name}.maps=others" if self.options.maps == "others" else ""

    @full_precision
    def forward(self, lesson: Lesson) -> Tensor:
        """The sum of divergences over stages and maps, per sample; see the class."""
        label = labelled(lesson, self.name)
        here, there = pairs(lesson)
        total = nothing(lesson)
        for stage, student_feat in enumerate(lesson.student.features):
            small = label_at(label, (student_feat.shape[2], student_feat.shape[3]))
            if self.options.maps == "fused":
                sample = torch.arange(lesson.batch, device=small.device)
                student = fused_mean(lesson.student, lesson.batch, stage)
                teacher = fused_mean(lesson.teacher, lesson.batch, stage)
            else:
                sample = lesson.teacher.sample[there]
                student = wide(student_feat[here])
                teacher = wide(lesson.teacher.features[stage][there])
            known = small != IGNORE
            each = self._apart(
                typicality(student, small, sample, lesson.classes),
                typicality(teacher.detach(), small, sample, lesson.classes),
                known[sample],
            )  # (n,)
            if self.options.maps == "dominant":
                each = torch.where(dominant(lesson.teacher, lesson, stage, known)[there], each, 0)
            elif self.options.maps == "others":
                each = torch.where(dominant(lesson.student, lesson, stage, known)[here], 0, each)
            total = total + each.sum()
        return total / lesson.batch

    def _apart(self, student: Tensor, teacher: Tensor, known: Tensor) -> Tensor:
        """(n, h, w) maps to (n,) divergences."""
        positions: Tensor | int = known.flatten(1).sum(1).clamp(min=1)
        if self.options.legacy_width_axis:
            positions = student[0].numel()
        else:
            student = student.where(known, NOWHERE).flatten(1)[:, None]  # (n, 1, P)
            teacher = teacher.where(known, NOWHERE).flatten(1)[:, None]
        T = TEMPERATURE
        each = T**2 * divergence(student / T, teacher / T, axis=2).sum(1)
        return each / positions if self.options.per_position else each


def typicality(features: Tensor, label: Tensor, sample: Tensor, classes: int) -> Tensor:
    """(n, h, w) cosine between each pixel's feature and its class's mean; 1 without a label.

    Args:
        features: (n, C, h, w).
        label: (B, h, w).
        sample: (n,).
        classes: K.
    """
    hot = one_hot(label, classes, features.dtype)  # (B, K, P)
    centre = class_means(features, hot, sample).transpose(1, 2) @ hot[sample]  # (n, C, P)
    owned = hot.sum(1)[sample][:, None] > 0  # (n, 1, P)
    flat = features.flatten(2)
    cosine = F.cosine_similarity(flat, torch.where(owned, centre, flat), dim=1)
    return cosine.view(len(features), *features.shape[2:])
