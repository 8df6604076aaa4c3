"""Kullback-Leibler divergence of two softmaxes, with a gradient of its own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def divergence(student: Tensor, teacher: Tensor, *, axis: int) -> Tensor:
    """KL( softmax(teacher) || softmax(student) ) along `axis`, which is gone from the result.

    Differentiable once, with respect to the student.

    Args:
        student: logits of any shape, float32 or wider.
        teacher: logits of the same shape.
        axis: what the softmax runs over; not negative.
    """
    if student.stride(axis) == 1:  # the encoder's maps lie channels-last: no copy this way
        student, teacher, axis = student.movedim(axis, -1), teacher.movedim(axis, -1), -1
    apart: Tensor = _Divergence.apply(student, teacher, axis)  # type: ignore[no-untyped-call]  # PyTorch
    return apart


class _Divergence(torch.autograd.Function):
    """With p and q the shares of teacher and student, t and s their logits, and lse = log sum exp:

        KL = sum p (t - s) + lse(s) - lse(t),        its gradient q - p

    Exponentials are what costs here, so each share is computed once, and lse is read off the
    greatest of them, which cannot underflow: lse(s) = max s - log max q.
    """

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, axis: int) -> Tensor:
        p, q = teacher.softmax(axis), student.softmax(axis)
        expected = (teacher - student).mul_(p).sum(axis)
        lse_student = student.amax(axis) - q.amax(axis).log()
        lse_teacher = teacher.amax(axis) - p.amax(axis).log()
        ctx.axis = axis
        ctx.save_for_backward(q.sub_(p))
        return expected + (lse_student - lse_teacher)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (q_minus_p,) = ctx.saved_tensors
        return q_minus_p * gradient.unsqueeze(ctx.axis), None, None
