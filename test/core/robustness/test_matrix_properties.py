"""Any schedule of arrivals, drops, delays, jumps and damage: every promise is kept.

The real intake (stamps, health, synchronizer) on a fake clock; only decoding is left out.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robustseg_core import config
from robustseg_core.intake import Intake
from robustseg_core.modalities import Modality
from robustseg_core.models import checkpoint
from robustseg_core.robot.config import RobotConfig
from robustseg_core.types import MS, SECOND, Fault, Finding, State

pytestmark = pytest.mark.slow

RATES = {"rgb": 20, "depth": 10, "event": 40, "lidar": 10}
ALL = tuple(RATES)
PERIOD = SECOND // 20
DEADLINE = 40 * MS
EPOCH = 1_700_000_000 * SECOND
SPEC = checkpoint.default_spec(size=(32, 64))
QUIET = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(autouse=True, scope="module")
def calm():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


class Light(Modality):
    """Takes messages that say themselves whether they are any good."""

    messages = ()

    def __init__(self, name):
        super().__init__()
        self.name = name
        self.accumulates = name == "event"

    def decode(self, message, stamp_ns):
        return message

    def digest(self, message):
        return message.digest

    def check(self, data):
        return [Finding(Fault.BLACK, fatal=True, text="bad")] if data.bad else []

    def encode(self, readings, view, stamp_ns):
        return np.zeros((3, *view.size), np.float32)

    def picture(self, array):
        return np.zeros((*array.shape[1:], 3), np.uint8)


def message(stamp_ns, digest, bad=False):
    sec, nanosec = divmod(stamp_ns, SECOND)
    stamp = SimpleNamespace(sec=sec, nanosec=nanosec)
    return SimpleNamespace(
        header=SimpleNamespace(stamp=stamp, frame_id="f"), digest=digest, bad=bad
    )


@dataclass
class Diary:
    sets: list = field(default_factory=list)
    """(now, match, clock jumps so far)"""
    rejected: set = field(default_factory=set)
    """Messages that `push` refused, by identity."""
    jumped_ns: list = field(default_factory=list)
    """When clock jumps were found; until then nobody knew whom to believe."""
    states: list = field(default_factory=list)
    """(now, name -> state) after each message."""

    def between(self, since_ns, until_ns):
        return [(now, match) for now, match, _ in self.sets if since_ns < now <= until_ns]


def drive(rows, until_ns, **streams):
    """Pushes (arrival, modality, message) rows and polls whenever the intake asks for it."""
    tree = {"streams": {name: {"topic": name, **streams.get(name, {})} for name in ALL}}
    intake = Intake(config.parse(RobotConfig, tree), SPEC)
    intake.modalities.update({name: Light(name) for name in ALL})
    diary, now = Diary(), 0

    def poll():
        if (match := intake.poll(now)) is not None:
            diary.sets.append((now, match, intake.jumps))

    for at, name, sent in [*sorted(rows, key=lambda row: row[:2]), (until_ns, "", None)]:
        while (wake := intake.wake_ns(now)) is not None and wake < at:
            now = wake
            poll()
        now = at
        if sent is not None:
            jumps = intake.jumps
            found = intake.push(name, sent, now)
            diary.jumped_ns += [now] * (intake.jumps - jumps)
            if found is not None and found.fault is not Fault.OFFSET:  # that may be an earlier one
                diary.rejected.add(id(sent))
            poll()
            diary.states.append((now, {n: h.state for n, h in intake.health(now).items()}))
    return diary


def healthy(seconds, names=ALL, since_s=0.0):
    """Rows of healthy sensors, each with a latency of its own."""
    latency = {"rgb": 4 * MS, "depth": 6 * MS, "event": MS, "lidar": 3 * MS}
    return [
        (t + latency[name], name, message(EPOCH + t, digest=t + 1))
        for name in names
        for k in range(round(since_s * RATES[name]), round(seconds * RATES[name]))
        for t in [round(k * SECOND / RATES[name])]
    ]


def keeps_every_promise(diary, max_age_ms):
    last_ns, last_jumps = 0, 0
    for now, match, jumps in diary.sets:
        assert match.stamp_ns > last_ns or jumps > last_jumps, "stamps only grow"
        last_ns, last_jumps = match.stamp_ns, jumps
        assert match.items, "a set is never empty"
        if match.opened_by is not None:
            known_ns = [match.items[match.opened_by][0].arrival_ns]
            known_ns += [at_ns for at_ns in diary.jumped_ns if at_ns <= now]
            assert now - max(known_ns) <= DEADLINE, "nobody is waited for after the deadline"
        for name, items in match.items.items():
            for item in items:
                assert item.arrival_ns <= now, "nothing from the future"
                sent = item.payload.data
                assert not sent.bad and id(sent) not in diary.rejected, "nothing rejected is used"
            limit_ms = max_age_ms.get(name, 1000)
            assert match.held_ns[name] <= limit_ms * MS, "nothing older than allowed"


damage = st.sampled_from(["lose", "damage", "freeze", "delay"])
stamps = st.sampled_from(["offset", "zero", "repeat", "back"])
when = st.tuples(st.floats(1.0, 2.4), st.floats(0.02, 1.5))
SECONDS = 2.5


def break_(rows, name, kind, begin_s, lasts_s, rng):
    """Rows in which this happens to one stream."""
    out, frozen = [], None
    for at, stream, sent in rows:
        if stream != name or not begin_s <= at / SECOND < begin_s + lasts_s:
            out.append((at, stream, sent))
            continue
        stamp_ns = sent.header.stamp.sec * SECOND + sent.header.stamp.nanosec
        frozen = frozen or sent
        if kind == "lose":
            if rng.random() < 0.4:
                out.append((at, stream, sent))
        elif kind == "damage":
            out.append((at, stream, message(stamp_ns, sent.digest, bad=rng.random() < 0.8)))
        elif kind == "freeze":
            out.append((at, stream, message(stamp_ns, frozen.digest)))
        elif kind == "delay":
            out.append((at + rng.randint(0, 300 * MS), stream, sent))
        else:
            moved = {
                "offset": stamp_ns + rng.choice([-3, 2, 3, 60]) * SECOND,
                "zero": 0,
                "repeat": EPOCH + round(begin_s * SECOND),
                "back": stamp_ns - rng.randint(0, 90) * MS,
            }
            out.append((at, stream, message(moved[kind], sent.digest)))
    return out


@settings(QUIET, max_examples=150)
@given(
    faults=st.lists(st.tuples(st.sampled_from(ALL), st.one_of(damage, stamps), when), max_size=5),
    jump_s=st.sampled_from([0, 0, 0, 60, -2, -60]),
    ages=st.dictionaries(st.sampled_from(ALL), st.sampled_from([60, 120, 300]), max_size=2),
    rng=st.randoms(use_true_random=False),
)
def test_whatever_happens_to_whom_every_set_keeps_every_promise(faults, jump_s, ages, rng):
    rows = healthy(SECONDS)
    for name, kind, (begin_s, lasts_s) in faults:
        rows = break_(rows, name, kind, begin_s, lasts_s, rng)
    rows = [  # and a clock that leaps for all
        (at, n, sent) if at < 2 * SECOND or not jump_s else (at, n, leap(sent, jump_s))
        for at, n, sent in rows
    ]
    streams = {name: {"max_age_ms": age} for name, age in ages.items()}
    keeps_every_promise(drive(rows, 3 * SECOND, **streams), ages)


def leap(sent, jump_s):
    stamp = sent.header.stamp
    if stamp.sec == 0:
        return sent
    return message((stamp.sec + jump_s) * SECOND + stamp.nanosec, sent.digest, sent.bad)


@settings(QUIET, max_examples=400)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(ALL),
            st.integers(0, 120),
            st.integers(-3000, 3000),
            st.integers(0, 3),
            st.booleans(),
        ),
        max_size=40,
    )
)
def test_arrivals_without_any_order_keep_every_promise(arrivals):
    now, rows = 0, []
    for name, gap_ms, shift_ms, digest, bad in arrivals:
        now += gap_ms * MS
        rows.append((now, name, message(max(0, EPOCH + now + shift_ms * MS), digest, bad)))
    keeps_every_promise(drive(rows, now + SECOND), {})


@settings(QUIET, max_examples=120)
@given(
    lives=st.sampled_from(ALL),
    faults=st.lists(st.tuples(st.sampled_from(ALL), damage, when), min_size=1, max_size=4),
    liar=st.none() | st.tuples(st.sampled_from(ALL), stamps, when),
    rng=st.randoms(use_true_random=False),
)
def test_sets_come_at_ninety_percent_of_the_rate_while_anything_lives(lives, faults, liar, rng):
    """One sensor stays healthy, and at most one tells lies about the time.

    While the events live, sets come at the camera's rate whatever happens to all others; else at
    the rate of what lives: there is nothing newer to make sets of.
    """
    rows = healthy(SECONDS)
    for name, kind, (begin_s, lasts_s) in [*faults, *([liar] if liar else [])]:
        if name != lives:
            rows = break_(rows, name, kind, begin_s, lasts_s, rng)
    diary = drive(rows, round(SECONDS * SECOND))
    rate_hz = RATES["rgb"] if lives == "event" else min(RATES["rgb"], RATES[lives])
    since_ns, until_ns = SECOND, round(SECONDS * SECOND)
    sets = diary.between(since_ns, until_ns)
    assert len(sets) >= 0.9 * rate_hz * (until_ns - since_ns) / SECOND - 1
    # What was delayed comes even later, when the drive is over and nobody lives.
    during = [states for now, states in diary.states if since_ns < now <= until_ns]
    assert all(states[lives] is State.LIVE for states in during)


@settings(QUIET, max_examples=50)
@given(kill_ns=st.integers(SECOND, 2 * SECOND), other=st.sampled_from(["depth", "event", "lidar"]))
def test_the_first_set_without_a_killed_camera_is_at_most_one_deadline_late(kill_ns, other):
    """And no reference period passes without a set, though the camera is still believed."""
    rows = [
        r
        for r in healthy(2.6, dict.fromkeys(("rgb", "event", other)))
        if r[1] != "rgb" or r[0] < kill_ns
    ]
    diary = drive(rows, round(2.6 * SECOND))
    last = max(at for at, name, _ in rows if name == "rgb")
    without = next(now for now, m, _ in diary.sets if now > last and "rgb" not in m.items)
    assert without - (last + PERIOD) <= DEADLINE
    times = [now for now, _, _ in diary.sets if now > SECOND]
    assert max(b - a for a, b in pairwise(times)) <= PERIOD + DEADLINE
    assert all(
        any(t < now <= t + PERIOD + DEADLINE for now in times)
        for t in range(SECOND, round(2.6 * SECOND) - 2 * PERIOD, PERIOD)
    )
    dead = next(now for now, states in diary.states if states["rgb"] is State.DEAD)
    assert dead - last <= 3 * PERIOD + 20 * MS + SECOND // RATES["event"]


def test_a_camera_that_loses_frames_all_the_time_is_held_between_them():
    rows = [
        (at, name, sent)
        for at, name, sent in healthy(6, ("rgb", "event"))
        if name != "rgb" or at < SECOND or (at // PERIOD) % 5 not in (1, 3)
    ]
    late = [m for now, m, _ in drive(rows, 6 * SECOND).sets if now > 3 * SECOND]
    assert sum("rgb" in m.items for m in late) > 0.9 * len(late)


@pytest.mark.parametrize("passes", [2, 3])
def test_a_looped_drive_gives_the_same_number_of_sets_each_time(passes):
    rows = healthy(2)
    looped = [
        (
            at + k * 2 * SECOND,
            name,
            message(sent.header.stamp.sec * SECOND + sent.header.stamp.nanosec, sent.digest + k),
        )
        for k in range(passes)
        for at, name, sent in rows
    ]
    diary = drive(looped, passes * 2 * SECOND)
    counts = [len(diary.between(k * 2 * SECOND, (k + 1) * 2 * SECOND)) for k in range(passes)]
    assert all(abs(count - counts[0]) <= 2 for count in counts)
    assert diary.sets[-1][2] == passes - 1
