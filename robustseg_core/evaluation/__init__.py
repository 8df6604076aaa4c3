"""What a network is worth when sensors are missing, damaged or noisy.

`evaluate` counts, `write` explains, `load` reads back, `compare` says whether a difference is real.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from robustseg_core.evaluation.compare import Comparison, compare, compare_results
from robustseg_core.evaluation.protocols import MISSING, PROTOCOLS, RATES
from robustseg_core.evaluation.results import Results, load
from robustseg_core.evaluation.run import evaluate

if TYPE_CHECKING:
    from robustseg_core.evaluation.report import write

__all__ = [
    "MISSING",
    "PROTOCOLS",
    "RATES",
    "Comparison",
    "Results",
    "compare",
    "compare_results",
    "evaluate",
    "load",
    "write",
]


def __getattr__(name: str) -> object:
    if name == "write":  # brings matplotlib along: only where a report is written
        from robustseg_core.evaluation.report import write

        return write
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
