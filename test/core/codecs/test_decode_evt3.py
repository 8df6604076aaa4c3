"""EVT3 against a decoder written a second time, word by word, from the format's table."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from robustseg_core.codecs.events import evt3
from robustseg_core.codecs.events.evt3 import Evt3Decoder
from robustseg_core.codecs.fields import Compiled
from robustseg_core.errors import RobustsegError
from support.evt3_table import Oracle

pytestmark = pytest.mark.slow


def payload(words: list[int]) -> bytes:
    return np.array(words, "<u2").tobytes()


def events_of(decoder: Evt3Decoder, words: list[int]) -> list[tuple[int, int, bool, int]]:
    e = decoder.decode(payload(words))
    return list(zip(e.x.tolist(), e.y.tolist(), e.p.tolist(), e.t.tolist(), strict=True))


KIND = st.sampled_from([0, 2, 3, 4, 5, 6, 8] * 3 + list(range(16)))
WORD = st.builds(lambda kind, low: kind << 12 | low, KIND, st.integers(0, 4095))
NEAR = st.builds(lambda kind, low: kind << 12 | low, KIND, st.integers(0, 40))
WORDS = st.lists(st.one_of(WORD, NEAR), max_size=60)
READY = [0x8005, 0x6010, 0x0003, 0x3004]


@given(WORDS, st.booleans())
@example([0x8FFF, 0x6FFF, 0x0001, 0x2001, 0x8000, 0x2001, 0x8FFF, 0x2001], False)
def test_any_words_mean_what_the_table_says(words: list[int], ready: bool) -> None:
    words = READY * ready + words
    assert events_of(Evt3Decoder(640, 480), words) == Oracle(640, 480).decode(words)


@given(WORDS, st.integers(0, 64))
def test_where_a_packet_ends_does_not_matter(words: list[int], cut: int) -> None:
    words = READY + words
    whole, halves = Evt3Decoder(64, 48), Evt3Decoder(64, 48)
    parts = events_of(halves, words[:cut]) + events_of(halves, words[cut:])
    assert parts == events_of(whole, words)


@given(st.binary(max_size=400), st.integers(1, 60), st.integers(1, 60))
def test_random_bytes_never_leave_the_sensor(noise: bytes, width: int, height: int) -> None:
    decoder = Evt3Decoder(width, height)
    decoder.decode(payload(READY))
    events = decoder.decode(noise)
    assert events.words == len(noise) // 2
    assert events.odd_bytes == len(noise) % 2
    assert (events.x < width).all()
    assert (events.y < height).all()


@given(WORDS, WORDS)
def test_after_a_loss_nothing_is_believed_until_clock_and_row_came(lost, words) -> None:
    decoder, oracle = Evt3Decoder(640, 480), Oracle(640, 480)
    events_of(decoder, READY + lost)
    oracle.decode(READY + lost)
    decoder.resync()
    oracle.forget()
    assert events_of(decoder, words) == oracle.decode(words)


def test_the_clock_goes_on_beyond_its_24_bits() -> None:
    decoder = Evt3Decoder(640, 480)
    times = []
    for lap in range(3):
        for high in range(0, 4096, 64):
            words = [0x8000 | high, 0x6001, 0x0001, 0x2001]
            times += [t for *_, t in events_of(decoder, words)]
        assert times[-1] // (1 << 24) == lap
    assert (np.diff(times) == 64 * 4096).all()


def test_a_clock_that_stutters_does_not_wrap() -> None:
    decoder = Evt3Decoder(640, 480)
    *_, (*_, first) = events_of(decoder, [0x8064, 0x6001, 0x0001, 0x2001])
    *_, (*_, second) = events_of(decoder, [0x8060, 0x6001, 0x2001])
    assert second - first == -4 * 4096


def test_oddities_are_counted_by_kind() -> None:
    decoder = Evt3Decoder(100, 100)
    words = [0x2001, 0x4FFF, *READY, 0x1000, 0xB000, 0xC000, 0xD000, 0x9123, 0x9999, 0x7000, 0xF000]
    words += [0xA101, 0xE001, 0xE002, 0x2064, 0x2063, 0x0064, 0x2001]
    events = decoder.decode(payload(words) + b"\x00")
    assert (events.unknown, events.other, events.triggers) == (5, 2, 1)
    assert (events.outside, events.early, events.odd_bytes) == (2, 2, 1)
    assert len(events.t) == 1


def test_reset_forgets_the_epoch() -> None:
    decoder = Evt3Decoder(640, 480)
    first = events_of(decoder, [0x8FF0, *READY, 0x2001])
    decoder.reset()
    assert events_of(decoder, [*READY, 0x2001])[0][3] == first[0][3] - (1 << 24)


def test_a_sensor_that_evt3_cannot_address_is_refused() -> None:
    with pytest.raises(RobustsegError, match="4096x640; EVT3 addresses 1 to 2048"):
        Evt3Decoder(640, 4096)


def test_a_robot_with_a_read_only_disk_decodes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from numba.core import caching

    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    monkeypatch.setattr(evt3, "_count", Compiled(evt3._count.python))
    decoder = Evt3Decoder(64, 48)
    assert events_of(decoder, [*READY, 0x2001])[0][:2] == (1, 3)


def test_naming_a_decoder_does_not_load_the_compiler() -> None:
    import subprocess

    code = "import robustseg_core.codecs.events.evt3, sys; print('numba' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"
