"""What encoders of event formats write, independent tables read; and faults can use them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustseg_core.codecs import events
from robustseg_core.codecs.events import EventEncoder, Events
from robustseg_core.errors import RobustsegError
from robustseg_core.faults import Injector, parse_fault
from robustseg_core.modalities.event import Event
from robustseg_core.types import MS, Rejection
from support import makers
from support.event_words import CLOCKED, TABLES

pytestmark = pytest.mark.slow
WIDTH, HEIGHT = 100, 90
BASE_NS = 1_744_227_144_732_712_345
WRITTEN = ("evt2", "evt21", "evt21 swapped", "mono", "libcaer", "libcaer_cmp")
EACH = pytest.mark.parametrize("name", WRITTEN)
FEW = settings(max_examples=30)
ROW = st.tuples(
    st.integers(0, WIDTH - 1),
    st.integers(0, HEIGHT - 1),
    st.booleans(),
    st.sampled_from([0, 0, 1, 63, 64, 5000]),
)
LISTS = st.lists(ROW, min_size=1, max_size=40)


def encoder(name: str) -> EventEncoder:
    """One that has read a packet of its stream: of EVT2.1, it knows the order of the halves."""
    made = events.encoder_of(name.split()[0])(WIDTH, HEIGHT)
    made.time_base = base(name)
    made.read(warm(name))
    return made


def base(name: str) -> int:
    return 0 if name in CLOCKED else BASE_NS


def warm(name: str, start_us: int = 0) -> bytes:
    rows = [(k, k, True, base(name) // 1000 + 1 + start_us + 100 * k) for k in range(60)]
    return TABLES[name].encode(rows, base(name))


def columns(rows: Any, start_us: int) -> tuple[np.ndarray, ...]:
    x, y, p, step = (np.array(c) for c in zip(*rows, strict=True))
    return x, y, p.astype(bool), start_us + np.cumsum(step)


def listed(*of: Any) -> list[Any]:
    return list(zip(*(column.tolist() for column in of), strict=True))


def seen(found: Events) -> list[Any]:
    return listed(found.x, found.y, found.p, found.t)


@EACH
@FEW
@given(LISTS, st.integers(1, 3_000_000))
def test_a_payload_stands_on_its_own_and_a_table_reads_exactly_its_events(name, rows, start_us):
    made = columns(rows, base(name) // 1000 + start_us)
    payload = encoder(name).encode(*made)
    assert TABLES[name](WIDTH, HEIGHT).decode(payload, base(name)) == listed(*made)


@EACH
@FEW
@given(LISTS, LISTS)
def test_after_a_packet_that_was_replaced_the_next_is_read_as_before(name, real, fake):
    start_us = base(name) // 1000 + 7000
    table, writer = TABLES[name](WIDTH, HEIGHT), encoder(name)
    table.decode(warm(name), base(name))
    replaced = TABLES[name].encode(listed(*columns(real, start_us)), base(name))
    writer.read(replaced)
    table.decode(writer.encode(*columns(fake, start_us)) + writer.tail(), base(name))
    later = listed(*columns(real, start_us + sum(row[3] for row in real)))
    following = TABLES[name].encode(later, base(name))
    if name in CLOCKED and later[0][3] >> 6 == (start_us + sum(row[3] for row in real)) >> 6:
        following = following[8 if "21" in name else 4 :]  # its time-high was said before
    assert table.decode(following, base(name)) == later


@EACH
@FEW
@given(LISTS)
def test_polarity_is_swapped_and_nothing_else(name, rows):
    x, y, p, t = columns(rows, base(name) // 1000 + 9000)
    payload = warm(name) + TABLES[name].encode(listed(x, y, p, t), base(name))
    swapped = events.encoder_of(name.split()[0]).swapped_polarity(payload)
    found = TABLES[name](WIDTH, HEIGHT).decode(swapped, base(name))
    assert found[60:] == listed(x, y, ~p, t)
    assert events.encoder_of(name.split()[0]).swapped_polarity(swapped) == payload


@pytest.mark.parametrize("name", ["evt2", "evt21", "mono", "libcaer", "libcaer_cmp"])
def test_what_cannot_be_written_is_refused(name):
    writer = events.encoder_of(name)(WIDTH, HEIGHT)
    with pytest.raises(RobustsegError, match="goes back; sort the events"):
        writer.encode([1, 2], [1, 2], [0, 1], [9, 8])
    with pytest.raises(RobustsegError, match=r"x goes from 1 to 70000; \w+ addresses 0 to"):
        writer.encode([1, 70000], [1, 2], [0, 1], [8, 9])
    assert writer.encode([], [], [], []) + writer.tail() == b""
    with pytest.raises(Rejection, match="'event_array' is not changed, only evt2, evt21, evt3"):
        events.encoder_of("event_array")


def packet(name: str, seq: int) -> Any:
    words = np.frombuffer(warm(name, 10_000 * seq), "<u2")
    made = makers.events(words, 1_744_227_144 * 10**9 + 10 * seq * MS, seq=seq, height=90)
    made.width, made.encoding, made.time_base = WIDTH, name.split()[0], base(name)
    return made


@EACH
@pytest.mark.parametrize(
    "fault", ["wrong", "hot_pixels(count=5,rate_hz=1e5)", "event_flood(rate_hz=1e6)", "fading"]
)
def test_faults_that_rewrite_events_work(name, fault):
    injector = Injector([parse_fault(f"event:{fault}")], topics={"event": "/e"})
    plain, broken = Event(), Event()
    for seq in range(3):
        sent = packet(name, seq)
        (made,) = injector.feed("/e", sent, seq * 10 * MS)
        before, after = (
            reader.decode(message, 10**18).events
            for reader, message in ((plain, sent), (broken, made.message))
        )
        if fault == "wrong":
            assert after.t.tolist() == before.t.tolist() and (after.p != before.p).all()
        elif fault != "fading":
            assert len(after.t) > len(before.t)
            assert set(seen(before)) <= set(seen(after))
        assert (after.unknown, after.outside, after.early) == (0, 0, 0)
    assert not injector.refused
