"""Write the pages of this folder that are tables of the code: commands, parameters, topics.

    python docs/reference/pages.py

Commands are those of `robustseg_core/cli/`, parameters the fields of `RobotConfig`, topics and
services the entries of `robustseg_core/output/topics.py`. What stands between two marks of
`topics.md` is made here; the rest of that page is written by hand.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import typer

from robustseg_core import modalities
from robustseg_core.cli import entry
from robustseg_core.output import topics
from robustseg_core.robot.parameters import LEGEND, Parameter, parameters

HERE = Path(__file__).resolve().parent
MADE = "Made by `python docs/reference/pages.py` of what the code has; do not edit it."
SHARED = ("quiet", "as_json")
"""Options that all commands have; `EVERYWHERE` says so once."""
EVERYWHERE = (
    "Every command has `-h`, `--help` and `-q`, `--quiet`, and all but `live` have `--json`:",
    "[the command line](../command_line.md).",
)
NOTES = {
    "rgb": "raw encodings, Bayer, YUV, JPEG, PNG; [or `auto`](../robot/README.md#which-topics)",
    "depth": "16UC1 mm, 32FC1 m, compressedDepth (png, rvl)",
    "event": "[all formats](../specs/events.md) of these packages, and clouds of x y t p",
    "lidar": "any layout; needs CameraInfo, and `/tf_static` or [`/tf`](../specs/transforms.md)",
}
"""What a row of inputs says of a modality; of another one, its docstring's first line."""
BESIDE = (
    "| `streams.rgb.front.topic`, `streams.lidar.top.topic` | as without a name "
    "| of several cameras and LiDARs: [a mask for each camera](../specs/cameras.md) |",
    "| `streams.<name>.camera_info` | CameraInfo | empty: the `camera_info` beside the topic |",
    "| `/tf`, `/tf_static` | tf2_msgs/TFMessage | only where something must be projected |",
)
"""Inputs that are no modality's own topic."""


def cell(text: str) -> str:
    """Plain words as a cell of a table: Typer's markup gone, on one line."""
    return " ".join(re.sub(r"\[/?[a-z ]*\]", "", text).replace("|", "\\|").split())


def short(types: Iterable[str]) -> str:
    """ROS types as people say them: `Image`, `tf2_msgs/TFMessage`."""
    return ", ".join(name.replace("sensor_msgs/msg/", "").replace("/msg/", "/") for name in types)


def option(parameter: Any, kind: Any) -> str:
    """`--out, -o PATH` of an option whose values are of this type, `BAG...` of an argument."""
    if parameter.param_type_name == "argument":
        words = parameter.metavar or parameter.name.upper()
    else:
        names = [*parameter.opts, *parameter.secondary_opts]
        value = "" if parameter.is_flag else parameter.metavar or value_of(kind)
        words = f"{', '.join(names)} {value}".strip()
    return f"`{words}`".replace("|", "\\|")


def value_of(kind: Any) -> str:
    """What an option of a type wants: its choices, or a word for it."""
    inner = [one for one in get_args(kind) if one is not type(None)]
    if get_origin(kind) is Literal:
        return "|".join(map(str, inner))
    if inner:
        return value_of(inner[0])
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "|".join(str(one.value) for one in kind)
    return {Path: "PATH", int: "N", float: "X"}.get(kind, "TEXT")


def default_of(parameter: Any) -> str:
    """The default, where there is one that people would type."""
    default = parameter.default
    if default is None or isinstance(default, (list, tuple)) or default == "" or callable(default):
        return ""
    if isinstance(default, bool):
        return "on" if default else ""
    return f"`{getattr(default, 'value', default)}`"


def commands() -> str:
    """The page of all commands with their arguments and options."""
    app = typer.main.get_command(entry.app)
    lines = ["# Commands", "", MADE, "", *EVERYWHERE]
    for heading, names in entry.SECTIONS.items():
        lines += ["", f"## {heading}"]
        for name in names:
            command = app.get_command(None, name)
            first, *rest = (command.help or "").strip().split("\n\n")
            lines += ["", f"### {name}", "", cell(first)]
            for block in rest:
                examples = [
                    e.strip() for e in re.split(r"\s{3,}|\n", cell_lines(block)) if e.strip()
                ]
                lines += ["", "```text", *examples, "```"]
            lines += ["", "| option | default | what |", "|---|---|---|"]
            kinds = get_type_hints(command.callback)
            lines += [
                f"| {option(p, kinds.get(p.name))} | {default_of(p)} | {cell(p.help or '')} |"
                for p in command.params
                if not (p.hidden or p.name in SHARED)
            ]
    return "\n".join(lines) + "\n"


def cell_lines(block: str) -> str:
    """A paragraph of examples, the word before them gone."""
    return re.sub(r"^\s*Examples?:\s*", "", re.sub(r"\[/?[a-z ]*\]", "", block))


def row(parameter: Parameter) -> str:
    """A parameter as a row of its table."""
    default = "unset" if parameter.unset else shown(parameter.default)
    ends = (parameter.low, parameter.high)
    reach = "" if None in ends else f"{parameter.low:g} to {parameter.high:g}"
    live = "yes" if parameter.live else ""
    what = cell(parameter.description)
    return f"| `{parameter.name}` | {default} | {reach} | {live} | {what} |"


def shown(value: Any) -> str:
    """A default as YAML writes it."""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, (tuple, list)):
        return f"`[{', '.join(str(getattr(one, 'value', one)) for one in value)}]`"
    return f"`{value}`" if value != "" else "`''`"


def parameter_page() -> str:
    """The page of all parameters, a table for each group."""
    legend = textwrap.wrap(LEGEND.replace("(live)", "*live*"), 110)
    lines = ["# Parameters", "", MADE, "", *legend, ""]
    lines += ["`robustseg params` prints the same as a robot.yaml, `--json` as a JSON schema."]
    group = ""
    for parameter in parameters():
        path = parameter.path
        name = ".".join(path[:2]) if path[0] == "streams" else path[0] if len(path) > 1 else "node"
        if name != group:
            lines += ["", f"## {name}", "", "| parameter | default | range | live | what |"]
            lines += ["|---|---|---|---|---|"]
            group = name
        lines.append(row(parameter))
    return "\n".join(lines) + "\n"


def inputs() -> list[str]:
    """A row for each modality, and what else is heard."""
    rows = ["| parameter, topic | type | note |", "|---|---|---|"]
    for name in modalities.ranked():
        kind = modalities.load(name)
        note = NOTES.get(name) or cell((kind.__doc__ or "").partition("\n")[0])
        rows.append(f"| `streams.{name}.topic` | {short(kind.messages)} | {note} |")
    return [*rows, *BESIDE]


def blocks() -> dict[str, list[str]]:
    """Mark of `topics.md` -> the lines below it."""
    return {
        "inputs": inputs(),
        "outputs": ["| topic | type | note |", "|---|---|---|", *topics.table()],
        "services": ["| service | type | note |", "|---|---|---|", *topics.service_table()],
    }


def filled(text: str) -> str:
    """A page with what the code has between its marks, `<!-- name -->` and `<!-- /name -->`."""
    for name, lines in blocks().items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, _, rest = text.partition(begin)
        text = "\n".join([before + begin, "", *lines, "", end]) + rest.partition(end)[2]
    return text


def pages() -> dict[str, str]:
    """Name of a page -> what stands in it."""
    by_hand = (HERE / "topics.md").read_text(encoding="utf-8")
    return {
        "commands.md": commands(),
        "parameters.md": parameter_page(),
        "topics.md": filled(by_hand),
    }


def main() -> int:
    """Write them and say what changed; the exit code."""
    for name, text in pages().items():
        path = HERE / name
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        path.write_text(text, encoding="utf-8")
        print(f"{name}: {'up to date' if text == before else 'written'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
