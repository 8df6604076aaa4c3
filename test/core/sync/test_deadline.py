"""The deadline rule has one home: another one is followed by sets, bounds and replays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustseg_core.bag import Bag
from robustseg_core.config import StreamConfig, SyncConfig
from robustseg_core.recording.replay import replay
from robustseg_core.segmenter import Segmenter
from robustseg_core.sync.deadline import Deadline
from robustseg_core.sync.stamps import Stamped
from robustseg_core.sync.synchronizer import Synchronizer
from robustseg_core.types import MS, SECOND
from support import drives

PLANTED_NS = 200 * MS
RULES = st.builds(SyncConfig, deadline_ms=st.floats(0.1, 1e4), deadline_share=st.floats(0.01, 1))


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every set may wait for 200 ms, whatever is configured."""
    monkeypatch.setattr(Deadline, "of", lambda self, period_ns: PLANTED_NS)


@given(RULES, st.none() | st.integers(0, 10 * SECOND))
def test_no_period_waits_for_longer_than_the_longest(config, period_ns):
    rule = Deadline(config)
    assert 0 <= rule.of(period_ns) <= rule.longest_ns == rule.of(0)


def test_it_is_the_longest_wait_or_a_share_of_the_period():
    rule = Deadline(SyncConfig(deadline_ms=40, deadline_share=0.8))
    waits = [rule.of(period * MS) // MS for period in (10, 40, 50, 100)]
    assert waits == [8, 32, 40, 40]


def test_a_set_waits_as_another_rule_says(planted):
    streams = {name: StreamConfig(topic=f"/{name}") for name in ("rgb", "lidar")}
    synchronizer: Synchronizer[None] = Synchronizer(SyncConfig(reference=("rgb",)), streams)
    assert synchronizer.longest_wait_ns == PLANTED_NS
    synchronizer.push(Stamped("rgb", SECOND, SECOND, None))
    assert synchronizer.wake_ns(SECOND, streams) == SECOND + PLANTED_NS
    assert synchronizer.poll(SECOND + PLANTED_NS - 1, streams) is None
    match = synchronizer.poll(SECOND + PLANTED_NS, streams)
    assert match is not None and match.stamp_ns == SECOND


def test_a_replay_waits_for_the_last_set_as_another_rule_says(tmp_path, planted):
    """The scan that is due beside the last depth image never comes; it is not silent yet."""
    names = ("rgb", "depth", "lidar")
    before = [row for row in drives.rows(1.1, names) if row[0] < SECOND]
    last_image = (SECOND, "depth", drives.message("depth", 10))
    path = drives.write_drive(tmp_path / "drive", 0.0, [*before, last_image])
    made = Segmenter(drives.robot(names[1:]), drives.engine().spec, drives.engine())
    with Bag([path]) as bag:
        *_, last = replay(bag, made)
    assert made.intake.longest_wait_ns == PLANTED_NS
    assert last.stamp_ns == drives.EPOCH + SECOND and last.used[0] == "depth"
    assert last.made_ns == SECOND + PLANTED_NS
