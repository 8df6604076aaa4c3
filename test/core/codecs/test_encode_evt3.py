"""What the encoder says, two independent readers understand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustseg_core.codecs.events.evt3 import Evt3Decoder, encode_evt3
from robustseg_core.errors import RobustsegError
from support.evt3_table import Oracle

WIDTH, HEIGHT = 40, 6
STEP_US = st.sampled_from([0, 0, 0, 0, 1, 4096, 3_000_000, 20_000_000])
EVENT = st.tuples(st.integers(0, WIDTH - 1), st.integers(0, HEIGHT - 1), st.booleans(), STEP_US)
PACKET = st.tuples(st.lists(EVENT, max_size=60), st.booleans(), st.booleans())


def columns(rows, start_us: int, tidy: bool):
    x, y, p, step = (np.array(c) for c in zip(*rows, strict=True)) if rows else [np.empty(0)] * 4
    t = start_us + np.cumsum(step).astype(np.int64) - (step[0] if rows else 0)
    if tidy:  # as a sensor reads out: row by row, left to right, so that vectors pay
        order = np.lexsort((x, p, y, t))
        x, y, p = x[order], y[order], p[order]
    return x, y, p, t


@pytest.mark.slow
@given(st.lists(PACKET, max_size=4), st.integers(0, (1 << 24) - 1))
def test_packets_decode_to_exactly_their_events(packets, start_us):
    """Oddly ordered ones, pauses beyond the clock's 16.8 s and packets in a row included."""
    decoder, oracle = Evt3Decoder(WIDTH, HEIGHT), Oracle(WIDTH, HEIGHT)
    for rows, tidy, vectors in packets:
        x, y, p, t = columns(rows, start_us, tidy)
        words = encode_evt3(x, y, p, t, vectors=vectors)
        lists = (x.tolist(), y.tolist(), p.tolist(), t.tolist())
        expected = list(zip(*lists, strict=True))
        e = decoder.decode(words.tobytes())
        found = list(zip(e.x.tolist(), e.y.tolist(), e.p.tolist(), e.t.tolist(), strict=True))
        assert found == expected == oracle.decode(words.tolist())
        assert (e.unknown, e.outside, e.early) == (0, 0, 0)
        start_us = int(t[-1]) if len(t) else start_us


@pytest.mark.slow
@given(st.lists(EVENT, min_size=1, max_size=20), st.booleans())
def test_every_packet_is_understood_by_who_missed_all_before(rows, vectors):
    x, y, p, t = columns(rows, 123_456, True)
    words = encode_evt3(x, y, p, t, vectors=vectors)
    assert [int(w) >> 12 for w in words[:3]] == [0x8, 0x6, 0x0]
    assert len(Evt3Decoder(WIDTH, HEIGHT).decode(words.tobytes()).t) == len(rows)


def test_vectors_say_a_bright_row_in_few_words():
    x = np.arange(640)
    few = encode_evt3(x, 0 * x, 0 * x, 0 * x)
    many = encode_evt3(x, 0 * x, 0 * x, 0 * x, vectors=False)
    assert len(many) == 3 + 640 and len(few) == 3 + 1 + 54


@pytest.mark.slow
@given(st.lists(EVENT, min_size=1, max_size=40))
def test_a_single_event_is_followed_by_no_vector_without_a_base(rows):
    """Other readers (faery, expelliarmus) take its column and polarity for those of vectors."""
    told = False
    for kind in (encode_evt3(*columns(rows, 0, True)) >> 12).tolist():
        told = kind == 0x3 or (told and kind != 0x2)
        assert told or kind not in (0x4, 0x5)


def test_no_events_make_no_words():
    assert encode_evt3([], [], [], []).tolist() == []


@pytest.mark.parametrize(
    "events, said",
    [
        (([1, 2], [1], [0], [0]), "four vectors of one length"),
        (([2048], [1], [0], [0]), "x goes from 2048 to 2048; EVT3 addresses 0 to 2047"),
        (([1], [-1], [0], [0]), "y goes from -1"),
        (([1, 1], [1, 1], [0, 0], [5, 4]), "goes back; sort the events"),
    ],
)
def test_impossible_events_are_refused(events, said):
    with pytest.raises(RobustsegError, match=said):
        encode_evt3(*events)
