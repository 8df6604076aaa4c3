"""The distillers' formulas, literally: one sample, one sensor, one class, one pixel at a time.

Written from the papers' formulas and with no line of the package: the parity tests compare values
and gradients with them in float64, and the benchmark counts how much longer loops take.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from robustseg_core.distill import Lesson
from robustseg_core.types import IGNORE, Prediction


def row_of(seen: Prediction, sample: int, modality: int) -> int:
    """Packed row of a sensor of a sample."""
    for row, own in enumerate(zip(seen.sample.tolist(), seen.modality.tolist(), strict=True)):
        if own == (sample, modality):
            return row
    raise LookupError((sample, modality))


def sensors(seen: Prediction, sample: int) -> list[int]:
    """Modalities of a sample, ascending."""
    return sorted(seen.modality[seen.sample == sample].tolist())


def small_label(label: Tensor | None, stage_map: Tensor) -> Tensor | None:
    """(B, H, W) sampled at the stage's stride."""
    if label is None:
        return None
    return label[
        :, :: label.shape[1] // stage_map.shape[2], :: label.shape[2] // stage_map.shape[3]
    ]


def couples(lesson: Lesson) -> Iterator[tuple[int, int, Tensor, Tensor, Tensor | None]]:
    """stage, sample, student's map, teacher's map (C, h, w) and the sample's (h, w) label."""
    for stage in range(len(lesson.student.features)):
        mine, its = lesson.student.features[stage], lesson.teacher.features[stage].detach()
        label = small_label(lesson.label, mine)
        for sample in range(lesson.batch):
            for modality in sensors(lesson.student, sample):
                yield (
                    stage,
                    sample,
                    mine[row_of(lesson.student, sample, modality)],
                    its[row_of(lesson.teacher, sample, modality)],
                    None if label is None else label[sample],
                )


def kl(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student) of two vectors of logits."""
    p, q = teacher.softmax(0), student.softmax(0)
    return (p * (p.log() - q.log())).sum()


def pixels(label: Tensor | None, size: Sequence[int]) -> list[tuple[int, int]]:
    """Positions that count."""
    everywhere = [(y, x) for y in range(size[0]) for x in range(size[1])]
    return [at for at in everywhere if label is None or label[at] != IGNORE]


def prediction(lesson: Lesson, T: float = 1.0) -> Tensor:
    """MAD at the label's size."""
    size = lesson.label.shape[1:]
    student, teacher = (
        torch.nn.functional.interpolate(x, size, mode="bilinear", align_corners=False)
        for x in (lesson.student.logits, lesson.teacher.logits.detach())
    )
    each = []
    for sample in range(lesson.batch):
        ys, xs = zip(*pixels(lesson.label[sample], size), strict=True)
        mine, its = (x[sample][:, list(ys), list(xs)].T.unbind() for x in (student, teacher))
        each += [T**2 * kl(s / T, t / T) for s, t in zip(mine, its, strict=True)]
    return sum(each) / len(each)


def unimodal(lesson: Lesson, axis: str = "channel") -> Tensor:
    """UMD, pixel by pixel, channel by channel or column by column."""
    total = lesson.student.logits.new_zeros(())
    for _, _, mine, its, label in couples(lesson):
        at = pixels(label, mine.shape[1:])
        if not at:
            continue
        if axis == "channel":
            parts = [kl(mine[:, y, x], its[:, y, x]) for y, x in at]
        else:
            groups = (
                [at]
                if axis == "spatial"
                else [
                    [(y, x) for y, x in at if x == column] for column in sorted({x for _, x in at})
                ]
            )
            parts = []
            for channel in range(len(mine)):
                for group in groups:
                    ys, xs = (list(side) for side in zip(*group, strict=True))
                    parts.append(kl(mine[channel, ys, xs], its[channel, ys, xs]))
        total = total + sum(parts) / len(parts)
    return total / lesson.batch


def unimodal_by_class(lesson: Lesson) -> Tensor:
    """UMD over channels with a loop over samples, sensors and classes, for the benchmark."""
    total = lesson.student.logits.new_zeros(())
    for _, _, mine, its, label in couples(lesson):
        inner, count = mine.new_zeros(()), 0
        for k in range(lesson.classes):
            own = label == k
            if own.any():
                p, q = its[:, own].softmax(0), mine[:, own].log_softmax(0)
                inner = inner + (p * (p.log() - q)).sum()
                count += int(own.sum())
        total = total + inner / max(count, 1)
    return total / lesson.batch


def unimodal_by_map(lesson: Lesson) -> Tensor:
    """UMD over channels as released code is written: a loop over samples and sensors only."""
    total = lesson.student.logits.new_zeros(())
    for _, _, mine, its, label in couples(lesson):
        p, q = its.softmax(0), mine.log_softmax(0)
        total = total + (p * (p.log() - q)).sum(0)[label != IGNORE].mean()
    return total / lesson.batch


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Of two vectors."""
    return (a * b).sum() / (a.norm() * b.norm())


def crossmodal(lesson: Lesson, form: str = "square") -> Tensor:
    """CMD: pair by pair, channel by channel."""
    total = lesson.student.logits.new_zeros(())
    stages = len(lesson.student.features)
    for stage in range(stages):
        mine, its = lesson.student.features[stage], lesson.teacher.features[stage].detach()
        label = small_label(lesson.label, mine)
        for sample in range(lesson.batch):
            have = sensors(lesson.student, sample)
            pairs = [(a, b) for a in have for b in have if a < b]
            keep = slice(None) if label is None else (label[sample] != IGNORE).flatten()
            for a, b in pairs:
                likeness = []
                for seen, maps in ((lesson.student, mine), (lesson.teacher, its)):
                    one, two = maps[row_of(seen, sample, a)], maps[row_of(seen, sample, b)]
                    each = [
                        cosine(one[c].flatten()[keep], two[c].flatten()[keep])
                        for c in range(len(one))
                    ]
                    likeness.append(sum(each) / len(each))
                if form == "square":
                    apart = (likeness[0] - likeness[1]) ** 2
                else:
                    q, p = ((1 + c) / 2 for c in likeness)
                    apart = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
                total = total + apart / (len(pairs) * stages * lesson.batch)
    return total


def crossmodal_by_map(lesson: Lesson) -> Tensor:
    """CMD with a loop over samples and pairs of maps, all channels at once, for the benchmark."""
    total = lesson.student.logits.new_zeros(())
    stages = len(lesson.student.features)
    for stage in range(stages):
        mine, its = lesson.student.features[stage], lesson.teacher.features[stage].detach()
        label = small_label(lesson.label, mine)
        for sample in range(lesson.batch):
            have = sensors(lesson.student, sample)
            pairs = [(a, b) for a in have for b in have if a < b]
            keep = label[sample] != IGNORE
            for a, b in pairs:
                one, two = (
                    torch.cosine_similarity(
                        maps[row_of(seen, sample, a)][:, keep],
                        maps[row_of(seen, sample, b)][:, keep],
                    ).mean()
                    for seen, maps in ((lesson.student, mine), (lesson.teacher, its))
                )
                total = total + (one - two) ** 2 / (len(pairs) * stages * lesson.batch)
    return total


def hpdm(
    lesson: Lesson, partners: Sequence[tuple], *, double: bool = False, absent: bool = False
) -> Tensor:
    """HPDM; `partners` has the paired rows of student and teacher, per stage."""
    total = lesson.student.logits.new_zeros(())
    for stage, (here, there) in enumerate(partners):
        mine, its = lesson.student.features[stage], lesson.teacher.features[stage].detach()
        label = small_label(lesson.label, mine)
        rows = torch.arange(len(mine))[here].tolist(), torch.arange(len(its))[there].tolist()
        for row, other in zip(*rows, strict=True):
            sample = int(lesson.student.sample[row])
            P, G = [], []
            for k in range(lesson.classes):
                own = label[sample] == k
                count = int(own.sum())
                if not count and not absent:
                    continue
                for maps, prototypes in ((mine[row], P), (its[other], G)):
                    mean = maps[:, own].mean(1) if count else maps.new_zeros(len(maps))
                    prototypes.append(mean / max(count, 1) if double else mean)
            if not P:
                continue
            log_p = torch.stack(P).log_softmax(0)  # (classes, C)
            log_g = torch.stack(G).log_softmax(0)
            total = total + (log_g.exp() * (log_g - log_p)).mean()
    return total / lesson.batch


def best_half(lesson: Lesson, stage: int, sample: int) -> list[int]:
    """Modalities most like the teacher's mean feature."""
    maps = lesson.teacher.features[stage].detach()
    label = small_label(lesson.label, maps)
    have = sensors(lesson.teacher, sample)
    own = {m: maps[row_of(lesson.teacher, sample, m)] for m in have}
    fused = sum(own.values()) / len(own)
    at = pixels(None if label is None else label[sample], fused.shape[1:])
    score = {
        m: sum(cosine(own[m][:, y, x], fused[:, y, x]) for y, x in at) / max(len(at), 1)
        for m in have
    }
    return sorted(have, key=lambda m: -float(score[m]))[: math.ceil(len(have) / 2)]


def ifv(
    lesson: Lesson, *, dominant_only: bool = True, rows: bool = False, fused: bool = False
) -> Tensor:
    """IFV with T = 2 over known positions, or summed over image rows with all positions."""
    total = lesson.student.logits.new_zeros(())
    T = 2.0
    for stage in range(len(lesson.student.features)):
        mine, its = lesson.student.features[stage], lesson.teacher.features[stage].detach()
        label = small_label(lesson.label, mine)
        for sample in range(lesson.batch):
            couples = []
            for m in sensors(lesson.student, sample):
                if fused or (dominant_only and m not in best_half(lesson, stage, sample)):
                    continue
                other = its[row_of(lesson.teacher, sample, m)]
                couples.append((mine[row_of(lesson.student, sample, m)], other))
            if fused:
                couples.append(
                    (
                        mine[lesson.student.sample == sample].mean(0),
                        its[lesson.teacher.sample == sample].mean(0),
                    )
                )
            for couple in couples:
                maps = [_typical(each, label[sample]) for each in couple]
                if rows:
                    each = [kl(s / T, t / T) for s, t in zip(*maps, strict=True)]
                    total = total + T**2 * sum(each)
                else:
                    known = label[sample] != IGNORE
                    total = total + T**2 * kl(maps[0][known] / T, maps[1][known] / T)
    return total / lesson.batch


def _typical(features: Tensor, label: Tensor) -> Tensor:
    h, w = label.shape
    line = []
    for y in range(h):
        for x in range(w):
            if label[y, x] == IGNORE:
                line.append(features.new_ones(()))
            else:
                centre = features[:, label == label[y, x]].mean(1)
                line.append(cosine(features[:, y, x], centre))
    return torch.stack(line).view(h, w)


def fisher(student: Tensor, teacher: Tensor, axis: int) -> Tensor:
    """RRM of one sensor by its definition: gradients of the divergence, differentiated again.

    Args:
        student: (copies, C, h, w) noisy features.
        teacher: likewise.
        axis: 1 for channels, 2 for the height.
    """
    a = student.log_softmax(axis)
    b = teacher.softmax(axis).requires_grad_()
    D = (b * (b.log() - a)).mean()
    to_a, to_b = torch.autograd.grad(D, (a, b), create_graph=True)
    S_a = ((to_a**2).sum(axis) / D).mean()
    S_b = ((to_b**2).sum(axis) / D).mean()
    return ((1 / S_a) ** 2 + (1 / S_b) ** 2).sqrt()
