"""What the ring keeps is bounded in seconds and bytes, and what strikes a sensor opens a window."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustseg_core.blackbox.account import struck
from robustseg_core.blackbox.ring import MEGABYTE, Ring, Window
from robustseg_core.config import BlackBoxConfig
from robustseg_core.intake import NO_JOURNAL, Act
from robustseg_core.types import SECOND, State
from support.drives import rows, through
from support.gates import SHORT, decided, gate


def ring(made: Any, taken: list[Window], **options: Any) -> Ring:
    config = BlackBoxConfig(folder="unused", **{**SHORT, **options})
    return Ring(made, config, lambda window: not taken.append(window))


class Kept(Ring):
    """Looks at itself after each act."""

    most, longest_ns = 0, 0

    def note(self, act: Act, now_ns: int, subject: str = "", what: Any = None) -> None:
        super().note(act, now_ns, subject, what)
        if act is not Act.END:
            return
        self.most = max(self.most, self.nbytes)
        if len(self.chunks) > 1:
            self.longest_ns = max(self.longest_ns, now_ns - self.chunks[1].start_ns)


@pytest.mark.slow
@settings(max_examples=5)
@given(
    memory_mb=st.floats(1, 8),
    before_s=st.floats(0.2, 1.0),
    fault=st.sampled_from(["", "rgb:off@0.6+0.3"]),
)
def test_no_more_is_kept_than_it_may(memory_mb, before_s, fault):
    made, taken = gate(), list[Window]()
    config = BlackBoxConfig(folder="x", before_s=before_s, after_s=0.3, memory_mb=memory_mb)
    held = Kept(made, config, lambda window: not taken.append(window))
    sent = rows(1.6)
    decided(made, through(fault, sent) if fault else sent)
    assert not held.trouble
    # The gate's state is as large as it is, and one chunk there always is, and one that grows.
    every = [*held.chunks, *(c for window in taken for c in window.chunks)]
    state = max(chunk.state.nbytes for chunk in every)
    assert held.most <= memory_mb * MEGABYTE + 2 * state
    assert held.longest_ns <= 1.5 * before_s * SECOND + 0.1 * SECOND or taken
    for window in taken:
        early_ns = window.strikes[0].at_ns - window.chunks[0].start_ns
        enough = held.most < 0.5 * memory_mb * MEGABYTE
        assert early_ns >= before_s * SECOND or not enough or window.chunks[0].start_ns == 0


def test_a_window_begins_before_the_fault_and_ends_after_it():
    made, taken = gate(), list[Window]()
    held = ring(made, taken)
    decided(made, through("rgb:off@1+0.5", rows(2.5)))
    (window,) = taken
    (strike,) = window.strikes
    assert (strike.modality, strike.state) == ("rgb", State.DEAD)
    assert strike.finding is not None and strike.finding.fault.value == "silent"
    acts = window.entries()
    assert window.chunks[0].start_ns <= strike.at_ns - 0.6 * SECOND
    assert strike.at_ns + 0.4 * SECOND <= acts[-1].now_ns <= strike.at_ns + 0.6 * SECOND
    assert acts[-1].act is Act.END and not window.cut
    held.close()
    assert made.intake.journal is NO_JOURNAL and not held.chunks


@pytest.mark.slow
def test_faults_close_together_are_one_window_and_the_same_one_soon_after_is_none():
    sent = through("rgb:off@1+0.3", through("lidar:off@1.2+0.3", rows(5.0)))
    again = through("rgb:off@3+1.5", sent)
    made, taken = gate(), list[Window]()
    held = ring(made, taken)
    decided(made, again)
    assert [[s.modality for s in window.strikes] for window in taken] == [["rgb", "lidar"]]
    assert held.quiet == 1
    made, taken = gate(), []
    ring(made, taken, again_s=0.5)
    decided(made, again)
    assert [[s.modality for s in window.strikes] for window in taken] == [["rgb", "lidar"], ["rgb"]]


def test_too_much_for_the_memory_ends_a_window_early_and_says_so():
    made, taken = gate(), list[Window]()
    ring(made, taken, memory_mb=2, after_s=3.0)
    decided(made, through("rgb:off@0.6", rows(3.0)))
    assert "black_box.memory_mb (2 MB)" in taken[0].cut


@pytest.mark.parametrize("act", ["reset", "configure"])
def test_what_people_do_is_no_fault(act):
    made, taken = gate(), list[Window]()
    held = ring(made, taken)
    sent = rows(2.0)
    half = [row for row in sent if row[0] < SECOND]
    decided(made, half)
    if act == "reset":
        made.reset(SECOND)
    else:
        off = made.config.streams["lidar"].model_copy(update={"mode": "off"})
        streams = {**made.config.streams, "lidar": off}
        made.configure(made.config.model_copy(update={"streams": streams}))
    decided(made, sent[len(half) :], now=SECOND)
    held.close()
    assert not taken and not held.trouble


@pytest.mark.parametrize(
    ("before", "after", "suspected", "hit"),
    [
        (State.LIVE, State.DEAD, False, True),
        (State.DEGRADED, State.DEAD, False, True),
        (State.LIVE, State.WAITING, False, True),
        (State.LIVE, State.DEGRADED, True, True),
        (State.LIVE, State.DEGRADED, False, False),
        (State.RECOVERING, State.DEAD, True, False),
        (State.WAITING, State.DEAD, True, False),
        (State.DEAD, State.RECOVERING, True, False),
        (State.DEGRADED, State.LIVE, True, False),
        (State.LIVE, State.DISABLED, True, False),
    ],
)
def test_what_counts_as_a_fault(before, after, suspected, hit):
    assert struck({"rgb": before}, {"rgb": after}, suspected=suspected) == ["rgb"] * hit


def test_a_ring_that_fails_says_so_and_the_gate_goes_on():
    made, taken = gate(), list[Window]()
    held = ring(made, taken)
    made.intake.odd = object()  # type: ignore[attr-defined]
    assert decided(made, through("rgb:off@1", rows(2.0)))
    assert "keeps nothing any more" in held.trouble and not held.chunks and not taken
