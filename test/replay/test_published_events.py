"""Public recordings of event cameras, and how many events other software finds in them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustseg_core.bag import Bag
from robustseg_core.codecs import events
from robustseg_core.codecs.fields import stamp_of
from robustseg_core.modalities.event import Event
from robustseg_core.types import MS, Fault

pytestmark = pytest.mark.slow

CODECS = ("ros-event-camera/event_camera_codecs", "656bd53")
PYTHON = ("ros-event-camera/event_camera_py", "af175d2")
EXPELLIARMUS = ("open-neuromorphic/expelliarmus", "6ed9e41")


def packets(bag: Path) -> Iterator[tuple[Any, Any]]:
    """(message, packet) of the only topic; every word means something."""
    camera = Event()
    with Bag(bag) as recording:
        for recorded in recording.messages():
            message = recorded.message()
            packet = camera.decode(message, stamp_of(message))
            # one of the cameras has pixels that never rest
            assert {finding.fault for finding in camera.check(packet)} <= {Fault.HOT_PIXELS}
            found = packet.events
            assert (found.unknown, found.outside, found.early, found.odd_bytes) == (0, 0, 0, 0)
            assert packet.stride == 1 and (np.diff(found.t) >= 0).all()
            yield message, packet
    assert camera.lost_packets == 0


def test_libcaer_whose_clock_rolls_over_holds_exactly_its_events(published):
    bag = published(*CODECS, "test/test_data_libcaer_rollover/libcaer_rollover_0.db3")
    count = on = x = y = 0
    previous = 0
    for message, packet in packets(bag):
        assert message.encoding == "libcaer"
        assert abs(packet.zero_ns) < 20 * MS  # its driver starts the sensor's clock at its own
        found = packet.events
        count, on = count + len(found.t), on + int(found.p.sum())
        x, y = x + int(found.x.sum()), y + int(found.y.sum())
        assert previous <= found.t[0]
        previous = found.t[-1]
    assert (count, on, x, y) == (334_331, 181_908, 111_651_612, 82_801_007)


def test_libcaer_cmp_holds_exactly_its_events(published):
    bag = published(*PYTHON, "tests/test_events_2/test_events_2_0.mcap")
    on = off = 0
    first_us = None
    for message, packet in packets(bag):
        assert message.encoding == "libcaer_cmp"
        assert abs(packet.zero_ns) < 20 * MS
        found = packet.events
        on, off = on + int(found.p.sum()), off + int((~found.p).sum())
        first_us = first_us or message.time_base // 1000
    assert (on, off) == (211_043, 360_223)
    assert first_us == 1_744_227_144_732_712


def test_evt2_holds_exactly_its_events(published):
    raw = published(*EXPELLIARMUS, "tests/sample-files/evt2_sample.raw").read_bytes()
    while raw.startswith(b"%"):  # lines of text in front of the words
        raw = raw[raw.index(b"\n") + 1 :]
    decoder = events.load("evt2")(640, 480)
    found = [decoder.decode(raw[at : at + 100_000]) for at in range(0, len(raw), 100_000)]
    assert sum(len(part.t) for part in found) == 539_481
    assert sum(int(part.p.sum()) for part in found) == 367_855
    assert {(p.unknown, p.outside, p.early, p.odd_bytes) for p in found} == {(0, 0, 0, 0)}
    t = np.concatenate([part.t for part in found])
    assert (np.diff(t) >= 0).all() and t[-1] - t[0] == 50_000


def test_mono_under_its_messages_former_name_holds_exactly_its_events(published):
    bag = published(*CODECS, "test/test_data_mono_cd/test_data_mono_cd_0.db3")
    found = []
    for message, packet in packets(bag):
        assert message.encoding == "mono"
        found.append(packet.events)
    x, y, p, t = (np.concatenate([getattr(e, name) for e in found]) for name in "xypt")
    assert (len(t), int(p.sum())) == (100, 50)
    assert (int(x.sum()), int(y.sum()), int(t.sum())) == (34_450, 26_450, 4_950)
