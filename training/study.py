"""The study: ways of training at equal budgets, judged on streets never seen.

    python training/study.py --plan                      # rows, minutes and order
    python training/study.py --jobs 2                    # everything that is not there yet
    python training/study.py --systems teacher anyseg --seeds 0 --budget 10
    python training/study.py --ablation                  # `ours`, one switch at a time
    python training/study.py --long teacher=80           # the table says so
    python training/study.py --report                    # table and pictures of what is there

A row is what a user would type: `robustseg train`, then `robustseg eval`, in a process of its own.
What is finished is kept, and a killed row goes on where it was. A budget is in CPU minutes of one
process. A clock does not stop a training repeatably, so what a step of each system costs is
measured once (RUNS/costs/SYSTEM.json), and the budget becomes a number of steps that stays with the
row (RUNS/ROW/budget.json). Validation is not counted. To repeat a study exactly, copy its costs.
"""

from __future__ import annotations

import argparse
import glob
import json
import subprocess
import sys
import threading
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

import study_plan as plans
import study_report as reports
from robustseg_core import evaluation
from robustseg_core.evaluation.results import Results
from robustseg_core.storage.output_folder import replacing
from study_plan import Row

DATA = {"street_low": ("shards_low", "street"), "sim": ("shards", "study")}
"""Recipe of the data -> where its shards are, and what their names begin with."""
RESULTS, RUNS = Path("training/results"), Path("runs/study")
"""With a folder for each data."""
DOCUMENT = Path("docs/study.md")
PILOT_FOLDERS = 4
"""Few, so that they are in memory soon, as all are in a long run."""
KEPT = (
    "caption",
    "figures",
    "worst_subset",
    "miou",
    "by_condition",
    "confidence",
    "position_prior",
)
"""Of `results.json` of an evaluation."""
ROBUSTSEG = (sys.executable, "-m", "robustseg_core.cli")
ONE_AT_A_TIME: dict[str, threading.Lock] = defaultdict(threading.Lock)


def main() -> int:
    """Plan, or every row that is not there yet and then the report."""
    args = _arguments()
    switches = list(plans.SWITCHES) if args.ablation == [] else args.ablation or []
    rows = plans.plan(args.systems, args.seeds, args.budget, long=args.long, switches=switches)
    kept = {path.stem for path in args.results.glob("*.json")}
    weights = {path.parts[-3] for path in args.runs.glob("*/train/best.safetensors")}
    left = plans.todo(rows, kept, weights)
    if args.plan:
        print(planned(rows, left, args))
        return 0
    reports.expect_generated(args.results / reports.README)
    failed: dict[str, str] = {}
    if left and not args.report:
        try:
            for split in ("train", "val", "test"):
                _shards(args, split)
        except FileNotFoundError as error:
            print(error, file=sys.stderr)
            return 2
        args.results.mkdir(parents=True, exist_ok=True)
        failed = plans.run_all(left, args.jobs, lambda row: work(row, args))
    reports.compare_all(args.runs, args.results)
    reports.write(args.results, args.document)
    for name, why in failed.items():
        print(f"{name} failed: {why}; its log: {args.runs / name / 'log.txt'}", file=sys.stderr)
    return bool(failed)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = list(plans.SYSTEMS)
    parser.add_argument("--systems", nargs="+", choices=names, default=names)
    parser.add_argument(
        "--seeds",
        nargs="+",
        type=int,
        default=[0, 1, 2],
        help="of the headline rows; all others have the first one",
    )
    parser.add_argument(
        "--ablation",
        nargs="*",
        choices=list(plans.SWITCHES),
        help=f"switches of {plans.BASE}, one at a time; all, if none is named",
    )
    parser.add_argument("--budget", type=float, default=40, metavar="MINUTES", help="of a row")
    parser.add_argument(
        "--long", nargs="+", type=_long, default=[], metavar="SYSTEM=MINUTES", help="another budget"
    )
    parser.add_argument("--jobs", type=int, default=2, help="rows side by side")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--data", choices=list(DATA), default="street_low")
    parser.add_argument("--shards", type=Path, help="default: as the recipe of the data has it")
    parser.add_argument("--clip", type=Path, help="folder of a CLIP checkpoint, for any2seg")
    parser.add_argument("--runs", type=Path, help=f"default: {RUNS}/DATA")
    parser.add_argument("--results", type=Path, help=f"default: {RESULTS}/DATA")
    parser.add_argument(
        "--document", type=Path, help=f"with marked parts; default: {DOCUMENT}, of street_low"
    )
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE for every row")
    parser.add_argument("--plan", action="store_true", help="say what would be done")
    parser.add_argument("--report", action="store_true", help="train nothing")
    args = parser.parse_args()
    if args.budget <= 0 or args.jobs < 1:
        parser.error("--budget and --jobs are above 0")
    args.long = dict(args.long)
    args.seeds = list(dict.fromkeys(args.seeds))
    args.shards = args.shards or Path(DATA[args.data][0])
    if args.document is None and args.results is None and args.data == "street_low":
        args.document = DOCUMENT
    args.runs = args.runs or RUNS / args.data
    args.results = args.results or RESULTS / args.data
    return args


def _long(text: str) -> tuple[str, float]:
    name, _, minutes = text.partition("=")
    try:
        plans.system_of(name)
        value = float(minutes)
    except (KeyError, ValueError):
        value = 0.0
    if value <= 0:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not SYSTEM=MINUTES with one of {', '.join(plans.SYSTEMS)}"
        )
    return name, value


def planned(rows: list[Row], left: list[Row], args: argparse.Namespace) -> str:
    """What would be done, as a table in the order in which it is begun."""
    lines = [f"{'':3} {'row':28} {'minutes':>7} {'steps':>13}  {'state':9} after"]
    minutes = 0.0
    for place, row in enumerate(rows, 1):
        kept = _read(args.results / f"{row.name}.json").get("budget")
        budget = kept or _read(args.runs / row.name / "budget.json") or {"minutes": row.minutes}
        minutes += budget["minutes"] if row in left else 0
        costs = _read(args.runs / "costs" / f"{row.system}.json")
        if costs and "steps" not in budget:
            budget["steps"] = plans.steps_of(row.minutes, costs)
        steps = "+".join(map(str, budget.get("steps", {}).values())) or "measured"
        state = "to do" if row in left else "kept"
        state = "goes on" if row in left and (args.runs / row.name / "train").exists() else state
        lines.append(
            f"{place:3} {row.name:28} {budget['minutes']:7g} {steps:>13}  {state:9} {row.teacher}"
        )
    lines.append(
        f"{len(left)} of {len(rows)} rows to do: {minutes:g} minutes of training, "
        f"{minutes / 60 / args.jobs:.1f} hours at {args.jobs} side by side; validation and "
        "evaluation come on top"
    )
    return "\n".join(lines)


def work(row: Row, args: argparse.Namespace) -> None:
    """Train and evaluate one row."""
    folder = args.runs / row.name
    folder.mkdir(parents=True, exist_ok=True)
    budget = budget_of(row, args)
    train = folder / "train"
    layers = plans.layers(row.system, args.data)
    command = [*ROBUSTSEG, "train", *layers, "--out", str(train), "--device", args.device]
    data = [_pattern(args, "train")], [_pattern(args, "val")]
    told = plans.words(row, budget["steps"], data, args.set)
    _call([*command, *_options(told), *_taught(row, args)], folder)
    results = folder / "eval" / "results.json"
    if not results.exists():
        tests = _shards(args, "test")
        judge = [*ROBUSTSEG, "eval", str(train / "best.safetensors"), *tests]
        _call([*judge, "--device", args.device, "--out", str(results.parent)], folder)
    found = account(results)
    found["training"] = json.loads((train / "result.json").read_text())
    found["budget"] = budget
    with replacing(args.results / f"{row.name}.json") as path:
        path.write_text(json.dumps(found, indent=1) + "\n")
    mean = found["figures"]["subsets mean"]["value"]
    print(f"{row.name}: mean of 15 {100 * mean:.1f}", flush=True)


def budget_of(row: Row, args: argparse.Namespace) -> dict[str, Any]:
    """The row's budget as steps; what it had once, it keeps."""
    path = args.runs / row.name / "budget.json"
    if budget := _read(path):
        return budget
    with ONE_AT_A_TIME[row.system]:
        costs = _read(args.runs / "costs" / f"{row.system}.json") or _measure(row, args)
    steps = plans.steps_of(row.minutes, costs)
    budget = {"minutes": row.minutes, "seconds_a_step": costs, "steps": steps}
    with replacing(path) as whole:
        whole.write_text(json.dumps(budget, indent=1) + "\n")
    return budget


def _measure(row: Row, args: argparse.Namespace) -> dict[str, float]:
    """Seconds a step, kept for other seeds."""
    told = plans.words(row, {}, (_shards(args, "train")[:PILOT_FOLDERS], ()), args.set)
    pilot = [sys.executable, str(Path(__file__).with_name("study_pilot.py"))]
    pilot += [*plans.layers(row.system, args.data), "--device", args.device]
    said = _call([*pilot, *_options([*told, *_named_teacher(row, args)])], args.runs / row.name)
    costs: dict[str, float] = json.loads(said.splitlines()[-1])
    path = args.runs / "costs" / f"{row.system}.json"
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as whole:
        whole.write_text(json.dumps(costs, indent=1) + "\n")
    return costs


def _taught(row: Row, args: argparse.Namespace) -> list[str]:
    """Options of whom the row learns from."""
    options = _options(_named_teacher(row, args))
    if row.system == "any2seg" and args.clip is not None:
        embeddings = args.runs / "embeddings.safetensors"
        with ONE_AT_A_TIME["embeddings"]:
            if not embeddings.exists():
                embed = [*ROBUSTSEG, "embed", *_shards(args, "train"), "--model", str(args.clip)]
                _call([*embed, "--out", str(embeddings)], args.runs / row.name)
        options += ["--embeddings", str(embeddings)]
    return options


def _named_teacher(row: Row, args: argparse.Namespace) -> list[str]:
    if not row.teacher:
        return []
    return [f"teacher={args.runs / row.teacher / 'train' / 'best.safetensors'}"]


def _pattern(args: argparse.Namespace, split: str) -> str:
    return f"{args.shards}/{DATA[args.data][1]}_{split}_*"


def _shards(args: argparse.Namespace, split: str) -> list[str]:
    """Folders of a split.

    Raises:
        FileNotFoundError: there are none.
    """
    pattern = _pattern(args, split)
    if not (found := sorted(glob.glob(pattern))):
        raise FileNotFoundError(f"there is no {pattern}; training/README.md says how it is made")
    return found


def account(path: Path) -> dict[str, Any]:
    """What is kept of an evaluation, from its results.json."""
    whole = json.loads(path.read_text())
    return {key: whole[key] for key in KEPT} | {"reliability": reliability(evaluation.load(path))}


def reliability(results: Results) -> dict[str, list[list[float]]]:
    """Bins of confidence as shares of the pixels: (how many, how many right, mean confidence)."""
    if results.bins is None:
        return {}
    trials, bins = results.trials, results.bins.sum(1)  # (T, BINS, 3)
    whole = results.about.modalities
    wanted = {
        "all sensors": [t.protocol == "subsets" and t.subset == whole for t in trials],
        "all subsets": [t.protocol == "subsets" for t in trials],
        "noise high": [t.protocol == "nm high" for t in trials],
    }
    found = {}
    for name, own in wanted.items():
        table = bins[np.array(own, bool)].sum(0)
        if pixels := table[:, 0].sum():
            found[name] = np.round(table / pixels, 6).tolist()
    return found


def _options(words: list[str]) -> list[str]:
    return [part for word in words for part in ("--set", word)]


def _call(command: list[str], folder: Path) -> str:
    """Run it with its messages in the row's log; what it printed.

    Raises:
        RuntimeError: it failed; says its last line.
    """
    with (folder / "log.txt").open("a+") as log:
        print("$", *command, file=log, flush=True)
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=log, text=True)
        log.write(done.stdout)
        if done.returncode:
            log.flush()
            last = (folder / "log.txt").read_text().rstrip().splitlines()[-1]
            raise RuntimeError(f"{' '.join(command[1:4])} ended with {done.returncode}: {last}")
    return done.stdout


def _read(path: Path) -> dict[str, Any]:
    """A JSON file; empty, if there is none."""
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


if __name__ == "__main__":
    sys.exit(main())
