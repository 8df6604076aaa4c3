"""RMMSS' feature selection module."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustseg_core.distill import FeatureSelection
from support.golden_fsm import ARRAYS, FACTS, STAGES, candidates, direction, module, official
from support.parity import Row

TITLE = "Feature selection"
NOTE = """\
RMMSS' module with weights by formula, in float64. Hard as it is in force there (the number is the
share of the teacher, the difference the share of elements that are picked otherwise), soft as it
stands in a comment (the sum of the map, its every fourth channel compared in single precision; of
the gradient the norm, relative)."""


def rows() -> Iterator[Row]:
    """Parameters, then the stages, finest first."""
    hard, soft, pair = module(legacy_argmax=True), module(), candidates()
    ours = sum(p.numel() for p in hard.stages.parameters())
    wanted = FACTS["B0"]["parameters_num_modals_2"]
    yield Row("parameters, B0", wanted, ours, abs(ours - wanted), 0)
    picked, shares = hard(*pair)
    selected, _ = soft(*pair)
    gradients = _gradients(soft, selected.fused)
    for stage in STAGES:
        told = FACTS["stages"][stage]
        first, second = (seen.fused[stage].detach() for seen in pair)
        bits = np.unpackbits(ARRAYS[f"pick_{stage + 1}"])[: first.numel()]
        pick = torch.from_numpy(bits).bool().view(first.shape)
        odd = picked.fused[stage].detach() != torch.where(pick, second, first)
        share = float(shares[stage][0])
        apart = odd.double().mean().item()
        yield Row(f"hard, stage {stage + 1}", told["hard_share"][0], share, apart, 0)
        made = selected.fused[stage].detach()
        apart = np.abs(made[:, ::4].numpy() - ARRAYS[f"soft_output_{stage + 1}"]).max()
        total = made.sum().item()
        yield Row(f"soft, stage {stage + 1}", told["soft_sum"], total, float(apart), 2e-6)
        mine, theirs = gradients[stage]
        apart = float(np.linalg.norm(mine - theirs) / np.linalg.norm(theirs))
        norms = float(np.linalg.norm(theirs)), float(np.linalg.norm(mine))
        yield Row(f"soft, stage {stage + 1}, gradient", *norms, apart, 1e-12)


def _gradients(
    soft: FeatureSelection, fused: Sequence[Tensor]
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Per stage, ours and theirs of all parameters, one after the other."""
    sum((fused[s] * direction(s)).sum() for s in STAGES).backward()
    found = []
    for stage in STAGES:
        mine, theirs = [], []
        for name, parameter in soft.named_parameters():
            if name.startswith(f"stages.{stage}."):
                leaf = official(name).partition(".extra_score_predictor.")[2]
                mine.append(parameter.grad.numpy().ravel())
                theirs.append(ARRAYS[f"soft_grad_{stage + 1}/{leaf}"].ravel())
        found.append((np.concatenate(mine), np.concatenate(theirs)))
    return found
