"""What is done to the sensors before a score is taken: the published protocols as data.

A `Trial` says what each sensor shows. Sensors that are missing are either not there (`skip`: the
branch is not run, the fusion averages the rest) or zero after normalization (`zero`: the branch
runs on a constant image). The two give different numbers for the same weights, so each protocol
belongs to one of them, and tables never mix them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from robustseg_core.errors import RobustsegError, did_you_mean
from robustseg_core.evaluation.noise import LEVELS
from robustseg_core.models.subsets import subsets

PROTOCOLS = ("subsets", "emm", "rmm", "nm")
"""All subsets with skip; entire-missing, random-missing and noisy modality (arXiv 2503.18445)."""
MISSING = ("skip", "zero")
"""How a missing sensor is represented."""
RATES = (0.25, 0.5, 0.75)
"""Drop rates of RMM: the share of elements that become zero."""
TITLES = {
    "subsets": "all subsets, missing sensors skipped",
    "emm": "EMM, missing sensors zeroed",
    "rmm": "RMM, elements of missing sensors zeroed at random",
    "nm": "NM, all sensors noisy",
}
_NEEDS = {"subsets": "skip", "emm": "zero", "rmm": "zero"}


@dataclass(frozen=True, slots=True)
class Variant:
    """What one sensor shows: `intact`, `zero`, `dropped` (at a rate) or `noisy` (at a level)."""

    kind: str
    level: float | str = ""

    @property
    def informative(self) -> bool:
        """Whether anything of the scene is left in it."""
        return self.kind != "zero" and not (self.kind == "dropped" and float(self.level) >= 1)


INTACT = Variant("intact")
ZERO = Variant("zero")


@dataclass(frozen=True, slots=True)
class Trial:
    """One pass over the data: one column of a published table."""

    protocol: str
    """`subsets`, `emm`, `rmm 0.25`, ..., `nm low`, ...: the protocol with its setting."""
    subset: tuple[str, ...]
    """The sensors that are not missing, in the order of the modalities."""
    shown: Variant = INTACT
    """What the sensors of the subset show."""
    others: Variant | None = None
    """What all other sensors show; None: they are not there. A sensor of which the recording itself
    has nothing is zero where the others show something, and not there where they are not."""


def plan(
    modalities: Sequence[str],
    *,
    protocols: Sequence[str] = PROTOCOLS,
    missing: Sequence[str] = MISSING,
    rates: Sequence[float] = RATES,
) -> list[Trial]:
    """The trials of the protocols, in the papers' order (docs/specs/network.md).

    Args:
        modalities: M names; subsets are taken of these.
        protocols: of `PROTOCOLS`.
        missing: of `MISSING`; protocols of the other way are left out (nothing is missing in `nm`).
        rates: drop rates of RMM, in [0, 1].

    Raises:
        RobustsegError: an unknown word, a rate outside [0, 1], or nothing left to do.
    """
    _expect_known(protocols, missing, rates)
    wanted = [p for p in PROTOCOLS if p in protocols and (p == "nm" or _NEEDS[p] in missing)]
    every = subsets(modalities)
    trials = [trial for protocol in wanted for trial in _trials(protocol, every, rates)]
    if not trials:
        words = [", ".join(names) or "none" for names in (protocols, missing)]
        raise RobustsegError(
            f"protocols {words[0]} with missing {words[1]}"
            " leave nothing to evaluate; `subsets` needs skip, `emm` and `rmm` need zero"
        )
    return trials


def _expect_known(protocols: Sequence[str], missing: Sequence[str], rates: Sequence[float]) -> None:
    for what, names, known in (("protocol", protocols, PROTOCOLS), ("missing", missing, MISSING)):
        for name in names:
            if name not in known:
                raise RobustsegError(f"{what} {name!r} is unknown; {did_you_mean(name, known)}")
    for rate in rates:
        if not 0 <= rate <= 1:
            raise RobustsegError(f"RMM rate is {rate}; the share of dropped elements is in [0, 1]")


def _trials(protocol: str, every: Sequence[tuple[str, ...]], rates: Sequence[float]) -> list[Trial]:
    """The trials of one protocol; `every` are all subsets, the full one last."""
    if protocol == "subsets":
        return [Trial(protocol, s) for s in every]
    if protocol == "emm":
        return [Trial(protocol, s, others=ZERO) for s in every]
    if protocol == "rmm":
        return [
            Trial(f"rmm {rate:g}", s, others=Variant("dropped", rate))
            for rate in dict.fromkeys(rates)
            for s in every
        ]
    return [Trial(f"nm {k}", every[-1], shown=Variant("noisy", k)) for k in LEVELS]


def rounds(trials: Sequence[Trial]) -> list[list[int]]:
    """Places of the trials that share their damaged images: protocol by protocol, as listed."""
    places = groupby(range(len(trials)), key=lambda place: trials[place].protocol)
    return [list(group) for _, group in places]
