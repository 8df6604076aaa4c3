"""Arguments and options that several commands have; each is written here once."""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

BAG_HELP = "A rosbag2 folder, an .mcap, .db3 or ROS 1 .bag; several are played in a row."


class Device(str, Enum):
    """Where the network runs."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


Bags = Annotated[list[Path], typer.Argument(metavar="BAG...", help=BAG_HELP)]
Params = Annotated[
    Path | None,
    typer.Option("--params", metavar="ROBOT.YAML", help="Streams and limits; default: guessed."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override one parameter (repeatable)."),
]
Strict = Annotated[
    bool, typer.Option("--strict", help="End with exit code 3 if there is any notice.")
]
Jobs = Annotated[int, typer.Option(min=1, help="Processes; default: one per core.")]
ALL_CORES = os.cpu_count() or 1
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable.")]
