"""Eight recordings by two processes beside one: `python test/bench/bench_many.py [ROUNDS]`.

`robustseg run --jobs 2` over `--jobs 1`, one thread for the network in each process, no film; the
command as a user starts it, start-up included, in turn. On a busy machine two processes are also
given more of it than one, so only the ratio of a quiet one means something; the CPU seconds tell
whether two do the same work.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from robustseg_core.sim.produce import Recipe, simulate

DRIVE = Path("out/bench/drive.mcap")
SECONDS, BAGS, ROUNDS = 4.0, 8, 3
"""Length of the drive, how many bags it is, and how often each variant runs."""


def taken(bags: list[Path], jobs: int, out: Path) -> dict[str, float]:
    """Wall and CPU seconds of one run of all bags."""
    words = ["run", *map(str, bags), "--jobs", str(jobs), "--out", str(out), "--no-video"]
    words += ["--set", "cpu_threads=1", "--set", "device=cpu", "-q"]
    start_s, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "robustseg_core", *words], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert json.loads((out / "runs.json").read_text())["failed"] == 0
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_s": time.perf_counter() - start_s, "cpu_s": cpu_s}


def run(rounds: int = ROUNDS) -> dict[str, float]:
    """All figures."""
    DRIVE.parent.mkdir(parents=True, exist_ok=True)
    simulate(DRIVE, Recipe(7, SECONDS, ("clear",)), lambda t_s: None)
    rows: dict[int, list[dict[str, float]]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bags = [folder / f"drive_{number}.mcap" for number in range(BAGS)]
        for bag in bags:
            shutil.copy(DRIVE, bag)  # a link would have the drive's name
        for number in range(rounds):
            for jobs, found in rows.items():
                found.append(taken(bags, jobs, folder / f"out_{jobs}_{number}"))
    wall, cpu = (
        {jobs: median(row[what] for row in found) for jobs, found in rows.items()}
        for what in ("wall_s", "cpu_s")
    )
    return {
        "8 bags, 1 process over 2, time": wall[1] / wall[2],
        "8 bags, 2 processes over 1, CPU time": cpu[2] / cpu[1],
        "8 bags, 1 process, s": wall[1],
    }


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for key, value in run(*map(int, sys.argv[1:2])).items():
        print(f"{key:40s} {value:10.3g}")
