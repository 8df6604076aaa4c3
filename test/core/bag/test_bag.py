"""Recordings of every make and in every state of decay."""

from __future__ import annotations

import shutil
import sqlite3
import struct
import tracemalloc
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rosbags.interfaces import ConnectionExtRosbag2
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from robustseg_core.bag import Bag, BagWriter
from robustseg_core.bag.typestore import EVENT_PACKET, typestore
from robustseg_core.errors import RobustsegError
from robustseg_core.types import MS, SECOND, Fault, Rejection
from support.makers import camera_info, events, image, make, transform

pytestmark = pytest.mark.slow

IMAGE = "sensor_msgs/msg/Image"
START = 1_000_000_000


def picture(number: int, stamp_ns: int, size: int = 64):
    return image(np.full((size, size), number % 256, np.uint8), "mono8", stamp_ns)


def record(
    folder: Path,
    count: int = 10,
    *,
    storage: StoragePlugin = StoragePlugin.MCAP,
    mode: CompressionMode = CompressionMode.NONE,
    size: int = 64,
    start_ns: int = START,
    name: str = IMAGE,
) -> Path:
    """`count` grey pictures at 10 Hz on /camera; picture i holds the value i."""
    writer = Writer(folder, version=8, storage_plugin=storage)
    if mode != CompressionMode.NONE:
        writer.set_compression(mode, CompressionFormat.ZSTD)
    store = typestore()
    with writer:
        text = store.generate_msgdef(IMAGE, ros_version=2)[0]
        camera = writer.add_connection(
            "/camera", name, msgdef=text, rihs01=store.hash_rihs01(IMAGE)
        )
        for number in range(count):
            time_ns = start_ns + number * 100 * MS
            writer.write(
                camera, time_ns, store.serialize_cdr(picture(number, time_ns, size), IMAGE)
            )
    return folder


def values(bag: Bag) -> list[int]:
    return [int(recorded.message().data[0]) for recorded in bag.messages()]


@pytest.mark.parametrize(
    ("storage", "mode"),
    [
        (StoragePlugin.MCAP, CompressionMode.NONE),
        (StoragePlugin.MCAP, CompressionMode.STORAGE),
        (StoragePlugin.MCAP, CompressionMode.MESSAGE),
        (StoragePlugin.MCAP, CompressionMode.FILE),
        (StoragePlugin.SQLITE3, CompressionMode.NONE),
        (StoragePlugin.SQLITE3, CompressionMode.MESSAGE),
        (StoragePlugin.SQLITE3, CompressionMode.FILE),
    ],
)
@pytest.mark.parametrize("given", ["folder", "file", "folder_without_metadata"])
def test_every_make_of_rosbag2_plays_the_same_drive(tmp_path, storage, mode, given):
    folder = record(tmp_path / "drive", storage=storage, mode=mode)
    if given == "folder_without_metadata":
        (folder / "metadata.yaml").unlink()
    path = folder if given != "file" else next(p for p in folder.iterdir() if p.suffix != ".yaml")
    with Bag([path]) as bag:
        assert values(bag) == list(range(10))
        assert (bag.message_count, bag.start_ns, bag.duration_ns) == (10, START, 900 * MS)
        assert [(t.name, t.type, t.count, t.decodable) for t in bag.topics] == [
            ("/camera", IMAGE, 10, True)
        ]
        assert ["no metadata.yaml" in n for n in bag.notices] == (
            [True] if given == "folder_without_metadata" else []
        )


def test_a_ros1_bag_speaks_ros2(tmp_path):
    store = get_typestore(Stores.ROS1_NOETIC)
    ours = camera_info(fx=321.0, stamp_ns=START)
    twin = store.types["sensor_msgs/msg/CameraInfo"]
    theirs = twin(
        header=store.types["std_msgs/msg/Header"](
            seq=7, stamp=ours.header.stamp, frame_id="camera"
        ),
        height=ours.height,
        width=ours.width,
        distortion_model="plumb_bob",
        D=ours.d,
        K=ours.k,
        R=ours.r,
        P=ours.p,
        binning_x=0,
        binning_y=0,
        roi=ours.roi,
    )
    with Ros1Writer(tmp_path / "old.bag") as writer:
        topic = writer.add_connection("/camera_info", twin.__msgtype__, typestore=store)
        writer.write(topic, START, store.serialize_ros1(theirs, twin.__msgtype__))
    with Bag(tmp_path / "old.bag") as bag:
        (recorded,) = bag.messages()
        assert recorded.header() == (START, "camera")
        assert recorded.message().k[0] == 321.0
        assert bag.topics[0].type == "sensor_msgs/msg/CameraInfo"


def test_a_type_that_only_the_bag_knows_is_decoded_by_its_own_definition(tmp_path):
    store = get_typestore(Stores.ROS2_KILTED)
    kind = "gripper_msgs/msg/Squeeze"
    store.register(get_types_from_msg("std_msgs/Header header\nfloat32 force", kind))
    with Writer(tmp_path / "drive", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        topic = writer.add_connection("/squeeze", kind, typestore=store)
        header = make(
            "std_msgs/msg/Header",
            stamp=make("builtin_interfaces/msg/Time", sec=5, nanosec=6),
            frame_id="hand",
        )
        message = store.types[kind](header=header, force=2.5)
        writer.write(topic, START, store.serialize_cdr(message, kind))
    with Bag(tmp_path / "drive") as bag:
        (recorded,) = bag.messages()
        assert recorded.message().force == 2.5
        assert recorded.header() == (5_000_000_006, "hand")


def test_a_type_that_nobody_knows_is_listed_and_not_fatal(tmp_path):
    folder = record(tmp_path / "drive", storage=StoragePlugin.SQLITE3)
    with sqlite3.connect(folder / "drive.db3") as database:
        database.execute("UPDATE topics SET type = 'odd_msgs/Thing'")
        database.execute("DELETE FROM message_definitions")
    database.close()
    with Bag(folder) as bag:
        (topic,) = bag.topics
        assert (topic.type, topic.decodable) == ("odd_msgs/msg/Thing", False)
        assert "no definition" in topic.why
        with pytest.raises(Rejection, match="no definition") as caught:
            next(bag.messages()).message()
    assert caught.value.finding.fault is Fault.FORMAT


def test_another_encoding_than_cdr_is_listed_with_the_reason(tmp_path):
    folder = tmp_path / "drive"
    with Writer(folder, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        topic = writer.add_connection(
            "/web", IMAGE, typestore=typestore(), serialization_format="json"
        )
        assert isinstance(topic.ext, ConnectionExtRosbag2)
        writer.write(topic, START, b"{}")
    with Bag(folder) as bag:
        assert not bag.topics[0].decodable
        assert "'json'" in bag.topics[0].why


def test_the_old_spelling_of_a_type_is_understood(tmp_path):
    with Bag(record(tmp_path / "drive", name="sensor_msgs/Image")) as bag:
        assert bag.topics[0].type == IMAGE
        assert values(bag) == list(range(10))


def test_a_recorder_that_does_not_know_a_definition_writes_unknown(tmp_path):
    folder = record(tmp_path / "drive", storage=StoragePlugin.SQLITE3)
    with sqlite3.connect(folder / "drive.db3") as database:
        database.execute(
            "UPDATE message_definitions SET encoding = 'unknown', encoded_message_definition = ''"
        )
    database.close()
    with Bag(folder) as bag:
        assert values(bag) == list(range(10))


def test_odd_file_names_are_no_obstacle(tmp_path):
    folder = record(tmp_path / "drive", storage=StoragePlugin.SQLITE3)
    with Bag(folder.rename(tmp_path / "run #1? 50%")) as bag:
        assert values(bag) == list(range(10))


@pytest.mark.parametrize("profile", ["ros2", ""])
def test_an_mcap_without_chunks_and_order_loses_no_message(tmp_path, profile):
    """rosbag2's `fastwrite` preset; its late messages, and other writers' profiles."""

    def text(word: str) -> bytes:
        return struct.pack("<I", len(word)) + word.encode()

    def entry(operation: int, content: bytes) -> bytes:
        return struct.pack("<BQ", operation, len(content)) + content

    store, times = typestore(), [1, 2, 5, 4, 6, 3, 7]
    definition = store.generate_msgdef(IMAGE, ros_version=2)[0]
    content = entry(1, text(profile) + text("test"))
    content += entry(3, struct.pack("<H", 1) + text(IMAGE) + text("ros2msg") + text(definition))
    content += entry(4, struct.pack("<HH", 1, 1) + text("/camera") + text("cdr") + bytes(4))
    for time_ns in times:
        raw = store.serialize_cdr(picture(time_ns, START), IMAGE)
        content += entry(5, struct.pack("<HIQQ", 1, 0, time_ns, time_ns) + raw)
    content += entry(15, bytes(4)) + entry(2, bytes(20))
    magic = b"\x89MCAP0\r\n"
    with Bag(touch(tmp_path / "fast.mcap", magic + content + magic)) as bag:
        assert sorted(values(bag)) == sorted(times)
        assert "7 messages" in bag.notices[0]


def test_what_still_lies_in_the_write_ahead_log_is_named(tmp_path):
    folder = record(tmp_path / "drive", storage=StoragePlugin.SQLITE3)
    touch(folder / "drive.db3-wal", b"newest messages")
    with Bag(folder) as bag:
        assert values(bag) == list(range(10))
        assert "PRAGMA wal_checkpoint" in bag.notices[0]


def test_several_bags_play_one_after_the_other(tmp_path):
    late = record(tmp_path / "late", 3, start_ns=9 * START)
    early = record(tmp_path / "early", 2)
    with Bag([late, early, late]) as bag:
        assert values(bag) == [0, 1, 2, 0, 1, 0, 1, 2]
        assert (bag.start_ns, bag.duration_ns) == (9 * START, (200 + 100 + 200) * MS)
        assert bag.topics[0].count == 8


def test_topics_are_selected_and_absent_ones_are_merely_silent(tmp_path):
    with BagWriter(tmp_path / "drive") as writer:
        for number in range(6):
            writer.write(f"/camera_{number % 2}", IMAGE, picture(number, START), START + number)
    with Bag(tmp_path / "drive") as bag:
        assert [r.time_ns - START for r in bag.messages({"/camera_1", "/absent"})] == [1, 3, 5]
        assert list(bag.messages({"/absent"})) == []


@pytest.mark.parametrize("storage", list(StoragePlugin))
def test_messages_come_in_the_order_of_their_arrival(tmp_path, storage):
    writer = Writer(tmp_path / "drive", version=8, storage_plugin=storage)
    with writer:
        camera = writer.add_connection("/camera", IMAGE, typestore=typestore())
        for number in (3, 0, 2, 1):
            message = picture(number, START)
            writer.write(camera, START + number, typestore().serialize_cdr(message, IMAGE))
    with Bag(tmp_path / "drive") as bag:
        assert values(bag) == [0, 1, 2, 3]


def split(tmp_path: Path, count: int) -> Path:
    """One bag of `count` files with two pictures each, listed in its metadata."""
    folder = tmp_path / "split"
    folder.mkdir()
    names = [f"split_{number}.mcap" for number in range(count)]
    for number, name in enumerate(names):
        part = record(tmp_path / f"part{number}", 2, start_ns=START + number * 200 * MS)
        shutil.move(part / f"part{number}.mcap", folder / name)
    listed = "".join(f"    - {name}\n" for name in names)
    text = f"rosbag2_bagfile_information:\n  relative_file_paths:\n{listed}"
    (folder / "metadata.yaml").write_text(text)
    return folder


def test_a_split_bag_with_parts_missing_plays_the_rest(tmp_path):
    folder = split(tmp_path, 12)
    with Bag(folder) as bag:
        assert (bag.message_count, bag.duration_ns, bag.notices) == (24, 2300 * MS, [])
    for number in (0, 5, 11):
        (folder / f"split_{number}.mcap").unlink()
    (folder / "split_7.mcap").write_bytes(b"")
    with Bag(folder) as bag:
        times = [recorded.time_ns for recorded in bag.messages()]
        assert len(times) == 16
        assert times == sorted(times)
        assert bag.notices[0].startswith("split: 3 of 12 files are missing (split_0.mcap ...")
        assert "split_7.mcap is empty" in bag.notices[1]


def test_files_without_metadata_go_by_their_time_and_not_by_their_name(tmp_path):
    folder = split(tmp_path, 12)
    (folder / "metadata.yaml").write_text("]not yaml")
    (folder / "metadata.yaml").unlink()
    with Bag(folder) as bag:  # split_10 sorts before split_2 by name
        times = [recorded.time_ns for recorded in bag.messages()]
    assert times == sorted(times)


def test_unreadable_metadata_is_ignored_and_named(tmp_path):
    folder = record(tmp_path / "drive")
    (folder / "metadata.yaml").write_text("]not yaml")
    with Bag(folder) as bag:
        assert values(bag) == list(range(10))
        assert "metadata.yaml is unreadable" in bag.notices[0]


@pytest.mark.parametrize("mode", [CompressionMode.NONE, CompressionMode.STORAGE])
def test_an_mcap_cut_anywhere_plays_up_to_the_cut(tmp_path, mode):
    whole = (record(tmp_path / "drive", 5, mode=mode) / "drive.mcap").read_bytes()
    counts = []
    for cut in [8, 9, 30, *range(100, len(whole), 997), len(whole) - 9, len(whole) - 1]:
        path = tmp_path / "cut.mcap"
        path.write_bytes(whole[:cut])
        with Bag(path) as bag:
            seen = values(bag)
            assert seen == list(range(len(seen)))
            assert bag.message_count == len(seen)
            assert len(bag.notices) == 1
            assert f"{len(seen)} messages" in bag.notices[0]
        counts.append(len(seen))
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (0, 5)
    if mode == CompressionMode.NONE:
        assert set(counts) == set(range(6))  # also from a chunk that is not complete


def test_an_sqlite_file_cut_anywhere_plays_up_to_the_cut(tmp_path):
    folder = record(tmp_path / "drive", 8, storage=StoragePlugin.SQLITE3)
    whole = (folder / "drive.db3").read_bytes()
    counts = []
    for cut in [16, 100, *range(600, len(whole), 1009), len(whole) - 1]:
        path = tmp_path / "cut.db3"
        path.write_bytes(whole[:cut])
        with Bag(path) as bag:
            seen = values(bag)
            assert seen == list(range(len(seen)))
            assert bag.notices
        counts.append(len(seen))
    assert counts == sorted(counts)
    assert set(counts) > {0, 1, 2, 3, 4, 5, 6}


def test_a_topic_whose_name_is_no_text_is_named_as_it_is_shown(tmp_path):
    folder = record(tmp_path / "drive", 3, storage=StoragePlugin.SQLITE3)
    with closing(sqlite3.connect(folder / "drive.db3")) as tables, tables:
        tables.execute("UPDATE topics SET name = x'ff00fe'")
    with Bag(folder) as bag:
        assert all(isinstance(row.topic, str) for row in bag.messages())
        assert bag.notices


@pytest.fixture(scope="module")
def sound_files(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("sound")
    files = {}
    for storage in StoragePlugin:
        bag = record(folder / storage.name, 6, storage=storage, size=32)
        path = next(p for p in bag.iterdir() if p.suffix != ".yaml")
        files[path.suffix] = path.read_bytes()
    store = get_typestore(Stores.ROS1_NOETIC)
    text = store.types["std_msgs/msg/String"](data="hello")
    with Ros1Writer(folder / "old.bag") as writer:
        topic = writer.add_connection("/chatter", text.__msgtype__, typestore=store)
        for number in range(6):
            writer.write(topic, START + number, store.serialize_ros1(text, text.__msgtype__))
    files[".bag"] = (folder / "old.bag").read_bytes()
    packed = record(folder / "packed", 6, mode=CompressionMode.STORAGE, size=32)
    files[".zst.mcap"] = (packed / "packed.mcap").read_bytes()
    return files


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_no_damage_crashes_the_reader(sound_files, tmp_path_factory, data):
    suffix = data.draw(st.sampled_from(sorted(sound_files)))
    content = bytearray(sound_files[suffix])
    spots = st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255))
    for at, value in data.draw(st.lists(spots, max_size=20)):
        content[at] = value
    path = tmp_path_factory.mktemp("damaged") / f"drive{suffix}"
    path.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    try:
        with Bag(path) as bag:
            assert bag.topics is not None
            for recorded in bag.messages():
                recorded.header()
                try:
                    recorded.message()
                except Rejection as rejection:
                    assert rejection.finding.fault is Fault.FORMAT
    except RobustsegError:
        pass


def test_one_bad_chunk_does_not_silence_the_rest_of_the_drive(tmp_path):
    folder = record(tmp_path / "drive", 40, mode=CompressionMode.STORAGE, size=512)
    path = folder / "drive.mcap"
    content = bytearray(path.read_bytes())
    second = content.index(b"zstd", content.index(b"zstd") + 4) + 30
    content[second : second + 40] = b"\x55" * 40
    path.write_bytes(bytes(content))
    with Bag(folder) as bag:
        seen = values(bag)
        assert "damaged pieces passed over: 1" in bag.notices[0]
    assert len(seen) == len(set(seen))
    assert seen == sorted(seen)
    assert 30 <= len(seen) < 40
    assert (seen[0], seen[-1]) == (0, 39)


def test_a_corrupt_payload_is_a_rejection_and_the_next_message_still_plays(tmp_path):
    with Writer(tmp_path / "drive", version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        camera = writer.add_connection("/camera", IMAGE, typestore=typestore())
        good = bytes(typestore().serialize_cdr(picture(1, START), IMAGE))
        for number, raw in enumerate([good[:40], b"", b"\x28\xb5\x2f\xfd!", good]):
            writer.write(camera, START + number, raw)
    with Bag(tmp_path / "drive") as bag:
        *bad, last = bag.messages()
        for recorded in bad:
            with pytest.raises(Rejection, match="are no sensor_msgs/msg/Image"):
                recorded.message()
        assert last.message().data[0] == 1


@pytest.mark.parametrize("storage", list(StoragePlugin))
@pytest.mark.parametrize("cut", [False, True])
def test_memory_does_not_grow_with_the_bag(tmp_path, storage, cut):
    folder = record(tmp_path / "drive", 200, storage=storage, size=316)
    path = next(p for p in folder.iterdir() if p.suffix != ".yaml")
    if cut:
        path.write_bytes(path.read_bytes()[:-30_000])
    with Bag(path) as bag:
        values(bag)  # codecs are made once
    tracemalloc.start()
    with Bag(path) as bag:
        total = sum(len(recorded.raw) for recorded in bag.messages())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total > 19_000_000 * (0.9 if cut else 1)
    assert peak < (13_000_000 if cut else 5_000_000)  # a window of 8 MiB, a chunk of 1 MiB


@pytest.mark.parametrize(
    ("arrange", "says"),
    [
        (lambda folder: folder / "absent", "does not exist; give a bag folder"),
        (lambda folder: folder, "holds no recording"),
        (lambda folder: touch(folder / "empty.mcap", b""), "is empty"),
        (lambda folder: touch(folder / "notes.mcap", b"Dear diary"), "is no recording: it begins"),
        (lambda folder: touch(folder / "old.bag", b"#ROSBAG V2.0\n"), "rosbag reindex"),
        (
            lambda folder: record(folder / "inner").parent,
            r"give one of the bags in it: \['inner'\]",
        ),
        (lambda folder: [], "no bag was given"),
    ],
)
def test_what_is_no_bag_is_named_with_the_way_out(tmp_path, arrange, says):
    with pytest.raises(RobustsegError, match=says), Bag(arrange(tmp_path)):
        pass


def touch(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_a_bag_that_was_not_opened_does_not_pass_for_an_empty_one(tmp_path):
    with pytest.raises(RuntimeError, match="not open"):
        list(Bag(record(tmp_path / "drive")).messages())


def test_a_database_that_is_no_bag_is_named(tmp_path):
    with sqlite3.connect(tmp_path / "phone.db3") as database:
        database.execute("CREATE TABLE numbers (name, number)")
    database.close()
    with (
        pytest.raises(RobustsegError, match="without the tables topics and messages"),
        Bag(tmp_path / "phone.db3"),
    ):
        pass


def test_a_bag_without_messages_opens_and_has_none(tmp_path):
    with Bag(record(tmp_path / "drive", 0)) as bag:
        assert (bag.message_count, bag.start_ns, bag.duration_ns) == (0, 0, 0)
        assert (list(bag.messages()), bag.topics[0].count, bag.notices) == ([], 0, [])


def test_a_written_bag_reads_back_and_carries_its_definitions(tmp_path):
    words = np.array([0x8001, 0x0002], np.uint16)
    with BagWriter(tmp_path / "out", compress=True) as writer:
        writer.write("/events", EVENT_PACKET, events(words, seq=4), START)
        tf = transform("base", "lidar", (1, 2, 3))
        writer.write("/tf_static", "tf2_msgs/msg/TFMessage", tf, START + 5, latched=True)
    with Bag(tmp_path / "out") as bag:
        packet, tree = [recorded.message() for recorded in bag.messages()]
        assert (packet.seq, bytes(packet.events)) == (4, words.tobytes())
        assert tree.transforms[0].transform.translation.z == 3.0
        connections = {c.topic: c for c in bag._parts[0].storage.connections}
    assert "uint8[] events" in connections["/events"].msgdef.data
    assert connections["/tf_static"].ext.offered_qos_profiles[0].durability.name == (
        "TRANSIENT_LOCAL"
    )


def foreign_images(folder: Path) -> Path:
    """As `record`, one picture, of an Image with another field before its pixels."""
    text = (
        "std_msgs/Header header\nuint32 height\nuint32 width\nstring encoding\n"
        "uint8 is_bigendian\nuint32 step\nstring serial\nuint8[] data\n"
    )
    store = get_typestore(Stores.EMPTY)
    ours = typestore().fielddefs
    names = ("std_msgs/msg/Header", "builtin_interfaces/msg/Time")
    store.register({name: ours[name] for name in names} | get_types_from_msg(text, IMAGE))
    told = vars(picture(0, START))
    told = {name: told[name] for name in store.types[IMAGE].__dataclass_fields__ if name in told}
    with Writer(folder, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        camera = writer.add_connection("/camera", IMAGE, typestore=store)
        message = store.types[IMAGE](serial="A7", **told)
        writer.write(camera, START + 5 * SECOND, store.serialize_cdr(message, IMAGE))
    return folder


@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_a_copy_of_a_topic_with_two_definitions_has_no_bytes_that_lie(first, tmp_path):
    bags = [record(tmp_path / "ours", 1), foreign_images(tmp_path / "theirs")]
    if first == "theirs":
        bags.reverse()
    with Bag(bags) as bag, BagWriter(tmp_path / "out") as writer:
        sent = list(bag.messages())
        why = [writer.copy(recorded) for recorded in sent]
    with Bag(tmp_path / "out") as bag:
        got = list(bag.messages())
        assert [m.time_ns for m in got] == [
            m.time_ns for m, lost in zip(sent, why, strict=True) if not lost
        ]
        assert all(m.message().data.size == 64 * 64 for m in got)
        assert got[0].raw == sent[0].raw
    if first == "ours":
        assert why == ["", ""], "written in ours"
    else:
        assert why[0] == "" and "one definition" in why[1]


def test_an_interrupted_recording_is_completed(tmp_path):
    with pytest.raises(KeyboardInterrupt), BagWriter(tmp_path / "out") as writer:
        writer.write("/camera", IMAGE, picture(3, START), START)
        raise KeyboardInterrupt
    with Bag(tmp_path / "out") as bag:
        assert (values(bag), bag.notices) == ([3], [])


def test_the_writer_deletes_nothing(tmp_path):
    (tmp_path / "empty").mkdir()
    with BagWriter(tmp_path / "empty") as writer:
        writer.write("/camera", IMAGE, picture(3, START), START)
        with pytest.raises(RobustsegError, match="use another topic name"):
            writer.write("/camera", "std_msgs/msg/String", None, START)
        with pytest.raises(RobustsegError, match="does not know"):
            writer.write("/odd", "odd_msgs/msg/Thing", None, START)
    (tmp_path / "theirs").mkdir()
    touch(tmp_path / "theirs" / "thesis.tex", b"years of work")
    for name in ("empty", "theirs"):
        with pytest.raises(RobustsegError, match="exists already"):
            BagWriter(tmp_path / name)
    with pytest.raises(RobustsegError, match="a rosbag2 is a folder"):
        BagWriter(tmp_path / "out.mcap")
