"""The commands that make recordings: `robustseg sim` and `robustseg inject`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustseg_core.cli.options import (
    ALL_CORES,
    MOST,
    MOST_JOBS,
    MOST_SEEDS,
    RayAddress,
    place_of,
)
from robustseg_core.cli.terminal import answer, err, progress_bar
from robustseg_core.errors import RobustsegError

if TYPE_CHECKING:
    from robustseg_core.sim.produce import Recipe

commands = typer.Typer()

OF_ONE_DRIVE = ("seconds", "seed", "condition", "size", "preset", "views", "rig", "streets")
"""Options that a set's file says for itself."""


@commands.command()
def sim(
    context: typer.Context,
    path: Annotated[
        Path | None,
        typer.Argument(metavar="[DRIVE.mcap]", help="The drive; with --split: a folder."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DRIVE.mcap", help="The same as an option.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="How long the drive is.")] = 20.0,
    seed: Annotated[
        int, typer.Option(min=0, max=MOST_SEEDS, help="Of the street and everything in it.")
    ] = 0,
    condition: Annotated[
        str,
        typer.Option(metavar="clear|cloud|fog|rain|night", help="Weather; several with commas."),
    ] = "clear",
    size: Annotated[
        str, typer.Option(metavar="WIDTHxHEIGHT", help="Of the camera; default: the preset's.")
    ] = "",
    preset: Annotated[
        str, typer.Option(metavar="tiny|default|hd", help="Size and detail.")
    ] = "default",
    views: Annotated[
        int,
        typer.Option(
            min=0, max=MOST, help="Moments recorded, spread over the drive; 0: all of it."
        ),
    ] = 0,
    rig: Annotated[
        str,
        typer.Option(
            metavar="preset|random", help="Random: where sensors are and what they see is drawn."
        ),
    ] = "preset",
    streets: Annotated[
        str, typer.Option(metavar="plain|varied", help="Varied: another town for each seed.")
    ] = "plain",
    split: Annotated[
        list[Path] | None,
        typer.Option(help="Make a whole set: config/sim/train.yaml and the like (repeatable)."),
    ] = None,
    jobs: Annotated[
        int, typer.Option(min=1, max=MOST_JOBS, help="Processes for a set; default: one per core.")
    ] = ALL_CORES,
    ray: RayAddress = "",
) -> None:
    """Drive through a simulated street: four sensors and the truth of every pixel, as a bag.

    [dim]Example:[/] robustseg sim drive.mcap --seconds 20 --seed 7 --condition night,rain
    """
    path = place_of(path, out, "DRIVE.mcap")
    from robustseg_core.jobs import Workers
    from robustseg_core.sim.produce import (
        Recipe,
        check_free,
        parse_conditions,
        simulate_splits,
    )
    from robustseg_core.types import parse_size

    if split:
        sources = {name: context.get_parameter_source(name) for name in OF_ONE_DRIVE}
        given = [name for name, source in sources.items() if source and source.name != "DEFAULT"]
        if given:
            raise RobustsegError(
                f"--{given[0]} is of one drive, and each --split file says its own; leave it out"
            )
        with progress_bar("drives") as progress:
            task = progress.add_task("simulating", total=None)
            simulate_splits(
                split,
                path,
                workers=Workers(jobs, ray),
                on_drive=lambda done, total: progress.update(task, completed=done, total=total),
            )
        answer({"out": path})
        return
    recipe = Recipe(
        seed,
        seconds,
        parse_conditions(condition),
        preset,
        parse_size(size) if size else None,
        views=views or None,
        rig=rig,
        streets=streets,
    )
    check_free(path, (".png", ".webm"))
    simulated(path, recipe)
    from robustseg_core.sim.sheet import add_pictures

    files = [path, path.with_suffix(".json"), *add_pictures(path)]
    answer({"files": files})
    for written in files:
        err.say(f"  {written}")


def simulated(path: Path, recipe: Recipe) -> None:
    """Make one drive, and show how far it is."""
    from robustseg_core.sim.produce import simulate

    with progress_bar("seconds") as progress:
        task = progress.add_task("simulating", total=recipe.seconds, visible=False)
        simulate(
            path, recipe, lambda t_s: progress.update(task, completed=round(t_s, 1), visible=True)
        )


@commands.command()
def inject(
    bag: Annotated[Path, typer.Argument(metavar="BAG", help="A recording, as `run` takes it.")],
    fault: Annotated[
        list[str],
        typer.Option(
            metavar="TARGET:FAULT@START+DURATION",
            help="What breaks and when, e.g. rgb:stuck@12s+5s (repeatable); "
            "`robustseg list` names all.",
        ),
    ],
    place: Annotated[
        Path | None, typer.Argument(metavar="[OUT]", help="Folder of the broken copy.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="OUT", help="The same as an option.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEEDS, help="Of everything random.")] = 0,
) -> None:
    """Copy a recording with faults in it; everything else stays as it is, byte for byte.

    [dim]Example:[/] robustseg inject drive.mcap broken --fault rgb:stuck@12s+5s --seed 1
    """
    from robustseg_core.faults import parse_fault
    from robustseg_core.recording.inject import inject_bag

    out = place_of(place, out, "OUT")
    specs = [parse_fault(text) for text in fault]
    with progress_bar("messages") as progress:
        task = progress.add_task("copying", total=None, visible=False)
        done = inject_bag(
            [bag],
            out,
            specs,
            seed=seed,
            on_progress=lambda k, total: progress.update(
                task, completed=k, total=total, visible=True
            ),
        )
    answer(done)
    for row in done["faults"]:
        err.say(f"  {row['fault']}: {row['messages']} messages")
    for notice in done["notices"]:
        err.notice(notice)
    err.say(f"  {out}")
