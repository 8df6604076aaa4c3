"""Event formats against readers and writers made a second time, bit by bit, from their tables."""

from __future__ import annotations

import random
from itertools import accumulate
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustseg_core.codecs import events
from robustseg_core.codecs.events import EventDecoder, Events
from robustseg_core.types import Rejection
from support.event_words import CLOCKED, TABLES, Event

pytestmark = pytest.mark.slow

WIDTH, HEIGHT = 100, 90
BASE_NS = 1_744_227_144_732_712_000
EACH = pytest.mark.parametrize("name", TABLES)
EACH_FREE = pytest.mark.parametrize("name", sorted(set(TABLES) - set(CLOCKED)))
EACH_CLOCKED = pytest.mark.parametrize("name", CLOCKED)
FEW = settings(max_examples=40)

STEP_US = st.sampled_from([0, 0, 0, 1, 63, 64, 5000])
EVENT = st.tuples(st.integers(0, WIDTH - 1), st.integers(0, HEIGHT - 1), st.booleans(), STEP_US)
LISTS = st.lists(EVENT, min_size=1, max_size=40)


def decoder(name: str, width: int = WIDTH, height: int = HEIGHT) -> EventDecoder:
    return events.load(name.split()[0])(width, height)


def listed(found: Events) -> list[Event]:
    columns = (found.x.tolist(), found.y.tolist(), found.p.tolist(), found.t.tolist())
    return list(zip(*columns, strict=True))


def timed(rows: list[tuple[int, int, bool, int]], start_us: int, *, tidy: bool) -> list[Event]:
    """With times from steps; `tidy`: as a sensor reads out, so that vectors pay."""
    times = accumulate((step for *_, step in rows), initial=start_us)
    found = [(x, y, on, t) for (x, y, on, _), t in zip(rows, times, strict=False)]
    return sorted(set(found), key=lambda e: (e[3], e[2], e[0], e[1])) if tidy else found


def started(name: str) -> tuple[EventDecoder, Any]:
    """A decoder and its table that have seen a few milliseconds of events."""
    read, oracle = decoder(name), TABLES[name](WIDTH, HEIGHT)
    payload = oracle.encode([(k, k, True, 100 * k) for k in range(60)])
    assert listed(read.decode(payload)) == oracle.decode(payload)
    return read, oracle


@EACH
@FEW
@given(LISTS, st.booleans(), st.integers(0, 3_000_000))
def test_a_payload_decodes_to_exactly_its_events(name, rows, tidy, start_us):
    base_ns = 0 if name in CLOCKED else BASE_NS
    written = timed(rows, base_ns // 1000 + start_us, tidy=tidy)
    payload = TABLES[name].encode(written, base_ns)
    read = decoder(name)
    read.time_base = base_ns
    found = read.decode(payload)
    assert listed(found) == written == TABLES[name](WIDTH, HEIGHT).decode(payload, base_ns)
    assert found.words == len(payload) // read.word
    assert (found.unknown, found.outside, found.early, found.odd_bytes) == (0, 0, 0, 0)


@EACH
@FEW
@given(st.binary(max_size=300), st.integers(0, 40))
def test_any_bytes_mean_what_the_table_says_and_are_safe(name, noise, cut):
    """Real words in front, so that a clock runs and the order of the halves is known."""
    read, oracle = started(name)
    read.time_base = BASE_NS
    # small numbers now and then: pixels on the sensor, kinds that exist
    calm = bytes(b & 0x1F if k % 3 else b for k, b in enumerate(noise))
    for payload in (noise, calm, calm[cut:]):
        found = read.decode(payload)
        assert listed(found) == oracle.decode(payload, BASE_NS)
        assert found.words == len(payload) // read.word
        assert found.odd_bytes == (len(payload) % read.word > 0)


@EACH_CLOCKED
@FEW
@given(LISTS, st.integers(0, 40))
def test_where_a_packet_ends_does_not_matter(name, rows, cut):
    written = timed(rows, 2**34 - 6000, tidy=False)  # the clock wraps on the way
    payload = TABLES[name].encode(written)
    whole, halves = decoder(name), decoder(name)
    at = min(cut * whole.word, len(payload))
    parts = listed(halves.decode(payload[:at])) + listed(halves.decode(payload[at:]))
    assert parts == listed(whole.decode(payload)) == written


@EACH_CLOCKED
def test_after_a_loss_nothing_is_believed_until_the_clock_was_told(name):
    read, _ = started(name)
    payload = TABLES[name].encode([(1, 2, True, 640), (3, 4, False, 641), (5, 6, True, 704)])
    read.resync()
    found = read.decode(payload[read.word :])  # without the first time-high
    assert listed(found) == [(5, 6, True, 704)] and found.early == 2


@EACH_CLOCKED
def test_a_clock_that_is_late_from_before_its_wrap_goes_on_after_it(name):
    read = decoder(name)
    times = [2**34 - 64, 2**34 - 10, 2**34, 2**34 - 1, 2**34 + 70]
    payload = TABLES[name].encode([(1, 2, True, t) for t in times])
    assert read.decode(payload).t.tolist() == times
    read.reset()
    again = TABLES[name].encode([(1, 2, True, t) for t in times[3:]])
    assert read.decode(again).t.tolist() == times[3:]
    read.reset()
    assert read.decode(again[-read.word * 2 :]).t.tolist() == [70]


@EACH_FREE
def test_a_packet_stands_on_its_own(name):
    read = decoder(name)
    read.time_base = BASE_NS
    payload = TABLES[name].encode([(1, 2, True, BASE_NS // 1000 + 5)], BASE_NS)
    first = listed(read.decode(payload))
    read.decode(bytes(range(64)))
    read.resync()
    assert listed(read.decode(payload)) == first


@EACH
def test_events_off_the_sensor_are_counted_and_dropped(name):
    base_ns = 0 if name in CLOCKED else BASE_NS
    written = [(x, y, True, base_ns // 1000) for x, y in ((9, 9), (50, 9), (9, 60), (9, 10))]
    read = decoder(name, 50, 60)
    read.time_base = base_ns
    found = read.decode(TABLES[name].encode(written, base_ns))
    assert [e[:2] for e in listed(found)] == [(9, 9), (9, 10)] and found.outside == 2


@EACH
def test_a_sensor_that_cannot_be_addressed_is_refused(name):
    kind = events.load(name.split()[0])
    assert kind.impossible(kind.max_side, 1) == ""
    assert f"addresses 1 to {kind.max_side} each" in kind.impossible(1, kind.max_side + 1)


@EACH
def test_more_events_than_there_is_room_for_are_refused_and_lost(name, monkeypatch):
    from robustseg_core.storage.limits import LIMIT

    written = [(k % WIDTH, k // WIDTH, True, 0) for k in range(4000)]
    payload = TABLES[name].encode(written)
    read, _ = started(name)
    assert len(read.decode(payload).t) == 4000
    monkeypatch.setattr(
        "robustseg_core.codecs.events._base.budget", lambda: type("B", (), {"small": 13 * 3999})
    )
    with pytest.raises(Rejection, match=f"holds 4[0-9]{{3}} events; .* raise {LIMIT}"):
        read.decode(payload)


@pytest.mark.parametrize("name, words, counts", [
    ("evt2", ["40000000", "A0000000", "E0000000", "F0000000", "00000000"], (1, 1, 1, 1)),
    ("evt21", ["4000000000000000", "A000000000000000", "E000000000000000", "0000000000000001"],
     (1, 1, 1, 1)),
    ("libcaer_cmp", ["7000", "F000", "3000", "5001"], (2, 0, 0, 2)),
])  # fmt: skip
def test_oddities_are_counted_by_kind(name, words, counts):
    payload = b"".join(bytes.fromhex(word)[::-1] for word in words)
    found = decoder(name).decode(payload + b"\0")
    assert (found.unknown, found.other, found.triggers, found.early) == counts
    assert found.odd_bytes == 1 and not len(found.t)


def test_libcaer_counts_events_that_do_not_count_and_times_that_cannot_be():
    words = np.array([[0b1, 5], [0b10, 6], [0b11, -7], [0b11, 8]], "<i4")
    found = decoder("libcaer").decode(words.tobytes())
    assert listed(found) == [(0, 0, False, 5), (0, 0, True, 8)]
    assert (found.other, found.unknown) == (1, 1)


@given(st.integers(0, 10_000))
@FEW
def test_libcaer_times_go_on_where_31_bits_end(seed):
    rng = random.Random(seed)
    times = sorted(2**31 - 500 + rng.randrange(1000) for _ in range(20))
    payload = TABLES["libcaer"].encode([(1, 1, True, t) for t in times])
    found = decoder("libcaer").decode(payload).t
    assert (found - found[0]).tolist() == [t - times[0] for t in times]


@pytest.mark.parametrize("base", [BASE_NS, BASE_NS // 1000], ids=["ns", "us"])
def test_libcaer_cmp_knows_the_unit_of_its_time_base(base):
    read = decoder("libcaer_cmp")
    read.time_base = base
    payload = TABLES["libcaer_cmp"].encode([(1, 1, True, 7)])
    assert read.decode(payload).t.tolist() == [BASE_NS // 1000 + 7]


@pytest.mark.parametrize("encoding", sorted({name.split()[0] for name in TABLES} - {"evt21"}))
def test_any_time_base_that_a_message_can_have_is_survived(encoding):
    read = decoder(encoding)
    for base in (0, 2**63, 2**64 - 1):
        read.time_base = base
        read.decode(bytes(range(64)))


@pytest.mark.parametrize("name", ["evt21", "evt21 swapped"])
@FEW
@given(st.integers(0, 10_000))
def test_the_order_of_the_halves_is_found_in_any_scene(name, seed):
    """Even where all of it lights up pixels whose bits look like words of the clock."""
    rng = random.Random(seed)
    columns = [rng.choice([31, 63, rng.randrange(WIDTH)]) for _ in range(8)]
    count = rng.choice([1, 5, 400])
    places = [(rng.choice(columns), rng.randrange(HEIGHT)) for _ in range(count)]
    rows = [(*place, rng.random() < 0.5, rng.choice([0, 0, 9])) for place in places]
    written = timed(rows, rng.randrange(2**33), tidy=bool(seed % 2))
    assert listed(decoder(name).decode(TABLES[name].encode(written))) == written


def test_a_sensor_that_sends_halves_the_other_way_round_is_followed_after_a_reset():
    read = decoder("evt21")
    for name in ("evt21", "evt21 swapped", "evt21"):
        written = [(k % 90, 3, True, 100 * k) for k in range(100)]
        read.reset()
        assert listed(read.decode(TABLES[name].encode(written))) == written
