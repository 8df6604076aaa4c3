"""The everyday commands: the positional argument is the data, the rest is guessed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from robustseg_core.cli.early import expect_params, expect_recordings, expect_weights
from robustseg_core.cli.entry import app, main
from robustseg_core.cli.options import (
    ALL_CORES,
    BAG_HELP,
    MOST_JOBS,
    MOST_SEEDS,
    Bags,
    Faults,
    Kills,
    NodeParams,
    Overrides,
    Params,
    RayAddress,
    RobotDevice,
    Strict,
    faults_of,
)
from robustseg_core.cli.terminal import answer, err, literal, progress_bar, put, require
from robustseg_core.errors import RobustsegError

__all__ = ["app", "main"]

commands = typer.Typer()
"""Those of this module; `entry` has all."""
NOTICED = 3
"""Exit code of `--strict` where something was worth a notice."""


@commands.command()
def inspect(
    bags: Annotated[list[Path] | None, typer.Argument(metavar="[BAG...]", help=BAG_HELP)] = None,
    *,
    live: Annotated[
        bool, typer.Option("--live", help="Listen to the robot that runs, over ROS 2.")
    ] = False,
    seconds: Annotated[
        float, typer.Option(min=0.5, max=3600, help="How long to listen, with --live.")
    ] = 5.0,
    strict: Strict = False,
) -> None:
    """What is in a recording: topics, rates, gaps, the guessed sensors and a robot.yaml to paste.

    [dim]Examples:[/] robustseg inspect drive.mcap > robot.yaml    robustseg inspect --live
    """
    if live == bool(bags):
        raise RobustsegError(
            "inspect looks at a recording or at the live robot; give BAG, or --live"
        )
    if not bags:
        from robustseg_core.cli.node import run_with_parameters
        from robustseg_core.cli.told import wished

        words = ["--seconds", f"{seconds:g}", *wished()]
        raise SystemExit(run_with_parameters("robustseg_ros.inspect_node", {}, *words))
    from robustseg_core.bag import Bag
    from robustseg_core.cli.survey_table import show
    from robustseg_core.recording.survey import survey

    with Bag(bags) as bag:
        found = survey(bag)
    if not answer(found.to_json()):
        show(found, ", ".join(path.name for path in bags))
    if strict and found.notices:
        raise typer.Exit(NOTICED)


@commands.command()
def run(
    bags: Bags,
    weights: Annotated[
        Path | None,
        typer.Option(
            help="Checkpoint (.safetensors); default: `street`, the shipped student of simulated "
            "streets; `street_tiny`: a tenth of it; `untrained`: random weights."
        ),
    ] = None,
    params: Params = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the results; default: out/run, or out/runs of --jobs."),
    ] = None,
    kill: Kills = None,
    fault: Faults = None,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEEDS, help="Of the faults.")] = 0,
    device: RobotDevice = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MOST_JOBS,
            help="A run of its own for each recording, in OUT/NAME, so many at once; a table of "
            "all at the end. Without it (or --ray), recordings are played in a row.",
        ),
    ] = None,
    ray: RayAddress = "",
    *,
    video: Annotated[
        bool,
        typer.Option(
            "--video/--no-video",
            help="Film of the overlays: 10 ms a mask at 640x480; of the rest, drawing takes 7, the "
            "score 12, the MCAP 5, PNGs 3, the report a second once.",
        ),
    ] = True,
    black_box: Annotated[
        bool,
        typer.Option(
            "--black-box",
            help="Write what happened around each fault, too, as a node does (OUT/black_box; "
            "`robustseg explain`).",
        ),
    ] = False,
    rerun: Annotated[
        bool,
        typer.Option(
            "--rerun",
            help="A file for Rerun's viewer, too (OUT/rerun.rrd, opened by `rerun`; extra `viz`).",
        ),
    ] = False,
    inputs: Annotated[
        bool,
        typer.Option(
            "--inputs",
            help="The sensors' own messages in the MCAP, too, as they were heard, faults included: "
            "a viewer has all in one file.",
        ),
    ] = False,
    strict: Strict = False,
    overrides: Overrides = None,
) -> None:
    """Segment a recording with whatever is alive: masks, video, MCAP, result.json, report.html.

    [dim]Example:[/] robustseg run drive.mcap --kill rgb@0.8+0.6 --kill lidar@1.2
    """
    from robustseg_core import config

    expect_params(params)
    expect_recordings(bags, each=bool(jobs or ray))
    expect_weights(weights)
    if rerun:
        require("rerun")
    from robustseg_core.recording.run import run_bags

    words = list(overrides or [])
    words += [f"device={config.scalar(device)}"] if device else []
    words += [f"weights={config.scalar(str(weights))}"] if weights else []
    out = out or Path("out/runs" if jobs or ray else "out/run")
    how: dict[str, Any] = {
        "params": params,
        "overrides": words,
        "out": out,
        "faults": faults_of(kill, fault),
        "seed": seed,
        "video": video,
        "black_box": black_box,
        "rerun": rerun,
        "inputs": inputs,
    }
    if jobs or ray:
        _run_each(bags, jobs or ALL_CORES, ray, strict=strict, **how)
        return
    with progress_bar("messages") as progress:
        task = progress.add_task("reading", total=None, visible=False)

        def show(done: int, total: int, masks: int) -> None:
            text = f"{masks} masks"
            progress.update(task, completed=done, total=total, description=text, visible=True)

        result = run_bags(bags, **how, on_progress=show)
    answer(result)
    _summary(result, out)
    if strict and result["notices"]:
        raise typer.Exit(NOTICED)


def _run_each(
    bags: list[Path], jobs: int, ray: str, *, out: Path, strict: bool, **more: Any
) -> None:
    """`run` of each recording for itself; exit code 2 where one failed."""
    from robustseg_core.jobs import Workers
    from robustseg_core.recording.many import TABLE, run_each

    with progress_bar("recordings") as progress:
        task = progress.add_task("segmenting", total=len(bags))
        table = run_each(
            bags,
            workers=Workers(jobs, ray),
            out=out,
            **more,
            on_done=lambda done, total: progress.update(task, completed=done, total=total),
        )
    answer(table)
    shown = Table(title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    shown.add_column("recording", overflow="fold")
    for name in ("masks", "Hz", "coverage, %", "mIoU, %", "notices"):
        shown.add_column(name, justify="right")
    for row in table["runs"]:
        if row["error"]:
            shown.add_row(literal(row["name"]), literal("failed", "red"))
            continue
        miou = "" if row["miou"] is None else f"{100 * row['miou']:.1f}"
        cells = (row["masks"], row["rate_hz"], f"{100 * row['coverage']:.1f}", miou, row["notices"])
        shown.add_row(literal(row["name"]), *map(str, cells))
    err.print(shown)
    for row in table["runs"]:
        if row["error"]:
            err.say(f"{row['bag']}: {row['error']}", head="failed:", style="red")
    if kept := sum(not row["made"] for row in table["runs"]):
        err.say(f"{kept} of {len(bags)} were done before")
    err.say(f"  {out / TABLE}")
    if table["failed"]:
        raise RobustsegError(f"{table['failed']} of {len(bags)} recordings failed")
    if strict and any(row["notices"] for row in table["runs"]):
        raise typer.Exit(NOTICED)


@commands.command()
def live(
    params: NodeParams,
    overrides: Overrides = None,
) -> None:
    """Start the ROS 2 node without `ros2 launch`, for machines that have only pip.

    [dim]Example:[/] robustseg live --params robot.yaml --set device=cpu
    """
    from robustseg_core import config
    from robustseg_core.cli.node import run_with_parameters
    from robustseg_core.robot.transports import carry_large_messages

    tree = config.override(config.read_file(params), overrides or [])
    carry_large_messages(os.environ)
    raise SystemExit(run_with_parameters("robustseg_ros.segment_node", tree))


@commands.command()
def params() -> None:
    """Print every parameter with its meaning, range and default, as a robot.yaml."""
    from robustseg_core.robot.config import RobotConfig
    from robustseg_core.robot.parameters import template

    if not answer(RobotConfig.model_json_schema()):
        put(template())


@commands.command("list")
def list_plugins() -> None:
    """Name the plug-ins: sensors, formats, networks, distillers, data sets, recipes, faults."""
    from robustseg_core import datasets, distill, faults, modalities
    from robustseg_core.codecs import events
    from robustseg_core.learn.recipe import systems
    from robustseg_core.learn.shipped import held_out, known_recipes
    from robustseg_core.models import architectures, fusion, mit

    kinds = {
        "modalities": tuple(modalities.usable()),
        "event formats": events.available(),
        "architectures": architectures.available(),
        "backbones": list(mit.BACKBONES),
        "fusions": fusion.available(),
        "distillers": distill.available(),
        "data sets": datasets.available(),
        "systems": systems(),
        "recipes": sorted(set(known_recipes()) - set(systems())),
    }
    unseen, broken = held_out(), faults.available(None)
    told = {
        name: {
            "what": faults.describe(name),
            "reaches": faults.reached(name),
            "held_out": name in unseen,
        }
        for name in broken
    }
    if answer({**kinds, "faults": told}):
        return
    lines = [f"{title:<13} {' '.join(names)}" for title, names in kinds.items()]
    for name in broken:
        mark = "[held out of training] " if name in unseen else ""
        whom = " ".join(faults.reached(name))
        lines.append(f"{'fault':<13} {name:<18} {whom:<23} {mark}{faults.describe(name)}")
    put("\n".join(lines) + "\n")


def _summary(result: dict[str, Any], out: Path) -> None:
    from robustseg_core.output import recorder

    err.print(_cameras(result) if "cameras" in result else _sensors(result))
    if line := recorder.score_line(result):
        err.print(line, highlight=False)
    if line := recorder.confidence_line(result):
        err.print(line, highlight=False)
    for notice in result["notices"]:
        err.notice(notice)
    if not result["trained"]:
        text = "random weights; the masks show plumbing, not a scene"
        err.say(text, head="untrained:", style="yellow")
    made = ("report.html", "result.json", "cameras/", "masks/", "overlay.webm", "mcap/")
    for name in (*made, "black_box/", "rerun.rrd"):
        if (out / name).exists():  # there may be no video
            err.say(f"  {out / name}")


def _sensors(result: dict[str, Any]) -> Table:
    """What became of each sensor."""
    from robustseg_core.output import messages, recorder
    from robustseg_core.output.reasons import Sentences

    totals = result["totals"]
    table = Table(title=recorder.masks_line(result), title_justify="left", box=SIMPLE_HEAD)
    for name in ("modality", "messages", "rejected", "masks made with it", "at the end"):
        table.add_column(name, justify="left" if name in ("modality", "at the end") else "right")
    silences = totals.get("silences", [])
    mute = silences[-1] if silences and silences[-1]["to_s"] >= totals["duration_s"] else None
    last: dict[str, Any] = (
        result["masks"][-1] if result["masks"] else {"at_s": 0.0, "used": [], "reasons": {}}
    )
    reasons = Sentences(result["reasons"]).of(last)
    for name in result["modalities"]:
        rejected = sum(result["rejected"].get(name, {}).values())
        end = messages.fate(reasons.get(name, ""), used=name in last["used"])
        if mute is not None:
            end = f"no mask since {mute['from_s']:.2f} s"
        received = totals["messages"].get(name, 0)
        used = totals["used"].get(name, 0)
        table.add_row(name, str(received), str(rejected), str(used), end)
    return table


def _cameras(result: dict[str, Any]) -> Table:
    """What became of each camera."""
    from robustseg_core.output import recorder

    table = Table(title=recorder.masks_line(result), title_justify="left", box=SIMPLE_HEAD)
    for name in ("camera", "masks", "Hz", "coverage", "made from"):
        table.add_column(name, justify="left" if name in ("camera", "made from") else "right")
    for name, one in result["cameras"].items():
        made = ", ".join(f"{stream} {count}" for stream, count in one["used"].items())
        coverage = f"{100 * one['coverage']:.1f} %"
        table.add_row(name, str(one["masks"]), str(one["rate_hz"]), coverage, made)
    return table
