"""Small simulated drives, and `robustseg robustness` on them."""

from __future__ import annotations

from pathlib import Path

from click.testing import Result
from typer.testing import CliRunner

from robustseg_core.cli.robustness import commands
from robustseg_core.models import checkpoint
from robustseg_core.sim.produce import Recipe, simulate


def tiny_drive(folder: Path, *, seed: int, seconds: float) -> Path:
    """A clear day, seen by small cameras."""
    path = folder / "drive.mcap"
    simulate(path, Recipe(seed=seed, seconds=seconds, conditions=("clear",), preset="tiny"))
    return path


def small_weights(folder: Path) -> Path:
    """A network that has learned nothing and costs next to nothing: where masks only have to be."""
    path = folder / "small.safetensors"
    checkpoint.save(path, checkpoint.untrained(checkpoint.default_spec(size=(32, 64))))
    return path


def robustness(drive: Path, out: Path, *words: str) -> Result:
    """`robustseg robustness DRIVE --out OUT`, in this process."""
    return CliRunner().invoke(commands, [str(drive), "--out", str(out), "--jobs", "1", *words])
