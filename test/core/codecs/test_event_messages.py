"""EventArrays off the wire and clouds of events, against what deserializers make of them."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustseg_core.bag import Bag, BagWriter
from robustseg_core.bag.event_array import EventArray, deserialize, from_ros1, serialize
from robustseg_core.bag.sealed import Sealed
from robustseg_core.bag.typestore import EVENT_ARRAYS, typestore
from robustseg_core.codecs.events.event_array import EventArrayDecoder
from robustseg_core.geometry.view import View
from robustseg_core.modalities.event import Event
from robustseg_core.recording.survey import survey
from robustseg_core.types import MS, SECOND, Fault, Reading, Rejection
from support import makers

FEW = settings(max_examples=50)
WIDTH, HEIGHT = 64, 48
EVENT = st.tuples(
    st.integers(0, 70), st.integers(0, 50), st.booleans(), st.integers(0, 2**31 * SECOND - 1)
)
ROWS = st.lists(EVENT, max_size=20)


def wire(rows: list[Any], frame_id: str = "event_camera", kind: str = EVENT_ARRAYS[0]) -> bytes:
    message = makers.event_array(rows, height=HEIGHT, width=WIDTH, package=kind.split("/")[0])
    message.header.frame_id = frame_id
    return bytes(typestore().serialize_cdr(message, kind))


def ros1(rows: list[Any], frame_id: str = "event_camera") -> bytes:
    """A ROS 1 message, packed by hand: its serialization pads nothing."""
    name = frame_id.encode()
    head = struct.pack("<IIII", 7, 1, 2, len(name)) + name
    head += struct.pack("<III", HEIGHT, WIDTH, len(rows))
    parts = (struct.pack("<HHIIB", x, y, *divmod(t, SECOND), on) for x, y, on, t in rows)
    return head + b"".join(parts)


def listed(message: Any) -> list[tuple[int, int, bool, int]]:
    found = EventArrayDecoder(message.width, message.height).decode(message.events)
    assert (found.unknown, found.odd_bytes) == (0, 0)
    columns = (found.x.tolist(), found.y.tolist(), found.p.tolist(), found.t.tolist())
    return list(zip(*columns, strict=True))


def on_sensor(rows: list[Any]) -> list[Any]:
    return [(x, y, on, t // 1000) for x, y, on, t in rows if x < WIDTH and y < HEIGHT]


@pytest.mark.parametrize("kind", EVENT_ARRAYS)
@FEW
@given(ROWS, st.text(st.characters(codec="ascii", exclude_characters="\0"), max_size=9))
def test_the_bytes_say_what_the_objects_say(kind, rows, frame_id):
    raw = wire(rows, frame_id, kind)
    message, objects = deserialize(raw, kind), typestore().deserialize_cdr(raw, kind)
    assert (message.height, message.width) == (objects.height, objects.width)
    assert message.header.frame_id == frame_id and message.header.stamp.sec == 1
    assert listed(message) == on_sensor(rows)
    assert serialize(message, kind) == raw


@FEW
@given(ROWS, st.text(st.characters(codec="ascii", exclude_characters="\0"), max_size=9))
def test_a_ros1_message_is_the_same(rows, frame_id):
    message, same = (
        from_ros1(ros1(rows, frame_id), EVENT_ARRAYS[0]),
        deserialize(wire(rows, frame_id), EVENT_ARRAYS[0]),
    )
    assert bytes(message.events) == bytes(same.events)
    assert message.header.frame_id == frame_id and message.header.stamp.nanosec == 2


@FEW
@given(st.binary(max_size=200), st.integers(0, 120), ROWS)
def test_damaged_payloads_are_counted_and_never_worse(noise, cut, rows):
    payload = bytes(deserialize(wire(rows), EVENT_ARRAYS[0]).events)
    for data in (noise, payload[:cut], payload + noise, payload[:cut] + noise):
        found = EventArrayDecoder(WIDTH, HEIGHT).decode(data)
        assert (found.x < WIDTH).all() and (found.y < HEIGHT).all()
        assert len(found.t) + found.unknown + found.outside == found.words <= len(data) // 13


def test_what_cannot_be_in_an_event_is_unknown():
    rows = [(1, 2, True, 5000), (3, 4, True, 6000), (5, 6, False, 7000)]
    payload = np.frombuffer(deserialize(wire(rows), EVENT_ARRAYS[0]).events, np.uint8).copy()
    payload[32] = 2  # the second one's polarity
    payload[44:48] = 255  # the third one's nanoseconds
    found = EventArrayDecoder(WIDTH, HEIGHT).decode(payload)
    assert (found.unknown, found.words, found.t.tolist()) == (2, 3, [5])
    assert EventArrayDecoder(WIDTH, HEIGHT).decode(payload[:-1]).odd_bytes == 1


@FEW
@given(st.binary(max_size=120), st.integers(0, 100))
def test_damaged_messages_are_refused_in_a_sentence(noise, cut):
    for raw in (noise, wire([(1, 2, True, 3)] * 3)[:cut], b"\0\0\0\0" + noise):
        sealed = Sealed(raw, EVENT_ARRAYS[0])
        try:
            assert isinstance(sealed.height, int)
        except Rejection as rejection:
            assert "are no dvs_msgs/msg/EventArray" in str(rejection)


def test_a_bag_of_event_arrays_is_a_stream_of_events(tmp_path):
    path = tmp_path / "old"
    with BagWriter(path) as writer:
        for k in range(30):
            t = 5 * SECOND + k * 10 * MS
            rows = [(k, j, j % 2 == 0, t + j * MS) for j in range(10)]
            message = makers.event_array(rows, t, height=HEIGHT, width=WIDTH)
            writer.write("/dvs/events", EVENT_ARRAYS[0], message, t)
    camera, view = Event(), View((HEIGHT, WIDTH))
    with Bag(path) as bag:
        topic = survey(bag).modalities["event"]
        assert (topic.encoding, topic.width, topic.problem) == ("event_array", WIDTH, "")
        readings = []
        for recorded in bag.messages():
            message = recorded.message()
            assert isinstance(message, EventArray)
            packet = camera.decode(message, recorded.header()[0])
            assert packet.zero_ns == 0 and not packet.lost
            readings.append(Reading("event", recorded.header()[0], "", packet))
    array = camera.encode(readings, view, 5 * SECOND + 300 * MS)
    assert (array[:2].sum(axis=0) > 0).sum() == 49  # 50 ms, one event each; the first is too old


def test_empty_arrays_of_a_still_scene_are_not_stuck():
    camera = Event()
    empty = [deserialize(wire([]), EVENT_ARRAYS[0]) for _ in range(2)]
    empty[1].header = makers.header(2 * SECOND)
    assert camera.digest(empty[0]) != camera.digest(empty[1])
    assert len(camera.decode(empty[0], SECOND).events.t) == 0


CLOUD_EVENT = st.tuples(
    st.integers(0, 345), st.integers(0, 259), st.booleans(), st.integers(0, 100_000_000)
)


@FEW
@given(st.lists(CLOUD_EVENT, max_size=30), st.sampled_from(["<u4", "<i4", "<f8"]))
def test_a_cloud_of_x_y_t_p_is_a_packet(rows, kind):
    scale = 1e-6 if kind == "<f8" else 1
    cloud = makers.event_cloud([(x, y, on, t * scale) for x, y, on, t in rows], t=kind)
    packet = Event().decode(cloud, SECOND)
    e = packet.events
    found = list(zip(e.x.tolist(), e.y.tolist(), e.p.tolist(), e.t.tolist(), strict=True))
    # one event that is far off may be a stray one
    assert len(found) >= len(rows) - len(rows) // 100
    assert found == [row for row in rows if row[0] < packet.width and row[1] < packet.height]


def test_the_size_of_its_sensor_is_the_smallest_that_holds_its_events():
    camera = Event()
    for x, y, size in ((10, 10, (128, 128)), (310, 200, (260, 346)), (10, 10, (260, 346)),
                       (700, 400, (720, 1280)), (1900, 1900, (2048, 2048))):  # fmt: skip
        packet = camera.decode(makers.event_cloud([(x, y, True, 5)]), SECOND)
        assert (packet.height, packet.width) == size
    stray = [(5, 5, True, k) for k in range(200)] + [(3000, 5, True, 300)]
    packet = Event().decode(makers.event_cloud(stray), SECOND)
    assert (packet.height, packet.events.outside, len(packet.events.t)) == (128, 1, 200)


def test_the_clock_of_a_cloud_goes_on_beyond_its_32_bits():
    camera, times = Event(), []
    for t in (2**32 - 20, 2**32 - 5, 8, 30):
        rows = [(1, 1, True, (t + k) % 2**32) for k in range(10)]
        times += camera.decode(makers.event_cloud(rows), SECOND).events.t.tolist()
    assert (np.diff(times) > 0).all() and times[-1] - times[0] == 2**32 + 39 - (2**32 - 20)


@FEW
@given(st.binary(max_size=90), st.integers(0, 9), st.sampled_from(["<u4", "<f4", "<f8", "<i2"]))
def test_damaged_clouds_are_read_or_refused(noise, width, kind):
    cloud = makers.event_cloud([(1, 2, True, 3)] * 4, t=kind)
    cloud.data = np.frombuffer(noise, np.uint8)
    cloud.width = width
    cloud.row_step = len(noise)
    try:
        e = Event().decode(cloud, SECOND).events
    except Rejection as rejection:
        assert rejection.finding.fault is Fault.FORMAT
        return
    assert len(e.t) + e.unknown + e.outside == e.words == width


def test_a_cloud_without_polarity_is_no_packet():
    with pytest.raises(Rejection, match="cloud has no fields x, y, t and p"):
        Event().decode(makers.xyz(np.ones((5, 3))), SECOND)
    with pytest.raises(Rejection):
        Event().decode(SimpleNamespace(fields=None), SECOND)


def test_a_cloud_of_events_is_told_from_a_scan(tmp_path):
    path = tmp_path / "clouds"
    kind = "sensor_msgs/msg/PointCloud2"
    with BagWriter(path) as writer:
        for k in range(3):
            t = SECOND + k * 10 * MS
            writer.write("/a", kind, makers.event_cloud([(1, 2, True, 3 + k)], t), t)
            writer.write("/b", kind, makers.xyz(np.ones((5, 3)), stamp_ns=t), t)
    with Bag(path) as bag:
        found = survey(bag).modalities
    assert {name: topic.topic for name, topic in found.items()} == {"event": "/a", "lidar": "/b"}
    assert found["event"].encoding == "x y t p" and found["lidar"].encoding == ""
