"""Loss terms, values and gradients, over the recorded lessons."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from support import golden_losses
from support.golden_losses import CASES, Measured
from support.parity import Row

TITLE = "Loss terms"
NOTE = """\
In float64, with the random numbers of the published code in place of ours. The numbers are of the
first recorded lesson, the difference is the greatest over all four lessons (for `hpdm_random` there
is one), relative to the value, or to the norm of the gradient. The last rows are the sums of
recipes in `config/train/` with the words that their comments call released."""
ALLOWED = 1e-12


def rows() -> Iterator[Row]:
    """A value and a gradient for each term, then the sums of the recipes."""
    for name in golden_losses.terms_of("c0"):
        cases = [case for case in CASES if name in golden_losses.terms_of(case)]
        values, gradients = zip(*(golden_losses.measured(c, name) for c in cases), strict=True)
        yield _row(f"`{name}`", values)
        yield _row(f"`{name}`, gradient", gradients)
    for released in golden_losses.RELEASED:
        found = [golden_losses.total(case, released) for case in released.cases]
        yield _row(f"loss of `{released.recipe}`, {released.what}", found)


def _row(what: str, found: Sequence[Measured]) -> Row:
    worst = max(each.difference for each in found)
    return Row(what, found[0].official, found[0].ours, worst, ALLOWED)
