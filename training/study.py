"""The study: four ways of training, equal budgets, three seeds, judged on streets never seen.

    python training/study.py --shards shards --runs runs --results training/results/sim_tiny

Rows are independent and resumable: what is finished is kept, and the table is made of what is
there. Each row is what a user would type: `robustseg train`, then `robustseg eval`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from robustseg_core import evaluation
from robustseg_core.evaluation.figures import figures

SYSTEMS = ("teacher", "dropout", "anyseg", "robustseg_v1")
SEEDS = (0, 1, 2)
COLUMNS = {
    "subsets mean": "mean of 15",
    "subsets full": "all sensors",
    "subsets worst": "worst subset",
    "subsets E(.1)": "E(.1)",
    "emm mean": "EMM",
    "rmm mean": "RMM",
    "nm mean": "NM",
}


def main() -> None:
    """Every row that is not there yet, then the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", type=Path, default=Path("shards"))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--results", type=Path, default=Path("training/results/sim_tiny"))
    parser.add_argument("--data", default="sim", help="recipe of the data")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--jobs", type=int, default=2, help="rows side by side")
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE for every row")
    args = parser.parse_args()
    for folder in (args.results, args.runs):
        folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(args.jobs) as pool:  # first come, first served: teachers are first
        teachers = {seed: pool.submit(row, "teacher", seed, args) for seed in SEEDS}
        students = [
            pool.submit(row, system, seed, args, teachers[seed])
            for seed in SEEDS
            for system in SYSTEMS[1:]
        ]
        for done in students:
            done.result()
    (args.results / "README.md").write_text(report(args))
    print(report(args))


def row(
    system: str, seed: int, args: argparse.Namespace, teacher: Future[None] | None = None
) -> None:
    """Train and evaluate one row, unless its result is there; a student waits for its teacher."""
    if teacher is not None:
        teacher.result()
    name = f"{system}_s{seed}"
    run, kept = args.runs / name, args.results / f"{name}.json"
    if kept.exists():
        return
    robustseg = [sys.executable, "-m", "robustseg_core.cli"]
    words = [
        f"data.train=[{args.shards}/study_train_*]",
        f"data.val=[{args.shards}/study_val_*]",
        f"seed={seed}",
        *args.set,
    ]
    options = [part for word in words for part in ("--set", word)]
    if system != "teacher":
        options += ["--teacher", str(args.runs / f"teacher_s{seed}" / "best.safetensors")]
    train = [*robustseg, "train", system, args.data, "--out", str(run), "--device", args.device]
    test = sorted(map(str, args.shards.glob("study_test_*")))
    judge = [
        *robustseg,
        "eval",
        str(run / "best.safetensors"),
        *test,
        "--device",
        args.device,
        "--out",
        str(run / "eval"),
    ]
    for command in ([*train, *options], judge):
        with (args.runs / f"{name}.log").open("a") as log:
            subprocess.run(command, check=True, stdout=log, stderr=log)
    results = json.loads((run / "eval" / "results.json").read_text())
    wanted = ("caption", "figures", "worst_subset", "miou", "by_condition")
    account = {key: results[key] for key in wanted}
    account["training"] = json.loads((run / "result.json").read_text())
    kept.write_text(json.dumps(account, indent=1) + "\n")
    print(f"{name}: {account['training']['seconds']:.0f} s of training", flush=True)


def report(args: argparse.Namespace) -> str:
    """Markdown: the table over seeds, and each student against its own teacher and the baseline."""
    return "\n".join([*_table(args), "", *_differences(args)]) + "\n"


def _table(args: argparse.Namespace) -> Iterator[str]:
    yield "mIoU in percent on the test drives: mean over seeds, and their lowest to highest."
    yield ""
    yield f"| system | seeds | {' | '.join(COLUMNS.values())} |"
    yield f"|---|---:|{'---:|' * len(COLUMNS)}"
    for system in SYSTEMS:
        there = [
            figures(evaluation.load(path))
            for seed in SEEDS
            if (path := args.runs / f"{system}_s{seed}" / "eval" / "results.json").exists()
        ]
        if not there:
            continue
        cells = []
        for name in COLUMNS:
            values = 100 * np.array([f[name] for f in there])
            cells.append(f"{values.mean():.2f} ({values.min():.1f} to {values.max():.1f})")
        yield f"| {system} | {len(there)} | {' | '.join(cells)} |"


def _differences(args: argparse.Namespace) -> Iterator[str]:
    """Mean difference over seeds, with the paired bootstrap interval over scenes of each seed."""
    pairs = [("teacher", s) for s in SYSTEMS[1:]] + [("dropout", s) for s in SYSTEMS[2:]]
    yield "Differences in percent points; in brackets the 95 % interval over scenes, seed by seed."
    yield ""
    yield "| | seed | mean of 15 | all sensors | E(.1) |"
    yield "|---|---:|---:|---:|---:|"
    for base, system in pairs:
        for seed in SEEDS:
            paths = [args.runs / f"{s}_s{seed}" / "eval" / "results.json" for s in (base, system)]
            if not all(path.exists() for path in paths):
                continue
            (comparison,) = evaluation.compare(paths)
            rows = {r.figure: r for r in comparison.rows}
            cells = []
            for name in ("subsets mean", "subsets full", "subsets E(.1)"):
                r = rows[name]
                low, high = (100 * (end or 0) for end in (r.low, r.high))
                cells.append(f"{100 * (r.second - r.first):+.2f} [{low:+.1f}, {high:+.1f}]")
            yield f"| {system} - {base} | {seed} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
