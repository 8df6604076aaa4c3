"""`robustseg demo`: a drive through the live node, as `make demo` shows it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from robustseg_core.cli.early import expect_params, expect_recordings
from robustseg_core.cli.options import FAULT, KILL, PARAMS, Faults, Kills, Params, faults_of
from robustseg_core.cli.terminal import err, require
from robustseg_core.errors import RobustsegError

commands = typer.Typer()
DRIVE = Path("out/drive.mcap")
"""The simulated drive, made once."""
SECONDS, SEED = 8.0, 7
"""Of that drive."""
KILLED, BROKEN = ("rgb@2+1.5", "lidar@5"), ("depth:invalid_depth@3+1",)
"""What happens to it if nobody says otherwise."""


@commands.command()
def demo(
    bag: Annotated[
        Path | None,
        typer.Argument(metavar="[BAG]", help=f"A recording; default: {DRIVE}, simulated once."),
    ] = None,
    kill: Kills = None,
    fault: Faults = None,
    params: Params = None,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("out/demo"),
    *,
    healthy: Annotated[
        bool, typer.Option("--healthy", help="Break nothing; default: camera, depth and LiDAR.")
    ] = False,
) -> None:
    """A drive through the real node over real DDS, sensors killed meanwhile: film, report.html.

    [dim]Examples:[/] robustseg demo    robustseg demo drive.mcap --kill rgb@1+2
    """
    given = bool(kill or fault)
    if healthy and given:
        raise RobustsegError("--healthy breaks nothing; leave it out, or --kill and --fault")
    kills = list(kill or []) if given else list(KILLED) * (not healthy)
    broken = list(fault or []) if given else list(BROKEN) * (not healthy)
    faults_of(kills, broken)  # what is misspelt is said now
    expect_params(params)
    require("rclpy")
    from robustseg_core.cli.node import run_program
    from robustseg_core.cli.told import wished

    drive = DRIVE if bag is None else bag
    if drive != DRIVE or drive.exists():
        expect_recordings([drive])
    else:
        _simulate(drive)
    os.environ.setdefault("ROS_DOMAIN_ID", str(os.getpid() % 100 + 1))
    words = [word for one in kills for word in (KILL.flag, one)]
    words += [word for one in broken for word in (FAULT.flag, one)]
    words += [PARAMS.flag, str(params)] if params else []
    raise SystemExit(run_program("robustseg_ros.demo", str(drive), *words, *wished(out)))


def _simulate(drive: Path) -> None:
    """Make the drive; half a minute on two idle cores.

    Raises:
        RobustsegError: the simulator is not installed.
    """
    require("open3d")
    from robustseg_core.cli.make import simulated
    from robustseg_core.sim.produce import Recipe, parse_conditions

    err.say(f"simulating {drive} ({SECONDS:g} s, once)")
    drive.parent.mkdir(parents=True, exist_ok=True)
    simulated(drive, Recipe(SEED, SECONDS, parse_conditions("clear")))
