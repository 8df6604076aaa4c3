"""The verdict for people: a table of ticks, then what is wrong and what to type."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from robustseg_core.doctor.report import COLUMNS, Check, Report, Row, Status

_TITLES = {"publishers": "pubs", "calibration": "calib", "rate": "Hz"}
_STYLE = {Status.OK: "green", Status.WARN: "yellow", Status.BAD: "bold red", Status.NONE: "dim"}


def show(report: Report, console: Console) -> None:
    """Print `report`; one line of every problem says where, what and the fix."""
    title = f"{report.source}: {report.seconds:.1f} s"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0, pad_edge=False)
    for column in ("", *COLUMNS):
        table.add_column(_TITLES.get(column, column), no_wrap=True)
    for row in report.rows:
        if row.name != "node":
            table.add_row(row.name, *(_cell(row.check(name)) for name in COLUMNS))
    if table.row_count:
        console.print(table)
    for row in report.rows:
        for check in row.checks:
            if check.status in (Status.WARN, Status.BAD):
                _problem(row, check, console)
    for row in report.rows:
        if row.name == "node":
            for check in (c for c in row.checks if c.status is Status.OK and c.found):
                console.print(f"  {check.name}: {escape(check.found)}", highlight=False)
    style = _STYLE[report.status]
    console.print(f"[{style}]{_closing(report)}[/]", highlight=False)


def _cell(check: Check) -> str:
    word = check.status.value
    if check.name == "rate" and " Hz" in check.found:
        word = check.found.split()[0]
    return f"[{_STYLE[check.status]}]{escape(word)}[/]"


def _problem(row: Row, check: Check, console: Console) -> None:
    style, topic = _STYLE[check.status], f" ({row.topic})" if row.topic else ""
    head = f"[{style}]{check.status.value:<4}[/] {row.name} {check.name}"
    text = f"{head}{escape(topic)}: {escape(check.found)}"
    console.print(text, highlight=False, soft_wrap=True)
    if check.fix:
        console.print(f"     fix: {escape(check.fix)}", highlight=False, soft_wrap=True)


def _closing(report: Report) -> str:
    counts = {
        status: sum(check.status is status for row in report.rows for check in row.checks)
        for status in (Status.BAD, Status.WARN)
    }
    if not any(counts.values()):
        return "all is well"
    return ", ".join(f"{count} {status.value}" for status, count in counts.items() if count)
