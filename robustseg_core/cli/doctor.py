"""The command that explains silence: `robustseg doctor`."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from robustseg_core import config
from robustseg_core.cli.terminal import err, progress_bar, require
from robustseg_core.errors import RobustsegError

app = typer.Typer()


@app.command()
def doctor(
    bags: Annotated[
        list[Path] | None, typer.Argument(metavar="[BAG...]", help="Recordings, as `run`.")
    ] = None,
    *,
    live: Annotated[
        bool, typer.Option("--live", help="Listen to the robot that runs, over ROS 2.")
    ] = False,
    params: Annotated[
        Path | None,
        typer.Option("--params", metavar="ROBOT.YAML", help="Of a recording: default guessed."),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override one parameter (repeatable)."),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(min=0.5, max=3600, help="How long; default: 30 of a recording, 5 live."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """Why is there no output? One row per sensor, and the fix. Exit code 1: something is bad.

    [dim]Examples:[/] robustseg doctor drive.mcap    robustseg doctor --live --params robot.yaml
    """
    if live == bool(bags):
        raise RobustsegError(
            "the doctor examines a recording or the live robot; "
            "give a BAG, or --live with --params robot.yaml"
        )
    words = overrides or []
    if bags:
        raise SystemExit(_recorded(bags, params, words, seconds or 30.0, as_json=as_json))
    if params is None:
        raise RobustsegError(
            "--live knows no topics without a robot.yaml; "
            "give --params, as `robustseg inspect BAG` prints it"
        )
    tree = config.override(config.read_file(params), words)
    raise SystemExit(_live(tree, seconds or 5.0, as_json=as_json))


def _recorded(
    bags: list[Path],
    params: Path | None,
    overrides: list[str],
    seconds: float,
    *,
    as_json: bool,
) -> int:
    from robustseg_core.bag import Bag
    from robustseg_core.cli.doctor_table import show
    from robustseg_core.doctor import examine
    from robustseg_core.recording.run import robot_for

    with Bag(bags) as bag, progress_bar("messages") as progress, _quiet():
        task = progress.add_task("listening", total=None, visible=False)

        def tell(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total, visible=True)

        robot = robot_for(bag, params, overrides)
        report = examine(bag, robot, seconds=seconds, on_message=tell)
    if as_json:
        typer.echo(json.dumps(report.to_json(), indent=1))
    else:
        show(report, err)
    return report.exit_code


@contextmanager
def _quiet() -> Iterator[None]:
    """The core's warnings are rows of the report; nobody needs them twice."""
    log = logging.getLogger("robustseg_core")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def _live(tree: Mapping[str, Any], seconds: float, *, as_json: bool) -> int:
    """The core does not know the ROS layer: the examination is another program."""
    from robustseg_core.robot.config import parse_robot

    parse_robot(tree)
    require("rclpy")
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", prefix="robustseg-") as file:
        yaml.safe_dump({"/**": {"ros__parameters": dict(tree)}}, file)
        file.flush()
        words = ["--seconds", f"{seconds:g}", *(["--json"] if as_json else [])]
        command = [sys.executable, "-m", "robustseg_ros.doctor", *words]
        command += ["--ros-args", "--params-file", file.name]
        return subprocess.run(command, env=dict(os.environ), check=False).returncode
