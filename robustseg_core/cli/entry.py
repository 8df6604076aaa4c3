"""The installed command, `robustseg`: its parts are loaded when they are asked for.

What all commands have is added here, to each alike: `-h`, `-q`, `--json`, and `-o` beside `--out`,
which those that only print have, too: a file for what they print.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from robustseg_core.cli.guard import broken_pipe, guarded, show_logs, wishes
from robustseg_core.storage import limits
from robustseg_core.text import visible

SECTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "On a recording": {
        "inspect": ("main", "What is in it, and a robot.yaml to paste."),
        "run": ("main", "Segment it: masks, film, MCAP, result.json, report.html."),
        "view": ("view", "Its labelled clouds: in open3d's window, or as pictures."),
        "explain": ("explain", "Of a black box: what happened, and is it decided so again?"),
        "doctor": ("doctor", "Why is there no output? Of a recording, or of the live robot."),
        "robustness": ("robustness", "What every fault of the matrix does to it."),
        "inject": ("make", "A copy with faults in it."),
        "sim": ("make", "Make one: a simulated drive with the truth of every pixel."),
    },
    "On a robot": {
        "demo": ("demo", "A drive through the live node while sensors die: film, report.html."),
        "live": ("main", "Start the ROS 2 node."),
        "params": ("main", "Every parameter with its meaning, range and default."),
    },
    "Networks": {
        "bench": ("engines", "The engines on this machine, side by side."),
        "export": ("engines", "Make a network ready for an engine."),
        "import": ("official", "Make a checkpoint of a published one."),
        "adapt": ("adapt", "Make the student yours: no labels needed."),
        "list": ("main", "The sensors, networks, systems, data sets and faults that there are."),
    },
    "Learning": {
        "extract": ("data", "Turn recordings into training data."),
        "label": ("data", "Label recordings with a trained network."),
        "embed": ("data", "What a vision-language model says, for `train any2seg`."),
        "train": ("learn", "Train a teacher or a student."),
        "calibrate": ("learn", "Make a checkpoint's confidence true."),
        "eval": ("learn", "Score a checkpoint with all subsets of its sensors."),
    },
}
"""Heading -> command -> (module of this folder, what help says in a line)."""
COMMANDS = {name: place for section in SECTIONS.values() for name, place in section.items()}
ENDLESS = ("live",)
"""Commands that end when they are stopped, and answer nothing."""
PRINTING = ("inspect", "doctor", "params", "list")
"""Commands that make no file of their own."""
START = "Start with: robustseg inspect drive.mcap, then robustseg run drive.mcap."


def _be_quiet(value: bool) -> None:  # noqa: FBT001 (as Typer calls it)
    wishes.quiet = wishes.quiet or value


def _answer_json(value: bool) -> None:  # noqa: FBT001
    wishes.json = wishes.json or value


def _print_into(path: Path | None) -> None:
    if path is not None:
        from robustseg_core.storage.output_folder import expect_free

        expect_free(path)  # before anything is listened to or read
        wishes.out = path


Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet", "-q", help="Say notices and errors only.", callback=_be_quiet, expose_value=False
    ),
]
AsJson = Annotated[
    bool,
    typer.Option(
        "--json",
        help="The result as one JSON document on standard output; all else goes to standard error.",
        callback=_answer_json,
        expose_value=False,
    ),
]

Printed = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="FILE",
        help="A new file for what would be printed on standard output.",
        callback=_print_into,
        expose_value=False,
    ),
]


class Commands(typer.core.TyperGroup):
    """Loads a command when it is asked for. Names on the command line are shown as they are."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.commands: Any = dict.fromkeys(COMMANDS)  # for `did you mean`: nobody takes the values
        self._loaded: dict[str, Any] = {}

    def list_commands(self, ctx: Any) -> list[str]:
        """In the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command, or None: there is none."""
        if cmd_name in COMMANDS and cmd_name not in self._loaded:
            module = importlib.import_module(f"robustseg_core.cli.{COMMANDS[cmd_name][0]}")
            for name, command in typer.main.get_group(module.commands).commands.items():
                _furnish(name, command)
                self._loaded[name] = command
        return self._loaded.get(cmd_name) if cmd_name in COMMANDS else None

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Plain text: nothing has to be loaded for it, and it can be pasted."""
        self.format_usage(ctx, formatter)
        formatter.write_paragraph()
        formatter.write_text(self.help or "")
        for heading, names in SECTIONS.items():
            with formatter.section(heading):
                formatter.write_dl([(name, what) for name, (_, what) in names.items()], col_max=14)
        records = [parameter.get_help_record(ctx) for parameter in self.get_params(ctx)]
        with formatter.section("Options"):
            formatter.write_dl([record for record in records if record is not None])
        formatter.write_paragraph()
        formatter.write_text(START)

    def make_context(self, *args: Any, **more: Any) -> Any:
        """A new command line: nobody has wished for anything yet."""
        wishes.forget()
        name, words = args[:2] if len(args) > 1 else (self.name, more.get("args", ()))
        wishes.command = [*(name or "robustseg").split(), *words]  # python -m robustseg_core
        with _shown_as_it_is():
            return super().make_context(*args, **more)

    def invoke(self, ctx: Any) -> Any:
        """Typer's own complaints quote the command line: they are shown as it is, too."""
        with _shown_as_it_is():
            return super().invoke(ctx)


def _furnish(name: str, command: Any) -> None:
    """What all commands have."""
    shared = typer.Typer(add_completion=False)
    shared.command()(_ends if name in ENDLESS else _prints if name in PRINTING else _answers)
    command.params += typer.main.get_command(shared).params
    for parameter in command.params:
        if parameter.opts == ["--out"]:
            parameter.opts.append("-o")
        if parameter.param_type_name == "argument" and parameter.metavar:
            # Typers differ in what they put around it: [[BAG...]]..., {BAG...}...
            parameter.get_usage_pieces = partial(_as_written, parameter.metavar)


def _as_written(metavar: str, _context: Any) -> list[str]:
    return [metavar]


def _answers(*, quiet: Quiet = False, as_json: AsJson = False) -> None:
    """Options of a command that has an answer."""


def _prints(*, out: Printed = None, quiet: Quiet = False, as_json: AsJson = False) -> None:
    """Options of one whose answer is all that it makes."""


def _ends(*, quiet: Quiet = False) -> None:
    """Options of one that has none."""


@contextmanager
def _shown_as_it_is() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:  # Typer would end without a word
        raise SystemExit(broken_pipe(error)) from None
    except Exception as error:
        if isinstance(getattr(error, "message", None), str):
            # click's, or that of the copy of click that later Typers bring
            error.message = visible(error.message)  # type: ignore[attr-defined]
        raise


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Semantic segmentation that keeps going when sensors die.",
)


def _version(*, wanted: bool) -> None:
    if wanted:
        from robustseg_core.version import __version__

        typer.echo(f"robustseg {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    _version_flag: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print and exit.")
    ] = False,
    quiet: Quiet = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
    unpack_limit: Annotated[
        str,
        typer.Option(
            metavar="SIZE",
            envvar=limits.LIMIT,
            help="Most that may be unpacked out of a file, e.g. 4GiB; default: 1GiB. A chunk or "
            "message may have an eighth of it.",
        ),
    ] = "",
    unpack_ratio: Annotated[
        str,
        typer.Option(
            metavar="N",
            envvar=limits.RATIO,
            help="Most bytes that one byte may become where it is much; default: 256.",
        ),
    ] = "",
) -> None:
    for name, value in ((limits.LIMIT, unpack_limit), (limits.RATIO, unpack_ratio)):
        if value:
            os.environ[name] = value  # worker processes and the node inherit it
    if unpack_limit or unpack_ratio:
        from robustseg_core.storage.budget import budget

        budget()  # a wrong one is said now
    show_logs(verbose=verbose)
    from robustseg_core.version import note_occasion

    note_occasion(wishes.command, datetime.now().astimezone())


def main() -> None:
    """Entry point."""
    sys.exit(guarded(app))
