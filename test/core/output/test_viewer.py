"""Leafing through clouds: on, back and to the first, whatever is asked for in whatever order."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustseg_core.errors import RobustsegError
from robustseg_core.output import viewer
from robustseg_core.output.viewer import Album

TURNS = st.lists(st.sampled_from(["on", "back", "first"]), max_size=60)


@given(count=st.integers(0, 12), kept=st.integers(1, 15), turns=TURNS)
def test_what_is_shown_is_where_one_is(count, kept, turns):
    """Against a list, of which the last `kept` that were asked for can be gone back to."""
    asked = 0

    def items():
        nonlocal asked
        while asked < count:
            asked += 1
            yield asked

    album, at, newest = Album(items(), kept), 0, 0
    for turn in turns:
        shown = getattr(album, turn)()
        oldest = max(1, newest - kept + 1)
        if turn == "on" and at < count:
            at += 1
            newest = max(newest, at)
            assert shown == at
        elif turn == "back" and at > oldest:
            at -= 1
            assert shown == at
        elif turn == "first" and newest:
            at = oldest
            assert shown == at
        else:
            assert shown is None
        assert asked == newest, "nothing is computed before it is wanted"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of Linux's variables")
@pytest.mark.parametrize(
    ("environment", "there"),
    [
        ({}, False),
        ({"DISPLAY": ""}, False),
        ({"DISPLAY": ":0"}, True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, True),
    ],
)
def test_a_display_is_what_the_environment_says(environment, there):
    assert viewer.has_display(environment) is there


def test_without_open3d_it_says_how_to_get_it_and_what_goes_without(monkeypatch):
    monkeypatch.setitem(sys.modules, "open3d", None)
    with pytest.raises(RobustsegError, match=r"robustseg\[sim\]', or give --out"):
        viewer.show(Album(iter([1])), lambda _: None, lambda _: None, title="")


def test_nothing_to_see_opens_no_window():
    pytest.importorskip("open3d", reason="the viewer needs open3d (extra `sim`)")
    assert viewer.show(Album(iter([])), lambda _: None, lambda _: None, title="") is False
