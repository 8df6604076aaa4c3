"""Every fault that has severities, at each of them, on each sensor: cases, and what came of them.

The harness is that of the matrix (`perform`). Nothing passes or fails here: it is measured how much
of a fault is found, how soon, and what it costs, by severity. Beside the broken drives stands a
control over the same images, in which nothing is broken: the clean score of every policy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from robustseg_core import faults
from robustseg_core.errors import RobustsegError, did_you_mean
from robustseg_core.faults._base import Creeping, Graded
from robustseg_core.robustness import figures
from robustseg_core.robustness.case import Case, Limit, Span
from robustseg_core.robustness.perform import POLICIES
from robustseg_core.robustness.table import by_policy, miou_of, pooled

SEVERITIES = (1, 2, 3, 4, 5)
BEGINS_S = 4.0
"""A fault begins then: cross-sensor evidence needs some seconds to know what is usual."""
LASTS_S, AFTER_S = 5.0, 2.0
"""How long a fault lasts (what is to be found is to be found within 5 s), and is watched after."""
BASELINES = ("ungated", "all_or_nothing")
"""What mCE and mRRA compare with: `ungated`, who believes everything, stands first."""
CONTROL = Case(0, "all", (), begins_s=BEGINS_S, lasts_s=LASTS_S, after_s=AFTER_S)
COLUMNS = (
    "drive",
    "fault",
    "severity",
    "amount",
    "sensor",
    "exposure",
    "noticed_s",
    "named",
    "delay_s",
    "told_s",
    "recovery_s",
    "right_sensor",
    "said",
    "accused",
    "mask_rate",
    "longest_gap_s",
    *(f"miou_{name}" for name in POLICIES),
)
"""Of the CSV: one line a case (`lines`)."""


@dataclass(frozen=True, slots=True)
class Injection:
    """One severity of one fault, done to one sensor."""

    fault: str
    severity: int
    amount: float
    """What the fault measures."""
    sensor: str
    case: Case


def graded() -> dict[str, type[Graded]]:
    """Name -> fault, of those that have severities."""
    kinds = {name: faults.load(name) for name in faults.available()}
    return {name: kind for name, kind in kinds.items() if issubclass(kind, Graded)}


def injections(
    names: Iterable[str] = (),
    severities: Iterable[int] = SEVERITIES,
    *,
    lasts_s: float = LASTS_S,
    after_s: float = AFTER_S,
) -> list[Injection]:
    """What is to be done: faults, by severities, by sensors.

    Severities of equal amounts (a mirrored picture is mirrored at 3, 4 and 5) are one case. What
    creeps is at its amount after half of the time.

    Args:
        names: of faults; none: all that have severities.
        severities: of 1 to 5.
        lasts_s: how long each lasts.
        after_s: how long the robot is watched afterwards, for its recovery.

    Raises:
        RobustsegError: no such fault, or one without severities; no such severity.
    """
    known, wanted, levels = graded(), list(names), list(severities)
    for name in wanted:
        if name not in known:
            raise RobustsegError(f"no fault {name!r} with severities; {did_you_mean(name, known)}")
    for level in levels:
        if level not in SEVERITIES:
            raise RobustsegError(f"severity is {level}; expected 1 to 5, e.g. --severities 1,3,5")
    return [
        _injection(name, known[name], level, sensor, lasts_s, after_s)
        for name in dict.fromkeys(wanted or known)
        for sensor in faults.reached(name)
        for level in sorted(set(levels))
    ]


def by_case(done: Iterable[Injection]) -> dict[str, list[Injection]]:
    """Id of a case -> the injections that it is: equal severities share one."""
    known: dict[str, list[Injection]] = {}
    for injection in done:
        known.setdefault(injection.case.id, []).append(injection)
    return known


def _injection(
    name: str, kind: type[Graded], severity: int, sensor: str, lasts_s: float, after_s: float
) -> Injection:
    amount = kind.levels[severity - 1]
    words = f"severity={kind.levels.index(amount) + 1}"
    if issubclass(kind, Creeping):
        words += f",minutes={lasts_s / 120:g}"
    case = Case(
        0,
        sensor,
        (Span(f"{sensor}:{name}({words})"),),
        finds=kind.called,
        may=kind.may,
        within=Limit(seconds=lasts_s),
        lasts_s=lasts_s,
        after_s=after_s,
        begins_s=BEGINS_S,
    )
    return Injection(name, severity, amount, sensor, case)


def summarize(
    done: Sequence[Injection],
    results: Sequence[dict[str, Any]],
    clean: Sequence[dict[str, Any]],
    exposure: Mapping[str, Mapping[str, str]],
    **about: Any,
) -> dict[str, Any]:
    """The content of `severities.json`.

    Args:
        done: what was asked for; what does not fit a drive is in no result.
        results: of the cases, the controls among them, over all drives.
        clean: of the drives that were only watched.
        exposure: fault -> sensor -> whether training has seen it, in a word.
        about: whatever else is to be said of the run.
    """
    by_id: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        by_id.setdefault(result["id"], []).append(result)
    controls = [r for r in results if not r["faults"]]
    clean_miou = {name: miou_of(pooled(controls, name)) for name in POLICIES}
    rows = [
        _fault(name, [d for d in done if d.fault == name], by_id, clean_miou, exposure)
        for name in dict.fromkeys(d.fault for d in done)
    ]
    rows = [row for row in rows if row["cases"]]
    return {
        "figures": _means(rows),
        "clean_miou": clean_miou,
        "false_alarms": alarms(clean),
        **about,
        "severities": [_level(s, done, by_id, rows) for s in sorted({d.severity for d in done})],
        "faults": rows,
    }


def alarms(clean: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """False alarms of undisturbed drives: how many in how many sensor hours, and the bound.

    `upper_95`: the rate an hour that is not exceeded with 95 % confidence (Poisson, one-sided).
    """
    hours = sum(c["hours"] * len(c["false_dead"]) for c in clean)
    found: dict[str, Any] = {"sensor_hours": round(hours, 4)}
    counts = {
        "alarms": sum(len(told) for c in clean for told in c["accused"].values()),
        "dead": sum(sum(c["false_dead"].values()) for c in clean),
    }
    for name, count in counts.items():
        upper = figures.poisson_upper(count, hours)
        per_hour = round(count / hours, 3) if hours else None
        found[name] = {"count": count, "per_hour": per_hour, "upper_95": figures.rounded(upper, 3)}
    return found


def cell(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What came of some cases: found, by name, whose fault, how soon, what it costs."""
    noticed = [r["noticed_s"] for r in results if r["noticed_s"] is not None]
    back = [r["recovery_s"] for r in results if r["recovery_s"] is not None]
    blamed = [r for r in results if r["said"]]
    rates = [r["mask_rate"] for r in results]
    return {
        "cases": len(results),
        "detected": len(noticed),
        "named": sum(by_name(r) for r in results),
        "blamed": len(blamed),
        "right_sensor": sum(right_sensor(r) for r in blamed),
        "others_accused": sum(bool(r["accused"]) for r in results),
        **{
            f"delay_p{q}_s": figures.rounded(figures.percentile(noticed, q), 3)
            for q in (50, 95, 99)
        },
        "recovered": len(back),
        "recovery_p50_s": figures.rounded(figures.percentile(back, 50), 3),
        "recovery_p95_s": figures.rounded(figures.percentile(back, 95), 3),
        "mask_rate_mean": figures.rounded(figures.mean(rates), 4),
        "mask_rate_min": min(rates, default=None),
        "longest_gap_s": max((r["longest_gap_s"] for r in results), default=None),
        "coverage": {name: _coverage(results, name) for name in POLICIES},
        "miou": {name: miou_of(pooled(results, name)) for name in POLICIES},
    }


def by_name(result: Mapping[str, Any]) -> bool:
    """Whether a right name was said of the broken sensor while the fault lasted."""
    delay_s = result["delay_s"]
    return delay_s is not None and delay_s <= result["limit_s"]


def right_sensor(result: Mapping[str, Any]) -> bool:
    """Whether the sensor of which something was said first is the broken one."""
    first = {sensor: min(names.values()) for sensor, names in result["said"].items()}
    return result["target"] in first and first[result["target"]] == min(first.values())


def lines(
    done: Sequence[Injection],
    results: Iterable[dict[str, Any]],
    exposure: Mapping[str, Mapping[str, str]],
) -> Iterator[dict[str, Any]]:
    """One line of `severities.csv` a case."""
    known = by_case(done)
    for result in results:
        for i in known.get(result["id"], []):
            yield {
                **result,
                "fault": i.fault,
                "severity": i.severity,
                "amount": i.amount,
                "sensor": i.sensor,
                "exposure": exposure.get(i.fault, {}).get(i.sensor, ""),
                "right_sensor": right_sensor(result) if result["said"] else "",
                "said": " ".join(result["said"].get(i.sensor, {})),
                "accused": " ".join(result["accused"]),
                **by_policy(result),
            }


def _fault(
    name: str,
    own: Sequence[Injection],
    by_id: Mapping[str, list[dict[str, Any]]],
    clean_miou: Mapping[str, float | None],
    exposure: Mapping[str, Mapping[str, str]],
) -> dict[str, Any]:
    """One fault: by severity, by sensor, and its CE, RR (which is RA) and RRA."""
    levels = []
    for severity in sorted({i.severity for i in own}):
        of_level = [i for i in own if i.severity == severity]
        found = cell(list(chain.from_iterable(by_id.get(i.case.id, []) for i in of_level)))
        if found["cases"]:
            levels.append({"severity": severity, "amount": of_level[0].amount, **found})
    words = exposure.get(name, {})
    sensors = {}
    for sensor in dict.fromkeys(i.sensor for i in own):
        tried = {i.severity: by_id.get(i.case.id, []) for i in own if i.sensor == sensor}
        sensors[sensor] = {
            "exposure": words.get(sensor, ""),
            "detected": {
                str(s): [sum(r["noticed_s"] is not None for r in rs), len(rs)]
                for s, rs in tried.items()
                if rs
            },
        }
    return {
        "fault": name,
        "measures": graded()[name].measures,
        "exposure": sorted({words[i.sensor] for i in own if i.sensor in words}),
        "cases": sum(level["cases"] for level in levels),
        **_figures([level["miou"] for level in levels], clean_miou),
        "levels": levels,
        "sensors": sensors,
    }


def _figures(
    mious: Sequence[Mapping[str, float | None]], clean: Mapping[str, float | None]
) -> dict[str, Any]:
    """CE and RRA of each policy against each baseline, and its RR, over the severities done."""
    scores = {n: [known for m in mious if (known := m[n]) is not None] for n in POLICIES}
    if not mious or any(len(values) != len(mious) for values in scores.values()):
        return {"ce": {}, "rra": {}, "rr": {}}
    ce: dict[str, dict[str, float | None]] = {}
    rra: dict[str, dict[str, float | None]] = {}
    for base in BASELINES:
        ce[base] = {
            n: figures.rounded(figures.corruption_error(s, scores[base])) for n, s in scores.items()
        }
        rra[base] = {
            n: figures.rounded(figures.relative_resistance(s, scores[base]))
            for n, s in scores.items()
        }
    rr = {n: figures.rounded(figures.resilience(s, clean[n] or 0.0)) for n, s in scores.items()}
    return {"ce": ce, "rra": rra, "rr": rr}


def _means(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """mCE and mRRA of each policy against each baseline, and its mRR, which is mRA."""

    def over(key: str, base: str) -> dict[str, float | None]:
        return {
            name: figures.rounded(figures.mean(row[key].get(base, {}).get(name) for row in rows))
            for name in POLICIES
        }

    mrr = {n: figures.rounded(figures.mean(row["rr"].get(n) for row in rows)) for n in POLICIES}
    return {
        "mce": {base: over("ce", base) for base in BASELINES},
        "mrra": {base: over("rra", base) for base in BASELINES},
        "mrr": mrr,
        "mra": mrr,
    }


def _level(
    severity: int,
    done: Sequence[Injection],
    by_id: Mapping[str, list[dict[str, Any]]],
    rows: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """One severity over all faults; mIoU and coverage are means of the faults' own."""
    own = [i for i in done if i.severity == severity]
    found = cell(list(chain.from_iterable(by_id.get(i.case.id, []) for i in own)))
    levels = [x for row in rows for x in row["levels"] if x["severity"] == severity]
    for key in ("miou", "coverage"):
        found[key] = {n: figures.rounded(figures.mean(x[key][n] for x in levels)) for n in POLICIES}
    return {"severity": severity, **found}


def _coverage(results: Iterable[dict[str, Any]], policy: str) -> float | None:
    """Share of the labelled pixels for which there was a mask at all."""
    counts = pooled(results, policy)
    if counts is None or not counts.any():
        return None
    return round(1 - float(counts[:, -1].sum() / counts.sum()), 4)
