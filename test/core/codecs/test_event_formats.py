"""A format of events is a file: planted, it is read, written and broken like the one there is."""

from __future__ import annotations

import numpy as np
import pytest
from typer.testing import CliRunner

from robustseg_core.cli.main import app
from robustseg_core.codecs import events
from robustseg_core.faults import Injector, parse_fault
from robustseg_core.modalities.event import Event
from robustseg_core.types import MS, Fault, Rejection
from support import makers
from support.planted import plant

STAMP = 1_000 * MS
PLAIN = '''
"""Eight bytes an event: x, y, p as uint16, t in microseconds as uint16; for this test."""
import numpy as np
from robustseg_core.codecs.events import EventDecoder, EventEncoder, Events
from robustseg_core.codecs.fields import as_bytes


class PlainDecoder(EventDecoder):
    max_side = 100

    def reset(self):
        pass

    def resync(self):
        pass

    def decode(self, payload):
        data = as_bytes(payload)
        x, y, p, t = np.frombuffer(data[: data.size // 8 * 8].tobytes(), "<u2").reshape(-1, 4).T
        return Events(x, y, p > 0, t.astype(np.int64), len(x))
'''
WRITTEN = """

class PlainEncoder(EventEncoder):
    def __init__(self, width, height):
        self._decoder = PlainDecoder(width, height)

    @staticmethod
    def encode(x, y, p, t_us):
        return np.stack([np.asarray(a, "<u2") for a in (x, y, p, t_us)], axis=1).tobytes()

    @staticmethod
    def swapped_polarity(payload):
        table = np.frombuffer(bytes(payload), "<u2").reshape(-1, 4).copy()
        table[:, 2] = 1 - table[:, 2]
        return table.tobytes()

    def read(self, payload):
        return self._decoder.decode(payload)

    def tail(self):
        return b""

    def resync(self):
        pass
"""
ROWS = np.array([[3, 4, 1, 10], [5, 6, 0, 900]], "<u2")


def packet(encoding: str = "plain", seq: int = 0, width: int = 64):
    return makers.events(ROWS, STAMP + seq * MS, seq=seq, height=48, width=width, encoding=encoding)


def test_a_format_that_is_one_new_file_is_read(tmp_path, monkeypatch):
    before = events.available()
    plant(monkeypatch, tmp_path, events, "plain", PLAIN)
    assert events.available() == sorted([*before, "plain"])
    listed = CliRunner().invoke(app, ["list"]).stdout
    assert f"{'event formats':<13} {' '.join(events.available())}\n" in listed
    data = Event().decode(packet(), STAMP)
    assert data.events.x.tolist() == [3, 5] and data.events.p.tolist() == [True, False]
    assert data.zero_ns == STAMP - 10_000
    with pytest.raises(Rejection, match="48x1000; PLAIN addresses 1 to 100 each") as caught:
        Event().decode(packet(width=1000), STAMP)
    assert caught.value.finding.fault is Fault.FORMAT
    known = ", ".join(events.available())
    with pytest.raises(Rejection, match=f"'sealed'; supported: {known}"):
        Event().decode(packet("sealed"), STAMP)


def test_a_stream_that_changes_its_format_gets_another_decoder(tmp_path, monkeypatch):
    plant(monkeypatch, tmp_path, events, "plain", PLAIN)
    camera = Event()
    assert camera.decode(packet(), STAMP).events.words == 2
    assert camera.decode(packet("evt3", seq=1), STAMP).events.words == 8
    assert camera.decode(packet(seq=2), STAMP).events.words == 2


def test_a_format_that_can_be_written_is_broken_like_any_other(tmp_path, monkeypatch):
    plant(monkeypatch, tmp_path, events, "plain", PLAIN + WRITTEN)
    injector = Injector([parse_fault("event:wrong")], topics={"event": "/e"})
    (wrong,) = injector.feed("/e", packet(), 0)
    assert Event().decode(wrong.message, STAMP).events.p.tolist() == [False, True]
    injector = Injector(
        [parse_fault("event:hot_pixels(count=5,rate_hz=1e5)")], topics={"event": "/e"}
    )
    (more,) = injector.feed("/e", packet(), 0)
    found = Event().decode(more.message, STAMP).events
    assert len(found.t) > 10 and {3, 5} <= set(found.x.tolist())
    assert not injector.refused


def test_a_format_that_is_only_read_is_passed_on_by_faults_and_told(tmp_path, monkeypatch):
    plant(monkeypatch, tmp_path, events, "plain", PLAIN)
    injector = Injector([parse_fault("event:wrong")], topics={"event": "/e"})
    sent = packet()
    assert injector.feed("/e", sent, 0)[0].message is sent
    (told,) = injector.refused
    writable = told.partition("'plain' is not changed, only ")[2]
    assert "evt3" in writable and "plain" not in writable
