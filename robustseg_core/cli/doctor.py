"""The command that explains silence: `robustseg doctor`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from robustseg_core.cli.options import Overrides, Params
from robustseg_core.cli.terminal import answer, progress_bar
from robustseg_core.errors import RobustsegError, quiet

commands = typer.Typer()


@commands.command()
def doctor(
    bags: Annotated[
        list[Path] | None, typer.Argument(metavar="[BAG...]", help="Recordings, as `run`.")
    ] = None,
    *,
    live: Annotated[
        bool, typer.Option("--live", help="Listen to the robot that runs, over ROS 2.")
    ] = False,
    params: Params = None,
    overrides: Overrides = None,
    seconds: Annotated[
        float | None,
        typer.Option(min=0.5, max=3600, help="How long; default: 30 of a recording, 5 live."),
    ] = None,
) -> None:
    """Why is there no output? One row per sensor, and the fix. Exit code 1: something is bad.

    [dim]Examples:[/] robustseg doctor drive.mcap    robustseg doctor --live --params robot.yaml
    """
    from robustseg_core import config
    from robustseg_core.cli.node import run_with_parameters
    from robustseg_core.cli.told import wished

    if live == bool(bags):
        raise RobustsegError(
            "the doctor examines a recording or the live robot; "
            "give a BAG, or --live with --params robot.yaml"
        )
    given = overrides or []
    if bags:
        raise SystemExit(_recorded(bags, params, given, seconds or 30.0))
    if params is None:
        raise RobustsegError(
            "--live knows no topics without a robot.yaml; "
            "give --params, as `robustseg inspect BAG` prints it"
        )
    tree = config.override(config.read_file(params), given)
    words = ["--seconds", f"{seconds or 5.0:g}", *wished()]
    raise SystemExit(run_with_parameters("robustseg_ros.doctor", tree, *words))


def _recorded(
    bags: list[Path],
    params: Path | None,
    overrides: list[str],
    seconds: float,
) -> int:
    from robustseg_core.bag import Bag
    from robustseg_core.cli import doctor_table
    from robustseg_core.doctor import examine
    from robustseg_core.recording.robot import robot_for

    # Warnings are rows of the report; nobody needs them twice.
    with Bag(bags) as bag, progress_bar("messages") as progress, quiet(logging.ERROR):
        task = progress.add_task("listening", total=None, visible=False)

        def tell(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total, visible=True)

        robot = robot_for(bag, params, overrides, several=True)
        report = examine(bag, robot, seconds=seconds, on_message=tell)
    if not answer(report.to_json()):
        doctor_table.tell(report)
    return report.exit_code
