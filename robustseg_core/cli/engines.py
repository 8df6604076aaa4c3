"""The commands about what runs the network: `robustseg export` and `robustseg bench`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from robustseg_core.cli.options import MOST, Overrides, Params
from robustseg_core.cli.terminal import answer, err, progress_bar
from robustseg_core.text import visible

commands = typer.Typer()


@commands.command()
def export(
    weights: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="It stays as it is.")],
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="What a robot's `weights` may name (.rseg).")
    ],
    engine: Annotated[
        str, typer.Option(metavar="openvino|onnxruntime", help="What runs it.")
    ] = "openvino",
    precision: Annotated[
        str,
        typer.Option(
            metavar="fp32|fp16|int8",
            help="What it counts in; int8 is calibrated on the drive. What less than fp32 costs "
            "is measured.",
        ),
    ] = "fp32",
    size: Annotated[
        str,
        typer.Option(
            metavar="WIDTHxHEIGHT", help="Of the network's input; default: as it was trained."
        ),
    ] = "",
    drive: Annotated[
        Path | None,
        typer.Option(
            metavar="BAG", help="What its labels are compared on; default: random numbers."
        ),
    ] = None,
    frames: Annotated[
        int, typer.Option(min=1, max=MOST, help="Sets of the drive that are compared.")
    ] = 50,
    every: Annotated[int, typer.Option(min=1, max=MOST, help="Compare every n-th set.")] = 3,
    params: Params = None,
    overrides: Overrides = None,
) -> None:
    """Make a network ready for an engine: one file, with the proof that it says the same.

    [dim]Example:[/] robustseg export student.safetensors --out student.rseg --drive drive.mcap
    """
    from robustseg_core.engines.weights import weights_file
    from robustseg_core.recording.export import Drive
    from robustseg_core.recording.export import export as run
    from robustseg_core.types import parse_size

    with progress_bar("sets") as progress:
        task = progress.add_task("comparing", total=None)
        report = run(
            weights_file(weights),
            out,
            engine=engine,
            precision=precision,
            size=parse_size(size) if size else None,
            drive=Drive(drive, frames, every, params, tuple(overrides or ())),
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    answer(
        {
            "engine": engine,
            "precision": precision,
            "drive": drive,
            "subsets": report.subsets,
            **report.cost,
            "out": out,
        }
    )
    on = visible(drive.name) if drive else "random numbers"
    table = Table(
        title=f"{visible(engine)} in {precision} beside PyTorch, on {on}",
        title_justify="left",
        box=SIMPLE_HEAD,
    )
    table.add_column("alive")
    for head in ("sets", "labels equal, %", "confidence, levels of 255"):
        table.add_column(head, justify="right")
    for name, row in report.subsets.items():
        equal = f"{100 * row['labels_equal']:.4f}"
        table.add_row(name, str(row["frames"]), equal, str(row["levels"]))
    err.print(table)
    if report.cost:
        err.say(_told(report.cost))
    err.say(f"  {out}")


def _told(cost: Mapping[str, float]) -> str:
    """What less than float32 costs and brings, in a line."""
    line = f"  {cost['times_as_fast']:.2f} times as fast as in fp32 (CPU time of whole masks)"
    if "miou" in cost:
        before, after = 100 * cost["miou_fp32"], 100 * cost["miou"]
        line += f"; mIoU {after:.1f} %, {before:.1f} % in fp32"
    return line


@commands.command()
def bench(
    weights: Annotated[
        str,
        typer.Argument(
            metavar="[WEIGHTS]",
            help="A checkpoint, or what `robustseg export` made; default: the shipped student.",
        ),
    ] = "street",
    engine: Annotated[
        list[str] | None,
        typer.Option(
            metavar="eager|openvino|onnxruntime",
            help="One to compare (repeatable); default: all that are installed.",
        ),
    ] = None,
    threads: Annotated[
        int, typer.Option(min=0, max=1024, help="Of each; 0: all cores but one.")
    ] = 0,
    rounds: Annotated[int, typer.Option(min=1, max=10_000, help="Times that each is asked.")] = 15,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("out/bench"),
) -> None:
    """Compare the engines on this machine, side by side, and recommend one.

    [dim]Example:[/] robustseg bench student.safetensors --threads 2
    """
    from robustseg_core.engines import artifact
    from robustseg_core.engines.bench import Bench
    from robustseg_core.engines.weights import weights_file
    from robustseg_core.storage.output_folder import staged

    path = weights_file(weights)
    many = threads or max(1, (os.cpu_count() or 2) - 1)
    with progress_bar("rounds") as progress:
        task = progress.add_task("measuring", total=rounds)
        done = Bench.of(
            path,
            artifact.load(path).model,
            engines=engine or (),
            threads=many,
            rounds=rounds,
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    with staged(out, command="bench", inputs=[path]) as folder:
        done.write(folder)
    answer(done.account())
    err.print(done.table())
    err.say(done.advice())
    for name in ("bench.json", "bench.md", "bench.png"):
        err.say(f"  {out / name}")
