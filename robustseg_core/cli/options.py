"""Arguments and options that several commands have; each is written here once."""

from __future__ import annotations

import os
import re
from argparse import ArgumentParser
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustseg_core.errors import RobustsegError, not_installed

if TYPE_CHECKING:
    from robustseg_core.faults import FaultSpec

BAG_HELP = (
    "A rosbag2 folder, an .mcap, .db3 or ROS 1 .bag; or of a camera alone a video, a picture or a "
    "folder of pictures; several are played in a row."
)


DEVICES = "auto|cpu|cuda|cuda:N"
"""Where a network may run."""


def _known_device(name: str | None) -> str | None:
    """The same; refused before torch is loaded.

    Raises:
        RobustsegError: no such device.
    """
    if name is not None and not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise RobustsegError(f"device is {name!r}; expected auto, cpu, cuda or cuda:N")
    return name


def _known_cluster(address: str) -> str:
    """The same; refused before torch is loaded, and so is a Ray that is not there.

    Raises:
        RobustsegError: no such address, or Ray is not installed.
    """
    if not re.fullmatch(r"(local|auto|(ray://)?[^\s/]+:\d+)?", address):
        raise RobustsegError(f"ray is {address!r}; expected local, auto or HOST:PORT")
    if address and find_spec("ray") is None:
        raise RobustsegError(not_installed("ray"))
    return address


Bags = Annotated[list[Path], typer.Argument(metavar="BAG...", help=BAG_HELP)]


@dataclass(frozen=True, slots=True)
class Words:
    """An option that executables of ROS, which use argparse, have too."""

    flag: str
    metavar: str
    help: str

    def add_to(self, parser: ArgumentParser) -> None:
        """The same option there, repeatable."""
        parser.add_argument(
            self.flag, action="append", default=[], metavar=self.metavar, help=self.help
        )


PARAMS = Words("--params", "ROBOT.YAML", "Streams and limits; default: guessed.")
KILL = Words(
    "--kill",
    "MODALITY@START+DURATION",
    "Silence a sensor for a while, in seconds from the start (repeatable).",
)
FAULT = Words(
    "--fault",
    "TARGET:FAULT@START+DURATION",
    "Break a sensor, e.g. rgb:stuck@12s+5s (repeatable); `robustseg list` names all.",
)

Params = Annotated[Path | None, typer.Option(PARAMS.flag, metavar=PARAMS.metavar, help=PARAMS.help)]
NodeParams = Annotated[
    Path, typer.Option(PARAMS.flag, metavar=PARAMS.metavar, help="As `ros2 launch` takes it.")
]
Kills = Annotated[list[str] | None, typer.Option(KILL.flag, metavar=KILL.metavar, help=KILL.help)]
Faults = Annotated[
    list[str] | None, typer.Option(FAULT.flag, metavar=FAULT.metavar, help=FAULT.help)
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override one parameter (repeatable)."),
]
MOST, MOST_SEEDS, MOST_JOBS = 1_000_000_000, 2**32 - 1, 1024
"""Of anything, of seeds, of processes: no number of a command line is without end. NumPy and
PyTorch both take seeds of 32 bits."""
Strict = Annotated[
    bool, typer.Option("--strict", help="End with exit code 3 if there is any notice.")
]
DataKind = Annotated[
    str, typer.Option(help="A data set (shards, deliver, ...), as `robustseg list` names them.")
]
Jobs = Annotated[int, typer.Option(min=1, max=MOST_JOBS, help="Processes.")]
RayAddress = Annotated[
    str,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        callback=_known_cluster,
        help="On a Ray cluster instead: `local`, `auto` or HOST:PORT; its nodes see recordings and "
        "--out under the same names (extra `cluster`).",
    ),
]
ALL_CORES = os.cpu_count() or 1
NetworkDevice = Annotated[
    str, typer.Option(metavar=DEVICES, callback=_known_device, help="Where the network runs.")
]
RobotDevice = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar=DEVICES,
        callback=_known_device,
        help="Where the network runs; default: robot.yaml's, or auto.",
    ),
]
DataOptions = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Option of the data set (repeatable)."),
]


def place_of(argument: Path | None, option: Path | None, name: str) -> Path:
    """Where a command writes that takes the place as an argument, too.

    Args:
        argument: what was given without a word before it.
        option: what was given as `--out`.
        name: of it, in the usage.

    Raises:
        RobustsegError: it is given twice, or not at all.
    """
    if argument is not None and option is not None:
        raise RobustsegError(f"{argument} and --out {option} are two places; give {name} once")
    place = argument if option is None else option
    if place is None:
        raise RobustsegError(f"nothing says where to write; give {name}, or --out {name}")
    return place


def faults_of(kills: Iterable[str] | None, faults: Iterable[str] | None) -> list[FaultSpec]:
    """What `--kill` and `--fault` ask for.

    Raises:
        RobustsegError: one of them is misspelt.
    """
    from robustseg_core.faults import parse_fault, parse_kill

    return [*map(parse_kill, kills or ()), *map(parse_fault, faults or ())]
