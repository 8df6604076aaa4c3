"""Maps and logits at another size: bilinear, by pixel areas, as all published systems do it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """(B, C, h, w) to (B, C, H, W), bilinear with `align_corners=False`; itself at that size."""
    if x.shape[2:] == tuple(size):
        return x
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=False)


def resize_logits(logits: Tensor, size: Sequence[int]) -> Tensor:
    """(B, K, h, w) logits to (B, K, H, W), as `resize`; half precision becomes float32 before."""
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    return resize(logits, size)
