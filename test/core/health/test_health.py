"""Stories about trust: who is believed, who is not, and why."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustseg_core.config import HealthConfig, StreamConfig
from robustseg_core.health.monitor import HealthMonitor
from robustseg_core.types import BLIND, MS, SECOND, Fault, Finding, State

BLACK = Finding(Fault.BLACK, fatal=True, text="mean 0.4 grey levels, limit 8")
BLUR = Finding(Fault.BLURRED, fatal=False, text="sharpness 0.1 of its median", score=0.2)


def monitor(names=("rgb", "lidar"), **options) -> HealthMonitor:
    return HealthMonitor(HealthConfig(**options), {n: StreamConfig(topic=n) for n in names})


def feed(health, name, start_s, seconds, rate_hz=10.0, *, finding=None, digest=None, notes=()):
    """Messages of one stream; returns the time after the last one."""
    count = round(seconds * rate_hz)
    for k in range(count):
        now = round((start_s + k / rate_hz) * SECOND)
        health.arrived(name, now)
        frozen = health.stuck(name, now, (now if digest is None else digest) & 0xFFFFFFFF)
        if bad := finding or frozen:
            health.reject(name, now, bad)
        else:
            health.accept(name, now, notes)
    return start_s + count / rate_hz


def state(health, name, at_s):
    return health.report(round(at_s * SECOND))[name].state


def faults(health, name, at_s):
    return [f.fault for f in health.report(round(at_s * SECOND))[name].findings]


def test_a_stream_is_live_after_two_good_messages():
    health = monitor()
    feed(health, "rgb", 0, 0.1)
    assert state(health, "rgb", 0.1) is State.WAITING
    feed(health, "rgb", 0.1, 0.1)
    assert state(health, "rgb", 0.15) is State.LIVE
    assert health.usable(150 * MS) == ("rgb",)


def test_a_lonely_stream_is_live_at_once():
    health = monitor(("rgb",))
    feed(health, "rgb", 0, 0.1)
    assert state(health, "rgb", 0.05) is State.LIVE


def test_a_silent_camera_is_dead_three_periods_later_and_not_before():
    health = monitor()
    end = feed(health, "rgb", 0, 2, rate_hz=30)
    last = end - 1 / 30
    assert state(health, "rgb", last + 0.149) is State.LIVE
    assert state(health, "rgb", last + 0.151) is State.DEAD
    assert faults(health, "rgb", last + 0.151) == [Fault.SILENT]
    assert "limit 150 ms" in health.report(round((last + 0.2) * SECOND))["rgb"].reason


def test_a_message_that_nobody_has_judged_yet_does_not_shorten_a_silence():
    health = monitor()
    last = feed(health, "rgb", 0, 2, rate_hz=30) - 1 / 30
    assert state(health, "rgb", last + 1.5) is State.DEAD
    health.arrived("rgb", round((last + 2.0) * SECOND))
    reason = health.report(round((last + 2.02) * SECOND))["rgb"].reason
    assert reason == "silent: nothing for 150 ms, limit 150 ms"


def test_a_slow_sensor_is_given_time():
    health = monitor()
    end = feed(health, "lidar", 0, 15, rate_hz=1)
    assert state(health, "lidar", end - 1 + 1.4) is State.LIVE
    assert state(health, "lidar", end - 1 + 1.6) is State.DEAD


def test_a_frozen_camera_is_dead_though_it_keeps_talking():
    health = monitor()
    end = feed(health, "rgb", 0, 1, rate_hz=30)
    frozen = feed(health, "rgb", end, 0.4, rate_hz=30, digest=77)
    assert state(health, "rgb", frozen) is State.DEAD
    assert faults(health, "rgb", frozen) == [Fault.STUCK]


def test_a_short_freeze_is_forgiven():
    health = monitor()
    end = feed(health, "rgb", 0, 1, rate_hz=30)
    end = feed(health, "rgb", end, 0.25, rate_hz=30, digest=77)
    assert state(health, "rgb", end) is State.LIVE


def test_on_a_standing_robot_in_a_simulator_a_freeze_needs_motion_elsewhere():
    health = monitor(stuck_needs_motion=True)
    end = feed(health, "rgb", 0, 1, rate_hz=30)
    end = feed(health, "rgb", end, 1, rate_hz=30, digest=77)
    assert state(health, "rgb", end) is State.LIVE, "nothing else moves: the world stands still"
    feed(health, "lidar", end, 0.1)
    end = feed(health, "rgb", end, 0.1, rate_hz=30, digest=77)
    assert state(health, "rgb", end) is State.DEAD


def test_three_bad_messages_kill_and_every_single_one_is_counted():
    health = monitor()
    end = feed(health, "rgb", 0, 1)
    end = feed(health, "rgb", end, 0.2, finding=BLACK)
    assert state(health, "rgb", end) is State.LIVE
    end = feed(health, "rgb", end, 0.1, finding=BLACK)
    report = health.report(round(end * SECOND))["rgb"]
    assert report.state is State.DEAD and report.findings == (BLACK,)
    assert report.rejected == {Fault.BLACK: 3}


def test_half_bad_messages_do_not_kill_but_two_of_three_do():
    health = monitor()
    now = feed(health, "rgb", 0, 0.5)
    for _ in range(20):
        now = feed(health, "rgb", now, 0.1)
        now = feed(health, "rgb", now, 0.1, finding=BLACK)
    assert state(health, "rgb", now) is State.LIVE
    for _ in range(10):
        now = feed(health, "rgb", now, 0.1)
        now = feed(health, "rgb", now, 0.2, finding=BLACK)
        if state(health, "rgb", now) is State.DEAD:
            return
    pytest.fail("an error density of two thirds should have killed the stream")


def test_recovery_takes_five_good_messages_and_half_a_second():
    health = monitor()
    end = feed(health, "rgb", 0, 1, rate_hz=30)
    again = feed(health, "rgb", end + 1, 0.45, rate_hz=30)
    assert state(health, "rgb", again) is State.RECOVERING
    assert faults(health, "rgb", again) == [Fault.RECOVERING]
    again = feed(health, "rgb", again, 0.15, rate_hz=30)
    assert state(health, "rgb", again) is State.LIVE


def test_a_flapping_sensor_is_trusted_less_each_time():
    health, probation = monitor(), []
    now = feed(health, "rgb", 0, 1, rate_hz=30)
    for _ in range(4):
        now += 1.0
        back = now
        while state(health, "rgb", now) is not State.LIVE:
            now = feed(health, "rgb", now, 1 / 30, rate_hz=30)
        probation.append(now - back)
    assert all(b > 1.6 * a for a, b in pairwise(probation[1:]))
    assert max(probation) < 8.5


def test_a_blurred_camera_is_degraded_still_used_and_comes_back():
    health = monitor()
    end = feed(health, "rgb", 0, 1)
    end = feed(health, "rgb", end, 2, notes=(BLUR,))
    assert state(health, "rgb", end) is State.DEGRADED
    assert faults(health, "rgb", end) == [Fault.BLURRED]
    assert "rgb" in health.usable(round(end * SECOND))
    end = feed(health, "rgb", end, 2)
    assert state(health, "rgb", end) is State.LIVE


def test_a_camera_that_is_good_every_other_time_says_what_it_is_degraded_for():
    bad = Finding(Fault.BLURRED, fatal=False, text="sharpness 0.01 of its median", score=0.0)
    for first in (0, 1):
        health = monitor(degraded_below=0.6)
        end = feed(health, "rgb", 0, 1)
        for k in range(40):
            end = feed(health, "rgb", end, 0.1, notes=(bad,) * ((k + first) % 2))
            reported = health.report(round(end * SECOND))["rgb"]
            assert (reported.state is State.LIVE) or reported.reason
        assert state(health, "rgb", end) is State.DEGRADED


@pytest.mark.parametrize("fault", Fault)
def test_an_empty_message_may_mean_an_empty_scene_and_no_other_fault_may(fault):
    fatal = Finding(fault, fatal=True, text="4 of 9, limit 8")
    assert (BLIND in str(fatal)) == fault.blind
    assert str(fatal).startswith(f"{fault.value}: ") and "4 of 9, limit 8" in str(fatal)
    doubt = Finding(fault, fatal=False, text="4 of 9, limit 8", score=0.1)
    assert (BLIND in str(doubt)) == (fault.blind and not fault.partial)


def test_a_slower_camera_is_used_and_reported():
    health = monitor(silence_min_s=0.5)
    end = feed(health, "rgb", 0, 4, rate_hz=30)
    end = feed(health, "rgb", end, 2, rate_hz=10)
    assert state(health, "rgb", end) is State.LIVE
    assert faults(health, "rgb", end) == [Fault.SLOW]


@pytest.mark.parametrize("rate_hz", [10, 20, 30])
def test_a_camera_at_a_third_of_its_rate_is_slow_for_long_and_never_dead(rate_hz):
    health = monitor()
    end = feed(health, "rgb", 0, 3, rate_hz=rate_hz)
    for _ in range(24):
        end = feed(health, "rgb", end, 1, rate_hz=rate_hz / 3)
        assert state(health, "rgb", end) is State.LIVE
        assert end < 5 or faults(health, "rgb", end) == [Fault.SLOW], "within two seconds"
    end = feed(health, "rgb", end, 10, rate_hz=rate_hz / 3)
    assert faults(health, "rgb", end) == [], "after half a minute, that is its rate"


def lossy(health, start_s, seconds, rate_hz, share, seed):
    """A stream that loses messages at random; (time of the first complaint, changes of use)."""
    random, said, used = np.random.default_rng(seed), None, []
    for k in range(round(seconds * 100)):
        now = start_s + k / 100
        if k % round(100 / rate_hz) == 0 and random.random() >= share:
            feed(health, "rgb", now, 1 / rate_hz, rate_hz)
        used.append(state(health, "rgb", now).usable)
        if said is None and {Fault.LOSSY, Fault.SLOW} & set(faults(health, "rgb", now)):
            said = now - start_s
    return said, sum(a != b for a, b in pairwise(used))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("rate_hz", [20, 25, 50])
def test_a_camera_that_loses_every_second_message_is_reported_and_does_not_flap(rate_hz, seed):
    health = monitor()
    end = feed(health, "rgb", 0, 3, rate_hz=rate_hz)
    said, changes = lossy(health, end, 10, rate_hz, 0.5, seed)
    assert said is not None and said < 2 and changes <= 2


@pytest.mark.parametrize("seed", range(6))
def test_messages_that_are_only_late_are_not_lost(seed):
    health, random = monitor(), np.random.default_rng(seed)
    for now in np.sort(np.arange(300) / 30 + random.uniform(0, 0.03, 300)):
        feed(health, "rgb", now, 0.01, rate_hz=100)
        assert Fault.LOSSY not in faults(health, "rgb", now)


def test_an_encoding_that_nobody_reads_is_fatal_at_once():
    health = monitor()
    end = feed(health, "rgb", 0, 1)
    unknown = Finding(
        Fault.UNDECODABLE, fatal=True, text="unsupported event encoding 'evt9'", final=True
    )
    end = feed(health, "rgb", end, 0.1, finding=unknown)
    assert state(health, "rgb", end) is State.DEAD


def test_a_single_doubtful_image_is_no_news_and_three_are():
    health = monitor()
    end = feed(health, "rgb", 0, 1)
    end = feed(health, "rgb", end, 0.2, notes=(BLUR,))
    assert faults(health, "rgb", end) == []
    end = feed(health, "rgb", end, 0.1, notes=(BLUR,))
    assert faults(health, "rgb", end) == [Fault.BLURRED]


def test_a_remark_lowers_the_quality_and_is_no_alarm():
    health, remark = monitor(), Finding(Fault.BLURRED, fatal=False, text="a bit soft", score=0.7)
    end = feed(health, "rgb", 0, 5, notes=(remark,))
    report = health.report(round(end * SECOND))["rgb"]
    assert report.state is State.LIVE and not report.findings
    assert report.score == pytest.approx(0.7, abs=0.01)


def test_what_happened_once_is_told_for_a_while():
    health, change = (
        monitor(),
        Finding(Fault.RESOLUTION, fatal=False, text="from 64x48 to 32x24", score=1.0),
    )
    end = feed(health, "rgb", 0, 1)
    health.notice("rgb", round(end * SECOND), change)
    feed(health, "rgb", end, 3)
    assert faults(health, "rgb", end + 1) == [Fault.RESOLUTION]
    assert faults(health, "rgb", end + 2.5) == [] and state(health, "rgb", end + 2.5) is State.LIVE


@pytest.mark.parametrize(
    ("options", "believed"),
    [
        ({}, True),
        ({"simulated": True}, False),
        ({"stuck_needs_motion": True}, False),
        ({"simulated": True, "stuck_needs_motion": False}, True),
    ],
)
def test_a_freeze_of_everything_is_believed_of_real_sensors_only(options, believed):
    health = monitor(**options)
    end = feed(health, "rgb", 0, 1, rate_hz=30)
    end = feed(health, "rgb", end, 1, rate_hz=30, digest=77)
    assert (state(health, "rgb", end) is State.DEAD) == believed


def test_a_lidar_without_transform_waits_and_needs_no_restart():
    health = monitor()
    missing = Finding(Fault.NO_TF, fatal=False, text="no transform from 'velodyne' to 'camera'")
    health.block("lidar", missing)
    end = feed(health, "lidar", 0, 1)
    assert state(health, "lidar", end) is State.WAITING
    assert faults(health, "lidar", end) == [Fault.NO_TF]
    assert health.usable(round(end * SECOND)) == ()
    health.block("lidar", None)
    end = feed(health, "lidar", end, 0.2)
    assert state(health, "lidar", end) is State.LIVE


def test_a_sensor_that_never_spoke_is_excused_during_the_grace_time_only():
    health = monitor()
    health.advance(0)
    early, late = health.report(9 * SECOND)["rgb"], health.report(11 * SECOND)["rgb"]
    assert early.findings[0].fault is late.findings[0].fault is Fault.NEVER_SEEN
    assert not early.findings[0].fatal and late.findings[0].fatal


def test_a_disabled_sensor_stays_out_whatever_it_sends():
    health = HealthMonitor(
        HealthConfig(), {"rgb": StreamConfig(topic="a", enabled=False), "lidar": StreamConfig()}
    )
    end = feed(health, "rgb", 0, 2)
    assert state(health, "rgb", end) is State.DISABLED and health.usable(2 * SECOND) == ()


def test_after_a_reset_everybody_waits_and_the_learned_rate_stays():
    health = monitor()
    end = feed(health, "rgb", 0, 2, rate_hz=30)
    health.reset(round(end * SECOND))
    assert state(health, "rgb", end) is State.WAITING
    end = feed(health, "rgb", end + 60, 0.1, rate_hz=30)
    assert state(health, "rgb", end) is State.LIVE
    assert state(health, "rgb", end + 0.2) is State.DEAD, "still knows that 30 Hz was promised"


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["rgb", "lidar"]),
            st.sampled_from([None, BLACK]),
            st.integers(1, 400),
            st.integers(0, 3),
        ),
        max_size=120,
    )
)
def test_any_history_keeps_the_books_and_never_uses_the_dead(rows):
    health, now = monitor(), 0
    for name, finding, gap_ms, digest in rows:
        now += gap_ms * MS
        health.arrived(name, now)
        frozen = health.stuck(name, now, digest)
        if bad := finding or frozen:
            health.reject(name, now, bad)
        else:
            health.accept(name, now)
        report = health.report(now)
        usable = health.usable(now)
        assert usable == tuple(n for n, h in report.items() if h.state.usable)
        for h in report.values():
            assert h.findings or h.state in (State.LIVE, State.WAITING)
            assert 0 <= h.score <= 1
    report = health.report(now)
    assert sum(h.received for h in report.values()) == len(rows)
    quiet = health.report(now + 10 * SECOND)
    assert not any(h.state.usable for h in quiet.values())
