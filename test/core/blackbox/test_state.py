"""A gate's state at any moment, put into a fresh gate: it decides as the first one does."""

from __future__ import annotations

import json
import math
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustseg_core.blackbox.state import Snapshot, restore
from robustseg_core.errors import RobustsegError
from robustseg_core.types import MS
from support.drives import EPOCH, rows, through
from support.gates import decided, gate, place, sealed
from support.makers import transform

FAULTS = ("", "rgb:off@0.6+0.4", "lidar:stuck@0.5", "depth:slow@0.7", "event:garbage@0.6+0.5")
SECONDS = 1.6


@cache
def arrivals(fault: str) -> list[tuple[int, str, Any]]:
    return through(fault, rows(SECONDS)) if fault else rows(SECONDS)


@pytest.mark.slow
@settings(max_examples=6)
@given(
    moment=st.floats(0, 1),
    fault=st.sampled_from(FAULTS),
    offered=st.booleans(),
)
def test_who_is_restored_at_any_moment_goes_on_as_the_other_does(moment, fault, offered):
    sent = arrivals(fault)
    cut = int(moment * (len(sent) - 1))
    one, other = gate(), gate(placed=False)
    decided(one, sent[:cut], offered=offered)
    now = sent[cut - 1][0] if cut else 0
    taken = Snapshot(one)
    expected = decided(one, sent[cut:], offered=offered, now=now)
    restore(other, taken.to_bytes())  # made bytes only now: the gate has gone on, the state has not
    assert decided(other, sent[cut:], offered=offered, now=now) == expected


def test_what_waits_unopened_and_mounts_that_move_are_part_of_it():
    made, other = gate(placed=False), gate(placed=False)
    place(made)

    def pan(at: int) -> Any:
        half = math.radians(20 * at / 1e9) / 2
        sent = transform("mast", "lidar", quaternion=(0.0, 0.0, math.sin(half), math.cos(half)))
        stamp = sent.transforms[0].header.stamp
        stamp.sec, stamp.nanosec = divmod(EPOCH + at, 10**9)
        return sent

    made.push_transforms(transform("camera", "mast", quaternion=(0.5, -0.5, 0.5, 0.5)))
    sent = rows(1.2, ("rgb", "lidar"))
    for at in range(0, 700, 20):
        made.push_transforms(pan(at * MS), moving=True)
    decided(made, [row for row in sent if row[0] < 500 * MS], offered=True)
    for at, name, message in [row for row in sent if 500 * MS <= row[0] < 600 * MS]:
        made.offer(name, sealed(message), at)
    made.health(600 * MS)  # they are admitted, and nobody has looked into them
    restore(other, Snapshot(made).to_bytes())
    rest = [row for row in sent if row[0] >= 600 * MS]
    assert decided(made, rest, offered=True) == decided(other, rest, offered=True) != []


@cache
def some_bytes() -> bytes:
    made = gate()
    decided(made, rows(0.4))
    return Snapshot(made).to_bytes()


@given(st.integers(0, 10**9), st.integers(0, 255))
def test_a_damaged_state_is_refused_in_a_sentence_or_is_another_state(place, value):
    raw = bytearray(some_bytes())
    raw[place % len(raw)] = value
    try:
        restore(gate(), bytes(raw))
    except RobustsegError as error:
        assert "\n" not in str(error)


@given(st.integers(0, 10**9))
def test_half_a_state_is_refused(length):
    raw = some_bytes()
    with pytest.raises(RobustsegError, match="damaged"):
        restore(gate(), raw[: length % len(raw)])


@pytest.mark.parametrize(
    "name",
    [
        "subprocess.Popen",
        "intake.policy.Policy",
        "modalities._base.ABC",
        "modalities.rgb.np",
        "cli.entry.Commands",
        "modalities../cli.Rgb",
    ],
)
def test_a_file_can_name_only_what_a_gate_is_made_of(name):
    nodes = [["dict", [["intake", [1]]]], ["object", name, [], []]]
    text = json.dumps([[[0], nodes], []]).encode()
    with pytest.raises(RobustsegError, match="is no part of a gate"):
        restore(gate(), len(text).to_bytes(8, "little") + text)


def test_a_gate_with_other_parts_is_one_of_another_version():
    raw = some_bytes().replace(b'"_refused"', b'"_refuses"')
    with pytest.raises(RobustsegError, match=r"intake\.Intake has other parts in this version"):
        restore(gate(), raw)


def test_an_object_array_is_no_part_of_a_state():
    made = gate()
    made.intake.moods = np.array([object()], object)  # type: ignore[attr-defined]
    with pytest.raises(RobustsegError, match="array of object"):
        Snapshot(made)
