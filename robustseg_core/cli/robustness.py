"""The command that breaks every sensor in every way: `robustseg robustness`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from robustseg_core.cli.early import expect_params, expect_recordings, expect_weights
from robustseg_core.cli.options import ALL_CORES, MOST_SEEDS, Jobs, Overrides, Params, RayAddress
from robustseg_core.cli.terminal import answer, err, literal, progress_bar
from robustseg_core.errors import RobustsegError
from robustseg_core.text import visible

if TYPE_CHECKING:
    from robustseg_core.robustness.safety import Interval
    from robustseg_core.robustness.severities import Injection
    from robustseg_core.types import ModelSpec

OUT, NODE_OUT = Path("out/robustness"), Path("out/node")
"""Where results go if nothing is said: of us, and of somebody's node."""
LASTS_S = 5.0
"""`severities.LASTS_S`, which loads torch."""
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
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = OUT,
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
    severities: Annotated[
        str,
        typer.Option(
            metavar="1-5",
            help="Instead of the matrix: faults at these severities, and figures by severity.",
        ),
    ] = "",
    faults: Annotated[
        str, typer.Option(metavar="dust,dew", help="With --severities: only these faults.")
    ] = "",
    lasts: Annotated[
        float, typer.Option(min=1, max=600, help="With --severities: seconds of each fault.")
    ] = LASTS_S,
    ftti: Annotated[
        float | None,
        typer.Option(
            metavar="MS",
            help="Fault-tolerant time interval in milliseconds: safety table, and exit code 1 if "
            "detection and reaction exceed it.",
        ),
    ] = None,
    reaction: Annotated[
        float,
        typer.Option(metavar="MS", help="With --ftti: milliseconds from detection to safety."),
    ] = 0.0,
    node: Annotated[
        str,
        typer.Option(
            metavar="THEIRS",
            help="Any ROS 2 node as a black box instead: a launch file, or a command; over DDS, "
            "by its masks alone.",
        ),
    ] = "",
    topics: Annotated[
        str,
        typer.Option(
            metavar="mask:=/labels,rgb:=/image",
            help="With --node: where its masks come from, and where it wants what is played.",
        ),
    ] = "",
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEEDS, help="Of the faults.")] = 0,
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
        float,
        typer.Option(min=0, max=10_000, help="Simulated minutes more that are watched only."),
    ] = 0.0,
    overrides: Overrides = None,
) -> None:
    """Break every sensor in every way and measure: found in time, rightly named, masks going on?

    Exit code 1 if a row fails. Interrupted, it goes on where it was. With --severities it is
    measured instead, severity by severity: mCE, mRR, mRRA, delays, false alarms.

    [dim]Example:[/] robustseg robustness --sim --jobs 4
    [dim]Example:[/] robustseg robustness drive.mcap --severities 1-5 --faults dust,misaligned
    [dim]Example:[/] robustseg robustness drive.mcap --node 'python node.py' --topics mask:=/labels
    """
    if node or topics:
        raise typer.Exit(_black_box(node, topics, bags or [], out, rows, seed))
    levels = _levels(severities, {"--faults": faults, "--lasts": lasts != LASTS_S}, rows, tests)
    interval = _interval(ftti, reaction)
    if sim == bool(bags):
        raise RobustsegError("give drives or --sim: robustseg robustness drive.mcap")
    expect_params(params)
    expect_recordings([*(bags or []), *(healthy or [])])
    expect_weights(weights)
    from robustseg_core.jobs import Workers
    from robustseg_core.robustness.run import (
        SIM_SECONDS,
        long_drives,
        run,
        run_severities,
        simulated,
    )
    from robustseg_core.robustness.severities import AFTER_S, BEGINS_S, injections
    from robustseg_core.storage.output_folder import claimed

    words = _overrides(overrides or [], params, weights, score=score)
    wanted = parse_rows(rows)
    done = injections(_words(faults), levels, lasts_s=lasts) if levels else []
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
        seconds = BEGINS_S + lasts + AFTER_S + 0.5 if done else SIM_SECONDS
        if done:
            folder = out / f"drives_{seconds:g}s"
        drives = bags or simulated(
            folder, seconds=seconds, preset=preset, workers=workers, on_drive=show
        )
        if minutes:
            extra += long_drives(folder, minutes, workers=workers, on_drive=show)
        progress.update(task, completed=0, total=None, description="breaking")
        common: dict[str, Any] = {
            "healthy": extra,
            "params": params,
            "overrides": words,
            "score": score,
            "seed": seed,
            "jobs": jobs,
            "ray": ray,
            "fresh": fresh,
            "interval": interval,
            "on_task": show,
        }
        if done:
            summary = run_severities(drives, out, done=done, exposure=_exposure(done), **common)
        else:
            summary = run(drives, out, rows=wanted, paired=pairs, checkout=tests, **common)
    answer(summary)
    (_print_severities if done else _print)(summary, out)
    if _fails(summary, out):
        raise typer.Exit(1)


def _fails(summary: dict[str, Any], out: Path) -> bool:
    """Whether a row of the matrix, or of the safety table, which is printed, fails."""
    judged = summary.get("safety", {"rows_failed": 0})
    if "rows" in judged:
        _print_safety(judged, out)
    return bool(summary.get("rows_failed") or judged["rows_failed"])


def _overrides(
    given: list[str], params: Path | None, weights: str | None, *, score: bool
) -> list[str]:
    """The words that win over robot.yaml, the checkpoint among them."""
    from robustseg_core import config

    if weights is not None:
        return [*given, f"weights={config.scalar(weights)}"]
    if not score and "weights" not in config.override(_tree(params), given):
        return [*given, "weights=untrained"]  # it need not even be loaded
    return list(given)


def _black_box(node: str, topics: str, bags: list[Path], out: Path, rows: str, seed: int) -> int:
    """Have the ROS layer play a drive to somebody's node; the exit code.

    Raises:
        RobustsegError: words that make no sense, or ROS is not installed.
    """
    from robustseg_core.cli.node import run_program
    from robustseg_core.cli.told import wished

    if not node:
        raise RobustsegError("--topics belongs to --node; say how the node is started")
    if len(bags) != 1:
        raise RobustsegError(f"--node wants one drive, and {len(bags)} are given")
    expect_recordings(bags)
    parse_rows(rows)
    folder = NODE_OUT if out == OUT else out
    words = ["--node", node, "--topics", topics, "--rows", rows, "--seed", str(seed)]
    return run_program("robustseg_ros.foreign", str(bags[0]), *words, *wished(folder))


def _levels(severities: str, beside: dict[str, object], rows: str, tests: Path | None) -> list[int]:
    """The severities that are asked for.

    Raises:
        RobustsegError: no such list, or options that do not go together.
    """
    levels = parse_numbers(severities, "severities", "1,3,5 or 1-5")
    if not levels and (lost := [name for name, given in beside.items() if given]):
        raise RobustsegError(f"{lost[0]} belongs to --severities; add e.g. --severities 1-5")
    if levels and (rows or tests is not None):
        raise RobustsegError("--severities is not of the matrix; leave out --rows and --tests")
    return levels


def _interval(ftti: float | None, reaction: float) -> Interval | None:
    """Into which detection and reaction are to fit.

    Raises:
        RobustsegError: it leaves no time, or there is only a reaction.
    """
    if ftti is None:
        if reaction:
            raise RobustsegError("--reaction belongs to --ftti; give the interval, e.g. --ftti 500")
        return None
    from robustseg_core.robustness.safety import Interval

    return Interval(ftti, reaction)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _exposure(done: list[Injection]) -> Callable[[ModelSpec], dict[str, dict[str, str]]]:
    from robustseg_core.learn.exposure import exposure_of

    names = list(dict.fromkeys(injection.fault for injection in done))
    return lambda spec: exposure_of(spec, names)


def _tree(params: Path | None) -> dict[str, Any]:
    from robustseg_core import config

    return {} if params is None else config.read_file(params)


def parse_rows(text: str) -> list[int]:
    """`1,5,20-23` as numbers; nothing: all rows.

    Raises:
        RobustsegError: no such list.
    """
    return parse_numbers(text, "rows", "1,5,20-23")


def parse_numbers(text: str, what: str, example: str) -> list[int]:
    """Numbers and ranges, as people write them.

    Raises:
        RobustsegError: no such list.
    """
    found: list[int] = []
    for word in filter(None, (part.strip() for part in text.split(","))):
        first, dash, last = word.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise RobustsegError(f"{what} are {text!r}; write numbers and ranges, e.g. {example}")
        if dash and int(last) < int(first):
            raise RobustsegError(f"{what} {word} are none; write {last}-{first}")
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
        if summary[key] is not None:
            err.say(f"  {key}: {summary[key]}")
    _print_end(summary, out, "report.html", "robustness")


def _print_severities(summary: dict[str, Any], out: Path) -> None:
    table = Table(
        title=f"{len(summary['faults'])} faults by severity",
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    heads = ("severity", "cases", "found", "by name", "p50", "p95", "p99")
    for name in (*heads, "ours", "ungated", "oracle"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in summary["severities"]:
        delays = (row[f"delay_p{q}_s"] for q in (50, 95, 99))
        scores = (row["miou"][n] for n in ("ours", "ungated", "oracle"))
        table.add_row(
            *(str(row[key]) for key in ("severity", "cases", "detected", "named")),
            *("" if value is None else f"{value:.2f}" for value in (*delays, *scores)),
        )
    err.print(table)
    told = summary["figures"]
    if summary["scored"]:
        figures = {
            "mCE against ungated": told["mce"]["ungated"]["ours"],
            "mRR, mRA": told["mrr"]["ours"],
            "mRRA against ungated": told["mrra"]["ungated"]["ours"],
        }
        for name, value in figures.items():
            err.say(f"  {name}: {value}")
    alarms = summary["false_alarms"]
    err.say(
        f"  false alarms: {alarms['alarms']['count']} in {alarms['sensor_hours']:.2f} sensor "
        f"hours, below {alarms['alarms']['upper_95']} an hour with 95 % confidence"
    )
    _print_end(summary, out, "severities.html", "severities")


def _print_end(summary: dict[str, Any], out: Path, page: str, stem: str) -> None:
    """What limits the figures, and where they are."""
    if summary["skipped"]:
        err.notice(f"{len(summary['skipped'])} cases do not fit these drives")
    if summary["scored"] and not summary["trained"]:
        err.say("random weights; mIoU shows plumbing only", head="untrained:", style="yellow")
    for name in (page, *(f"{stem}.{kind}" for kind in ("json", "csv", "md"))):
        err.say(f"  {out / name}")


def _print_safety(judged: dict[str, Any], out: Path) -> None:
    from robustseg_core.robustness.safety import passes

    err.say(f"  safety: {passes(judged)}")
    for row in judged["rows"]:
        if not row["passed"]:
            severity = "" if row["severity"] is None else f" at severity {row['severity']}"
            err.say(f"{row['fault']}{severity}, {row['sensor']}: {row['why']}", head="exceeds:")
    for name in ("safety.json", "safety.csv"):
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
    for name in ("cases", "p50", "p95", "limit"):
        table.add_column(name, justify="right", no_wrap=True, min_width=5)
    policies = ("ours", "oracle", "all_or_nothing") if summary["scored"] else ()
    for name in policies:
        words = name.split("_")
        table.add_column(" ".join(words), justify="right", min_width=max(map(len, words)))
    for row in summary["rows"]:
        if not row["cases"]:
            continue
        color = "green" if row["passed"] else "red"
        miou = (row["miou"][name] for name in policies)
        numbers = (row["delay_p50_s"], row["delay_p95_s"], row["limit_s"] or None, *miou)
        table.add_row(
            str(row["row"]),
            row["fault"],
            literal(f"{row['cases_passed']}/{row['cases']}", color),
            *("" if value is None else f"{value:.2f}" for value in numbers),
        )
    return table
