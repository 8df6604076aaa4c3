"""What the study found, made of the JSON of its rows: tables, pictures, parts of docs/study.md."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from os.path import relpath
from pathlib import Path
from typing import Any

import numpy as np

import study_plan as plans
import study_plots as plots
from robustseg_core import evaluation
from robustseg_core.storage.output_folder import replacing

README, COMPARISONS = "README.md", "comparisons.json"
MADE = "<!-- made by `python training/study.py --report`: what is written here is lost -->"
COLUMNS = {
    "subsets mean": "mean of 15",
    "subsets full": "all sensors",
    "subsets worst": "worst subset",
    "subsets E(.1)": "E(.1)",
    "emm mean": "EMM",
    "rmm mean": "RMM",
    "nm mean": "NM",
}
COMPARED = ("subsets mean", "subsets full", "subsets worst", "subsets E(.1)", "nm mean")
FIRSTS = ("teacher", "dropout")
"""What every method is compared with; and `ours` with every method."""

Account = dict[str, Any]
Found = dict[str, dict[int, Account]]
"""system -> seed -> what is kept of a row."""


def expect_generated(path: Path) -> None:
    """Nothing, if there is no file yet, or one that this made.

    Raises:
        SystemExit: somebody wrote there.
    """
    if path.exists() and not path.read_text().startswith(MADE):
        raise SystemExit(f"{path} was not made by this tool; give another folder as --results")


def load(results: Path) -> Found:
    """Every row that is there, in the order of the tables."""
    found: Found = {}
    for path in results.glob("*_s*.json"):
        system, _, seed = path.stem.rpartition("_s")
        found.setdefault(system, {})[int(seed)] = json.loads(path.read_text())
    return {name: dict(sorted(found[name].items())) for name in sorted(found, key=plans.rank)}


def pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """(first, second) systems whose difference is of interest."""
    methods = [name for name in names if name in plans.SYSTEMS]
    equal = [name for name in methods if not plans.SYSTEMS[name].own_network]
    found = [(FIRSTS[0], name) for name in methods]
    found += [(FIRSTS[1], name) for name in methods if name != FIRSTS[0]]
    found += [(name, "ours") for name in equal if name not in FIRSTS]
    found += [("ours", plans.BASE), ("ours_teacher", plans.BASE)]
    found += [(plans.BASE, name) for name in names if "-" in name]
    return [(a, b) for a, b in found if a != b and a in names and b in names]


def compare_all(runs: Path, results: Path) -> None:
    """Paired intervals of rows of one seed whose evaluations are there; others stay as they are."""
    kept = results / COMPARISONS
    table = json.loads(kept.read_text()) if kept.exists() else {}
    found = load(results)
    for first, second in pairs(list(found)):
        for seed in sorted(found[first].keys() & found[second].keys()):
            names = [f"{system}_s{seed}" for system in (first, second)]
            paths = [runs / name / "eval" / "results.json" for name in names]
            if not all(path.exists() for path in paths):
                continue
            (comparison,) = evaluation.compare(paths)
            table[" ".join(names)] = {
                row.figure: [
                    None if value is None else round(value, 6)
                    for value in (row.second - row.first, row.low, row.high)
                ]
                for row in comparison.rows
            }
    if table:
        with replacing(kept) as path:
            lines = ",\n".join(f" {json.dumps(k)}: {json.dumps(v)}" for k, v in table.items())
            path.write_text(f"{{\n{lines}\n}}\n")


def write(results: Path, document: Path | None) -> None:
    """Pictures and README of the results, and the marked parts of the document."""
    found = load(results)
    if not found:
        print(f"{results} has no rows yet")
        return
    kept = results / COMPARISONS
    compared = json.loads(kept.read_text()) if kept.exists() else {}
    methods = {name: rows for name, rows in found.items() if "-" not in name}
    drawn = plots.draw(methods, results)
    made = parts(found, compared)
    for path in (results / README, document):
        if path is None:
            continue
        own = made | {"pictures": "\n\n".join(_pictures(drawn, path.parent))}
        if path == document:
            text = filled(path.read_text(), own)
        else:
            text = "\n\n".join([MADE, "# The study", *(text for text in own.values() if text)])
        with replacing(path) as whole:
            whole.write_text(text.rstrip() + "\n")
        print(f"wrote {path}")


def _pictures(drawn: Mapping[Path, str], folder: Path) -> Iterator[str]:
    for path, title in drawn.items():
        yield f"### {title}\n\n![{title}]({relpath(path, folder)})"


def filled(text: str, made: Mapping[str, str]) -> str:
    """A document with its marked parts, `<!-- NAME -->` to `<!-- /NAME -->`, made anew."""
    for name, part in made.items():
        marks = re.compile(f"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        inner = f"\n{part}\n\n" if part else "\n"
        text = marks.sub(lambda m, inner=inner: f"{m[1]}{inner}{m[2]}", text)
    return text


def parts(found: Found, compared: Mapping[str, Any]) -> dict[str, str]:
    """name -> Markdown of each part."""
    return {
        "table": "\n".join(_table(found)),
        "seeds": "\n".join(_seeds(found)),
        "differences": "\n".join(_differences(found, compared)),
        "ablation": "\n".join(_ablation(found, compared)),
    }


def _table(found: Found) -> Iterator[str]:
    any_row = next(iter(next(iter(found.values())).values()))
    yield "mIoU in percent; in brackets the 95 % interval over scenes, mean of the seeds' ends."
    yield "Bold: the best of those that share a network. ECE: mean over the subsets, in percent."
    yield "Budget: CPU minutes of one process; steps: what it paid."
    yield ""
    more = "| budget | steps | " if "budget" in any_row else "| "
    yield f"| system | seeds {more}{' | '.join(COLUMNS.values())} | ECE |"
    yield f"|---|---:|{'---:|---:|' if 'budget' in any_row else ''}{'---:|' * (len(COLUMNS) + 1)}"
    best = _best(found)
    for system, rows in found.items():
        accounts = list(rows.values())
        cells = [system, str(len(accounts))]
        if "budget" in any_row:
            cells += budget_cells([account.get("budget", {}) for account in accounts])
        for name in COLUMNS:
            ends = [[account["figures"][name][k] for account in accounts] for k in _ENDS]
            middle = f"**{_mean(ends[0])}**" if best.get(name) == system else _mean(ends[0])
            cells.append(f"{middle} [{_mean(ends[1])}, {_mean(ends[2])}]")
        cells.append(_mean([ece(account) for account in accounts]))
        yield f"| {' | '.join(cells)} |"
    yield ""
    yield from _notes(found)
    yield f"Data: {any_row['caption'].partition('; weights')[0]}."
    if (prior := any_row.get("position_prior")) is not None:
        yield f"A mask that ignores every sensor (position prior): {100 * prior:.1f}."


_ENDS = ("value", "low", "high")


def _best(found: Found) -> dict[str, str]:
    """figure -> the best of the systems that share a network; none, if there is but one."""
    equal = [n for n in found if n in plans.SYSTEMS and not plans.SYSTEMS[n].own_network]
    if len(equal) < 2:
        return {}

    def mean(system: str, figure: str) -> float:
        return float(np.mean([row["figures"][figure]["value"] for row in found[system].values()]))

    return {figure: max(equal, key=lambda n, f=figure: mean(n, f)) for figure in COLUMNS}


def budget_cells(budgets: Sequence[Mapping[str, Any]]) -> list[str]:
    """Minutes and steps of all seeds; several where they differ."""
    minutes = sorted({budget["minutes"] for budget in budgets if budget})
    steps = {"+".join(map(str, budget["steps"].values())) for budget in budgets if budget}
    return [", ".join(f"{value:g}" for value in minutes) or "-", ", ".join(sorted(steps)) or "-"]


def _notes(found: Found) -> Iterator[str]:
    """What is said of systems, and who got more than most."""
    minutes = {
        name: float(account["budget"]["minutes"])
        for name, rows in found.items()
        for account in rows.values()
        if "budget" in account
    }
    usual = float(np.median(list(minutes.values()))) if minutes else 0.0
    longer = [f"{name} ({value:g})" for name, value in minutes.items() if value > usual]
    if longer:
        yield f"**Longer budget than the others' {usual:g} minutes: {', '.join(longer)}.**"
    told = [
        f"{name}: {note}"
        for name in found
        if name in plans.SYSTEMS and (note := plans.SYSTEMS[name].note)
    ]
    notices = {
        f"{name}: {notice}"
        for name, rows in found.items()
        for account in rows.values()
        for notice in account["training"].get("notices", [])
    }
    if told or notices:
        yield f"Notes. {'; '.join([*told, *sorted(notices)])}."


def ece(account: Account) -> float | None:
    """Mean expected calibration error over the subsets; None: it was not evaluated."""
    trials = account.get("confidence", {}).get("trials", [])
    own = [trial["ece"] for trial in trials if trial["protocol"] == "subsets"]
    return float(np.mean(own)) if own else None


def _seeds(found: Found) -> Iterator[str]:
    several = {name: rows for name, rows in found.items() if len(rows) > 1}
    if not several:
        return
    yield "Over seeds: mean, and lowest to highest."
    yield ""
    yield f"| system | seeds | {' | '.join(COLUMNS.values())} |"
    yield f"|---|---:|{'---:|' * len(COLUMNS)}"
    for system, rows in several.items():
        cells = []
        for name in COLUMNS:
            values = 100 * np.array(
                [account["figures"][name]["value"] for account in rows.values()]
            )
            cells.append(f"{values.mean():.2f} ({values.min():.1f} to {values.max():.1f})")
        yield f"| {system} | {len(rows)} | {' | '.join(cells)} |"


def _differences(found: Found, compared: Mapping[str, Any]) -> Iterator[str]:
    rows = list(_compared_rows(found, compared, ablation=False))
    if not rows:
        return
    yield "Differences in percent points, of networks of one seed; in brackets the 95 % interval"
    yield "over scenes (paired bootstrap), bold where it leaves zero out."
    yield ""
    yield f"| | seed | {' | '.join(COLUMNS[name] for name in COMPARED)} |"
    yield f"|---|---:|{'---:|' * len(COMPARED)}"
    yield from rows


def _ablation(found: Found, compared: Mapping[str, Any]) -> Iterator[str]:
    rows = list(_compared_rows(found, compared, ablation=True))
    if not rows:
        return
    yield f"One switch of `{plans.BASE}` at a time: what it *changes*, in percent points, at the"
    yield "same budget. Below zero, what is switched off earns its place; bold where the interval"
    yield "leaves zero out."
    yield ""
    yield f"| switch | seed | {' | '.join(COLUMNS[name] for name in COMPARED)} |"
    yield f"|---|---:|{'---:|' * len(COMPARED)}"
    yield from rows


def _compared_rows(found: Found, compared: Mapping[str, Any], *, ablation: bool) -> Iterator[str]:
    wanted = [pair for pair in pairs(list(found)) if ("-" in pair[1]) == ablation]
    for first, second in wanted:
        for seed in found[second]:
            table = compared.get(f"{first}_s{seed} {second}_s{seed}")
            if table is None:
                continue
            what = f"{second} - {first}"
            if ablation:
                switch = second.partition("-")[2]
                what = f"{switch}: `{' '.join(plans.SWITCHES.get(switch, ()))}`"
            cells = [difference(*table.get(name, (None,) * 3)) for name in COMPARED]
            yield f"| {what} | {seed} | {' | '.join(cells)} |"


def difference(change: float | None, low: float | None, high: float | None) -> str:
    """A cell: percent points and their interval."""
    if change is None:
        return "-"
    if low is None or high is None:
        return f"{100 * change:+.2f}"
    text = f"{100 * change:+.2f} [{100 * low:+.1f}, {100 * high:+.1f}]"
    return f"**{text}**" if low * high > 0 else text


def _mean(values: Sequence[float | None]) -> str:
    """Of fractions, in percent; a dash where one is missing."""
    there = [value for value in values if value is not None]
    return f"{100 * float(np.mean(there)):.1f}" if there and len(there) == len(values) else "-"
