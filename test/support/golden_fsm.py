"""The feature selection module on recorded inputs, with weights by formula."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from robustseg_core.distill import FeatureSelection
from robustseg_core.types import Prediction
from support.golden import bell, fill, golden

FACTS = golden("fsm").facts
ARRAYS = golden("fsm").arrays
WIDTHS = (32, 64, 160, 256)
STAGES = range(len(WIDTHS))
PARTS = {"0": "depthwise", "1": "project"}
"""Official name of a layer of a score net -> ours."""


def official(name: str) -> str:
    """The official name of one of our tensors, of those that were released."""
    _, stage, _, candidate, layer, leaf = name.split(".")
    place = next(number for number, ours in PARTS.items() if ours == layer)
    return (
        f"tokenselect{int(stage) + 1}.extra_score_predictor.score_nets.{candidate}.{place}.{leaf}"
    )


def weights() -> dict[str, NDArray[Any]]:
    """Official name -> tensor."""
    shapes: Mapping[str, Any] = FACTS["tensors"]
    return fill(shapes, 80000)


def module(dtype: torch.dtype = torch.float64, *, legacy_argmax: bool = False) -> FeatureSelection:
    """Ours with those weights; the logits' selector, which was not released, as it is drawn."""
    torch.manual_seed(0)
    made = FeatureSelection(WIDTHS, 25, temperature=0.2, legacy_argmax=legacy_argmax).to(dtype)
    filled = weights()
    with torch.no_grad():
        for name, tensor in made.named_parameters():
            if name.startswith("stages."):
                tensor.copy_(torch.from_numpy(filled[official(name)]))
    return made


def candidates(dtype: torch.dtype = torch.float64) -> tuple[Prediction, Prediction]:
    """Teacher and robust model: maps as recorded, and some logits."""

    def one(which: int) -> Prediction:
        maps = [
            torch.from_numpy(
                bell(81000 + 10 * which + s, (2, width, 64 >> s + 2, 96 >> s + 2))
            ).float()
            for s, width in enumerate(WIDTHS)
        ]
        logits = torch.from_numpy(bell(83000 + which, (2, 25, 16, 24))).to(dtype)
        nobody = torch.zeros(0, dtype=torch.int64)
        fused = [x.to(dtype).requires_grad_() for x in maps]
        return Prediction(logits, [], nobody, nobody, fused)

    return one(0), one(1)


def direction(stage: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """What the recorded gradients are of: the sum of the soft output times this."""
    shape = tuple(FACTS["stages"][stage]["shape"])
    return torch.from_numpy(bell(82000 + stage, shape)).to(dtype)
