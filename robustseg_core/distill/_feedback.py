"""Feedback to a teacher: features of dominant sensors, whose encoder is frozen, are detached."""

from __future__ import annotations

import torch
from torch import Tensor

from robustseg_core.distill._base import Lesson
from robustseg_core.distill._pixels import known_at
from robustseg_core.distill._rows import dominant
from robustseg_core.types import Prediction


def held(seen: Prediction, lesson: Lesson) -> list[Tensor]:
    """The packed features of `seen`, of which those of dominant sensors pass no gradient on.

    RobustSeg's 2026 form freezes the dominant sensors' encoders. With one encoder for all sensors
    that is RECONSTRUCTED as a detached row, stage by stage: a sensor that dominates in one stage
    and not in the next still learns from the next.

    Args:
        seen: one side of the lesson.
        lesson: for its sizes, and its label: only known pixels tell who dominates.
    """
    features = []
    for stage, x in enumerate(seen.features):
        known = known_at(lesson, (x.shape[2], x.shape[3]))
        best = dominant(seen, lesson, stage, known)  # (N,)
        features.append(torch.where(best[:, None, None, None], x.detach(), x))
    return features
