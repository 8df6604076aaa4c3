"""Feature imitation under noise, most where features say least (representation regularization)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from robustseg_core.distill._base import Distiller, Lesson
from robustseg_core.distill._pixels import full_precision, known_at, mean_known, nothing, wide
from robustseg_core.distill._rows import Rows, drawn, pairs

Weights = tuple[float, float, float, float]


class Rrm(Distiller):
    """Representation regularization (RobustSeg v1, arXiv 2505.12861v1).

    The published term minimizes the inverse of the functional Fisher information of a divergence D
    between noisy features, which the released code finds by differentiating twice. It has a closed
    form: with a and b the log-softmax of the noisy features of student and teacher, and p = e^b,

        D   = mean of p (b - a)                   over channels, pixels and copies
        A_a = mean of sum p^2,  A_b = mean of sum (1 + b - a)^2      (sum: softmax axis)
        L   = 1/B sum_b sum_stages w_stage sum_present-modalities D sqrt(A_a^-2 + A_b^-2)

    so in effect a noise-perturbed divergence. Each pixel's noise has the standard deviation of its
    channels, and `copies` of it are compared at once: that many times the memory of the features.
    Teacher and student get the *same* unit noise, so that the term is 0 for equal features and its
    estimate varies less; the released code draws twice (`legacy_noise`). The noise's size is
    a constant for the gradient; in the released code it is the unbiased deviation over the channels
    of all copies, and is differentiated, too (`legacy_spread`): much the same value, and another
    gradient.

    The softmax runs over channels and known pixels count; `legacy_height` runs over the height, as
    released, and counts all pixels. `legacy_scale` multiplies by n^2, n = copies C h w: then four
    weights of 1.2e-14 are the released run, and at 256 pixels with B0 the defaults are the same
    numbers. All four `legacy_*` together are the released term.
    """

    needs_equal_widths: ClassVar[bool] = True

    class Options(Distiller.Options):
        """The factor of each stage is in `stage_weights`."""

        stage_weights: Weights = Field(
            (0.02, 0.005, 0.002, 0.0003), description="w of the four stages, finest first."
        )
        pairing: Literal["same", "legacy_random"] = Field(
            "same",
            description="Rows of the same sensor, or for each of the teacher's one of the "
            "student's by chance, as one of the released scripts has it.",
        )
        copies: int = Field(10, ge=1, le=100, description="Noisy copies of each feature.")
        noise: bool = Field(default=True, description="False: one copy, as it is.")
        legacy_noise: bool = Field(
            default=False, description="Noise of its own for the teacher: not 0 for equal features."
        )
        legacy_spread: bool = Field(
            default=False,
            description="Size of the noise: unbiased over all copies, and differentiated, as "
            "released.",
        )
        legacy_height: bool = Field(
            default=False, description="Softmax over the height, as released."
        )
        legacy_scale: bool = Field(default=False, description="Times n^2: grows with the image.")

    options: Options

    @full_precision
    def forward(self, lesson: Lesson) -> Tensor:
        """The weighted sum over stages and present modalities, per sample; see the class."""
        here, there = pairs(lesson)
        total = nothing(lesson)
        for stage, weight in enumerate(self.options.stage_weights):
            if self.options.pairing == "legacy_random":
                here = drawn(lesson.teacher, lesson.student, lesson, replacement=True)
                there = slice(None)
            student = wide(lesson.student.features[stage][here])  # (n, C, h, w)
            teacher = wide(lesson.teacher.features[stage].detach()[there])
            pixels = None
            if not self.options.legacy_height:
                known = known_at(lesson, (student.shape[2], student.shape[3]))
                pixels = None if known is None else known[lesson.teacher.sample[there]]
            student_feat, teacher_feat = self.noisy(lesson, student, teacher, there)
            each = regularization(
                student_feat, teacher_feat, pixels, axis=3 if self.options.legacy_height else 2
            )  # (n,)
            scale = student_feat[0].numel() ** 2 if self.options.legacy_scale else 1
            total = total + weight * scale * each.sum()
        return total / lesson.batch

    def noisy(
        self, lesson: Lesson, student: Tensor, teacher: Tensor, there: Rows
    ) -> tuple[Tensor, Tensor]:
        """(n, C, h, w) of both to (n, copies, C, h, w) of both.

        The generator chooses a seed; noise is drawn from it on the features' own device, sample by
        sample in a fixed order, whatever the order of the packed rows.
        """
        student, teacher = student[:, None], teacher[:, None]
        if not self.options.noise:
            return student, teacher
        slot = lesson.teacher.sample[there] * lesson.modalities + lesson.teacher.modality[there]
        n, _, C, h, w = student.shape
        noise = self.unit_noise(lesson, slot, (n, self.options.copies, C, h, w), student)
        return (
            student + self.spread(student) * next(noise),
            teacher + self.spread(teacher) * next(noise),
        )

    def unit_noise(
        self, lesson: Lesson, slot: Tensor, shape: tuple[int, ...], like: Tensor
    ) -> Iterator[Tensor]:
        """The student's (n, copies, C, h, w) normal numbers, then the teacher's.

        Args:
            lesson: its generator is drawn from once.
            slot: (n,) numbers that order the rows, whatever their place.
            shape: of the noise.
            like: a tensor of the noise's device and type.
        """
        rank = slot.argsort().argsort()
        seed = int(torch.randint(2**62, (), generator=lesson.generator))
        rng = torch.Generator(like.device).manual_seed(seed)

        def draw() -> Tensor:
            return torch.randn(shape, generator=rng, dtype=like.dtype, device=like.device)[rank]

        first = draw()
        yield first
        yield draw() if self.options.legacy_noise else first

    def spread(self, features: Tensor) -> Tensor:
        """(n, 1, C, h, w) to (n, 1, 1, h, w): standard deviation over the channels of a pixel."""
        if not self.options.legacy_spread:
            return features.detach().std(2, keepdim=True, unbiased=False)
        count = self.options.copies * features.shape[2]
        return features.std(2, keepdim=True, unbiased=False) * math.sqrt(count / (count - 1))


def regularization(
    student: Tensor, teacher: Tensor, known: Tensor | None, *, axis: int = 2
) -> Tensor:
    """D sqrt(A_a^-2 + A_b^-2) of each row, in closed form; see `Rrm`.

    Args:
        student: (n, copies, C, h, w).
        teacher: of the same shape.
        known: (n, h, w) bool, pixels that count; None: all. Only for the channel axis.
        axis: of the softmax: 2 is the channel, 3 the height.

    Returns:
        (n,); 0 where no pixel is known.
    """
    length, copies = student.shape[axis], student.shape[1]
    a, b = student.log_softmax(axis), teacher.log_softmax(axis)
    p, apart = b.exp(), b - a
    places = None if known is None else known[:, None].expand(-1, copies, -1, -1)
    D = mean_known((p * apart).sum(axis), places) / length
    A_a = mean_known((p * p).sum(axis), places).clamp(min=1e-12)  # 0: nothing is known, nor is D
    A_b = mean_known(((1 + apart) ** 2).sum(axis), places).clamp(min=1e-12)
    return D * (A_a**-2 + A_b**-2).sqrt()
