"""Which sensors are there: every subset for evaluation, and the law of drawing one for training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from itertools import combinations
from operator import add
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustseg_core import modalities
from robustseg_core.errors import RobustsegError

INITIALS = {"aolp": "A", "dolp": "P", "nir": "N"}
"""Letters of the published tables' columns, of sensors without a plug-in; others have their own."""


Score = TypeVar("Score", float, NDArray[np.float64])


def subsets(modalities: Sequence[str]) -> list[tuple[str, ...]]:
    """All 2^M - 1 subsets that have a sensor, in the papers' order: singles, pairs, ..., all.

    For four it is R, D, E, L, RD, RE, RL, DE, DL, EL, RDE, RDL, REL, DEL, RDEL.
    """
    return [c for k in range(1, len(modalities) + 1) for c in combinations(modalities, k)]


def short(subset: Sequence[str]) -> str:
    """A column head: `RDE`; modalities without a letter are spelled out."""
    parts = [_initial(name) for name in subset]
    return ("" if all(len(part) == 1 for part in parts) else "+").join(parts)


def expectation(
    scores: Mapping[tuple[str, ...], Score], modalities: Sequence[str], p: float
) -> Score:
    """E(p): the score to expect when each sensor fails independently with probability p.

    Weight p^k (1-p)^(M-k) for k missing sensors, renormalized because at least one works
    (arXiv 2503.18445).

    Args:
        scores: one per subset, as `subsets` lists them.
        modalities: all M of them.
        p: 0 (nothing ever fails) up to below 1.

    Raises:
        RobustsegError: a subset has no score, or p is not a probability below 1.
    """
    if not 0 <= p < 1:
        raise RobustsegError(f"p is {p}; a failure probability lies in [0, 1)")
    total = len(modalities)
    missing = [short(s) for s in subsets(modalities) if s not in scores]
    if missing:
        raise RobustsegError(f"no score for {', '.join(missing)}; evaluate all subsets first")
    weights = {s: p ** (total - len(s)) * (1 - p) ** len(s) for s in subsets(modalities)}
    weighted = (w * scores[s] for s, w in weights.items())
    return reduce(add, weighted) / sum(weights.values())


def draw(
    law: str,
    present: Tensor,
    generator: torch.Generator,
    *,
    fragile: Sequence[float] | None = None,
) -> Tensor:
    """A random subset for every sample, never empty.

    Args:
        law: `all` (nothing is dropped), `uniform` (k uniform in 1..M, then k of them uniformly:
            AnySeg's Anymodal Dropout, arXiv 2411.17141), or `fragile` (all with probability 1/4,
            else k uniform and sensors kept in proportion to `fragile`, so that often-failing ones
            are also often practised).
        present: (B, M) bool, what each sample has; at least one each.
        generator: on the CPU.
        fragile: (M,) positive weights of being kept; all equal if not given.

    Returns:
        (B, M) bool, within `present`.

    Raises:
        RobustsegError: no such law.
    """
    if law == "all":
        return present.clone()
    if law not in LAWS:
        raise RobustsegError(f"no law of dropout called {law!r}; expected {', '.join(LAWS)}")
    batch, count = present.shape
    have = present.sum(1, keepdim=True)  # (B, 1)
    keep = (torch.rand(batch, 1, generator=generator) * have).long() + 1  # 1..have, uniform
    weights = torch.ones(count) if fragile is None or law == "uniform" else torch.tensor(fragile)
    # Efraimidis and Spirakis 2006: the largest u^(1/w) are a weighted draw without replacement.
    keys = torch.rand(batch, count, generator=generator).log() / weights
    keys = keys.masked_fill(~present, -torch.inf)
    rank = keys.argsort(1, descending=True).argsort(1)  # (B, M): 0 is kept first
    chosen = (rank < keep) & present
    if law == "fragile":
        whole = torch.rand(batch, 1, generator=generator) < 0.25
        chosen = torch.where(whole, present, chosen)
    return chosen


def _initial(name: str) -> str:
    known = name in modalities.available()
    return modalities.load(name).initial if known else INITIALS.get(name, name)


LAWS = ("all", "uniform", "fragile")
