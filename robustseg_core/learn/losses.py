"""What labels teach: cross-entropy on the pixels that are still hard."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from robustseg_core.errors import RobustsegError
from robustseg_core.learn.recipe import LossRecipe
from robustseg_core.models.resize import resize_logits
from robustseg_core.types import IGNORE


def ohem_cross_entropy(
    logits: Tensor, label: Tensor, *, threshold: float = 0.7, least_share: float = 1 / 16
) -> Tensor:
    """Cross-entropy with online hard example mining (Shrivastava et al., arXiv 1604.03540).

    The mean over the pixels whose loss exceeds `-log threshold`, as all published any-modality
    systems train (docs/specs/network.md). Are these fewer than `least_share` of the labelled
    pixels, that many with the largest loss are taken instead, and at least one.

    Args:
        logits: (B, K, H, W), at the label's size (`resize_logits`).
        label: (B, H, W) int64, `IGNORE` where unknown.
        threshold: pixels whose true class is less probable than this are hard; in (0, 1].
        least_share: of the labelled pixels that count at any rate; in [0, 1].

    Returns:
        A scalar in float32 or wider; 0 with a graph if nothing is labelled.

    Raises:
        RobustsegError: the sizes do not fit, or an option is out of range.
    """
    if not 0 < threshold <= 1:
        raise RobustsegError(f"threshold is {threshold}; a probability in (0, 1] is expected")
    if not 0 <= least_share <= 1:
        raise RobustsegError(f"least_share is {least_share}; a share in [0, 1] is expected")
    if logits.dim() != 4 or logits.shape[:1] + logits.shape[2:] != label.shape:
        raise RobustsegError(
            f"logits are {tuple(logits.shape)} and the label is {tuple(label.shape)}; "
            "(B, K, H, W) beside (B, H, W) is expected; enlarge the logits with resize_logits"
        )
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    losses = F.cross_entropy(logits, label, ignore_index=IGNORE, reduction="none")[label != IGNORE]
    if not len(losses):
        return logits[:0].sum()
    hard = losses[losses > -math.log(threshold)]
    least = max(1, int(len(losses) * least_share))
    return (hard if len(hard) >= least else losses.topk(least).values).mean()


def label_loss(rule: LossRecipe, logits: Tensor, label: Tensor) -> Tensor:
    """`ohem_cross_entropy` by a recipe's rule, of logits (B, K, h, w) as a head says them."""
    logits = resize_logits(logits, label.shape[1:])
    return ohem_cross_entropy(
        logits, label, threshold=rule.ohem_threshold, least_share=rule.ohem_share
    )
