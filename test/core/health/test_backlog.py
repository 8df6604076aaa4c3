"""That we are too slow is a state of ours: entered and left in time, by the clock that is told."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustseg_core.health.backlog import (
    BIN_NS,
    BINS,
    NO_TIME,
    RESTORE_MOST_NS,
    SHED,
    WAY_OUT,
    Backlog,
    Load,
)
from robustseg_core.types import MS, SECOND

PERIOD = SECOND // 30
NAMES = ("rgb", "event")


class World:
    """Looks at a backlog again and again."""

    def __init__(self) -> None:
        self.backlog = Backlog(NAMES)
        self.now_ns, self.overtaken = 10**12, 0

    def spend(
        self, seconds: float, every_ns: int = PERIOD, waits_ns: int = MS, overtakes: int = 0
    ) -> float | None:
        """Live for so long; after how many seconds the state changed first, if it did."""
        start_ns, before, changed = self.now_ns, self.backlog.overloaded, None
        while self.now_ns < start_ns + seconds * SECOND:
            self.now_ns += every_ns
            self.overtaken += overtakes
            for name in NAMES:
                self.backlog.waited(name, waits_ns if name == "rgb" else waits_ns // 2)
            self.backlog.look(self.now_ns, overtaken=self.overtaken, period_ns=PERIOD)
            if changed is None and self.backlog.overloaded is not before:
                changed = (self.now_ns - start_ns) / SECOND
        return changed


@given(st.integers(60 * MS, 900 * MS), st.booleans())
def test_it_is_named_within_two_seconds_and_gone_within_two_of_relief(step_ns, overtakes):
    world = World()
    assert world.spend(5.0) is None
    began = world.spend(6.0, step_ns, step_ns, int(overtakes))
    assert began is not None and began <= 2.0
    load = world.backlog.load()
    assert load.overloaded and load.backlog_ms["rgb"] == step_ns / MS
    assert f"messages wait {step_ns / MS:.0f} ms for this node (rgb)" in load.text
    assert WAY_OUT in load.text
    ended = world.spend(6.0)
    assert ended is not None and ended <= 2.0
    assert not world.backlog.load().overloaded


@pytest.mark.slow
@given(st.integers(1, BIN_NS), st.integers(1, 4))
def test_a_hiccup_is_nothing(hiccup_ns, overtaken):
    world = World()
    world.spend(3.0)
    world.spend(0.001, hiccup_ns, hiccup_ns, overtaken)
    assert world.spend(3.0) is None
    assert world.backlog.load().text == ""


def test_what_is_lost_counts_and_names_its_stream():
    world = World()
    for _ in range(8):
        world.backlog.lost("event")
        world.spend(0.2)
    assert world.backlog.load().lost == {"rgb": 0, "event": 8}
    assert world.backlog.overloaded
    text = world.backlog.load().text
    assert "queues have run over (event 8 times)" in text
    assert "wait" not in text and "overtaken" not in text, "nothing that is 0 is told"


def test_who_finds_no_time_to_look_says_so():
    assert Load(overloaded=True).text.startswith(f"OVERLOADED: {NO_TIME}; {WAY_OUT}")


def test_things_are_given_up_in_order_and_come_back_in_the_other():
    world = World()
    seen = [()]
    for _ in range(60):
        world.spend(0.25, 100 * MS, 100 * MS, 1)
        seen.append(world.backlog.shed)
    for _ in range(120):
        world.spend(0.25)
        seen.append(world.backlog.shed)
    steps = [each for k, each in enumerate(seen) if not k or each != seen[k - 1]]
    most = len(SHED) - 1  # nothing is lost, so the rate is kept
    assert steps == [SHED[:k] for k in (*range(most), *range(most, -1, -1))]


def test_the_rate_is_given_up_only_for_want_of_time_to_receive():
    world = World()
    for _ in range(40):
        world.backlog.lost("event")
        world.spend(0.25, 100 * MS, 100 * MS, 1)
    assert world.backlog.shed == SHED
    assert world.backlog.load().text.endswith(
        "given up for speed: overlay, confidence, events, rate"
    )


def test_what_comes_back_too_soon_is_kept_away_for_longer():
    """A load that one output makes too large does not flicker for ever."""
    world, changes = World(), []
    for _ in range(int(10 * RESTORE_MOST_NS / BIN_NS)):
        before = world.backlog.shed
        heavy = not before
        world.spend(0.25, 100 * MS if heavy else PERIOD, 100 * MS if heavy else MS)
        if world.backlog.shed != before:
            changes.append(world.now_ns)
    gaps = [later - earlier for earlier, later in pairwise(changes)]
    assert max(gaps) >= RESTORE_MOST_NS > 4 * min(gaps)


@pytest.mark.parametrize("away_s", [0.3, 5.0, 500.0])
def test_who_was_away_is_behind_once_and_a_reset_forgets(away_s):
    world = World()
    world.spend(2.0)
    world.spend(0.001, int(away_s * SECOND), int(away_s * SECOND))
    assert world.backlog.overloaded == (away_s * SECOND > BINS * BIN_NS)
    world.backlog.reset()
    assert not world.backlog.load().overloaded and not world.backlog.shed
