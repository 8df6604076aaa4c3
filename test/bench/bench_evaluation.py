"""What 15 subsets cost beside one pass with all sensors: `python test/bench/bench_evaluation.py`.

Everything that `robustseg eval` does with a batch that is read: network, enlarging, counting.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from statistics import median

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from robustseg_core.evaluation.counting import Counts
from robustseg_core.evaluation.forward import WholeForward
from robustseg_core.evaluation.frames import RankedFrames
from robustseg_core.evaluation.protocols import Trial, plan
from robustseg_core.evaluation.shared import forward_of
from robustseg_core.models.checkpoint import default_spec, untrained
from support.eval_samples import NAMES, random_samples

BATCH = 2


def cost(architecture: str, backbone: str, side: int, rounds: int, width: int) -> dict[str, float]:
    """Seconds of all subsets, of the full set, and of all subsets without sharing, as ratios."""
    spec = default_spec(
        NAMES, architecture=architecture, backbone=backbone, size=(side, side), head_width=width
    )
    model = untrained(spec).folded()
    samples = random_samples(BATCH, size=(side, side))
    every = plan(NAMES, protocols=["subsets"])
    variants = {
        "all": (forward_of(model), every),
        "full": (forward_of(model), every[-1:]),
        "whole": (WholeForward(model), every),
    }
    taken: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds + 1):
        for name, (forward, trials) in variants.items():
            taken[name].append(timed(forward, trials, len(spec.classes), samples))
    ms = {name: 1e3 * median(times[1:]) / BATCH for name, times in taken.items()}
    what = f"{architecture} {backbone}, head {width}, {side}x{side}"
    return {
        f"{what}, 15 subsets over full set": ms["all"] / ms["full"],
        f"{what}, unshared over full set": ms["whole"] / ms["full"],
        f"{what}, full set of a sample, ms": ms["full"],
    }


def timed(forward, trials: list[Trial], classes: int, samples: list) -> float:
    counts = Counts(trials, classes, torch.device("cpu"))
    frames = RankedFrames(0, {})
    start = time.perf_counter()
    counts.add(forward, samples, frames)
    return time.perf_counter() - start


def run() -> dict[str, float]:
    """All figures; those in ms depend on the machine."""
    return {
        **cost("m_segformer", "b0", 256, rounds=3, width=256),
        **cost("m_segformer", "b0", 256, rounds=3, width=768),
        **cost("m_segformer", "b2", 256, rounds=2, width=768),
        **cost("cmnext", "tiny", 256, rounds=3, width=64),
    }


if __name__ == "__main__":
    for key, value in run().items():
        print(f"{key:66s} {value:10.3g}")
