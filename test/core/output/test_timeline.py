"""Where masks lie in the time of a run, and where there is none."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustseg_core.output.timeline import Places, Timeline, coverage, gaps, reach_s, silences
from robustseg_core.types import MS, SECOND, Bundle, LabelMap

EPOCH = 1_700_000_000 * SECOND
DAY = 86_400 * SECOND


def seen(stamp_ns, made_ns, recording=0):
    blank = np.zeros((2, 2), np.uint8)
    return LabelMap(
        blank,
        blank,
        stamp_ns,
        "camera",
        (),
        {},
        {},
        {},
        {},
        Bundle(stamp_ns, {}),
        recording,
        made_ns,
    )


def test_the_next_recording_follows_at_once_even_if_it_is_the_same_or_a_day_later():
    first = (EPOCH, EPOCH + 2 * SECOND)
    later = (EPOCH + DAY, EPOCH + DAY + 3 * SECOND)
    timeline = Timeline([first, first, later])
    assert timeline.duration_s == 7
    assert timeline.at_ns(1, EPOCH + SECOND) == 3 * SECOND
    assert timeline.at_ns(2, EPOCH + DAY + SECOND) == 5 * SECOND
    assert timeline.within_ns(0, EPOCH + 9 * SECOND) == 2 * SECOND
    assert timeline.within_ns(2, EPOCH) == 4 * SECOND
    assert Timeline([]).duration_ns == 0


def test_a_mask_lies_where_its_stamp_is():
    places = Places(Timeline([(EPOCH, EPOCH + SECOND)] * 2))
    assert places.place_ns(seen(EPOCH + 100 * MS, 140 * MS)) == 100 * MS
    assert places.place_ns(seen(EPOCH + 100 * MS, 1140 * MS, 1)) == 1100 * MS


@pytest.mark.parametrize("offset_ns", [-EPOCH, -5 * SECOND, 600 * MS, 7 * DAY])
def test_stamps_of_another_clock_are_moved_as_a_whole(offset_ns):
    places = Places(Timeline([(EPOCH, EPOCH + 2 * SECOND)]))
    stamps = [k * 50 * MS for k in range(1, 40)]
    made = [at_ns + (20 + 7 * (k % 4)) * MS for k, at_ns in enumerate(stamps)]
    found = [
        places.place_ns(seen(EPOCH + offset_ns + at_ns, made_ns))
        for at_ns, made_ns in zip(stamps, made, strict=True)
    ]
    assert {b - a for a, b in pairwise(found)} == {50 * MS}
    assert abs(found[0] - made[0]) <= 250 * MS


def test_masks_that_were_heard_live_go_by_their_stamps_alone():
    places = Places(Timeline([(EPOCH, EPOCH + 2 * SECOND)]))
    assert places.place_ns(seen(EPOCH + SECOND, None)) == SECOND
    assert places.place_ns(seen(EPOCH - DAY, None)) == SECOND, "a wild stamp moves nothing"
    assert places.place_ns(seen(EPOCH + 1100 * MS, None)) == 1100 * MS
    strange = Places(Timeline([(EPOCH, EPOCH + 2 * SECOND)]))
    assert [strange.place_ns(seen(k * 50 * MS, None)) for k in (9, 10, 12)] == [
        0,
        50 * MS,
        150 * MS,
    ]


TIMES = st.lists(st.floats(0, 100), max_size=30).map(sorted)


@given(TIMES, st.floats(0, 120))
def test_gaps_fill_the_run_and_a_silence_is_a_gap(times_s, more_s):
    duration_s = max([*times_s, more_s])
    found = gaps(times_s, duration_s)
    assert sum(b - a for a, b in found) == pytest.approx(duration_s)
    assert set(silences(times_s, duration_s)) <= set(found)
    assert 0 <= coverage(times_s, duration_s) <= 1


@given(TIMES, TIMES)
def test_more_masks_of_the_same_rhythm_never_cover_less(some, more):
    whole = [k / 10 for k in range(60)]
    few = whole[: len(some) + 3]
    assert coverage(few, 6.0) <= coverage(whole[: len(some) + len(more) + 3], 6.0)


def test_a_mask_speaks_for_a_while_and_then_there_is_none():
    times_s = [k / 10 for k in range(11)]  # until 1 s
    assert reach_s(times_s) == pytest.approx(0.25)
    assert coverage(times_s, 6.0) == pytest.approx(1.25 / 6)
    assert silences(times_s, 6.0) == [(1.0, 6.0)]
    assert silences([2.0, *(2 + t for t in times_s)], 3.0) == [(0.0, 2.0)]
    assert coverage([], 6.0) == 0 and silences([], 6.0) == [(0.0, 6.0)]
    assert coverage([0.0], 0.0) == 1, "a recording of one image"
    slow = [float(k) for k in range(9)]
    assert silences(slow, 9.0) == [] and coverage(slow, 9.0) == 1, "1 Hz is no silence"
