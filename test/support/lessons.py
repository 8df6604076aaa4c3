"""Lessons made for tests: a student and a teacher that saw labelled images, as random features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from robustseg_core.distill import Lesson
from robustseg_core.types import IGNORE, Prediction

WIDTHS = (6, 8, 10, 12)
WIDTH = 7
"""Of the embeddings."""
ALL = ((1, 1, 1), (1, 1, 1))
SOME = ((1, 0, 1), (0, 1, 0))


def seen(
    alive: Sequence[Sequence[int]],
    size: tuple[int, int],
    classes: int,
    rng: torch.Generator,
    *,
    widths: Sequence[int] = WIDTHS,
    dtype: torch.dtype = torch.float32,
) -> Prediction:
    """What a network with weights drawn from `rng` might see; rows as `pack` orders them."""
    columns, samples = torch.tensor(alive).bool().T.nonzero(as_tuple=True)
    H, W = size
    features = [
        # channels last in memory, as the encoder makes them
        torch.randn(len(samples), H >> s + 2, W >> s + 2, C, generator=rng, dtype=dtype)
        .permute(0, 3, 1, 2)
        .requires_grad_()
        for s, C in enumerate(widths)
    ]
    logits = torch.randn(len(alive), classes, H // 4, W // 4, generator=rng, dtype=dtype)
    return Prediction(logits.requires_grad_(), features, samples, columns)


def blocks(
    batch: int, size: tuple[int, int], classes: int, rng: torch.Generator, *, ignored: bool = True
) -> Tensor:
    """(B, H, W) labels in blocks of 8x8; the left 64 columns are `IGNORE` if `ignored`."""
    H, W = size
    coarse = torch.randint(classes, (batch, H // 8, W // 8), generator=rng)
    label = coarse.repeat_interleave(8, 1).repeat_interleave(8, 2)
    if ignored:
        label[:, :, :64] = IGNORE
    return label


def lesson(
    student_has: Sequence[Sequence[int]] = SOME,
    teacher_has: Sequence[Sequence[int]] = ALL,
    *,
    size: tuple[int, int] = (64, 128),
    classes: int = 5,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    widths: Sequence[int] = WIDTHS,
    ignored: bool = True,
    labelled: bool = True,
) -> Lesson:
    """One step of a student that has some of the sensors beside a teacher that has them all.

    A vision-language model has seen all that the teacher has, and read captions and class names.
    """
    rng = torch.Generator().manual_seed(seed)
    batch, modalities = len(teacher_has), len(teacher_has[0])
    teacher = seen(teacher_has, size, classes, rng, widths=widths, dtype=dtype)
    student = seen(student_has, size, classes, rng, widths=widths, dtype=dtype)
    label = blocks(batch, size, classes, rng, ignored=ignored) if labelled else None
    words = torch.Generator().manual_seed(seed + 1000)
    return Lesson(
        student,
        teacher,
        batch,
        modalities,
        classes,
        label,
        torch.Generator().manual_seed(seed),
        torch.randn(batch, modalities, WIDTH, generator=words, dtype=dtype),
        torch.randn(batch, WIDTH, generator=words, dtype=dtype),
        torch.randn(classes, WIDTH, generator=words, dtype=dtype),
    )
