"""Recordings in a row lie on one time axis, and what is played is a `Recording`."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustseg_core.bag import Bag, Recorded, Recording
from robustseg_core.bag.codec import Codec
from robustseg_core.recording.axis import on_one_axis
from robustseg_core.recording.clip import Clip
from robustseg_core.recording.inject import FaultyBag
from robustseg_core.recording.replay import Player
from robustseg_core.robustness.baselines import Ungated
from robustseg_core.segmenter import Segmenter
from robustseg_core.sync.deadline import Deadline
from robustseg_core.types import SECOND
from support import drives

KIND = "std_msgs/msg/String"


def at(time_ns: int, number: int = 0) -> Recorded:
    return Recorded("/rgb", KIND, time_ns, b"", Codec(KIND), number)


def axis(times: list[int], longest_pause_ns: int | None = None) -> list[int]:
    placed = on_one_axis(map(at, times), [(0, 0)], longest_pause_ns=longest_pause_ns)
    return [time_ns for time_ns, _ in placed]


def test_the_next_recording_follows_at_once_and_its_own_steps_stay():
    assert axis([10, 12, 15, 3, 4, 9]) == [10, 12, 15, 15, 16, 21]


@pytest.mark.parametrize("longest, second", [(None, [20, 21]), (2, [14, 15])])
def test_the_next_recording_begins_where_the_one_before_ends_though_a_sensor_said_less(
    longest, second
):
    rows = [at(10), at(12), at(3, 1), at(4, 1)]
    found = on_one_axis(rows, [(10, 20), (3, 9)], longest_pause_ns=longest)
    assert [time_ns for time_ns, _ in found] == [10, 12, *second]


def test_a_pause_is_shortened_only_where_that_is_asked_for():
    assert axis([0, 100, 101]) == [0, 100, 101]
    assert axis([0, 100, 101, 300], 60) == [0, 60, 61, 121]


@given(st.lists(st.integers(0, 10**9), max_size=30), st.none() | st.integers(1, 10**6))
def test_time_never_goes_back_and_no_step_grows(times, longest):
    found = axis(times, longest)
    for (a, b), (before, after) in zip(pairwise(found), pairwise(times), strict=True):
        assert 0 <= b - a <= max(after - before, 0)
        assert longest is None or b - a <= longest


def test_bag_faulty_bag_and_clip_are_recordings_and_give_the_same_each_time(tmp_path):
    path = drives.write_drive(tmp_path / "drive", 0.5)
    with Bag([path]) as bag:
        faulty = FaultyBag(bag, [], topics=drives.TOPICS)
        made: list[Recording] = [bag, faulty, Clip(bag), Clip(faulty, 1.0)]
        for recording in made:
            assert (recording.start_ns, recording.spans) == (bag.start_ns, bag.spans)
            passes = [[r.time_ns for r in recording.messages()] for _ in range(2)]
            assert passes[0] == passes[1] and len(passes[0]) == bag.message_count
        short = [r.time_ns for r in Clip(faulty, 0.2, passes=2).messages()]
    half = len(short) // 2
    assert short[:half] == short[half:] and max(short) <= drives.EPOCH + 0.2 * SECOND


def test_a_segmenter_and_who_takes_its_place_can_be_played_to():
    spec = drives.engine().spec
    ungated = Ungated(drives.robot(), spec, due=[], on_bundle=lambda stamp_ns, bundle: None)
    players: list[Player] = [Segmenter(drives.robot(), spec, drives.engine()), ungated]
    longest_ns = Deadline(drives.robot().sync).longest_ns
    assert all(player.intake.longest_wait_ns == longest_ns for player in players)
