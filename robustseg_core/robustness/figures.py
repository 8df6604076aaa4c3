"""The figures that robustness is published in, each from scores by severity.

* CE, mCE and RR, mRR: RoboBEV (Xie et al., arXiv 2304.06719): the error under a corruption, over
  that of a baseline; the score under a corruption, over the clean one.
* RA, mRA and RRA, mRRA: MultiCorrupt (Beemelmanns et al., arXiv 2402.11677). RA is RR by another
  name; RRA is the score under a corruption over the baseline's, minus 1.

Scores are mIoU in [0, 1] where the papers have NDS. Each fault weighs the same in a mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from robustseg_core.errors import RobustsegError


def corruption_error(scores: Sequence[float], baseline: Sequence[float]) -> float | None:
    """CE of one fault: sum over severities of 1 - score, over that of the baseline; less is better.

    Args:
        scores: in [0, 1], one for each severity.
        baseline: likewise, of the system that is compared with.

    Returns:
        1 for the baseline itself; None where the baseline makes no error.
    """
    _expect_equal(scores, baseline)
    theirs = sum(1 - score for score in baseline)
    return sum(1 - score for score in scores) / theirs if theirs > 0 else None


def resilience(scores: Sequence[float], clean: float) -> float | None:
    """RR, and RA, of one fault: the mean score over severities, over the clean score.

    Returns:
        1 where the fault costs nothing; None where the clean score is 0.
    """
    _expect_equal(scores, scores)
    return sum(scores) / (len(scores) * clean) if clean > 0 else None


def relative_resistance(scores: Sequence[float], baseline: Sequence[float]) -> float | None:
    """RRA of one fault: the sum of the scores over the baseline's, minus 1; above 0 is better.

    Returns:
        None where the baseline scores nothing.
    """
    _expect_equal(scores, baseline)
    theirs = sum(baseline)
    return sum(scores) / theirs - 1 if theirs > 0 else None


def mean(values: Iterable[float | None]) -> float | None:
    """Of those that are known: mCE of CE, mRR of RR, mRRA of RRA; None of none."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def rounded(value: float | None, places: int = 4) -> float | None:
    """As it is written into files; None of none."""
    return None if value is None else round(value, places)


def percentile(values: Sequence[float], q: float) -> float | None:
    """The q-th percentile, linear between neighbors; None of none."""
    return float(np.percentile(values, q)) if values else None


def poisson_upper(count: int, exposure: float, *, confidence: float = 0.95) -> float | None:
    """The one-sided upper bound of a rate (Garwood, Biometrika 1936): 3 / exposure after no event.

    The rate at which `count` events or fewer have the probability 1 - confidence.

    Args:
        count: events that were seen.
        exposure: how long was looked, in hours, say; the rate is per hour then.
        confidence: in (0, 1).

    Returns:
        None where nobody looked.

    Raises:
        RobustsegError: fewer than no events, or an impossible time or confidence.
    """
    if count < 0 or not 0 <= exposure < math.inf or not 0 < confidence < 1:
        raise RobustsegError(
            f"{count} events in {exposure:g} with confidence {confidence:g}; expected 0 or more, "
            "in a finite time, with a confidence between 0 and 1"
        )
    if exposure == 0:
        return None
    low, high = float(count), 2.0 * count + 10 - math.log(1 - confidence) * 4
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if _at_most(count, middle) > 1 - confidence else (low, middle)
    return high / exposure


def _at_most(count: int, expected: float) -> float:
    """P(N <= count) of a Poisson distribution; its terms are summed from the largest down."""
    if expected == 0:
        return 1.0
    k = np.arange(count + 1)
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, count + 1)))])
    terms = k * math.log(expected) - expected - logs
    top = float(terms.max())
    return math.exp(top) * float(np.exp(terms - top).sum())


def _expect_equal(scores: Sequence[float], baseline: Sequence[float]) -> None:
    if not scores:
        raise ValueError("no severity")
    if len(scores) != len(baseline):
        raise ValueError(f"{len(scores)} severities, and {len(baseline)} of the baseline")
