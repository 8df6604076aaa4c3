"""`robustseg import`: a published checkpoint becomes one of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robustseg_core.cli.terminal import answer, err
from robustseg_core.errors import RobustsegError

commands = typer.Typer()


@commands.command("import")
def import_(
    weights: Annotated[
        str,
        typer.Argument(
            metavar="WEIGHTS",
            help="The published file (.pth, .pt, .bin, .safetensors), or OWNER/NAME on the "
            "Hugging Face hub.",
        ),
    ],
    system: Annotated[
        str,
        typer.Option(
            "--as", metavar="anyseg|robustseg|rmmss|cmnext|segformer", help="Whose it is."
        ),
    ],
    kind: Annotated[
        str,
        typer.Option(metavar="deliver|muses|mcubes", help="What it was trained on."),
    ],
    out: Annotated[Path, typer.Option(help="The checkpoint (.safetensors) to write.")],
    modalities: Annotated[
        str,
        typer.Option(
            metavar="NAME,NAME", help="Its sensors, in its order; default: all of the data set."
        ),
    ] = "",
    size: Annotated[
        str,
        typer.Option(
            metavar="WIDTHxHEIGHT",
            help="Of its input; default: that of the published figures, 1024x1024.",
        ),
    ] = "",
    missing: Annotated[
        str,
        typer.Option(
            metavar="skip|zero",
            help="How its tables represent missing sensors; default: as its system's.",
        ),
    ] = "",
    options: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Option of the data set, over how the papers read it (repeatable).",
        ),
    ] = None,
) -> None:
    """Make a checkpoint of a published one: AnySeg, RobustSeg, RMMSS, CMNeXt or SegFormer.

    Names and shapes of the tensors must fit to the last; nothing of the file is executed. Classes,
    encodings, size and how the data are read go into the checkpoint, so that `eval` and `run` need
    no other option. The weights keep their authors' license.

    [dim]Example:[/] robustseg import RobustSeg.pth --as robustseg --kind deliver --out
    robustseg.safetensors
    """
    from robustseg_core import config
    from robustseg_core.learn.official import import_official
    from robustseg_core.types import parse_size

    if missing not in ("", "skip", "zero"):
        raise RobustsegError(f"missing is {missing!r}; give skip or zero")
    made = import_official(
        weights,
        out,
        system=system,
        kind=kind,
        modalities=[name.strip() for name in modalities.split(",") if name.strip()],
        size=parse_size(size) if size else None,
        missing=missing,
        options=config.override({}, options or ()),
    )
    spec, report = made.spec, made.report
    answer({"spec": spec.model_dump(mode="json"), "unused": list(report.unused), "out": out})
    err.say(
        f"{len(report.used)} tensors used, {len(report.unused)} of no use here: {spec.backbone}, "
        f"head {spec.head_width}, {len(spec.classes)} classes of {kind}, "
        f"{', '.join(spec.modalities)} at {spec.size[1]}x{spec.size[0]}"
    )
    err.say(f"  {out}")
    err.say(f"next: robustseg eval {out} DATA, or robustseg run BAG --weights {out}")
