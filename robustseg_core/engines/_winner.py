"""Logits to class ids and confidence at the network's size, in one pass over a few cached rows.

What `resize_logits` and `winner` say in six passes over (K, H, W): each row of pixels is resized,
its largest logit is found and its softmax is summed while it lies in the processor's cache.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustseg_core.codecs.fields import Compiled
from robustseg_core.engines import Labels
from robustseg_core.models.calibration import winner
from robustseg_core.models.resize import resize_logits

_LEAST = np.float32(-125.0)
"""Powers of 2 below this are taken for it: nothing, beside the winner's 1."""


def labels(logits: Tensor, size: Sequence[int], temperature: float) -> Labels | None:
    """What the winning class of each pixel is, and how sure the network is of it.

    Args:
        logits: (K, h, w) floats.
        size: (H, W).
        temperature: the logits are divided by it before the softmax; no label depends on it.

    Returns:
        None: a logit is not finite, or not after the division.
    """
    extremes = torch.stack(torch.aminmax(logits))  # a NaN anywhere makes both NaN
    if logits.is_cpu and logits.dtype == torch.float32 and _whole(logits.shape[2], size[1]):
        if not torch.isfinite(torch.stack((extremes, extremes / temperature))).all():
            return None
        return _in_one_pass(logits.contiguous().numpy(), size, temperature)
    ids, confidence = winner(resize_logits(logits[None], size)[0], temperature)
    levels = (confidence * 255).round().to(torch.uint8)
    if not (torch.isfinite(extremes).all() & torch.isfinite(confidence.sum())):
        return None
    return ids.to(torch.uint8).cpu().numpy(), levels.cpu().numpy()


def compile_winner() -> None:
    """Compile the loop, so that no first mask is late."""
    labels(torch.zeros(2, 1, 1), (1, 1), 1.0)


def _whole(narrow: int, wide: int) -> bool:
    return wide % narrow == 0


def _in_one_pass(logits: NDArray[np.float32], size: Sequence[int], temperature: float) -> Labels:
    height, width = size
    upper, lower, share = _neighbors(logits.shape[1], height)
    ids = np.empty((height, width), np.uint8)
    confidence = np.empty((height, width), np.uint8)
    scale = np.float32(np.log2(np.e) / temperature)  # e^x is 2^(x log2 e)

    def part(first: int, last: int) -> None:
        _rows(logits, upper, lower, share, scale, first, last, ids, confidence)

    workers = min(torch.get_num_threads(), height)
    cuts = [height * i // workers for i in range(workers + 1)]
    others = [_pool(os.getpid()).submit(part, a, b) for a, b in pairwise(cuts[1:])]
    part(cuts[0], cuts[1])
    for other in others:
        other.result()
    return ids, confidence


@lru_cache(maxsize=1)
def _pool(process: int) -> ThreadPoolExecutor:
    """Threads of this process; one that was forked has none of its parent's."""
    return ThreadPoolExecutor(thread_name_prefix="labels")


def _neighbors(
    rows: int, height: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Of each of `height` rows, the two of `rows` that it lies between, and the lower one's share.

    Bilinear by pixel areas, as `resize`.
    """
    at = np.maximum((np.arange(height) + 0.5) * (rows / height) - 0.5, 0)
    upper = at.astype(np.int64)
    return upper, np.minimum(upper + 1, rows - 1), (at - upper).astype(np.float32)


@Compiled
def _rows(  # noqa: C901 (one nest of loops)
    logits: NDArray[np.float32],
    upper: NDArray[np.int64],
    lower: NDArray[np.int64],
    share: NDArray[np.float32],
    scale: np.float32,
    first: int,
    last: int,
    ids: NDArray[np.uint8],
    confidence: NDArray[np.uint8],
) -> None:
    """Rows `first` to `last` of `ids` and `confidence`, of (K, h, w) logits.

    A pixel column is one of `step` between two columns of logits; those that lie equally between
    theirs are handled together, so that all loops run over neighbors in memory.
    """
    classes, _, width = logits.shape
    step = ids.shape[1] // width
    one = np.float32(1)
    line = np.empty((classes, width + 2), np.float32)  # a column more on either side
    value = np.empty((classes, width), np.float32)
    best = np.empty(width, np.float32)
    which = np.empty(width, np.int32)
    total = np.empty(width, np.float32)
    rest = np.empty(width, np.float32)
    bits = np.empty(width, np.int32)
    power = bits.view(np.float32)
    for row in range(first, last):
        down = share[row]
        up = one - down
        for k in range(classes):
            above, below = logits[k, upper[row]], logits[k, lower[row]]
            for x in range(width):
                line[k, x + 1] = up * above[x] + down * below[x]
            line[k, 0] = line[k, 1]
            line[k, width + 1] = line[k, width]
        for phase in range(step):
            at = (phase + 0.5) / step - 0.5
            start = 0 if at < 0 else 1
            right = np.float32(at + 1 - start)
            left = one - right
            for x in range(width):
                best[x] = left * line[0, x + start] + right * line[0, x + start + 1]
                value[0, x] = best[x]
                which[x] = 0
                total[x] = 0
            for k in range(1, classes):
                for x in range(width):
                    mixed = left * line[k, x + start] + right * line[k, x + start + 1]
                    value[k, x] = mixed
                    more = mixed > best[x]
                    best[x] = mixed if more else best[x]
                    which[x] = k if more else which[x]
            for k in range(classes):
                for x in range(width):
                    exponent = max((value[k, x] - best[x]) * scale, _LEAST)
                    whole = np.int32(exponent) - np.int32(1)  # it is not positive
                    bits[x] = (whole + np.int32(127)) << np.int32(23)  # the float 2^whole
                    rest[x] = exponent - np.float32(whole)  # in (0, 1]
                for x in range(width):
                    r = rest[x]  # 2^r, a polynomial that is right to 2e-7
                    p = np.float32(2.16140797e-4)
                    p = p * r + np.float32(1.24673051e-3)
                    p = p * r + np.float32(9.67553949e-3)
                    p = p * r + np.float32(5.54852172e-2)
                    p = p * r + np.float32(2.40229326e-1)
                    p = p * r + np.float32(6.93147042e-1)
                    total[x] += (p * r + one) * power[x]
            for x in range(width):
                ids[row, x * step + phase] = which[x]
                confidence[row, x * step + phase] = np.uint8(
                    np.float32(255) / total[x] + np.float32(0.5)
                )
