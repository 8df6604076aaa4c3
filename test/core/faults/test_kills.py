"""A kill is the fault `off` in fewer letters."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustseg_core.errors import RobustsegError
from robustseg_core.faults import FaultSpec, parse_fault, parse_kill

SECONDS = st.floats(0, 1e6).map(lambda s: round(s, 3))


def test_a_kill_names_its_victim_its_start_and_its_duration():
    assert parse_kill("rgb@0.8+0.6") == parse_fault("rgb:off@0.8+0.6")
    assert parse_kill("/velodyne_points@12s+5s") == parse_fault("/velodyne_points:off@12+5")
    assert parse_kill("all@3+1") == FaultSpec("all", "off", {}, 3.0, 1.0)


def test_a_kill_without_duration_lasts_until_the_end():
    kill = parse_kill("lidar@1")
    assert kill.duration_s is None
    assert kill.covers(1.0) and kill.covers(1e9) and not kill.covers(0.999)


def test_a_kill_covers_its_start_and_not_its_end():
    kill = parse_kill("rgb@1+0.5")
    assert [kill.covers(t) for t in (0.99, 1.0, 1.49, 1.5)] == [False, True, True, False]


@pytest.mark.parametrize("text", ["rgb", "rgb@", "@1", "rgb@x", "rgb@1+", "rgb@-1", "a b@1", ""])
def test_a_misspelt_kill_says_what_was_expected(text):
    with pytest.raises(RobustsegError) as error:
        parse_kill(text)
    assert repr(text) in str(error.value)
    assert "MODALITY@START+DURATION" in str(error.value)


def test_a_kill_of_no_duration_is_refused():
    with pytest.raises(RobustsegError, match=r"kill 'rgb@1\+0' lasts 0 s; give a positive"):
        parse_kill("rgb@1+0")


def test_a_kill_of_nobody_is_refused_with_the_nearest_name():
    with pytest.raises(RobustsegError, match=r"kill 'rbg@1' is done to 'rbg'.*did you mean 'rgb'"):
        parse_kill("rbg@1")


@given(st.sampled_from(["rgb", "/event_camera/events"]), SECONDS, SECONDS | st.none())
def test_what_a_kill_prints_parses_back(target, start_s, duration_s):
    kill = FaultSpec(target, "off", {}, start_s, duration_s or None)
    for again in (parse_kill(kill.kill), parse_fault(str(kill))):
        assert (again.target, again.name) == (target, "off")
        assert again.start_s == pytest.approx(start_s, rel=1e-5)
        assert (again.duration_s is None) == (kill.duration_s is None)


def test_only_off_is_a_kill():
    assert parse_fault("rgb:black@1").kill == ""
