"""The command that breaks every sensor in every way: `robustseg robustness`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from robustseg_core.cli.early import expect_params, expect_recordings, expect_weights
from robustseg_core.cli.options import ALL_CORES, Jobs, Overrides, Params, RayAddress
from robustseg_core.cli.terminal import answer, err, literal, progress_bar
from robustseg_core.errors import RobustsegError
from robustseg_core.text import visible

commands = typer.Typer()


@commands.command()
def robustness(
    bags: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[BAG...]", help="Healthy drives with truth; each is one drive."),
    ] = None,
    *,
    sim: Annotated[
        bool, typer.Option("--sim", help="Simulate a drive for each of the five conditions.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("out/robustness"),
    jobs: Jobs = ALL_CORES,
    ray: RayAddress = "",
    weights: Annotated[
        str | None,
        typer.Option(
            help="Checkpoint (.safetensors), or `untrained`; default: robot.yaml's, or shipped."
        ),
    ] = None,
    params: Params = None,
    rows: Annotated[
        str, typer.Option(metavar="1,5,20-23", help="Only these rows of the matrix.")
    ] = "",
    pairs: Annotated[
        bool, typer.Option(help="Each case also while another sensor is silent.")
    ] = True,
    score: Annotated[
        bool, typer.Option(help="Run the network: mIoU of us, of others, of an oracle.")
    ] = True,
    seed: Annotated[int, typer.Option(min=0, help="Of the faults.")] = 0,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Do again what an earlier run has done.")
    ] = False,
    tests: Annotated[
        Path | None,
        typer.Option(
            metavar="CHECKOUT", help="Run its tests for the rows that no recording can show."
        ),
    ] = None,
    preset: Annotated[
        str, typer.Option(metavar="tiny|default|hd", help="Of the simulated drives.")
    ] = "default",
    healthy: Annotated[
        list[Path] | None,
        typer.Option(metavar="BAG", help="Healthy, watched for false alarms only (repeatable)."),
    ] = None,
    minutes: Annotated[
        float, typer.Option(min=0, help="Simulated minutes more that are watched only.")
    ] = 0.0,
    overrides: Overrides = None,
) -> None:
    """Break every sensor in every way and measure: found in time, rightly named, masks going on?

    Exit code 1 if a row fails. Interrupted, it goes on where it was.

    [dim]Example:[/] robustseg robustness --sim --jobs 4
    """
    if sim == bool(bags):
        raise RobustsegError("give drives or --sim: robustseg robustness drive.mcap")
    expect_params(params)
    expect_recordings([*(bags or []), *(healthy or [])])
    expect_weights(weights)
    from robustseg_core import config
    from robustseg_core.jobs import Workers
    from robustseg_core.robustness.run import long_drives, run, simulated
    from robustseg_core.storage.output_folder import claimed

    words = list(overrides or [])
    if weights is not None:
        words.append(f"weights={config.scalar(weights)}")
    elif not score and "weights" not in config.override(_tree(params), words):
        words.append("weights=untrained")  # it need not even be loaded
    wanted = parse_rows(rows)
    inputs: list[Path | str] = [
        *(bags or []),
        *(healthy or []),
        *(path for path in (params, weights) if path),
    ]
    with (
        claimed(out, command="robustness", inputs=inputs) as held,
        progress_bar("cases") as progress,
    ):
        held.open()
        task = progress.add_task("simulating" if sim else "breaking", total=None)

        def show(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        folder, extra, workers = out / "drives", list(healthy or []), Workers(jobs, ray)
        drives = bags or simulated(folder, preset=preset, workers=workers, on_drive=show)
        if minutes:
            extra += long_drives(folder, minutes, workers=workers, on_drive=show)
        progress.update(task, completed=0, total=None, description="breaking")
        summary = run(
            drives,
            out,
            healthy=extra,
            params=params,
            overrides=words,
            rows=wanted,
            paired=pairs,
            score=score,
            seed=seed,
            jobs=jobs,
            ray=ray,
            fresh=fresh,
            checkout=tests,
            on_task=show,
        )
    answer(summary)
    _print(summary, out)
    if summary["rows_failed"]:
        raise typer.Exit(1)


def _tree(params: Path | None) -> dict[str, Any]:
    from robustseg_core import config

    return {} if params is None else config.read_file(params)


def parse_rows(text: str) -> list[int]:
    """`1,5,20-23` as numbers; nothing: all rows.

    Raises:
        RobustsegError: no such list.
    """
    found: list[int] = []
    for word in filter(None, (part.strip() for part in text.split(","))):
        first, dash, last = word.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise RobustsegError(f"rows are {text!r}; write numbers and ranges, e.g. 1,5,20-23")
        found += range(int(first), int(last if dash else first) + 1)
    return found


def _print(summary: dict[str, Any], out: Path) -> None:
    err.print(_table(summary))
    for row in summary["rows"]:
        for line in row["failed"]:
            err.say(line, head="failed:", style="red")
    for test, outcome in {t: o for r in summary["rows"] for t, o in r["proofs"].items()}.items():
        if outcome != "passed":
            err.say(test, head=f"{visible(outcome)}:", style="red")
    for key in (
        "detection_within_deadline",
        "false_dead_per_hour",
        "wrong_bit_share",
        "miou_vs_oracle",
    ):
        err.say(f"  {key}: {summary[key]}")
    if summary["skipped"]:
        err.notice(f"{len(summary['skipped'])} cases do not fit these drives")
    if summary["scored"] and not summary["trained"]:
        err.say("random weights; mIoU shows plumbing only", head="untrained:", style="yellow")
    for name in ("report.html", "robustness.json", "robustness.csv", "robustness.md"):
        err.say(f"  {out / name}")


def _table(summary: dict[str, Any]) -> Table:
    """A row for every row of the matrix that was tried."""
    from robustseg_core.robustness.table import passes

    table = Table(
        title=passes(summary),
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.add_column("row", justify="right", no_wrap=True)
    table.add_column("fault", overflow="ellipsis", no_wrap=True, max_width=22)
    for name in ("cases", "p50", "p95", "limit", "ours", "oracle", "all or nothing"):
        table.add_column(name, justify="right", no_wrap=True, min_width=max(4, len(name)))
    for row in summary["rows"]:
        if not row["cases"]:
            continue
        color = "green" if row["passed"] else "red"
        miou = (row["miou"][name] for name in ("ours", "oracle", "all_or_nothing"))
        numbers = (row["delay_p50_s"], row["delay_p95_s"], row["limit_s"] or None, *miou)
        table.add_row(
            str(row["row"]),
            row["fault"],
            literal(f"{row['cases_passed']}/{row['cases']}", color),
            *("" if value is None else f"{value:.2f}" for value in numbers),
        )
    return table
