"""What labels teach: cross-entropy on the pixels that are still hard, and the IoU of classes."""

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
    # The host waits for the device twice here: to pick the known pixels, and the hard ones. Sums of
    # masked losses would spare one wait, and round otherwise. Without any, the largest losses would
    # have to be sorted out in every step, though the hard pixels are nearly always enough.
    losses = F.cross_entropy(logits, label, ignore_index=IGNORE, reduction="none")[label != IGNORE]
    if not len(losses):
        return logits[:0].sum()
    hard = losses[losses > -math.log(threshold)]
    least = max(1, int(len(losses) * least_share))
    return (hard if len(hard) >= least else losses.topk(least).values).mean()


def lovasz_softmax(logits: Tensor, label: Tensor, *, most: int = 65_536) -> Tensor:
    """Lovasz-softmax loss (Berman et al., CVPR 2018, arXiv 1705.08790, equations 8 to 11).

    The mean over the classes that the labels show of a convex surrogate of 1 - IoU: with the errors
    m of a class (1 - p where it is, p where it is not), sorted from the largest, the sum of m times
    what each adds to the Jaccard loss of the pixels so far.

    Args:
        logits: (B, K, H, W).
        label: (B, H, W) int64, `IGNORE` where unknown.
        most: of more known pixels, so many at least-even distances are looked at.

    Returns:
        A scalar in float32 or wider; 0 with a graph if nothing is labelled.
    """
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    # The host waits for the device twice: for the number of known pixels, and for the classes that
    # they show. Without that, errors of all pixels and classes would be sorted: that takes longer.
    known = (label != IGNORE).flatten().nonzero().flatten()
    known = known[:: -(-len(known) // most) or 1]
    if not len(known):
        return logits[:0].sum()
    truth = label.flatten()[known]  # (P,)
    flat = logits.permute(0, 2, 3, 1).flatten(0, 2)[known]  # (P, K)
    shown = torch.unique(truth)
    own = truth[:, None] == shown  # (P, C)
    chance = flat.softmax(1)[:, shown]
    error = torch.where(own, 1 - chance, chance)
    error, order = error.sort(0, descending=True)
    with torch.no_grad():
        own = own.gather(0, order).to(error.dtype)
        total = own.sum(0)
        jaccard = 1 - (total - own.cumsum(0)) / (total + (1 - own).cumsum(0))
        step = torch.diff(jaccard, dim=0, prepend=jaccard.new_zeros(1, len(shown)))
    return (error * step).sum(0).mean()


def thinned(label: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, H, W) to (B, h, w): a pixel of each block, by turns another one, so that nothing shifts.

    In rows and in columns, block i of s pixels gives its pixel i mod s.
    """
    picks = []
    for side, count in zip(label.shape[1:], size, strict=True):
        block = torch.arange(count, device=label.device)
        stride = max(1, side // count)
        picks.append(block * side // count + block % stride)
    return label[:, picks[0][:, None], picks[1]]


def label_loss(rule: LossRecipe, logits: Tensor, label: Tensor) -> Tensor:
    """What a recipe says of logits (B, K, h, w), as a head says them, beside a label (B, H, W)."""
    if rule.at == "head":
        label = thinned(label, (logits.shape[2], logits.shape[3]))
    logits = resize_logits(logits, label.shape[1:])
    loss = ohem_cross_entropy(
        logits, label, threshold=rule.ohem_threshold, least_share=rule.ohem_share
    )
    if rule.lovasz:
        loss = loss + rule.lovasz * lovasz_softmax(logits, label, most=rule.lovasz_pixels)
    return loss
