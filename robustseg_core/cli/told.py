"""How a program of the ROS layer is told what a command line wishes: both ends of it."""

from __future__ import annotations

import argparse
from pathlib import Path

from robustseg_core.cli.guard import wishes


def wished(out: Path | None = None) -> list[str]:
    """The words for a program: where its result goes, `--json`, `--quiet`.

    Args:
        out: the command's own `--out`, a folder; None: what `-o` says, if the command only prints.
    """
    place = out or wishes.out
    words = [] if place is None else ["--out", str(place)]
    return [*words, *(["--json"] if wishes.json else []), *(["--quiet"] if wishes.quiet else [])]


def add_wishes(parser: argparse.ArgumentParser) -> None:
    """Give a program the options that `wished` writes, but for `--out`, whose meaning differs."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--quiet", action="store_true", help="notices and errors only")


def add_printing(parser: argparse.ArgumentParser) -> None:
    """Give a program that prints what it found all options that `wished` writes."""
    add_wishes(parser)
    parser.add_argument("--out", type=Path, help="a new file; default: standard output")


def take_wishes(options: argparse.Namespace, *, prints: bool = False) -> None:
    """Make the wishes of a parsed command line those of this process.

    Args:
        options: of a parser that was given them.
        prints: its `--out` is the file for what it prints (`add_printing`).
    """
    wishes.json, wishes.quiet = options.json, options.quiet
    wishes.out = options.out if prints else None
