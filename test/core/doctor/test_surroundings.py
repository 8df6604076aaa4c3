"""Rows 15 and 16 as a rule: what the node says of /clock, and how soon, whatever its phase."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from robustseg_core.doctor.surroundings import LOOK_S, YOUNG_NS, ClockWatch
from robustseg_core.types import MS, SECOND

LOOK_NS = round(LOOK_S * SECOND)
STOPPED, MISSING = "/clock stands still", "nobody publishes /clock"


def looks(watch: ClockWatch, start_ns: int, end_ns: int, clock, publishers: int = 1):
    """(time, what is said) of every look between the two."""
    for now_ns in range(start_ns, end_ns, LOOK_NS):
        watch.look(clock(now_ns), now_ns)
        yield now_ns, watch.complaint(publishers, now_ns)


@given(phase_ns=st.integers(0, LOOK_NS - 1), tick_ms=st.integers(1, 400))
def test_a_clock_that_goes_is_no_news(phase_ns, tick_ms):
    """From 1000 Hz down to 2.5 Hz."""
    watch = ClockWatch(0)
    said = looks(watch, phase_ns, 10 * SECOND, lambda now_ns: now_ns // (tick_ms * MS))
    assert not any(text for _, text in said)


@given(phase_ns=st.integers(0, LOOK_NS - 1), stop_ms=st.integers(3000, 5000))
def test_a_clock_that_stops_is_named_within_two_seconds_and_forgotten_when_it_goes_on(
    phase_ns, stop_ms
):
    watch, stop_ns, on_ns = ClockWatch(0), stop_ms * MS, 8 * SECOND

    def clock(now_ns: int) -> int:
        return min(now_ns, stop_ns) if now_ns < on_ns else now_ns

    said = list(looks(watch, phase_ns, 12 * SECOND, clock))
    assert not any(text for at, text in said if at < stop_ns)
    named = [at for at, text in said if STOPPED in text and "; " in text]
    assert named[0] - stop_ns <= 2 * SECOND and named[-1] - on_ns <= LOOK_NS
    assert all(STOPPED in text for at, text in said if named[0] <= at < on_ns)


@given(phase_ns=st.integers(0, LOOK_NS - 1), publishers=st.sampled_from([0, 1]))
def test_a_clock_that_never_comes_is_named_within_five_seconds_and_not_before_discovery(
    phase_ns, publishers
):
    """Nobody publishes it, or somebody who says nothing."""
    watch = ClockWatch(0)
    said = list(looks(watch, phase_ns, 6 * SECOND, lambda _now_ns: 0, publishers))
    words = STOPPED if publishers else MISSING
    named = [at for at, text in said if words in text]
    assert YOUNG_NS <= named[0] <= 5 * SECOND
    assert len(named) == sum(at >= named[0] for at, _ in said)


@settings(max_examples=20)
@given(back_ms=st.integers(1, 100_000))
def test_one_that_goes_back_is_told_for_a_while(back_ms):
    watch = ClockWatch(0)

    def clock(now_ns: int) -> int:
        return 200 * SECOND + now_ns - (back_ms + LOOK_NS // MS) * MS * (now_ns >= 3 * SECOND)

    said = list(looks(watch, 0, 20 * SECOND, clock))
    told = [at for at, text in said if "went back by" in text]
    assert told[0] == 3 * SECOND and 4 * SECOND <= told[-1] - told[0] <= 6 * SECOND
