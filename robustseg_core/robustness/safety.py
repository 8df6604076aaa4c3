"""Safety evidence: fault by fault, is it detected in time for a fault-tolerant time interval?

Words are those of ISO 26262-1: the fault-tolerant time interval (FTTI) is the time from a fault to
a hazardous event if nobody acts; detection and reaction together must fit into it. Diagnostic
coverage is the share of the injections for which they do. It is evidence of these injections, not
of a system, and no certificate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustseg_core.errors import RobustsegError
from robustseg_core.robustness.figures import percentile, rounded
from robustseg_core.robustness.files import write_csv, write_json
from robustseg_core.robustness.matrix import MATRIX
from robustseg_core.robustness.severities import Injection, by_case

COLUMNS = (
    "fault",
    "severity",
    "sensor",
    "injections",
    "detected",
    "in_time",
    "diagnostic_coverage",
    "delay_p50_ms",
    "delay_p95_ms",
    "delay_max_ms",
    "reaction_ms",
    "handling_max_ms",
    "ftti_ms",
    "passed",
    "why",
)
WORDS = (
    ("FTTI", "fault-tolerant time interval: from a fault to a hazard if nobody acts (ISO 26262-1)"),
    ("detected", "something was said of the broken sensor while the fault lasted"),
    (
        "delay",
        "from the fault's beginning to the first mask that knows of it; where no mask comes any "
        "more, to its first finding",
    ),
    ("reaction", "what the robot needs from then on, as you gave it"),
    ("handling", "delay and reaction; of the slowest injection"),
    ("diagnostic coverage", "share of the injections whose handling fits into the FTTI"),
)


@dataclass(frozen=True, slots=True)
class Interval:
    """A fault-tolerant time interval, and what of it the robot needs to react.

    Raises:
        RobustsegError: it leaves no time.
    """

    ftti_ms: float
    reaction_ms: float = 0.0
    """From detection to the safe state: the network's time, planner, brake."""

    def __post_init__(self) -> None:
        if not 0 <= self.reaction_ms < self.ftti_ms < math.inf:
            raise RobustsegError(
                f"--ftti is {self.ftti_ms:g} ms and --reaction {self.reaction_ms:g} ms; expected "
                "a reaction that is shorter than the interval, both in milliseconds, e.g. "
                "--ftti 500 --reaction 150"
            )


Label = Callable[[Mapping[str, Any]], Sequence[tuple[str, int | None]]]
"""Of a result: the rows that it belongs to, each a fault and its severity."""


def of_matrix(result: Mapping[str, Any]) -> list[tuple[str, int | None]]:
    """A row of the matrix that promises to name its fault; the others are to be survived."""
    names = {row.number: row.fault for row in MATRIX}
    return [(f"{result['row']} {names[result['row']]}", None)] if result["finds"] else []


def of_severities(done: Iterable[Injection]) -> Label:
    """Faults by severity; equal severities share a case."""
    known = by_case(done)
    return lambda result: [(i.fault, i.severity) for i in known.get(result["id"], [])]


def table(results: Iterable[Mapping[str, Any]], label: Label, interval: Interval) -> dict[str, Any]:
    """The content of `safety.json`: a row for each fault, severity and sensor.

    A row fails if an injection is not detected, or delay and reaction exceed the interval.

    Args:
        results: of the cases.
        label: which rows a result belongs to.
        interval: into which delay and reaction must fit.
    """
    groups: dict[tuple[str, int | None, str], list[Mapping[str, Any]]] = {}
    for result in results:
        for fault, severity in label(result):
            groups.setdefault((fault, severity, result["target"]), []).append(result)
    rows = [_row(*key, group, interval) for key, group in groups.items()]
    injections, in_time = (sum(row[key] for row in rows) for key in ("injections", "in_time"))
    return {
        "ftti_ms": interval.ftti_ms,
        "reaction_ms": interval.reaction_ms,
        "rows_passed": sum(row["passed"] for row in rows),
        "rows_failed": sum(not row["passed"] for row in rows),
        "diagnostic_coverage": round(in_time / injections, 4) if injections else None,
        "rows": rows,
    }


def delay_s(result: Mapping[str, Any]) -> float | None:
    """From a fault to the first mask that knows of it; without masks, to the finding."""
    told_s: float | None = result["told_s"]
    noticed_s: float | None = result["noticed_s"]
    return noticed_s if told_s is None else told_s


def _row(
    fault: str,
    severity: int | None,
    sensor: str,
    results: Sequence[Mapping[str, Any]],
    interval: Interval,
) -> dict[str, Any]:
    ftti_ms, reaction_ms = interval.ftti_ms, interval.reaction_ms
    delays = [1000 * d for result in results if (d := delay_s(result)) is not None]
    in_time = sum(delay + reaction_ms <= ftti_ms for delay in delays)
    slowest = max(delays, default=None)
    missed = len(results) - len(delays)
    why = [f"{missed} of {len(results)} not detected"] if missed else []
    if in_time < len(delays) and slowest is not None:
        why.append(f"{slowest + reaction_ms:.0f} ms, interval {ftti_ms:g} ms")
    return {
        "fault": fault,
        "severity": severity,
        "sensor": sensor,
        "injections": len(results),
        "detected": len(delays),
        "in_time": in_time,
        "diagnostic_coverage": round(in_time / len(results), 4),
        **{f"delay_p{q}_ms": rounded(percentile(delays, q), 1) for q in (50, 95)},
        "delay_max_ms": rounded(slowest, 1),
        "reaction_ms": reaction_ms,
        "handling_max_ms": None if slowest is None else round(slowest + reaction_ms, 1),
        "ftti_ms": ftti_ms,
        "passed": not why,
        "why": "; ".join(why),
    }


def write(folder: Path, found: Mapping[str, Any]) -> None:
    """`safety.json` and `safety.csv`; the report shows the table, too.

    Args:
        folder: is made.
        found: the table.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "safety.json", found)
    write_csv(folder / "safety.csv", COLUMNS, found["rows"])


def passes(found: Mapping[str, Any]) -> str:
    """How many rows pass, in words."""
    return (
        f"{found['rows_passed']} of {len(found['rows'])} rows within {found['ftti_ms']:g} ms, "
        f"{found['reaction_ms']:g} ms of them for the reaction"
    )
