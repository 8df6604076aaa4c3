"""What `inspect` found, as a table for people and a robot.yaml for standard output."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from robustseg_core.cli.guard import wishes
from robustseg_core.cli.terminal import err, literal, put
from robustseg_core.recording.survey import Survey


def show(found: Survey, source: str) -> None:
    """Print a survey of `source`: the table to standard error, and the file to output."""
    title = f"{source}: {found.duration_s:.2f} s"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("sensor", no_wrap=True)
    table.add_column("topic, type", overflow="fold")
    for name in ("count", "Hz", "gap, ms"):
        table.add_column(name, justify="right", no_wrap=True)
    for topic in found.topics:
        rate = "" if topic.rate_hz is None else f"{topic.rate_hz:.2f}"
        gap = "" if topic.largest_gap_ms is None else f"{topic.largest_gap_ms:.0f}"
        what = Text.assemble(literal(topic.topic), "\n", literal(topic.type, "dim"))
        if not topic.decodable:
            what.append("\n").append_text(literal(topic.problem, "red"))
        table.add_row(topic.stream or topic.modality or "", what, str(topic.count), rate, gap)
    err.print(table)
    for notice in found.notices:
        err.notice(notice)
    err.print()
    where = wishes.out or "standard output"
    err.print(f"robot.yaml, guessed (this part goes to {where}):", style="dim")
    put(found.robot_yaml(several=True))
