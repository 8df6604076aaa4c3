"""The report for people: a table of ticks, then what is wrong and what to type."""

from __future__ import annotations

import io

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from robustseg_core.cli.guard import wishes
from robustseg_core.cli.terminal import Terminal, err, literal, put
from robustseg_core.doctor.report import COLUMNS, Check, Report, Row, Status

PAGE = 100
"""Columns of a report in a file."""
_TITLES = {"publishers": "pubs", "calibration": "calib", "rate": "Hz"}
_STYLE = {Status.OK: "green", Status.WARN: "yellow", Status.BAD: "bold red", Status.NONE: "dim"}


def tell(report: Report) -> None:
    """Say `report` as text: in the file that was asked for, or to who reads along."""
    if wishes.out is None:
        show(report, err)
        return
    page = Terminal()
    page.file, page.width = io.StringIO(), PAGE
    show(report, page)
    put("".join(f"{line.rstrip()}\n" for line in page.file.getvalue().splitlines()))


def show(report: Report, terminal: Terminal) -> None:
    """Print `report`; one line of every problem says where, what and the fix."""
    table = _table(report)
    if table.row_count:
        terminal.print(table)
    checks = [(row, check) for row in report.rows for check in row.checks]
    for row, check in checks:
        if check.status in (Status.WARN, Status.BAD):
            _problem(row, check, terminal)
    for notice in report.notices:
        terminal.notice(notice)
    for row, check in checks:
        if row.name == "node" and check.status is Status.OK and check.found:
            terminal.say(f"  {check.name}: {check.found}")
    for text in report.unseen:
        terminal.say(text, head="not examined:", style="dim")
    terminal.print(literal(_closing(report), _STYLE[report.status]), soft_wrap=True)


def _table(report: Report) -> Table:
    """A row for every stream, and one for the transforms."""
    title = f"{report.source}: {report.seconds:.1f} s"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0, pad_edge=False)
    for column in ("", *COLUMNS):
        table.add_column(_TITLES.get(column, column), no_wrap=True)
    for row in report.rows:
        if row.name != "node":
            table.add_row(row.name, *(_cell(row.check(name)) for name in COLUMNS))
    return table


def _cell(check: Check) -> Text:
    word = check.status.value
    if check.name == "rate" and " Hz" in check.found:
        word = check.found.split()[0]
    return literal(word, _STYLE[check.status])


def _problem(row: Row, check: Check, terminal: Terminal) -> None:
    topic = f" ({row.topic})" if row.topic else ""
    text = f"{row.name} {check.name}{topic}: {check.found}"
    terminal.say(text, head=f"{check.status.value:<4}", style=_STYLE[check.status])
    if check.fix:
        terminal.say(f"     fix: {check.fix}")


def _closing(report: Report) -> str:
    counts = {
        status.value: sum(check.status is status for row in report.rows for check in row.checks)
        for status in (Status.BAD, Status.WARN)
    }
    counts["notice" if len(report.notices) == 1 else "notices"] = len(report.notices)
    if not any(counts.values()):
        heard = ", ".join(report.heard) or "nothing"
        return f"all is well in what was examined: {heard}, for {report.seconds:.1f} s"
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count)
