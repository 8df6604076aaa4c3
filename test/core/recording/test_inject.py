"""A recording and its broken copy: the same but for one stream and one window, every time."""

from __future__ import annotations

import numpy as np
import pytest
from rosbags.rosbag2 import Reader, StoragePlugin, Writer

from robustseg_core import faults
from robustseg_core.bag import Bag, BagWriter
from robustseg_core.bag.typestore import typestore
from robustseg_core.errors import RobustsegError
from robustseg_core.faults import parse_fault
from robustseg_core.faults._base import Graded
from robustseg_core.recording.inject import FaultyBag, inject_bag
from robustseg_core.types import SECOND, Fault
from support.drives import ALL, EPOCH, TOPICS, message, write_drive

pytestmark = pytest.mark.slow

FIRST_NS, LAST_NS = EPOCH + SECOND // 2, EPOCH + SECOND * 9 // 10
WINDOW = "@0.5+0.4"
DICE = {
    "black",
    "event_flood",
    "flat",
    "garbage",
    "gaussian_noise",
    "fouling",
    "holes",
    "hot_pixels",
    "intermittent",
    "jitter",
    "rings",
    "salt_pepper",
    "saturated",
    "sparse_cloud",
    "undecodable",
}
"""Faults that another seed makes otherwise."""
LIGHT = {"event_flood": "(rate_hz=1e6)", "fouling": "(minutes=0)"}


GRADED = {"burst", "fouling", "half_frozen", "misaligned", "replayed", "wrong_place"}
"""Of the faults with severities, one or two of each file; `test_severities` is about all."""


def done_to(k: int, name: str) -> tuple[str, ...]:
    """The sensors that a fault is done to; of one with severities only one, by turns."""
    kinds = faults.reached(name)
    if issubclass(faults.load(name), Graded):
        return (kinds[k % len(kinds)],) if name in GRADED else ()
    return kinds if faults.load(name).contents else (ALL[k % 4],)


PAIRS = [(m, name) for k, name in enumerate(faults.available()) for m in done_to(k, name)]


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return write_drive(tmp_path_factory.mktemp("drive") / "clean", 1.5)


def contents(path):
    with Bag(path) as bag:
        return [(r.topic, r.time_ns, r.raw) for r in bag.messages()]


def inject(clean, tmp_path, *texts, seed=0, name="broken", **options):
    specs = [parse_fault(text) for text in texts]
    out = tmp_path / name
    return out, inject_bag([clean], out, specs, seed=seed, topics=TOPICS, **options)


@pytest.mark.parametrize("modality, name", PAIRS)
def test_a_broken_copy_differs_in_one_stream_and_one_window_and_is_repeatable(
    clean, tmp_path, modality, name
):
    text = f"{modality}:{name}{LIGHT.get(name, '')}{WINDOW}"
    out, told = inject(clean, tmp_path, text, seed=1)
    whole, broken = contents(clean), contents(out)
    topic = TOPICS[modality]
    assert [r for r in broken if r[0] != topic] == [r for r in whole if r[0] != topic]
    ours, theirs = ([r for r in rows if r[0] == topic] for rows in (broken, whole))
    lasting_ns = {"delayed": SECOND // 5, "out_of_order": SECOND // 10, "burst": SECOND // 2}.get(
        name, 0
    )
    for rows, others in ((ours, theirs), (theirs, ours)):
        for row in set(rows) - set(others):
            assert FIRST_NS <= row[1] <= LAST_NS + lasting_ns
    assert ours != theirs
    assert told["faults"] == [{"fault": str(parse_fault(text)), "messages": told_of(theirs)}]
    assert told["messages"] == {"read": len(whole), "written": len(broken)}
    assert told["notices"] == []
    again, _ = inject(clean, tmp_path, text, seed=1, name="again")
    assert contents(again) == broken
    if name in DICE:
        other, _ = inject(clean, tmp_path, text, seed=2, name="other")
        assert contents(other) != broken
    with Bag(out) as bag:  # whatever was done, each message can be read
        assert all(r.message() is not None for r in bag.messages())


def told_of(rows):
    return sum(FIRST_NS <= time_ns < LAST_NS for _, time_ns, _ in rows)


def test_nothing_is_changed_where_no_fault_is(clean, tmp_path):
    out, told = inject(clean, tmp_path, "rgb:black@99")
    assert contents(out) == contents(clean)
    assert told["faults"] == [{"fault": "rgb:black@99", "messages": 0}]


def test_latched_topics_stay_latched_and_others_do_not_become_so(clean, tmp_path):
    out, _ = inject(clean, tmp_path, "rgb:black")
    for path in (clean, out):
        with Bag(path) as bag:
            assert {t.name for t in bag.topics if t.latched} == {"/tf_static"}


def test_sensors_are_guessed_where_nobody_names_them(clean, tmp_path):
    told = inject_bag([clean], tmp_path / "out", [parse_fault("lidar:off@1")])
    assert told["topics"] == TOPICS and told["faults"][0]["messages"] == 5


def test_several_faults_go_wrong_at_once(clean, tmp_path):
    out, told = inject(clean, tmp_path, "rgb:black@0.5", "rgb:delayed(seconds=0.1)@1", "lidar:off")
    assert [f["messages"] for f in told["faults"]] == [20, 10, 15]
    with Bag(out) as bag:
        images = [(r.time_ns, r.message()) for r in bag.messages({"/rgb"})]
        assert not list(bag.messages({"/lidar"}))
    assert images[-1][1].data.max() <= 2 and images[0][1].data.max() > 200
    assert images[-1][0] == EPOCH + 29 * SECOND // 20 + SECOND // 10


def test_a_copy_of_a_message_that_we_do_not_know_is_complete(tmp_path):
    """A custom type: its definition travels with its bytes."""
    text = "uint8 a\nstring b\n"
    digest = "RIHS01_" + "ab" * 32
    with Writer(tmp_path / "in", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        custom = writer.add_connection("/custom", "own_msgs/msg/Own", msgdef=text, rihs01=digest)
        sensor = writer.add_connection(
            "/lidar", "sensor_msgs/msg/PointCloud2", typestore=typestore()
        )
        cloud = message("lidar", 0)
        for k in range(3):
            writer.write(custom, EPOCH + k, b"\0\1\0\0\7\0\0\0\2\0\0\0x\0")
            writer.write(sensor, EPOCH + k, typestore().serialize_cdr(cloud, cloud.__msgtype__))
    out, told = inject(tmp_path / "in", tmp_path, "lidar:empty_cloud")
    assert told["notices"] == [] and told["messages"] == {"read": 6, "written": 6}
    with Reader(out) as reader:
        found = next(c for c in reader.connections if c.topic == "/custom")
        assert found.msgdef.data == text and found.digest.startswith("RIHS01_")
        raw = [bytes(data) for c, _, data in reader.messages() if c.topic == "/custom"]
    assert raw == [b"\0\1\0\0\7\0\0\0\2\0\0\0x\0"] * 3


def test_damaged_messages_are_carried_along_and_counted(tmp_path):
    with BagWriter(tmp_path / "in") as writer:
        sent = message("rgb", 0)
        writer.write("/rgb", sent.__msgtype__, sent, EPOCH)
        writer.write_raw("/rgb", sent.__msgtype__, b"\0\1\0\0nonsense", EPOCH + 5)
    out, told = inject(tmp_path / "in", tmp_path, "rgb:black")
    assert contents(out)[1] == ("/rgb", EPOCH + 5, b"\0\1\0\0nonsense")
    assert len(told["notices"]) == 1 and told["notices"][0].endswith("(1 messages)")


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_copy_leaves_nothing(clean, tmp_path, stop):
    def progress(done, total):
        if done == 40:
            raise stop

    with pytest.raises(stop):
        inject(clean, tmp_path, "rgb:black", on_progress=progress)
    assert not (tmp_path / "broken").exists()


def test_a_fault_that_fits_no_sensor_is_refused_before_anything_is_written(clean, tmp_path):
    for text, said in (
        ("/rbg:off", "fault is done to '/rbg', which is not in the recording; did you mean '/rgb'"),
        ("/lidar:black", "black cannot be done to lidar"),
    ):
        with pytest.raises(RobustsegError, match=said):
            inject(clean, tmp_path, text)
    with pytest.raises(RobustsegError, match="names no sensor of this robot"):
        inject_bag([clean], tmp_path / "x", [parse_fault("lidar:off")], topics={"rgb": "/rgb"})
    with pytest.raises(RobustsegError, match="is the input"):
        inject_bag([clean], clean, [], overwrite=True)
    assert list(tmp_path.iterdir()) == []


def test_a_recording_played_twice_is_one_schedule(clean):
    """As with kills: the second pass goes on where the first one ended."""
    with Bag([clean, clean]) as bag:
        disturbed = FaultyBag(bag, [parse_fault("rgb:off@1.45+0.5")], topics=TOPICS)
        times = [r.time_ns for r in disturbed.messages() if r.topic == "/rgb"]
        assert len(times) == 60 - 1 - 10, "the last image of the first pass, ten of the second"
        assert times.count(EPOCH) == 1 and times.count(EPOCH + SECOND) == 2


def test_a_disturbed_bag_reads_as_the_written_one_does(clean, tmp_path):
    text = "event:hot_pixels@0.2"
    out, _ = inject(clean, tmp_path, text, seed=4)
    with Bag(clean) as bag, Bag(out) as written:
        disturbed = FaultyBag(bag, [parse_fault(text)], seed=4, topics=TOPICS)
        for _ in range(2):  # the same random numbers at each pass
            pairs = zip(disturbed.messages(), written.messages(), strict=True)
            for ours, theirs in pairs:
                assert (ours.topic, ours.time_ns) == (theirs.topic, theirs.time_ns)
                assert ours.header() == theirs.header()
                if ours.topic == "/event":
                    assert np.array_equal(ours.message().events, theirs.message().events)
        assert disturbed.start_ns == EPOCH and disturbed.message_count == bag.message_count
    assert Fault.UNDECODABLE.value in faults.available("event")
