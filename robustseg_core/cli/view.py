"""`robustseg view`: the labelled clouds of a drive, in open3d's window or as pictures.

Live, it is what the node publishes, in Rerun's window or a file for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robustseg_core.cli.early import expect_params, expect_recordings, expect_weights
from robustseg_core.cli.options import (
    BAG_HELP,
    MOST_SEEDS,
    PARAMS,
    Faults,
    Kills,
    Overrides,
    Params,
    RobotDevice,
    faults_of,
)
from robustseg_core.cli.terminal import answer, err, progress_bar, require
from robustseg_core.errors import RobustsegError

commands = typer.Typer()
PICTURES = Path("out/view")
"""Where they go without a display, if nobody says where."""


@commands.command()
def view(
    bags: Annotated[list[Path] | None, typer.Argument(metavar="[BAG...]", help=BAG_HELP)] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for pictures (live: a .rrd) instead of a window; without a display: "
            "out/view."
        ),
    ] = None,
    every: Annotated[
        float, typer.Option(min=0, max=3600, help="Seconds from cloud to cloud; 0: of every mask.")
    ] = 0.5,
    weights: Annotated[Path | None, typer.Option(help="Checkpoint, as `run` takes it.")] = None,
    params: Params = None,
    kill: Kills = None,
    fault: Faults = None,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEEDS, help="Of the faults.")] = 0,
    device: RobotDevice = None,
    overrides: Overrides = None,
    *,
    live: Annotated[
        bool,
        typer.Option(
            "--live", help="What the node publishes, in Rerun (extra `viz`), until Ctrl-C."
        ),
    ] = False,
    seconds: Annotated[
        float | None, typer.Option(min=0.5, max=86400, help="With --live: end after so long.")
    ] = None,
) -> None:
    """The labelled clouds of a drive (LiDAR, or depth while that is dead), stepped through by key.

    [dim]Examples:[/] robustseg view drive.mcap    robustseg view drive.mcap --kill lidar@3 -o out
    robustseg view --live
    """
    from robustseg_core import config

    if live == bool(bags):
        raise RobustsegError("view shows a recording or the live node; give BAG, or --live")
    expect_params(params)
    if not bags:
        if kill or fault or device:
            raise RobustsegError(
                "--kill, --fault and --device are of a recording; leave them out with --live"
            )
        raise SystemExit(_live(params, weights, overrides or [], out, seconds))
    if seconds is not None:
        raise RobustsegError("--seconds belongs to --live; leave it out, or BAG")
    expect_recordings(bags)
    expect_weights(weights)
    from robustseg_core.output import viewer
    from robustseg_core.output.cloud_picture import point_colors
    from robustseg_core.recording.clouds import Shot, clouds, no_cloud, write_pictures

    out = _place(out, "pictures go")
    words = list(overrides or [])
    words += [f"device={config.scalar(device)}"] if device else []
    words += [f"weights={config.scalar(str(weights))}"] if weights else []
    with progress_bar("messages") as progress:
        task = progress.add_task("reading", total=None, visible=False)

        def tell(done: int, total: int) -> None:
            if out is not None:
                progress.update(task, completed=done, total=total, visible=True)

        with clouds(
            bags,
            params=params,
            overrides=words,
            faults=faults_of(kill, fault),
            seed=seed,
            every_s=every,
            on_progress=tell,
        ) as (spec, shots):
            if out is None:
                shown: list[float] = []

                def show(shot: Shot) -> None:
                    shown.append(round(shot.at_s, 6))
                    err.say(f"  {shot.caption}, {len(shot.ids)} points")

                err.say(viewer.KEYS)
                album = viewer.Album(shots)
                title = f"robustseg view {' '.join(path.name for path in bags)}"
                if not viewer.show(
                    album, lambda shot: (shot.xyz, point_colors(shot.ids, spec)), show, title=title
                ):
                    raise no_cloud()
                answer({"shown": shown})
                return
            result = write_pictures(spec, shots, out, [*bags, *([params] if params else [])])
    answer(result)
    made = result["clouds"]
    err.say(f"{len(made)} clouds, {made[0]['at_s']:.2f} s to {made[-1]['at_s']:.2f} s")
    err.say(f"  {out}")


def _place(out: Path | None, what: str) -> Path | None:
    """Where results go; None: a window shows them."""
    from robustseg_core.output import viewer

    if out is None and not viewer.has_display():
        err.say(f"there is no display: {what} to {PICTURES}")
        return PICTURES
    return out


def _live(
    params: Path | None,
    weights: Path | None,
    overrides: list[str],
    out: Path | None,
    seconds: float | None,
) -> int:
    """Have the ROS layer listen to the node; the exit code."""
    from robustseg_core import config
    from robustseg_core.cli.node import run_program
    from robustseg_core.cli.told import wished
    from robustseg_core.robot.config import RobotConfig

    words = list(overrides)
    words += [f"weights={config.scalar(str(weights))}"] if weights else []
    config.load(RobotConfig, params, words)  # what is wrong with it is said now
    require("rerun")
    out = _place(out, "Rerun's file goes")
    told = [] if params is None else [PARAMS.flag, str(params)]
    told += [word for one in words for word in ("--set", one)]
    told += [] if seconds is None else ["--seconds", f"{seconds:g}"]
    return run_program("robustseg_ros.view_node", *told, *wished(out))
