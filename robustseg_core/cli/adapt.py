"""The command that makes a student yours: `robustseg adapt`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from robustseg_core.cli.options import (
    ALL_CORES,
    MOST,
    Bags,
    Jobs,
    NetworkDevice,
    Params,
    RayAddress,
)
from robustseg_core.cli.terminal import answer, err, progress_bar

commands = typer.Typer()


@commands.command()
def adapt(
    bags: Bags,
    teacher: Annotated[
        str,
        typer.Option(
            metavar="MODEL",
            help="Who labels, by the camera alone: the folder or hub id of a `transformers` "
            "segmentation checkpoint, an .onnx file, or a checkpoint of ours.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of it all; an unfinished one goes on.")],
    student: Annotated[
        str,
        typer.Option("--from", metavar="CHECKPOINT", help="The student to begin with."),
    ] = "street",
    confidence: Annotated[
        float, typer.Option(min=0, max=1, help="Pixels of which the teacher is less sure are left.")
    ] = 0.7,
    class_map: Annotated[
        Path | None,
        typer.Option(help="YAML, lines `theirs: ours` (names, ids, `ignore`), where names differ."),
    ] = None,
    classes: Annotated[
        Path | None, typer.Option(help="YAML list of names, of an .onnx file that tells none.")
    ] = None,
    teacher_size: Annotated[
        str,
        typer.Option(
            metavar="WIDTHxHEIGHT", help="Of the teacher's pictures; default: what it says itself."
        ),
    ] = "",
    frames: Annotated[
        int,
        typer.Option(min=1, max=MOST, help="About as many are labelled, spread over all drives."),
    ] = 600,
    steps: Annotated[
        int, typer.Option(min=0, max=MOST, help="Of the training; 0: as the recipe `adapt` says.")
    ] = 0,
    params: Params = None,
    device: NetworkDevice = "auto",
    jobs: Jobs = ALL_CORES,
    ray: RayAddress = "",
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override the recipe `adapt`."),
    ] = None,
) -> None:
    """Make the student yours: a camera-only teacher labels your drives, every sensor learns it.

    No labels and no other data set. Writes student.safetensors, and report.html: what each lost
    sensor costs before and after, on the last fifth of each drive. Killed, it goes on.

    [dim]Example:[/] robustseg adapt monday.mcap tuesday.mcap --teacher
    nvidia/segformer-b0-finetuned-cityscapes-640-1280 --out mine
    """
    from robustseg_core.engines.weights import weights_file
    from robustseg_core.learn.adapt import Adaptation
    from robustseg_core.learn.adapt import adapt as run
    from robustseg_core.types import parse_size

    words = [f"optim.steps={steps}"] if steps else []
    with progress_bar("%") as progress:
        task, stage = progress.add_task("reading", total=100), "reading"

        def enter(name: str) -> None:
            nonlocal stage
            stage = name
            progress.update(task, completed=0, description=name)

        def show(share: float, word: str) -> None:
            text = f"{stage}: {word}" if word else stage
            progress.update(task, completed=round(100 * share), description=text)

        account = run(
            bags,
            teacher,
            out,
            Adaptation(
                params=params,
                confidence=confidence,
                frames=frames,
                class_map=class_map,
                classes=classes,
                teacher_size=parse_size(teacher_size) if teacher_size else None,
                words=(*words, *(overrides or ())),
                device=device,
            ),
            student=weights_file(student),
            jobs=jobs,
            ray=ray,
            on_stage=enter,
            on_progress=show,
        )
    answer(account)
    for notice in account["notices"]:
        err.notice(notice)
    for side, table in account["against"].items():
        err.print(_table(side, table))
    if "truth" not in account["against"]:
        err.notice("these drives carry no labels: right is what the teacher says where it is sure")
    for name in ("report.html", "report.json", "student.safetensors"):
        err.say(f"  {out / name}")


def _table(side: str, account: dict[str, Any]) -> Table:
    """What each lost sensor costs, before and after."""
    whose = "the drives' labels" if side == "truth" else "the teacher, where it is sure"
    title = f"mIoU, % beside {whose}: {account['frames']} held-out frames; {account['rule']}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("sensors")
    for name in ("before", "after", "cost of the loss"):
        table.add_column(name, justify="right")
    before, after = account["before"], account["after"]
    table.add_row("all", _percent(before["full"]), _percent(after["full"]), "")
    for name, lost in after["lost"].items():
        earlier = before["lost"][name]["miou"]
        table.add_row(
            f"without {name}", _percent(earlier), _percent(lost["miou"]), _percent(lost["cost"])
        )
    table.add_row("mean of subsets", _percent(before["mean"]), _percent(after["mean"]), "")
    if account.get("teacher") is not None:
        table.add_row("the teacher, camera alone", _percent(account["teacher"]), "", "")
    return table


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
