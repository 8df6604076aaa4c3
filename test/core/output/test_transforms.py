"""What the MCAP of a run says of places: what is fixed at once, what moves at its own time."""

from __future__ import annotations

import pytest
from mcap.reader import make_reader
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore

from robustseg_core.bag import BagWriter
from robustseg_core.bag.event_array import serialize
from robustseg_core.bag.sealed import Sealed
from robustseg_core.codecs.tf_message import TF_MESSAGE
from robustseg_core.output.transforms import FARTHEST_NS, MOST_BYTES, TransformLog
from robustseg_core.types import MS, SECOND
from support import makers

NOW = 100 * SECOND


@pytest.fixture
def written(tmp_path):
    """Has a log write for masks of these stamps, and reads it: (topic, log time, transforms)."""

    def write(log, *stamps_ns):
        with BagWriter(tmp_path / "mcap") as bag:
            for stamp_ns in stamps_ns:
                log.write(bag, stamp_ns)
        with next((tmp_path / "mcap").glob("*.mcap")).open("rb") as file:
            logged = [(c.topic, m.log_time) for _, c, m in make_reader(file).iter_messages()]
        with AnyReader(
            [tmp_path / "mcap"], default_typestore=get_typestore(Stores.ROS2_JAZZY)
        ) as bag:
            read = [
                (c.topic, time_ns, bag.deserialize(raw, c.msgtype).transforms)
                for c, time_ns, raw in bag.messages()
            ]
        assert sorted(logged) == sorted((topic, time_ns) for topic, time_ns, _ in read)
        return read

    return write


def moving(at_ns, child="boom", parent="base"):
    message = makers.transform(parent, child, stamp_ns=at_ns)
    return Sealed(serialize(message, TF_MESSAGE), TF_MESSAGE)


def test_what_is_fixed_is_one_message_whoever_said_it(written):
    log = TransformLog()
    log.hear(makers.transform("base", "camera", (1, 2, 3)), moving=False)
    log.hear(makers.transform("/base", "/lidar", (4, 5, 6)), moving=False)
    ((topic, time_ns, transforms),) = written(log, NOW, NOW + 1)
    assert (topic, time_ns) == ("/tf_static", NOW)
    assert [(t.header.frame_id, t.child_frame_id) for t in transforms] == [
        ("base", "camera"),
        ("base", "lidar"),
    ]
    assert transforms[1].transform.translation.z == 6 and transforms[1].transform.rotation.w == 1


def test_it_is_said_again_whole_when_something_is_new_or_another(written):
    log = TransformLog()
    said = makers.transform("base", "camera")
    log.hear(said, moving=False)
    with_each = []

    class Bag:
        def write(self, topic, kind, message, time_ns, *, latched):
            assert latched and topic == "/tf_static" and kind == TF_MESSAGE
            with_each.append([(t.header.frame_id, t.child_frame_id) for t in message.transforms])

    log.write(Bag(), NOW)
    log.hear(said, moving=False)
    log.write(Bag(), NOW + 1)
    log.hear(makers.transform("mast", "camera"), moving=False)
    log.write(Bag(), NOW + 2)
    log.hear(makers.transform("base", "lidar"), moving=False)
    log.write(Bag(), NOW + 3)
    assert with_each == [
        [("base", "camera")],
        [("mast", "camera")],
        [("mast", "camera"), ("base", "lidar")],
    ]


def test_what_moves_is_written_at_its_own_time_and_not_before_it(written):
    log = TransformLog()
    for at in (-50, -20, 0, 30, 80):
        log.hear(moving(NOW + at * MS), moving=True)
    read = written(log, NOW, NOW + 50 * MS)
    assert [(topic, time_ns - NOW) for topic, time_ns, _ in read] == [
        ("/tf", at * MS) for at in (-50, -20, 0, 30)
    ]


def test_a_stamp_that_was_never_set_is_the_masks(written):
    log = TransformLog()
    log.hear(moving(0), moving=True)
    ((_, time_ns, _),) = written(log, NOW)
    assert time_ns == NOW


def test_other_clocks_and_damage_do_not_stretch_the_recording(written):
    log = TransformLog()
    log.hear(moving(NOW - FARTHEST_NS - 1), moving=True)
    log.hear(moving(NOW + 1000 * SECOND), moving=True)
    log.hear(Sealed(b"\0\1\0\0\xff\xff\xff\xffgarbage", TF_MESSAGE), moving=True)
    log.hear(Sealed(b"", TF_MESSAGE), moving=True)
    log.hear(object(), moving=False)
    log.hear(makers.transform("base", "nan", (float("nan"), 0, 0)), moving=False)
    log.hear(makers.transform("base", "camera"), moving=False)
    ((topic, _, transforms),) = written(log, NOW)
    assert topic == "/tf_static" and [t.child_frame_id for t in transforms] == ["camera"]


def test_no_more_frames_are_kept_than_one_message_may_hold(written, monkeypatch):
    monkeypatch.setattr("robustseg_core.output.transforms.MOST_TRANSFORMS", 3)
    log = TransformLog()
    for k in (0, 1, 2, 3, 4):
        log.hear(makers.transform("base", f"sensor{k}"), moving=False)
    log.hear(makers.transform("mast", "sensor0"), moving=False)
    ((_, _, transforms),) = written(log, NOW)
    assert [t.child_frame_id for t in transforms] == ["sensor0", "sensor1", "sensor2"]
    assert transforms[0].header.frame_id == "mast", "a known one may change"


def test_memory_is_bounded_while_no_mask_comes(written, monkeypatch):
    one = moving(NOW)
    monkeypatch.setattr("robustseg_core.output.transforms.MOST_BYTES", 10 * len(one.raw))
    log = TransformLog()
    for k in range(1000):
        log.hear(moving(NOW + k), moving=True)
    assert [t - NOW for _, t, _ in written(log, NOW + 2000)] == list(range(990, 1000))
    assert MOST_BYTES >= 1 << 20
