"""Language-guided distillation: relations of embeddings hold between features, too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from robustseg_core.distill._base import Distiller, Lesson
from robustseg_core.distill._measures import divergence
from robustseg_core.distill._pixels import (
    NOWHERE,
    class_means,
    full_precision,
    label_at,
    one_hot,
    wide,
)
from robustseg_core.distill._rows import sensors_of, table


class Lscd(Distiller):
    """Language-guided semantic correlation distillation of Any2Seg (Zheng et al., ECCV 2024).

    RECONSTRUCTED throughout: arXiv 2407.11351 has no public code, and its weights, temperature and
    projector are not known. Nobody teaches but a vision-language model, whose embeddings of each
    image (v), of the caption (t) and of the classes' names (T) `robustseg embed` has cached. The
    student's embedding u of a sensor is a linear layer on the mean of its last stage's map; the
    layer is trained beside the student and thrown away. With c a cosine, and softmaxes of c / 0.1,

        L_inter   = mean over samples and their sensors a of KL( c(v_a, .) || c(u_a, .) )
                    over the sample's sensors, and its caption if it has one
        L_intra   = mean over sensors and pairs of samples of ( c(u^i, u^j) - c(v^i, v^j) )^2
        L_classes = mean over samples, sensors and classes k of KL( c(T_k, .) || c(u_k, .) )
                    over the names of all classes
        L         = inter L_inter + intra L_intra + classes L_classes

    where u_k is the linear layer on the mean feature of the pixels of class k: classes whose names
    are alike may look alike. (The paper relates "semantics" within a modality, too; this is ours.)
    Without labels L_classes is 0, and without embeddings L is. Scenes are compared within the batch
    of one process.
    """

    needs_teacher: ClassVar[bool] = False
    needs_embeddings: ClassVar[bool] = True

    class Options(Distiller.Options):
        """The factors are ours: none is published."""

        inter: float = Field(1.0, ge=0, description="Factor of relations between sensors.")
        intra: float = Field(1.0, ge=0, description="Factor of relations between scenes.")
        classes: float = Field(1.0, ge=0, description="Factor of relations to the class names.")
        temperature: float = Field(0.1, gt=0, description="Divides the cosines in each softmax.")
        form: Literal["mse", "kl"] = Field(
            "mse", description="Scenes compared by their cosines, or by a softmax over the scenes."
        )

    options: Options

    def __init__(self, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(options)
        self.project: nn.Linear | None = None

    @property
    def of_sensors(self) -> str:
        """Always: an embedding is one sensor's."""
        return self.name

    def build(self, *, channels: int, width: int) -> None:
        """The linear layer from a sensor's features to an embedding."""
        self.project = nn.Linear(channels, width) if width else None

    @full_precision
    def forward(self, lesson: Lesson) -> Tensor:
        """The weighted sum of the three relations; see the class."""
        last = wide(lesson.student.features[-1])  # (N, C, h, w)
        if lesson.embeddings is None or self.project is None:
            return last[:0].sum()
        rows = table(lesson.student, lesson)  # (B, M)
        u = F.normalize(self.project(last.mean((2, 3))), dim=1)[rows.clamp(min=0)]  # (B, M, D)
        v = F.normalize(lesson.embeddings.to(u.dtype), dim=2)
        there = (rows >= 0) & v.any(2)
        options = self.options
        return (
            options.inter * self.inter(u, v, there, lesson.text)
            + options.intra * self.intra(u, v, there)
            + options.classes * self.to_classes(last, lesson)
        )

    def inter(self, u: Tensor, v: Tensor, there: Tensor, text: Tensor | None) -> Tensor:
        """Relations of a sample's sensors to one another, and to its caption.

        Args:
            u: (B, M, D) the student's, of length 1.
            v: (B, M, D) those to imitate, of length 1.
            there: (B, M) bool.
            text: (B, D), zeros where there is none.
        """
        ours, theirs, known = u, v, there
        if text is not None:
            t = F.normalize(text.to(u.dtype), dim=1)[:, None]  # (B, 1, D)
            ours, theirs = torch.cat([u, t], 1), torch.cat([v, t], 1)
            known = torch.cat([there, t.any(2)], 1)
        return self._rows_apart(u @ ours.mT, v @ theirs.mT, there, known).mean()

    def intra(self, u: Tensor, v: Tensor, there: Tensor) -> Tensor:
        """Relations of the batch's samples to one another, as one sensor has them; as `inter`."""
        u, v, there = u.transpose(0, 1), v.transpose(0, 1), there.T  # (M, B, D), (M, B)
        ours, theirs = u @ u.mT, v @ v.mT  # (M, B, B)
        both = there[:, :, None] & there[:, None]
        others = both & ~torch.eye(both.shape[1], dtype=torch.bool, device=both.device)
        count = others.sum((1, 2))  # (M,)
        if self.options.form == "kl":
            each = self._rows_apart(ours, theirs, there, there)
        else:
            apart = torch.where(others, ours - theirs, 0).square().sum((1, 2))
            each = apart / count.clamp(min=1)
        return each.sum() / (count > 0).sum().clamp(min=1)

    def to_classes(self, features: Tensor, lesson: Lesson) -> Tensor:
        """Relations of each class, as each sensor sees it, to the names of all classes."""
        if lesson.label is None or lesson.class_text is None or self.project is None:
            return features[:0].sum()
        sample = lesson.student.sample
        h, w = features.shape[2:]
        hot = one_hot(label_at(lesson.label, (h, w)), lesson.classes, features.dtype)  # (B, K, P)
        u = F.normalize(self.project(class_means(features, hot, sample)), dim=2)  # (N, K, D)
        names = F.normalize(lesson.class_text.to(u.dtype), dim=1)  # (K, D)
        shown = hot.any(2)[sample]  # (N, K)
        theirs = (names @ names.mT).expand(len(u), -1, -1)  # (N, K, K)
        everyone = torch.ones_like(shown)
        each = self._rows_apart(u @ names.mT, theirs, shown, everyone)  # (N,)
        sensors = sensors_of(sample, lesson.batch)[sample]
        return (each / sensors).sum() / lesson.batch

    def _rows_apart(self, ours: Tensor, theirs: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """(n,) mean over the rows of KL( softmax(theirs / T) || softmax(ours / T) ).

        Args:
            ours: (n, R, S) cosines.
            theirs: (n, R, S).
            rows: (n, R) bool, those that count; 0 where none does.
            columns: (n, S) bool, those that compete.
        """
        absent, T = ~columns[:, None], self.options.temperature
        each = divergence(
            (ours / T).masked_fill(absent, NOWHERE),
            (theirs / T).masked_fill(absent, NOWHERE),
            axis=2,
        )  # (n, R)
        return torch.where(rows, each, 0).sum(1) / rows.sum(1).clamp(min=1)
