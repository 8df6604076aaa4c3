"""Labels on the grid of a feature map, and means over the pixels that somebody knows."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TypeVar

import torch
from torch import Tensor

from robustseg_core.distill._base import Distiller, Lesson
from robustseg_core.errors import RobustsegError
from robustseg_core.types import IGNORE

D = TypeVar("D", bound=Distiller)

NOWHERE = -1e9
"""A logit that no softmax notices; finite, so that no gradient becomes NaN."""


def full_precision(forward: Callable[[D, Lesson], Tensor]) -> Callable[[D, Lesson], Tensor]:
    """Decorates `Distiller.forward`: inside, autocast makes nothing half again (see `wide`)."""

    @wraps(forward)
    def inner(self: D, lesson: Lesson) -> Tensor:
        with torch.autocast(lesson.student.logits.device.type, enabled=False):
            return forward(self, lesson)

    return inner


def wide(x: Tensor) -> Tensor:
    """Half precision becomes float32; float32 and float64 stay what they are."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def nothing(lesson: Lesson) -> Tensor:
    """0 on the lesson's device: a sum before its first term."""
    return torch.zeros((), device=lesson.student.logits.device)


def labelled(lesson: Lesson, name: str) -> Tensor:
    """The (B, H, W) label.

    Raises:
        RobustsegError: there is none.
    """
    if lesson.label is None:
        raise RobustsegError(
            f"{name} needs labels and this batch has none; label the data (`robustseg label`) or "
            f"take {name} out of the recipe"
        )
    return lesson.label


def label_at(label: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, H, W) to (B, h, w) by nearest neighbour, as PyTorch's `nearest` chooses it."""
    (H, W), (h, w) = label.shape[1:], size
    rows = torch.arange(h, device=label.device) * H // h
    columns = torch.arange(w, device=label.device) * W // w
    return label[:, rows[:, None], columns]


def known_at(lesson: Lesson, size: tuple[int, int]) -> Tensor | None:
    """(B, h, w) bool: which pixels of a stage count; None: nobody labelled anything, so all do."""
    return None if lesson.label is None else label_at(lesson.label, size) != IGNORE


def mean_known(values: Tensor, known: Tensor | None) -> Tensor:
    """(n, ...) values to (n,) means over the positions that are known; 0 where none is.

    Args:
        values: any numbers.
        known: bool, of the shape of `values`; None: all are.
    """
    if known is None:
        return values.flatten(1).mean(1)
    total = torch.where(known, values, 0).flatten(1).sum(1)
    return total / known.flatten(1).sum(1).clamp(min=1)


def one_hot(label: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
    """(B, h, w) to (B, K, h*w) of 0 and 1; a column of zeros where the label is `IGNORE`."""
    ids = torch.arange(classes, device=label.device)
    return (label.flatten(1)[:, None] == ids[:, None]).to(dtype)


def class_means(features: Tensor, hot: Tensor, sample: Tensor) -> Tensor:
    """Prototypes: the mean feature of each class (arXiv 2505.12861).

    Args:
        features: (n, C, h, w).
        hot: (B, K, h*w), as `one_hot` gives.
        sample: (n,) int64.

    Returns:
        (n, K, C); zeros for a class that the sample has not.
    """
    share = hot / hot.sum(2, keepdim=True).clamp(min=1)  # (B, K, P)
    return share[sample] @ features.flatten(2).transpose(1, 2)
