"""The folded head on a processor: a few rows of a scene at a time, which never leave its cache."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustseg_core.codecs.fields import Compiled

_AT_ONCE = 1 << 17
"""Numbers of the embedding that are handled at once."""
_BLOCK = 128
"""Channels of them that are resized at once."""


def logits_by_rows(
    features: Sequence[Tensor],
    projects: Sequence[Tensor],
    bias: Tensor,
    classifier: Tensor,
    constant: Tensor,
) -> Tensor:
    """What `FoldedHead.forward` gives, without gradients; float32 on a processor.

    Args:
        features: S maps (B, C_s, h_s, w_s), finest first.
        projects: S matrices (width, C_s).
        bias: (width,).
        classifier: (K, width).
        constant: (K,).

    Returns:
        (B, K, h_0, w_0).
    """
    finest, *coarser = [x.permute(0, 2, 3, 1).contiguous() for x in features]  # (B, h, w, C)
    batch, height, across, _ = finest.shape
    width, classes = classifier.shape[1], len(classifier)
    heights, widths = (np.array([x.shape[i] for x in coarser], np.int64) for i in (1, 2))
    starts = np.concatenate(([0], np.cumsum(heights * widths)))
    embedded = torch.empty(int(starts[-1]), width)  # all coarser maps, one after the other
    step = max(1, min(height, _AT_ONCE // (across * width)))
    total = torch.empty(step * across, width)
    logits = torch.empty(batch, classes, height * across)
    first = projects[0].t().contiguous()
    for sample in range(batch):
        for place, (x, project) in enumerate(zip(coarser, projects[1:], strict=True)):
            part = embedded[int(starts[place]) : int(starts[place + 1])]
            torch.mm(x[sample].flatten(0, 1), project.t(), out=part)
        pixels = finest[sample].flatten(0, 1)
        for row in range(0, height, step):
            own = slice(row * across, min(row + step, height) * across)
            hidden = total[: own.stop - own.start]
            torch.addmm(bias, pixels[own], first, out=hidden)
            if coarser:
                _add_resized(
                    hidden.numpy(), embedded.numpy(), starts, heights, widths, row, height, across
                )
            else:
                hidden.relu_()
            logits[sample, :, own] = torch.addmm(constant[:, None], classifier, hidden.t())
    return logits.view(batch, classes, height, across)


@Compiled
def _add_resized(
    total: NDArray[np.float32],
    maps: NDArray[np.float32],
    starts: NDArray[np.int64],
    heights: NDArray[np.int64],
    widths: NDArray[np.int64],
    row: int,
    height: int,
    across: int,
) -> None:
    """Add coarser maps to some rows of the finest, resized as `resize` does, and apply the ReLU.

    `total` is (rows * across, C), from `row` on; `maps` hold a map in rows `starts[s]` and on.
    """
    zero, one, lowest = np.float32(0), np.float32(1), np.float32(-np.inf)
    line = np.empty((widths.sum(), _BLOCK), np.float32)
    for r in range(len(total) // across):
        for start in range(0, total.shape[1], _BLOCK):
            stop = min(start + _BLOCK, total.shape[1])
            place = 0
            for s in range(len(heights)):  # between two rows of each map
                at = max((row + r + 0.5) * heights[s] / height - 0.5, 0.0)
                upper = int(at)
                lower = min(upper + 1, heights[s] - 1)
                down = np.float32(at - upper)
                up = one - down
                for x in range(widths[s]):
                    above = maps[starts[s] + upper * widths[s] + x, start:stop]
                    below = maps[starts[s] + lower * widths[s] + x, start:stop]
                    mixed = line[place + x]
                    for c in range(stop - start):
                        mixed[c] = up * above[c] + down * below[c]
                place += widths[s]
            for x in range(across):
                pixel = total[r * across + x, start:stop]
                place = 0
                for s in range(len(heights)):  # between two columns of that
                    at = max((x + 0.5) * widths[s] / across - 0.5, 0.0)
                    left = int(at)
                    right = min(left + 1, widths[s] - 1)
                    far = np.float32(at - left)
                    near = one - far
                    before, after = line[place + left], line[place + right]
                    least = zero if s == len(heights) - 1 else lowest
                    for c in range(stop - start):
                        value = pixel[c] + (near * before[c] + far * after[c])
                        pixel[c] = least if value < least else value  # keeps what is not finite
                    place += widths[s]
