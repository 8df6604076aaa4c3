"""What a step costs: a few steps of a recipe, timed; started by `training/study.py`.

    python training/study_pilot.py anyseg street_low training/study.yaml --set KEY=VALUE ...

Prints stage -> seconds a step as JSON: CPU seconds of this process, in which data are read, varied
and broken, too; of a GPU, seconds on the clock.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from robustseg_core.engines.eager import pick_device
from robustseg_core.learn.fit import fit
from robustseg_core.learn.recipe import load_recipe

STEPS, COLD = 24, 4
"""Of a stage, and those among them that fill caches and do not count."""


def cost(names: list[str], words: list[str], device: str, steps: int = STEPS) -> dict[str, float]:
    """stage -> mean seconds a step; a recipe without stages has the one called ""."""
    recipe = load_recipe(names, words)
    stages = list(recipe.in_stages()) or [""]
    short = [f"stages.{s}.optim.steps={steps}" if s else f"optim.steps={steps}" for s in stages]
    calm = ["data.val=[]", "log_every=1000000", "save_every=1000000"]
    recipe = load_recipe(names, [*words, *short, *calm])
    clock = time.perf_counter if pick_device(device).type == "cuda" else time.process_time
    marks: dict[str, list[float]] = {stage: [] for stage in stages}
    now = stages[0]

    def enter(stage: str) -> None:
        nonlocal now
        now = stage

    with tempfile.TemporaryDirectory() as folder:
        fit(
            recipe,
            Path(folder) / "run",
            device=device,
            journals=(),
            quiet=True,
            on_progress=lambda done, total, numbers: marks[now].append(clock()),
            on_stage=enter,
        )
    cold = min(COLD, steps - 1)
    return {s: (at[-1] - at[cold - 1]) / (len(at) - cold) for s, at in marks.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="+")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--steps", type=int, default=STEPS)
    args = parser.parse_args()
    print(json.dumps(cost(args.recipes, args.set, args.device, args.steps)))


if __name__ == "__main__":
    main()
