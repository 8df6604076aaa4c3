"""Does loading keep the training step busy? The share of the time that it waits, from shards."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from robustseg_core.learn.fit import fit
from robustseg_core.learn.recipe import load_recipe
from support.learn_data import make_shards, words

STEPS = 40


def run() -> dict[str, float]:
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
