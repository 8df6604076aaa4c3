"""Does loading keep the training step busy, and what does validation cost beside it?"""

from __future__ import annotations

import sys
import tempfile
from itertools import product
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from lightning.fabric import Fabric

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from robustseg_core.learn.fit import fit
from robustseg_core.learn.loader import Loader
from robustseg_core.learn.prepare import network, optimizer_of, splits
from robustseg_core.learn.recipe import ValidationRecipe, load_recipe
from robustseg_core.learn.tasks import Task
from robustseg_core.learn.validate import judge
from support.learn_data import make_shards, words

STEPS = 40
TRAIN, VAL = 3983, 2005
"""Samples of DELIVER's splits."""
SIDE = 256
"""Validation and training are both as long as the number of pixels, so a share is that of 1024."""


def run() -> dict[str, float]:
    """The share that waits, and the shares of an epoch of DELIVER that validation takes."""
    return waiting() | validation()


def validation() -> dict[str, float]:
    """B0 with the published head, four sensors, modality dropout, one sample at a time.

    In turn: a training step, a sample of the validation by four subsets, and one by all 15.
    """
    with tempfile.TemporaryDirectory() as folder:
        shards = make_shards(Path(folder) / "a", 4, size=(SIDE, SIDE))
        seen = make_shards(Path(folder) / "b", 4, size=(SIDE, SIDE), seed=1)
        recipe = load_recipe(
            ["dropout"],
            words(shards, seen, network__backbone="b0", network__head_width=768, optim__batch=1),
        )
        train, val = splits(recipe)
        model = network(recipe, train)
        fabric = Fabric(accelerator="cpu", devices=1)
        task, optimizer = Task(recipe, train.modalities), optimizer_of(model, recipe.optim)
        batches = Loader(train, batch=1).batches()
        times: dict[str, list[float]] = {"step": [], "four": [], "mean": []}
        for turn, kind in product(range(5), times):
            began = perf_counter()
            if kind == "step":
                for part in range(4):
                    rng = [torch.Generator().manual_seed(10 * turn + part) for _ in range(2)]
                    sum(task.terms(model.train(), next(batches), *rng).values()).backward()
                    optimizer.step()
                    optimizer.zero_grad()
            else:
                judge(model, val, ValidationRecipe(rule=kind, batch=1), fabric)
            times[kind].append((perf_counter() - began) / 4)
    step = median(times["step"])
    return {
        f"validation by {rule}, share of an epoch of DELIVER": VAL
        * median(times[rule])
        / (VAL * median(times[rule]) + TRAIN * step)
        for rule in ("four", "mean")
    }


def waiting() -> dict[str, float]:
    """Steps of `tiny` at 192x256, augmented as published, two loading processes."""
    with tempfile.TemporaryDirectory() as folder:
        shards = make_shards(Path(folder) / "shards", 64, size=(192, 256))
        recipe = load_recipe(
            ["dropout"],
            words(
                shards,
                optim__steps=STEPS,
                optim__batch=8,
                data__workers=2,
                save_every=STEPS,
                augment__scale=[0.5, 2.0],
            ),
        )
        result = fit(recipe, Path(folder) / "run", device="cpu")
    return {
        "training, share of time waiting for data": result["waited_share"],
        "training, samples/s (tiny, 192x256)": STEPS * 8 / result["seconds"],
    }


if __name__ == "__main__":
    print(run())
