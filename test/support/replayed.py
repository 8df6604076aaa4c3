"""Small simulated drives, and `robustseg robustness` on them."""

from __future__ import annotations

from pathlib import Path

from click.testing import Result
from typer.testing import CliRunner

from robustseg_core.cli.robustness import commands
from robustseg_core.sim.produce import Recipe, simulate


def tiny_drive(folder: Path, *, seed: int, seconds: float) -> Path:
    """A clear day, seen by small cameras."""
    path = folder / "drive.mcap"
    simulate(path, Recipe(seed=seed, seconds=seconds, conditions=("clear",), preset="tiny"))
    return path


def robustness(drive: Path, out: Path, *words: str) -> Result:
    """`robustseg robustness DRIVE --out OUT`, in this process."""
    return CliRunner().invoke(commands, [str(drive), "--out", str(out), "--jobs", "1", *words])
