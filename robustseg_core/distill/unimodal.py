"""Unimodal distillation: each sensor's features as the teacher has them of the same image."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from robustseg_core.distill._base import Distiller, Lesson
from robustseg_core.distill._measures import divergence
from robustseg_core.distill._pixels import (
    NOWHERE,
    full_precision,
    known_at,
    mean_known,
    nothing,
    wide,
)
from robustseg_core.distill._rows import Rows, dominant, pairs

Stage = Annotated[int, Field(ge=1, le=4)]


class UnimodalDistiller(Distiller):
    """Unimodal feature distillation (UMD) of AnySeg (arXiv 2411.17141).

        L = 1/B sum_b sum_stages sum_present-modalities
            mean of KL( softmax(teacher) || softmax(student) )

    over pairs of rows that saw the same image. The axis says what competes in the softmax:

    * `channel`: a distribution over channels at each pixel, averaged over the known pixels;
    * `spatial`: one over the known pixels for each channel, averaged over channels;
    * `height`: one over the known pixels of an image column, averaged over channels and those
      columns that have one. The released code does this, most likely by mistake: its axis 1 of a
      (C, H, W) map is the height. Its `KLDivLoss('mean')` x 5 is `legacy_mean` with weight 5, and
      it also counts pixels that nobody labelled (`legacy_ignored`).

    Without labels all pixels count. The default weight is ours, for the channel axis.
    """

    needs_equal_widths: ClassVar[bool] = True

    class Options(Distiller.Options):
        """`axis=height`, `legacy_mean`, `legacy_ignored` and weight 5 are the released term."""

        weight: float = Field(0.1, ge=0, description="Factor of this term in the loss.")
        axis: Literal["channel", "spatial", "height"] = Field(
            "channel", description="What the softmax runs over; `height` is the released code's."
        )
        stages: tuple[Stage, ...] = Field(
            (1, 2, 3, 4), min_length=1, description="Which of the encoder's stages; 1 is finest."
        )
        dominant_only: bool = Field(
            default=False,
            description="Imitate only the half of the sensors that the teacher's fused feature is "
            "most like (MAGIC), per sample and stage.",
        )
        legacy_mean: bool = Field(
            default=False,
            description="Divide by the length of the softmax, as released (weight 5).",
        )
        legacy_ignored: bool = Field(
            default=False, description="Count ignored pixels too, as released."
        )

    options: Options

    @full_precision
    def forward(self, lesson: Lesson) -> Tensor:
        """The sum of divergences over stages and modalities, per sample; see the class."""
        here, there = pairs(lesson)
        total = nothing(lesson)
        for stage in sorted(set(self.options.stages)):
            total = total + self._stage(lesson, stage - 1, here, there).sum()
        return total / lesson.batch

    def _stage(self, lesson: Lesson, stage: int, here: Rows, there: Rows) -> Tensor:
        """(n,) mean divergence of each pair of rows."""
        student = wide(lesson.student.features[stage][here])  # (n, C, h, w)
        teacher = wide(lesson.teacher.features[stage].detach()[there])
        size = (student.shape[2], student.shape[3])
        known = None if self.options.legacy_ignored else known_at(lesson, size)
        pixels = None if known is None else known[lesson.teacher.sample[there]]  # (n, h, w)
        apart, length = AXES[self.options.axis](student, teacher, pixels)
        if self.options.legacy_mean:
            apart = apart / length
        if self.options.dominant_only:
            apart = torch.where(dominant(lesson.teacher, lesson, stage, known)[there], apart, 0)
        return apart


def over_channels(student: Tensor, teacher: Tensor, known: Tensor | None) -> tuple[Tensor, int]:
    """(n,) mean divergences, and how many compete in each softmax.

    Args:
        student: (n, C, h, w).
        teacher: of the same shape.
        known: (n, h, w) bool, pixels that count; None: all.
    """
    return mean_known(divergence(student, teacher, axis=1), known), student.shape[1]


def over_positions(student: Tensor, teacher: Tensor, known: Tensor | None) -> tuple[Tensor, int]:
    """As `over_channels`, with the softmax over all known pixels of a channel."""
    student, teacher = student.flatten(2), teacher.flatten(2)  # (n, C, P)
    if known is not None:
        here = known.flatten(1)[:, None]
        student, teacher = student.where(here, NOWHERE), teacher.where(here, NOWHERE)
    return divergence(student, teacher, axis=2).mean(1), student.shape[2]


def over_height(student: Tensor, teacher: Tensor, known: Tensor | None) -> tuple[Tensor, int]:
    """As `over_channels`, with the softmax over the known pixels of an image column."""
    columns = None
    if known is not None:
        here = known[:, None]
        student, teacher = student.where(here, NOWHERE), teacher.where(here, NOWHERE)
        columns = here.any(2).expand(-1, student.shape[1], -1)  # (n, C, w)
    return mean_known(divergence(student, teacher, axis=2), columns), student.shape[2]


AXES = {"channel": over_channels, "spatial": over_positions, "height": over_height}
