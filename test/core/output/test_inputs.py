"""The sensors' own messages in the MCAP of a run: which, and where they stand beside the masks."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustseg_core.bag import Bag, BagWriter, Recorded
from robustseg_core.bag.codec import codec_for
from robustseg_core.bag.event_array import serialize
from robustseg_core.faults import parse_fault
from robustseg_core.output.inputs import InputLog
from robustseg_core.recording.run import run_bags
from robustseg_core.types import MS, SECOND
from support import drives
from support.makers import image

IMAGE = "sensor_msgs/msg/Image"
CODEC = codec_for(IMAGE)
DAY = 86_400 * SECOND


class Kept:
    """Stands for a writer: topic and time of what it is given."""

    def __init__(self, why=""):
        self.rows, self.why = [], why

    def copy(self, recorded, *, time_ns, latched, touched):
        self.rows.append((recorded.topic, time_ns))
        return self.why


def said(topic, time_ns, stamp_ns):
    picture = image(drives.truth(0), "mono8", stamp_ns)
    return Recorded(topic, IMAGE, time_ns, serialize(picture, IMAGE), CODEC)


def kept(rows, topics=("/rgb",), **how):
    writer = Kept()
    with InputLog(writer, topics, **how) as log:
        for row in rows:
            log.hear(row)
    return writer.rows, log


@given(clock=st.integers(-20_000, 20_000), late_ms=st.integers(0, 300), count=st.integers(1, 80))
def test_each_stands_at_its_stamp_whatever_the_recorder_s_clock(clock, late_ms, count):
    start_ns = 20_000 * DAY
    stamps = [start_ns + k * 100 * MS for k in range(count)]
    shift_ns = clock * DAY + late_ms * MS
    rows, log = kept([said("/rgb", stamp + shift_ns, stamp) for stamp in stamps])
    assert rows == [("/rgb", stamp) for stamp in stamps]
    assert log.notices() == []


@given(
    broken=st.sampled_from([0, 5 * SECOND, 24_000 * DAY]),
    at=st.sets(st.integers(0, 39), max_size=12),
)
def test_a_stamp_that_is_none_or_of_another_clock_is_not_followed(broken, at):
    times = [20_000 * DAY + k * 100 * MS for k in range(40)]
    rows, _ = kept(
        [said("/rgb", t, broken if k in at else t - 20 * MS) for k, t in enumerate(times)]
    )
    for k, (_, time_ns) in enumerate(rows):
        assert abs(time_ns - times[k]) <= 20 * MS


def test_a_sensor_that_speaks_most_does_not_move_the_others_to_its_clock():
    start_ns, boot_ns = 20_000 * DAY, 5 * SECOND
    rows = []
    for k in range(100):
        at = k * 20 * MS
        rows.append(said("/event", start_ns + at, boot_ns + at))
        if k % 5 == 0:
            rows.append(said("/rgb", start_ns + at, start_ns + at - 10 * MS))
    written, _ = kept(rows, ("/rgb", "/event"))
    pictures = [at for topic, at in written if topic == "/rgb"]
    assert pictures == [start_ns + k * 100 * MS - 10 * MS for k in range(20)]
    events = [at for topic, at in written if topic == "/event"]
    assert all(abs(at - start_ns - k * 20 * MS) <= 20 * MS for k, at in enumerate(events))


def test_the_clock_of_the_sensors_that_masks_are_made_of_is_followed_against_more_others():
    start_ns, ahead_ns = 20_000 * DAY, DAY
    writer = Kept()
    with InputLog(writer, ("/rgb", "/depth", "/event")) as log:
        for k in range(40):
            at = start_ns + k * 100 * MS
            log.hear(said("/rgb", at, at))
            log.hear(said("/depth", at, at))
            log.hear(said("/event", at, at + ahead_ns))
            log.made_of(["/event"])
    assert all(abs(at - start_ns - ahead_ns) <= 4 * SECOND for _, at in writer.rows)


def test_two_recordings_of_one_time_are_told_of():
    stamps = [20_000 * DAY + k * 100 * MS for k in range(40)]
    rows = [said("/rgb", stamp, stamp) for stamp in stamps]
    _, log = kept([*rows, *(replace(row, recording=1) for row in rows)])
    (notice,) = log.notices()
    assert "recordings 1 and 2" in notice and "--jobs" in notice


def test_each_recording_has_a_clock_of_its_own():
    stamps = [20_000 * DAY + k * 100 * MS for k in range(80)]
    rows = [said("/rgb", stamp, stamp) for stamp in stamps[:40]]
    rows += [replace(said("/rgb", s - 5_000 * DAY, s), recording=1) for s in stamps[40:]]
    written, _ = kept(rows)
    assert [at for _, at in written] == stamps


def test_what_is_written_below_our_name_is_refused_and_said():
    rows, log = kept([said("/robustseg/overlay", SECOND, SECOND)], ["/robustseg/overlay"])
    assert rows == []
    (notice,) = log.notices()
    assert notice == "/robustseg/overlay is not in the MCAP: masks are written below /robustseg/"


def test_what_cannot_be_written_is_counted():
    with InputLog(Kept("no such field"), ["/rgb"]) as log:
        for k in range(3):
            log.hear(said("/rgb", k * SECOND, k * SECOND))
    assert log.notices() == ["/rgb is not whole in the MCAP: no such field (3 messages)"]


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    return drives.write_drive(tmp_path_factory.mktemp("bag") / "drive", 1.5)


def run(drive, out, *faults, inputs=True):
    return run_bags(
        [drive],
        out=out,
        overrides=["weights=untrained"],
        video=False,
        inputs=inputs,
        faults=[parse_fault(text) for text in faults],
    )


def heard(path):
    with Bag(path) as bag:
        return [m for m in bag.messages() if m.topic in {*drives.TOPICS.values(), "/camera_info"}]


@pytest.mark.slow
def test_a_run_keeps_what_the_robot_heard_to_the_byte_and_each_picture_with_its_mask(
    drive, tmp_path
):
    result = run(drive, tmp_path / "out")
    theirs, ours = heard(drive), heard(tmp_path / "out" / "mcap")
    assert sorted((m.topic, m.raw) for m in ours) == sorted((m.topic, m.raw) for m in theirs)
    assert all(m.time_ns == m.header()[0] for m in ours if m.topic in drives.TOPICS.values())
    with Bag(tmp_path / "out" / "mcap") as bag:
        topics = {topic.name for topic in bag.topics}
        masks = [m.time_ns for m in bag.messages(["/robustseg/label_mask"])]
    assert "/chatter" not in topics, "no sensor's"
    stamps = {topic: {m.time_ns for m in ours if m.topic == topic} for topic in ("/rgb", "/event")}
    assert set(masks) <= stamps["/rgb"] | stamps["/event"] and set(masks) & stamps["/rgb"]
    assert len(masks) == len(result["masks"]) and result["notices"] == []


@pytest.mark.slow
def test_it_keeps_them_as_they_were_broken_and_masks_are_the_same_without(drive, tmp_path):
    faults = ("rgb:black@0.5", "lidar:off@0.8")
    made = run(drive, tmp_path / "a", *faults)
    plain = run(drive, tmp_path / "b", *faults, inputs=False)
    assert [m["used"] for m in made["masks"]] == [m["used"] for m in plain["masks"]]
    counts = Counter(m.topic for m in heard(tmp_path / "a" / "mcap"))
    assert counts["/lidar"] == 8 and counts["/depth"] == 15
    assert not heard(tmp_path / "b" / "mcap")
    pictures = [m.message() for m in heard(tmp_path / "a" / "mcap") if m.topic == "/rgb"]
    assert len(pictures) == 30
    assert pictures[-1].data.max() < 5 and pictures[0].data.max() > 100, "noise of a dark sensor"


def test_several_threads_may_write(tmp_path):
    picture = drives.message("rgb", 0)
    with BagWriter(tmp_path / "bag") as bag, ThreadPoolExecutor(4) as pool:
        for k in range(80):
            pool.submit(bag.write, f"/t{k % 5}", IMAGE, picture, k)
    with Bag(tmp_path / "bag") as made:
        assert sorted(m.time_ns for m in made.messages()) == list(range(80))
