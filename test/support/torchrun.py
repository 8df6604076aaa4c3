"""Trainings in processes of their own, as torchrun starts them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

TRAIN = """
import json, sys
from pathlib import Path
from robustseg_core.learn.fit import fit
from robustseg_core.learn.recipe import load_recipe
def die(step, steps, numbers):
    if step == int(sys.argv[4]):
        sys.exit(1)
recipe = load_recipe(json.loads(sys.argv[1]), json.loads(sys.argv[2]))
fit(recipe, Path(sys.argv[3]), device="cpu", on_progress=die)
"""


def train(
    names: Sequence[str], settings: Sequence[str], out: Path, *, processes: int, die: int = 0
) -> str:
    """`fit` in so many processes, which end with an error at step `die`; returns what they say."""
    script = out.with_name("train.py")
    script.write_text(TRAIN)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        f"--nproc_per_node={processes}",
        "--standalone",
        str(script),
    ]
    told = [json.dumps(names), json.dumps(settings), str(out), str(die)]
    done = subprocess.run(
        [*command, *told],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert (done.returncode == 0) == (die == 0), done.stderr[-2000:]
    return done.stderr
