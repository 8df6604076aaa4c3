"""What a command line wishes reaches the program of the ROS layer that it starts."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from robustseg_core.cli.guard import wishes
from robustseg_core.cli.told import add_printing, add_wishes, take_wishes, wished


@pytest.fixture(autouse=True)
def nothing_wished():
    wishes.forget()
    yield
    wishes.forget()


@pytest.mark.parametrize("quiet", [False, True])
@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("out", [None, Path("found.json")])
def test_a_program_that_prints_takes_what_was_wished(quiet, as_json, out):
    wishes.quiet, wishes.json, wishes.out = quiet, as_json, out
    words = wished()
    wishes.forget()
    parser = argparse.ArgumentParser()
    add_printing(parser)
    take_wishes(parser.parse_args(words), prints=True)
    assert (wishes.quiet, wishes.json, wishes.out) == (quiet, as_json, out)


def test_a_folder_of_results_is_no_place_for_what_is_printed():
    wishes.quiet = wishes.json = True
    words = wished(Path("out/view"))
    assert words == ["--out", "out/view", "--json", "--quiet"]
    wishes.forget()
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path)
    add_wishes(parser)
    take_wishes(parser.parse_args(words))
    assert wishes.quiet and wishes.json and wishes.out is None
