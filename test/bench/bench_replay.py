"""`robustseg run` with all outputs beside the network alone: `python test/bench/bench_replay.py`.

Both have one thread for the network (`cpu_threads=1`), and are processes of their own, in turn. The
share is of rates: masks a second of a replay, from opening the recording to the written report,
over masks a second of the engine, which is given the same bundles. On a busy machine only the CPU
milliseconds a mask mean something: where those of all else are fewer than the engine's, a second
free core hides them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch

from robustseg_core.bag import Bag
from robustseg_core.engines.weights import engine_of
from robustseg_core.models import checkpoint
from robustseg_core.recording.pipeline import Deferred
from robustseg_core.recording.replay import replay
from robustseg_core.recording.robot import robot_for
from robustseg_core.recording.run import run_bags
from robustseg_core.segmenter import Segmenter
from robustseg_core.sim.produce import Recipe, simulate

DRIVE = Path("out/bench/drive.mcap")
SECONDS, ROUNDS, PASSES = 4.0, 3, 3
"""Length of the drive, how often each variant runs, and how often a replay plays the drive."""
PRODUCT = {"architecture": "swift", "size": (320, 512)}


def child(what: str, drive: Path, weights: str) -> dict[str, float]:
    """One variant: masks, wall and CPU seconds."""
    words = ["device=cpu", "cpu_threads=1", *([f"weights={weights}"] if weights else [])]
    if what != "engine":
        with tempfile.TemporaryDirectory() as folder:
            start_s, cpu_s = time.perf_counter(), time.process_time()
            video = what == "run"
            paths = [drive] * PASSES
            result = run_bags(paths, out=Path(folder) / "run", overrides=words, video=video)
            made = len(result["masks"])
            return _taken(made, start_s, cpu_s)
    with Bag([drive]) as bag:
        robot = robot_for(bag, None, words)
        spec, engine = engine_of(robot)
        segmenter = Segmenter(robot, spec, Deferred(spec))
        bundles = [label_map.bundle for label_map in replay(bag, segmenter)]
    engine(bundles[-1])
    start_s, cpu_s = time.perf_counter(), time.process_time()
    for bundle in bundles:
        engine(bundle)
    return _taken(len(bundles), start_s, cpu_s)


def _taken(masks: int, start_s: float, cpu_s: float) -> dict[str, float]:
    return {
        "masks": masks,
        "wall_s": time.perf_counter() - start_s,
        "cpu_s": time.process_time() - cpu_s,
    }


def compare(name: str, drive: Path, weights: str) -> dict[str, float]:
    """Medians of rounds in turn."""
    taken: dict[str, list[dict[str, float]]] = {"engine": [], "run": [], "run --no-video": []}
    for _ in range(ROUNDS):
        for what, rows in taken.items():
            words = [sys.executable, __file__, what, str(drive), weights]
            done = subprocess.run(words, check=True, capture_output=True, text=True)
            rows.append(json.loads(done.stdout.splitlines()[-1]))
    rate = {k: median(r["masks"] / r["wall_s"] for r in rows) for k, rows in taken.items()}
    cpu = {k: median(r["cpu_s"] / r["masks"] for r in rows) for k, rows in taken.items()}
    return {
        f"{name}: run's rate over the engine's": rate["run"] / rate["engine"],
        f"{name}: run --no-video's rate over the engine's": rate["run --no-video"] / rate["engine"],
        f"{name}: engine, CPU ms a mask": 1e3 * cpu["engine"],
        f"{name}: all else in run, CPU ms a mask": 1e3 * (cpu["run"] - cpu["engine"]),
        f"{name}: the film, CPU ms a mask": 1e3 * (cpu["run"] - cpu["run --no-video"]),
    }


def run() -> dict[str, float]:
    """All figures; those in ms depend on the machine."""
    DRIVE.parent.mkdir(parents=True, exist_ok=True)
    simulate(DRIVE, Recipe(7, SECONDS, ("clear",)), lambda t_s: None)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "product.safetensors"
        torch.manual_seed(0)
        checkpoint.save(weights, checkpoint.untrained(checkpoint.default_spec(**PRODUCT)))
        return {
            **compare("product student, 512x320", DRIVE, str(weights)),
            **compare("shipped student, 256x160", DRIVE, ""),
        }


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(child(sys.argv[1], Path(sys.argv[2]), sys.argv[3])))
    else:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        for key, value in run().items():
            print(f"{key:66s} {value:10.3g}")
