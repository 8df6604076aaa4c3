"""Results of cases into the rows, and the figures that stand above them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustseg_core import metrics
from robustseg_core.robustness.matrix import MATRIX, ROWS_TOTAL, Row
from robustseg_core.robustness.perform import POLICIES

COLUMNS = (
    "drive",
    "row",
    "target",
    "partner",
    "faults",
    "passed",
    "named",
    "delay_s",
    "limit_s",
    "missed",
    "judged_masks",
    "wrong_masks",
    "mask_rate",
    "longest_gap_s",
    "transitions",
    "jumps",
    "why",
    *(f"miou_{name}" for name in POLICIES),
)
"""Of the CSV: one line a case (`lines`)."""


def summarize(
    results: Sequence[dict[str, Any]],
    clean: Sequence[dict[str, Any]],
    proofs: Mapping[str, str] | None = None,
    **about: Any,
) -> dict[str, Any]:
    """The content of `robustness.json`: the figures first, then the rows.

    Args:
        results: of the cases, over all drives.
        clean: of the undisturbed drives.
        proofs: outcome of each test that was run for the rows that no drive shows (`proofs.prove`).
        about: whatever else is to be said of the run, between figures and rows.
    """
    proofs = proofs or {}
    rows = [_row(row, [r for r in results if r["row"] == row.number], proofs) for row in MATRIX]
    measured = [row for row in rows if row["cases"]]
    ran = {row["row"] for row in measured}
    due = [r for r in results if r["finds"]]
    hours = sum(c["hours"] for c in clean)
    sensors = max((len(c["false_dead"]) for c in clean), default=0)
    deaths = sum(sum(c["false_dead"].values()) for c in clean)
    mious = {name: miou_of(pooled(results, name)) for name in POLICIES}
    return {
        "rows_total": ROWS_TOTAL,
        "rows_passed": sum(row["passed"] for row in rows),
        "detection_within_deadline": _share(
            sum(r["delay_s"] is not None and r["delay_s"] <= r["limit_s"] for r in due), len(due)
        ),
        "false_dead_per_hour": round(deaths / (hours * sensors), 3) if hours and sensors else None,
        "wrong_bit_share": _wrong([*results, *clean]),
        "miou_vs_oracle": _ratio(mious["ours"], mious["oracle"]),
        "rows_failed": [row["row"] for row in rows if failed(row)],
        "rows_measured": len(measured),
        "rows_not_run": [row.number for row in MATRIX if row.cases and row.number not in ran],
        "rows_tested_elsewhere": [r.number for r in MATRIX if not r.cases and r.elsewhere],
        "rows_without_test": [r.number for r in MATRIX if not r.cases and not r.elsewhere],
        "cases": len(results),
        "cases_passed": sum(r["passed"] for r in results),
        "clean_sensor_hours": round(hours * sensors, 4),
        "false_alarms_clean": sum(len(told) for c in clean for told in c["accused"].values()),
        "miou": {**mious, "clean": miou_of(pooled(clean, "clean"))},
        **about,
        "rows": rows,
        "clean": [{k: v for k, v in c.items() if k != "counts"} for c in clean],
    }


def failed(row: Mapping[str, Any]) -> bool:
    """Whether something of a row was tried, and did not hold."""
    return not row["passed"] and (row["cases"] > 0 or "failed" in row["proofs"].values())


def _row(row: Row, results: list[dict[str, Any]], proofs: Mapping[str, str]) -> dict[str, Any]:
    """One line of the matrix; `cases` is 0 where it is tested elsewhere."""
    proven = {test: proofs[test] for test in row.elsewhere if test in proofs}
    passed = all(r["passed"] for r in results) and "failed" not in proven.values()
    shown = results or (proven and set(proven.values()) == {"passed"})
    delays = [r["delay_s"] for r in results if r["delay_s"] is not None]
    mious = {name: miou_of(pooled(results, name)) for name in POLICIES}
    return {
        "row": row.number,
        "fault": row.fault,
        "expected": row.expected,
        "deadline": row.deadline,
        "elsewhere": list(row.elsewhere),
        "proofs": proven,
        "cases": len(results),
        "passed": bool(shown) and passed,
        "cases_passed": sum(r["passed"] for r in results),
        "delay_p50_s": _percentile(delays, 50),
        "delay_p95_s": _percentile(delays, 95),
        "delay_max_s": max(delays, default=None),
        "limit_s": max((r["limit_s"] for r in results), default=None),
        "missed": sum(r["missed"] for r in results),
        "others_accused": sum(len(r["accused"]) for r in results),
        "wrong_bit_share": _wrong(results),
        "mask_rate_min": min((r["mask_rate"] for r in results), default=None),
        "miou": mious,
        "miou_vs_oracle": _ratio(mious["ours"], mious["oracle"]),
        "failed": [f"{r['drive']} {r['id']}: {'; '.join(r['why'])}" for r in results if r["why"]],
    }


def passes(summary: Mapping[str, Any]) -> str:
    """How many rows pass, of those that were tried, in words."""
    tried = sum(bool(row["cases"] or row["proofs"]) for row in summary["rows"])
    measured = summary["rows_measured"]
    return f"{summary['rows_passed']} of {tried} rows pass, {measured} of them measured"


def lines(results: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """One line of `robustness.csv` a case."""
    for result in results:
        flat = {**result, "faults": " ".join(result["faults"]), "why": "; ".join(result["why"])}
        yield flat | by_policy(result)


def by_policy(result: Mapping[str, Any]) -> dict[str, Any]:
    """The cells of a line that are mIoU, by policy."""
    return {f"miou_{name}": score for name, score in result.get("miou", {}).items()}


def pooled(results: Iterable[dict[str, Any]], policy: str) -> NDArray[np.int64] | None:
    """(K, K + 1) pixels of all results that were scored of a policy; None: none was."""
    counts = [r["counts"][policy] for r in results if policy in r.get("counts", {})]
    return np.sum(np.asarray(counts, np.int64), axis=0) if counts else None


def miou_of(counts: NDArray[np.int64] | None) -> float | None:
    """Mean IoU of pooled pixels, to four places; None of none."""
    return None if counts is None or not counts.any() else round(metrics.mean_iou(counts), 4)


def _ratio(part: float | None, whole: float | None) -> float | None:
    return round(part / whole, 4) if part is not None and whole else None


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def _wrong(results: Iterable[dict[str, Any]]) -> float | None:
    judged, wrong = np.sum(
        [(r["judged_masks"], r["wrong_masks"]) for r in chain(results)] or [(0, 0)], axis=0
    )
    return _share(int(wrong), int(judged))


def _percentile(values: Sequence[float], q: float) -> float | None:
    return round(float(np.percentile(values, q)), 3) if values else None
