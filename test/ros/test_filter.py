"""The synchronizer as a filter, where ApproximateTimeSynchronizer stood: it goes on."""

from __future__ import annotations

import threading
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy")

from hypothesis import given, settings
from hypothesis import strategies as st

from robustseg_core.errors import RobustsegError
from robustseg_core.types import MS, SECOND, Fault
from robustseg_ros import optional
from robustseg_ros.filter import DeadlineSynchronizer
from support import drives

EPOCH = drives.EPOCH
PATIENCE_S = 30.0


class Source(optional.filter_base()):
    """A filter that a test speaks through."""


def message(stamp_ns: int, name: str = "") -> Any:
    stamp = SimpleNamespace(sec=stamp_ns // SECOND, nanosec=stamp_ns % SECOND)
    return SimpleNamespace(header=SimpleNamespace(stamp=stamp, frame_id=name), stamp_ns=stamp_ns)


class Bench:
    """Filters, a clock and a synchronizer; sets are kept with the time at which they came."""

    def __init__(self, inputs: int = 2, slop: float = 0.02, **options: Any) -> None:
        self.now_ns = 0
        self.sources = [Source() for _ in range(inputs)]
        self.filter = DeadlineSynchronizer(
            self.sources, 10, slop, clock_ns=lambda: self.now_ns, **options
        )
        self.sets: list[tuple[int, tuple[Any, ...]]] = []
        self.filter.registerCallback(lambda *sent: self.sets.append((self.now_ns, sent)))

    def feed(self, rows: list[tuple[int, int, int]]) -> None:
        """(arrival, input, stamp), the clock going from one to the next by way of all alarms."""
        for at_ns, number, stamp_ns in sorted(rows):
            self.pass_until(at_ns)
            self.sources[number].signalMessage(message(stamp_ns))

    def pass_until(self, end_ns: int) -> None:
        while (wake_ns := self.filter.wake_ns()) is not None and wake_ns < end_ns:
            self.now_ns = wake_ns
            self.filter.poll()
        self.now_ns = end_ns

    @property
    def stamps(self) -> list[list[int]]:
        return [[m.stamp_ns for m in sent if m is not None] for _, sent in self.sets]


def stream(number: int, rate_hz: float, seconds: float, *, start_ns: int = 0, lag_ns: int = 0):
    """Rows of a healthy input; `start_ns` is when its first message arrives."""
    times = [round(k * SECOND / rate_hz) for k in range(round(rate_hz * seconds))]
    return [(start_ns + t + lag_ns, number, EPOCH + t) for t in times]


def test_healthy_inputs_give_a_full_set_each():
    bench = Bench()
    bench.feed(stream(0, 30, 3) + stream(1, 30, 3, lag_ns=4 * MS))
    full = [sent for _, sent in bench.sets if None not in sent]
    assert 88 <= len(full) <= len(bench.sets) <= 90
    assert all(a.stamp_ns == b.stamp_ns for a, b in full)
    assert bench.filter.account.present == (True, True)


@pytest.mark.parametrize("dead", [0, 1])
def test_when_an_input_dies_the_sets_go_on_without_it(dead):
    bench = Bench()
    alive = 1 - dead
    rows = stream(alive, 30, 4) + stream(dead, 30, 2)
    bench.feed(rows)
    late = [sent for at, sent in bench.sets if at > 2.2 * SECOND]
    assert len(late) >= 0.9 * 30 * 1.8
    assert all(sent[dead] is None and sent[alive] is not None for sent in late)
    account = bench.filter.account
    assert account.present[alive] and account.absent[dead].fault is Fault.SILENT


def test_each_pass_of_a_looped_bag_gives_as_many_sets():
    bench = Bench(slop=0.02)
    one = stream(0, 30, 5) + stream(1, 10, 5)
    counts = []
    for loop in range(3):
        before = len(bench.sets)
        bench.feed([(at + loop * 5 * SECOND, n, stamp) for at, n, stamp in one])
        bench.pass_until((loop + 1) * 5 * SECOND - 1)
        counts.append(len(bench.sets) - before)
    assert max(counts) - min(counts) <= 1 and counts[0] >= 148, counts
    assert bench.filter.resets == 2


def test_a_far_stamp_of_one_input_stops_nobody():
    bench = Bench()
    wild = (SECOND + MS, 1, EPOCH + 3600 * SECOND)
    bench.feed([*stream(0, 30, 3), *stream(1, 30, 3), wild])
    assert len(bench.sets) >= 88 and bench.filter.rejected[Fault.OFFSET] == 1


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 2000), st.integers(-60, 60)),
        min_size=1,
        max_size=60,
    )
)
def test_whatever_arrives_sets_are_on_time_in_order_and_within_slop(schedule):
    """(input, arrival in ms, stamp beside it in ms) in any mixture."""
    bench = Bench(inputs=3, slop=0.03)
    bench.feed([(at * MS, n, EPOCH + (at + beside) * MS) for n, at, beside in schedule])
    bench.pass_until(4 * SECOND)
    for stamps in bench.stamps:
        assert stamps and max(stamps) - min(stamps) <= 30 * MS
    assert not bench.filter.errors


def test_slop_is_between_any_two_messages_of_a_set():
    bench = Bench(inputs=3, slop=0.01)
    rows = stream(0, 10, 3)
    rows += [(at, 1, stamp - 8 * MS) for at, _, stamp in rows]
    rows += [(at, 2, stamp + 8 * MS) for at, n, stamp in rows if n == 0]
    bench.feed(rows)
    assert {len(stamps) for stamps in bench.stamps[3:]} == {2}  # 16 ms apart: one of them goes
    (reason,) = bench.filter.account.absent.values()
    assert str(reason) == "late: 16.0 ms from another, slop 10 ms"


def test_an_exact_match_is_a_slop_of_zero():
    bench = Bench(slop=0.0)
    rows = stream(0, 10, 2)
    bench.feed([*rows, *((at, 1, stamp + (n % 2)) for n, (at, _, stamp) in enumerate(rows))])
    assert {None in sent for _, sent in bench.sets[2:]} == {True, False}


def test_a_slow_input_may_be_held():
    fresh, held = Bench(slop=0.01), Bench(slop=0.01, hold=0.12)
    for bench in (fresh, held):
        bench.feed(stream(0, 30, 3) + stream(1, 10, 3))
    both = [sum(None not in sent for _, sent in bench.sets[9:]) for bench in (fresh, held)]
    assert 26 <= both[0] <= 30 and both[1] == len(held.sets) - 9
    assert max(held.filter.account.age_ms.values()) <= 120


def test_no_set_is_later_than_its_deadline():
    bench = Bench(deadline=0.02)
    times = [k * 33 * MS for k in range(60)]
    keeps = stream(1, 30, 0.9)
    bench.feed([(t, 0, EPOCH + t) for t in times] + keeps)
    arrived = {EPOCH + t: t for t in times}
    waits = [at - arrived[sent[0].stamp_ns] for at, sent in bench.sets if sent[0] is not None]
    assert waits and max(waits) <= 20 * MS
    assert len(bench.sets) >= 58


def test_what_a_callback_raises_is_counted_and_the_others_are_called():
    bench = Bench()
    bench.filter.callbacks.clear()
    got: list[Any] = []
    bench.filter.registerCallback(lambda *sent: 1 / 0)
    bench.filter.registerCallback(lambda *sent: got.append(sent), "and", "more")
    bench.feed(stream(0, 30, 1) + stream(1, 30, 1))
    assert len(got) >= 28 and bench.filter.errors == len(got)
    assert got[-1][2:] == ("and", "more")


def test_no_lock_is_held_while_a_callback_runs():
    """Another thread can bring a message meanwhile, and the callback may wait for it."""
    bench = Bench(inputs=1)
    order: list[int] = []

    def slow(sent: Any) -> None:
        order.append(sent.stamp_ns)
        if len(order) == 1:
            bench.now_ns = 100 * MS
            other = threading.Thread(target=bench.sources[0].signalMessage, args=(follower,))
            other.start()
            other.join(PATIENCE_S)
            assert not other.is_alive()
            assert len(order) == 1  # sets never overtake each other

    bench.filter.registerCallback(slow)
    follower = message(EPOCH + 100 * MS)
    bench.sources[0].signalMessage(message(EPOCH))
    assert not bench.filter.errors
    assert order[0] == EPOCH and order == sorted(order)
    bench.now_ns = 300 * MS
    bench.filter.poll()
    assert order[-1] == EPOCH + 100 * MS


def test_a_message_without_header_is_refused_or_stamped_as_asked():
    bare = SimpleNamespace(data=1)
    bench = Bench(inputs=1)
    bench.sources[0].signalMessage(bare)
    assert not bench.sets and bench.filter.rejected[Fault.FORMAT] == 1
    bench = Bench(inputs=1, allow_headerless=True)
    bench.sources[0].signalMessage(bare)
    assert [sent for _, sent in bench.sets] == [(bare,)]


def test_filters_chain():
    bench = Bench()
    second = DeadlineSynchronizer([bench.filter], 5, 0.1, clock_ns=lambda: bench.now_ns)
    assert second.input_connections == [1]  # the second callback of the first filter


@pytest.mark.parametrize("wrong", [{"slop": -1.0}, {"inputs": 0}, {"deadline": 0.0}])
def test_numbers_that_make_no_sense_are_refused(wrong):
    with pytest.raises(RobustsegError):
        Bench(**wrong)


def test_a_set_is_never_older_than_the_one_before():
    bench = Bench()
    bench.feed(stream(0, 30, 3, lag_ns=7 * MS) + stream(1, 20, 3))
    stamps = [max(s) for s in bench.stamps]
    assert all(a <= b for a, b in pairwise(stamps))
