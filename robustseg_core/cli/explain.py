"""`robustseg explain`: what the black box wrote around a fault."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robustseg_core.cli.main import NOTICED
from robustseg_core.cli.options import Strict
from robustseg_core.cli.terminal import answer, err

commands = typer.Typer()
DIFFERS = 1
"""Exit code where a decision was not made again as it had been, or none could be."""


@commands.command()
def explain(
    file: Annotated[Path, typer.Argument(metavar="FAULT.mcap", help="Of the black box.")],
    out: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("out/explain"),
    *,
    strict: Strict = False,
) -> None:
    """Why did it decide so? A fault's file through the same gate: equal to the bit, and a report.

    [dim]Example:[/] robustseg explain black_box/fault_20260131T120000Z_rgb_silent.mcap
    """
    from robustseg_core.recording.explain import explain as explained

    account = explained(file, out).account
    if not answer(dict(account)):
        for fault in account["faults"]:
            err.say(f"{fault['at']}: {fault['words']}")
    for notice in account["notices"]:
        err.notice(notice)
    head, style = ("equal:", "green") if account["reproduced"] else ("differs:", "red")
    if not account["decisions"] + account["states"]:
        head = "nothing:"
    err.say(account["conclusion"], head=head, style=style)
    for name in ("report.html", "explain.json"):
        err.say(f"  {out / name}")
    if not account["reproduced"]:
        raise typer.Exit(DIFFERS)
    if strict and account["notices"]:
        raise typer.Exit(NOTICED)
