"""Bombs: whatever a file claims or becomes, memory and time are bounded, and a sentence says so."""

from __future__ import annotations

import bz2
import json
import os
import sqlite3
import struct
import subprocess
import sys
import tracemalloc
import zlib
from contextlib import closing
from pathlib import Path

import lz4.frame
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rosbags.rosbag1 import Reader as Ros1Reader
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import CompressionFormat, CompressionMode, Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from robustseg_core import config
from robustseg_core.bag import Bag
from robustseg_core.bag.typestore import typestore
from robustseg_core.codecs.events.evt3 import Evt3Decoder
from robustseg_core.codecs.image import decode_compressed
from robustseg_core.errors import RobustsegError
from robustseg_core.evaluation.results import load as load_results
from robustseg_core.modalities.event import Event
from robustseg_core.shards.archive import read_index
from robustseg_core.storage import budget as budgets
from robustseg_core.storage.budget import (
    DEEPEST,
    LIMIT,
    RATIO,
    Budget,
    Meter,
    OverBudget,
    parse_json,
)
from robustseg_core.types import Fault, Rejection
from support.bombs import GIB, IMAGE, Chunk, bomb, entry, mcap, payload, png, zeros, zstd
from support.makers import compressed, events

pytestmark = pytest.mark.slow

SMALL = Budget(1 << 24, 256)
"""16 MiB: what is small has 1 MiB, the largest piece 2 MiB."""
BIG = 6 << 20
PACKERS = {
    "zstd": zstd.compress,
    "lz4": lz4.frame.compress,
    "bz2": bz2.compress,
    "zlib": zlib.compress,
}


def values(bag: Bag) -> list[int]:
    return [int(recorded.message().data[0]) for recorded in bag.messages()]


def peak_of(path: Path) -> tuple[list[int], list[str], int]:
    """(pictures, notices, most bytes in memory) of reading a recording within `SMALL`."""
    tracemalloc.start()
    try:
        with Bag(path, allowed=SMALL) as bag:
            return values(bag), bag.notices, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# -- the rule -------------------------------------------------------------------------------------


@given(
    st.sampled_from(sorted(PACKERS)),
    st.binary(max_size=300),
    st.integers(0, 3000),
    st.integers(0, 9),
    st.integers(1, 40),
)
def test_never_more_than_the_limit_comes_out_and_what_fits_is_whole(name, raw, times, cut, ratio):
    allowed = Budget(1 << 20, ratio)
    data = raw * times
    packed = PACKERS[name](data)
    packed = packed[: len(packed) - cut]
    try:
        made = allowed.unpack(name, packed, "chunk")
    except OverBudget as error:
        assert len(data) > allowed.piece(len(packed))
        assert "--unpack-" in str(error)
    except ValueError:
        assert cut
    else:
        assert made == data
        assert len(made) <= allowed.piece(len(packed)) <= allowed.largest


@given(st.sampled_from(sorted(PACKERS)), st.binary(max_size=400))
def test_any_bytes_are_unpacked_or_refused(name, raw):
    for broken in (False, True):
        try:
            made = SMALL.unpack(name, raw, "chunk", broken=broken)
        except (OverBudget, ValueError):
            continue
        assert len(made) <= SMALL.piece(len(raw))


@given(st.integers(0, 1 << 44), st.none() | st.integers(0, 1 << 20))
def test_the_way_out_of_a_claim_is_one(size, packed):
    try:
        Budget().check(size, "chunk claims", packed=packed)
    except OverBudget as error:
        words = str(error).replace(";", "").split()
        options = {w: words[i + 2] for i, w in enumerate(words) if w.startswith("--unpack")}
        limit = options.get("--unpack-limit", "1GiB")
        raised = Budget(budgets.parse_size(limit, "it"), int(options.get("--unpack-ratio", 256)))
        assert raised.check(size, "chunk claims", packed=packed or None) == size
    else:
        assert size <= Budget().largest


@given(st.lists(st.integers(0, 1 << 20), max_size=40))
def test_all_that_is_taken_out_of_a_file_stays_within_its_limit(sizes):
    meter, taken = Meter(Budget(1 << 21, 1), 100), 0
    for size in sizes:
        try:
            meter.take(size, "chunk")
        except OverBudget:
            assert taken + size > 1 << 21
        else:
            taken += size
    assert taken <= 1 << 21


def test_thousands_of_empty_streams_are_no_way_to_keep_us_busy():
    with pytest.raises(ValueError, match="more than 256 streams"):
        Budget().unpack("zstd", zstd.compress(b"") * 100_000, "chunk")


def test_sizes_are_written_as_people_write_them():
    sizes = [budgets.parse_size(word, "it") for word in ("1GiB", "2G", "512 MiB", "1048576")]
    assert sizes == [GIB, 2 * 10**9, 512 << 20, 1 << 20]
    for word in ("", "much", "-1GiB", "1.5GiB", "12", "0", "1GiBB", "1e9", "\u0661GiB"):
        with pytest.raises(RobustsegError, match="MiB"):
            budgets.parse_size(word, LIMIT)


def test_the_environment_carries_the_budget_into_other_processes(monkeypatch):
    assert budgets.budget() == Budget()
    monkeypatch.setenv(LIMIT, "4GiB")
    monkeypatch.setenv(RATIO, "9")
    assert budgets.budget() == Budget(4 * GIB, 9)
    for name in (LIMIT, RATIO):
        with monkeypatch.context() as patch, pytest.raises(RobustsegError, match=name):
            patch.setenv(name, "lots")
            budgets.budget()


# -- MCAP -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("indexed", [True, False])
@pytest.mark.parametrize("compression", ["zstd", "lz4"])
@pytest.mark.parametrize("claim", [BIG, 5000, 100 * GIB, 2**63])
def test_a_chunk_that_becomes_too_much_is_passed_over_and_the_rest_is_read(
    tmp_path, indexed, compression, claim
):
    chunks = [
        Chunk((1, 2), compression),
        bomb(compression, 3, BIG, claim=claim),
        Chunk((4,), compression),
    ]
    seen, notices, peak = peak_of(mcap(tmp_path / "drive.mcap", chunks, indexed=indexed))
    assert seen == [1, 2, 4]
    assert peak < BIG
    (notice,) = [n for n in notices if "not unpacked" in n]
    assert notice.startswith("drive.mcap: 1 piece is not unpacked and not read: chunk at byte ")
    assert f"claims {claim} bytes and becomes more" in notice or "--unpack-limit to" in notice
    assert ("index" in " ".join(notices)) is not indexed


@pytest.mark.parametrize("indexed", [True, False])
@pytest.mark.parametrize("claim", [BIG, 5000, 100 * GIB])
def test_where_nothing_is_left_that_is_the_error(tmp_path, indexed, claim):
    path = mcap(tmp_path / "drive.mcap", [bomb("zstd", 3, BIG, claim=claim)], indexed=indexed)
    with (
        pytest.raises(OverBudget, match="chunk at byte") as caught,
        Bag(path, allowed=SMALL) as bag,
    ):
        list(bag.messages())
    if claim == 100 * GIB:
        assert "claims 100 GiB (107374182400 bytes)" in str(caught.value)


def test_an_unpacked_chunk_that_is_too_large_is_refused_too(tmp_path):
    big = Chunk((2,), "", packed=bytes(BIG), claim=BIG)
    for indexed in (True, False):
        path = mcap(tmp_path / "drive.mcap", [Chunk((1,)), big], indexed=indexed)
        seen, notices, _ = peak_of(path)
        assert seen == [1]
        assert any("6 MiB" in notice for notice in notices)


def test_many_small_chunks_do_not_make_a_large_one(tmp_path):
    """Each of 1 MiB is allowed; the file of 20 kB may become 16 MiB and no more."""
    chunks = [bomb("zstd", number, 1 << 20) for number in range(100)]
    for indexed in (True, False):
        with Bag(mcap(tmp_path / "drive.mcap", chunks, indexed=indexed), allowed=SMALL) as bag:
            assert sum(1 for _ in bag.messages()) == 16
            assert any("84 pieces are not unpacked" in notice for notice in bag.notices)


def test_chunks_that_overlap_are_not_all_held_at_once(tmp_path):
    wide = [Chunk((number, 100 + number), "") for number in range(40)]
    for chunk in wide:
        chunk.packed += entry(0x80, bytes(1 << 19))
        chunk.claim = len(chunk.packed)
    seen, notices, peak = peak_of(mcap(tmp_path / "drive.mcap", wide))
    assert 20 <= len(seen) < 80
    assert any("overlaps others" in notice for notice in notices)
    assert peak < SMALL.limit


def test_an_index_that_lists_a_chunk_a_thousand_times_is_paid_for_once(tmp_path):
    path = mcap(tmp_path / "drive.mcap", [bomb("zstd", 5, 1 << 20)], twice=1000)
    with Bag(path, allowed=SMALL) as bag:
        assert sum(1 for _ in bag.messages()) <= SMALL.whole(path.stat().st_size) >> 20
        assert bag.notices


@pytest.mark.parametrize("profile", ["&a [1]", "- history: *a", "[" * 70_000])
def test_profiles_that_are_a_trap_are_not_parsed(tmp_path, profile):
    path = mcap(tmp_path / "drive.mcap", [Chunk((1, 2))])
    content = path.read_bytes()
    meta = struct.pack("<I", 20) + b"offered_qos_profiles" + struct.pack("<I", len(profile))
    meta += profile.encode()
    old = struct.pack("<HH", 1, 1) + b"\x07\0\0\0/camera" + b"\3\0\0\0cdr"
    at = content.rindex(entry(4, old + bytes(4)))
    new = entry(4, old + struct.pack("<I", len(meta)) + meta)
    path.write_bytes(content[:at] + new + content[at + len(entry(4, old + bytes(4))) :])
    with Bag(path) as bag:
        assert values(bag) == [1, 2]


TWOS = "a/T0 a\na/T0 b\n" + "".join(
    f"{'=' * 80}\nMSG: a/T{n}\na/T{n + 1} a\na/T{n + 1} b\n" for n in range(40)
)
EMPTY = f"\n{'=' * 80}\nMSG: a/E\n"


@pytest.mark.parametrize(
    "definition",
    [
        f"a/E[4000000000] a{EMPTY}",
        "string[2000000000] a",
        f"{TWOS}{'=' * 80}\nMSG: a/T40\nbool a",
        "uint8 a\n" * 100_000,
        f"a/A[9999] a{EMPTY}{'=' * 80}\nMSG: a/A\nstring[9999] a",
    ],
)
def test_a_definition_that_makes_a_message_endless_is_unusable(tmp_path, definition, monkeypatch):
    monkeypatch.setattr("support.bombs.definition", lambda: definition)
    monkeypatch.setattr("support.bombs.IMAGE", "a/msg/B")
    with Bag(mcap(tmp_path / "drive.mcap", [Chunk((1,))])) as bag:
        assert "is unusable" in bag.topics[0].why
        with pytest.raises(Rejection):
            next(bag.messages()).message()


# -- other recordings -----------------------------------------------------------------------------


@pytest.mark.parametrize("storage", list(StoragePlugin))
def test_a_message_that_becomes_too_much_is_a_rejection(tmp_path, storage):
    with Writer(tmp_path / "drive", version=8, storage_plugin=storage) as writer:
        camera = writer.add_connection("/camera", IMAGE, typestore=typestore())
        raws = (zstd.compress(payload(1)), zeros("zstd", BIG), payload(3))
        for time_ns, raw in enumerate(raws):
            writer.write(camera, time_ns + 1, raw)
    with Bag(tmp_path / "drive", allowed=SMALL) as bag:
        first, bad, last = list(bag.messages())
        assert (first.message().data[0], last.message().data[0]) == (1, 3)
        with pytest.raises(Rejection, match="becomes more than 1 MiB") as caught:
            bad.message()
        assert caught.value.finding.fault is Fault.FORMAT
        list(bag.messages())
        assert [n.partition(":")[2][:30] for n in bag.notices] == [" 1 piece is not unpacked and n"]


def test_a_recording_of_nothing_but_such_messages_is_an_error(tmp_path):
    with Writer(tmp_path / "drive", version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        camera = writer.add_connection("/camera", IMAGE, typestore=typestore())
        for time_ns in (1, 2):
            writer.write(camera, time_ns, zeros("zstd", BIG))
    with Bag(tmp_path / "drive", allowed=SMALL) as bag, pytest.raises(OverBudget, match="becomes"):
        list(bag.messages())


def test_a_compressed_file_is_unpacked_up_to_its_limit_and_its_rest_is_removed(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    path = tmp_path / "drive.mcap.zst"
    path.write_bytes(zeros("zstd", 40 << 20))
    with pytest.raises(OverBudget, match="16 MiB"), Bag(path, allowed=SMALL):
        pass
    twice = tmp_path / "twice.mcap.zst"
    inner = mcap(tmp_path / "drive.mcap", [Chunk((1,))]).read_bytes()
    twice.write_bytes(zstd.compress(zstd.compress(inner)))
    with pytest.raises(RobustsegError, match="compressed twice"), Bag(twice):
        pass
    assert {p.name for p in tmp_path.iterdir()} == {path.name, twice.name, "drive.mcap"}


def ros1(path: Path, compression: str, blobs: list[bytes]) -> Path:
    """A ROS 1 bag of a chunk per blob."""
    store = get_typestore(Stores.ROS1_NOETIC)
    writer = Ros1Writer(path)
    writer.set_compression(getattr(Ros1Writer.CompressionFormat, compression))
    writer.chunk_threshold = 1
    with writer:
        topic = writer.add_connection("/words", "std_msgs/msg/String", typestore=store)
        for number, blob in enumerate(blobs):
            writer.write(topic, 1000 + number, struct.pack("<I", len(blob)) + blob)
    return path


@pytest.mark.parametrize("compression", ["BZ2", "LZ4"])
def test_a_chunk_of_a_ros1_bag_that_becomes_too_much_is_passed_over(tmp_path, compression):
    blobs = [b"one", bytes(5 << 20), b"three"]
    path = ros1(tmp_path / "old.bag", compression, blobs)
    with Bag(path, allowed=SMALL) as bag:
        assert [r.message().data for r in bag.messages()] == ["one", "three"]
        (notice,) = bag.notices
        assert "1 piece is not unpacked" in notice
    path = ros1(tmp_path / "bad.bag", compression, blobs[1:2])
    with Bag(path, allowed=SMALL) as bag, pytest.raises(OverBudget):
        list(bag.messages())


def test_a_header_of_gigabytes_is_not_read(tmp_path):
    path = tmp_path / "old.bag"
    for start in (b"#ROSBAG V2.0\n" + b"\xf0\xff\xff\xff", b"#ROSBAG V"):
        with path.open("wb") as file:
            file.write(start)
            file.truncate(5 * GIB)  # on disk it takes no room
        tracemalloc.start()
        with pytest.raises(RobustsegError, match="cannot be read"), Bag(path):
            pass
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
        tracemalloc.stop()


@pytest.mark.parametrize("make", ["NONE", "STORAGE", "MESSAGE"])
def test_what_comes_is_what_rosbags_gives(tmp_path, make):
    random = np.random.default_rng(3)
    for storage in StoragePlugin:
        if make == "STORAGE" and storage is StoragePlugin.SQLITE3:
            continue
        folder = tmp_path / storage.name
        writer = Writer(folder, version=8, storage_plugin=storage)
        if make != "NONE":
            writer.set_compression(CompressionMode[make], CompressionFormat.ZSTD)
        with writer:
            topics = [
                writer.add_connection(f"/t{i}", IMAGE, typestore=typestore()) for i in range(3)
            ]
            for _ in range(400):
                raw = payload(7)[:40] + random.bytes(9000)
                writer.write(topics[random.integers(3)], int(random.integers(1, 300)), raw)
        with Reader(folder) as reader:
            theirs = [(c.topic, time_ns, data) for c, time_ns, data in reader.messages()]
        with Bag(folder) as bag:
            assert [(r.topic, r.time_ns, r.raw) for r in bag.messages()] == theirs
            assert bag.notices == []


@pytest.mark.parametrize("compression", ["BZ2", "LZ4"])
def test_what_comes_of_a_ros1_bag_is_what_rosbags_gives(tmp_path, compression):
    random = np.random.default_rng(4)
    path = ros1(tmp_path / "old.bag", compression, [random.bytes(500) for _ in range(50)])
    with Ros1Reader(path) as reader:
        theirs = [(time_ns, data) for _, time_ns, data in reader.messages()]
    with Bag(path) as bag:
        assert [(r.time_ns, r.raw) for r in bag.messages()] == theirs
        assert (len(theirs), bag.notices) == (50, [])


# -- SQLite ---------------------------------------------------------------------------------------


def database(path: Path, statements: list[str]) -> Path:
    with Writer(path.with_suffix(""), version=8, storage_plugin=StoragePlugin.SQLITE3) as writer:
        camera = writer.add_connection("/camera", IMAGE, typestore=typestore())
        for number in range(5):
            writer.write(camera, number + 1, payload(number))
    file = path.with_suffix("") / path.name
    with closing(sqlite3.connect(file)) as source, source:
        for statement in statements:
            source.execute(statement)
    return file


ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "


@pytest.mark.parametrize(
    "view",
    [
        "CREATE VIEW messages AS SELECT 1 AS id, 1 AS topic_id, 1 AS timestamp, "
        "zeroblob(2000000000) AS data",
        f"CREATE VIEW messages AS {ENDLESS} SELECT i AS id, 1 AS topic_id, i AS timestamp, "
        "x'00' AS data FROM n",
        "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER, "
        "data BLOB GENERATED ALWAYS AS (zeroblob(2000000000)) VIRTUAL)",
        "CREATE VIRTUAL TABLE messages USING fts5(id, topic_id, timestamp, data)",
    ],
)
@pytest.mark.parametrize("suffix", [".db3", ".odd"])
def test_tables_that_compute_what_they_hold_are_refused(tmp_path, view, suffix):
    path = database(tmp_path / "drive.db3", ["DROP TABLE messages", view])
    path = path.rename(path.with_suffix(suffix))  # another way through the reader
    with pytest.raises(RobustsegError, match=r"messages is a .*plain tables"), Bag(path) as bag:
        list(bag.messages())


@pytest.mark.parametrize("table", ["topics", "message_definitions", "schema"])
def test_every_table_that_is_looked_at_has_to_be_one(tmp_path, table):
    renamed = f"ALTER TABLE {table} RENAME TO kept"
    path = database(tmp_path / "drive.db3", [renamed, f"CREATE VIEW {table} AS SELECT * FROM kept"])
    with pytest.raises(RobustsegError, match=f"{table} is a view"), Bag(path):
        pass


def test_triggers_never_fire_and_do_no_harm(tmp_path):
    trigger = "CREATE TRIGGER t AFTER INSERT ON messages BEGIN SELECT zeroblob(2000000000); END"
    with Bag(database(tmp_path / "drive.db3", [trigger])) as bag:
        assert values(bag) == [0, 1, 2, 3, 4]
        assert bag.notices == []


def test_a_table_whose_pages_are_used_again_and_again_is_not_counted_for_ever(tmp_path):
    path = database(
        tmp_path / "drive.db3",
        [
            "INSERT INTO messages(topic_id, timestamp, data) "
            "WITH RECURSIVE n(i) AS (SELECT 6 UNION "
            "ALL SELECT i + 1 FROM n LIMIT 20000) SELECT 1, i, zeroblob(3000) FROM n",
            "DROP INDEX timestamp_idx",
        ],
    )
    with closing(sqlite3.connect(path)) as source:
        ((root,),) = source.execute("SELECT rootpage FROM sqlite_master WHERE name = 'messages'")
    content, page = bytearray(path.read_bytes()), 4096
    at = (root - 1) * page
    assert content[at] == 5  # above other pages
    (cells,) = struct.unpack_from(">H", content, at + 3)
    first = struct.unpack_from(">I", content, at + struct.unpack_from(">H", content, at + 12)[0])
    for cell in range(cells):
        place = at + struct.unpack_from(">H", content, at + 12 + 2 * cell)[0]
        struct.pack_into(">I", content, place, *first)
    path.write_bytes(content)
    with Bag(path, allowed=SMALL) as bag:
        assert any("index is damaged" in notice for notice in bag.notices)
        assert sum(1 for _ in bag.messages()) < 40_000


@pytest.mark.parametrize("suffix", [".db3", ".odd"])
def test_a_row_that_is_too_large_is_passed_over(tmp_path, suffix):
    path = database(
        tmp_path / "drive.db3", [f"UPDATE messages SET data = zeroblob({BIG}) WHERE id = 2"]
    )
    seen, notices, peak = peak_of(path.rename(path.with_suffix(suffix)))
    assert (seen, peak < BIG) == ([0, 2, 3, 4], True)
    assert any("1 piece is not unpacked" in notice for notice in notices)


# -- YAML and JSON --------------------------------------------------------------------------------

LAUGHS = "a0: &a0 [ha, ha]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 40)
)
TRAPS = {
    "laughs": LAUGHS,
    "merges": MERGES,
    "long": f"a: &a {'x' * 9999}\nb: [{', '.join(['*a'] * 9999)}]",
    "flow": "[" * 100_000,
    "block": "- " * 5000 + "x",
    "mappings": "".join(f"{' ' * n}a:\n" for n in range(2000)),
    "itself": "a: &a [*a]",
    "digits": "a: " + "1" * 5000,
    "constructor": "a: !!int x",
    "day": "a: 2020-02-32",
    "unhashable": "? [a, b]\n: c",
}


@pytest.mark.parametrize("trap", TRAPS)
def test_yaml_that_is_a_trap_is_one_sentence(tmp_path, trap):
    with pytest.raises(RobustsegError, match="robot is not YAML"):
        config.read_yaml(TRAPS[trap], source="robot")
    path = tmp_path / "robot.yaml"
    path.write_text(TRAPS[trap])
    with pytest.raises(RobustsegError, match=r"robot\.yaml is not YAML"):
        config.read_file(path)
    with pytest.raises(RobustsegError, match="--set a: "):
        config.override({}, [f"a={TRAPS[trap]}"])


def test_a_trap_in_the_metadata_is_ignored_and_named(tmp_path):
    folder = tmp_path / "drive"
    folder.mkdir()
    mcap(folder / "drive.mcap", [Chunk((1, 2))])
    for name, text in TRAPS.items():
        (folder / "metadata.yaml").write_text(text)
        with Bag(folder) as bag:
            assert values(bag) == [1, 2], name
            assert "is unreadable" in bag.notices[0], name


def test_honest_aliases_and_nesting_are_read():
    text = "base: &b {rate_hz: 3e1, deep: [[[1]]]}\nrgb: {<<: *b, topic: /c}\nlidar: *b\n"
    tree = config.read_yaml(text, source="x")
    assert tree["rgb"] == {"rate_hz": 30.0, "deep": [[[1]]], "topic": "/c"}
    assert tree["lidar"] == tree["base"]
    assert config.parse_yaml("[" * DEEPEST + "]" * DEEPEST) is not None
    assert config.override({}, ["a.b=[1, 2]"]) == {"a": {"b": [1, 2]}}


@pytest.mark.parametrize("read", [budgets.read_text, budgets.read_json])
def test_a_pipe_that_nobody_writes_into_is_not_waited_for(tmp_path, read):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RobustsegError, match="pipe is a pipe, which can be read only once; give"):
        read(tmp_path / "pipe")


def test_a_text_file_without_end_is_not_read_to_its_end(tmp_path):
    endless = tmp_path / "robot.yaml"
    with endless.open("wb") as file:
        file.truncate(5 * GIB)  # on disk it takes no room
    with pytest.raises(RobustsegError, match=r"has 5 GiB .*is 4 MiB"):
        config.read_file(endless)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "[" * 65 + "]" * 65, '{"a":' * 999 + "1" + "}" * 999]
)
def test_json_that_nests_without_end_is_one_sentence(tmp_path, text):
    with pytest.raises(ValueError):
        parse_json(text)
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(RobustsegError, match="cannot be read"):
        read_index(tmp_path)
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(RobustsegError, match="is not JSON"):
        load_results(tmp_path)


@given(
    st.recursive(
        st.none() | st.text() | st.integers(),
        lambda c: st.lists(c) | st.dictionaries(st.text(), c),
        max_leaves=12,
    )
)
@settings(max_examples=40)
def test_json_as_people_write_it_is_read(tree):
    assert parse_json(json.dumps(tree)) == tree
    assert parse_json(json.dumps(["[" * 500, tree]).encode()) == ["[" * 500, tree]


# -- payloads -------------------------------------------------------------------------------------


def flood(count: int) -> np.ndarray:
    """EVT3 words: a clock, a row, and full vectors of twelve."""
    start = [0x8000, 0x6000, 0x0000, 0x3000]
    return np.array([*start, *[0x4FFF] * count], "<u2")


def test_a_packet_of_more_events_than_there_is_room_for_is_rejected(monkeypatch):
    monkeypatch.setenv(LIMIT, "16MiB")
    decoder = Evt3Decoder(640, 480)
    assert len(decoder.decode(flood(20).view(np.uint8)).t) == 240
    tracemalloc.start()
    with pytest.raises(Rejection, match="holds 96000 events; expected at most 80659") as caught:
        decoder.decode(flood(8000).view(np.uint8))
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    assert caught.value.finding.fault is Fault.FORMAT
    again = decoder.decode(np.array([0x4FFF], "<u2").view(np.uint8))
    assert (len(again.t), again.early) == (0, 1)  # what the packet said is lost


def test_events_that_are_kept_are_bounded_whatever_the_sensors_clock_says():
    """Each packet claims to last for a second, and a hundred come within a tenth of one."""
    made = Event()
    kept = []
    limit = int(2 * made.limits.flood_rate / 4)
    for number in range(100):
        high = (number * 245) & 0xFFF
        last = (high + 244) & 0xFFF
        words = [0x8000 | high, 0x6000, 0, 0x3000, *[0x4FFF] * 50_000]
        words += [0x8000 | last, 0x6000, 0x2001]
        sent = events(np.array(words, "<u2"), seq=number)
        sent.width, sent.height = 2048, 2048
        kept.append(len(made.decode(sent, 1_000_000_000 + number * 1_000_000).events.t))
    assert sum(kept) <= limit + len(kept)


def picture(data: bytes):
    sent = compressed(np.zeros((2, 2, 3), np.uint8))
    sent.data = np.frombuffer(data, np.uint8)
    return sent


@pytest.mark.parametrize(
    "flood",
    [
        b"\xff\xd0" * 2_000_000,
        b"\xff\xfe\0\2" * 1_000_000,
        b"\xff\0" * 2_000_000,
        b"\xff\x01\x20" * 1_000_000,
    ],
)
def test_a_jpeg_of_nothing_but_markers_is_given_up_soon(flood):
    good = bytes(compressed(np.zeros((8, 8, 3), np.uint8), form="jpeg").data)
    with pytest.raises(Rejection, match="over 1024 markers"):
        decode_compressed(picture(b"\xff\xd8" + flood + good[2:]))
    few = flood[: 4 * 24 if flood[1] == 0xFE else 0]
    assert decode_compressed(picture(b"\xff\xd8" + few + good[2:])).shape == (8, 8, 3)


def test_a_jpeg_of_a_thousand_scans_is_none():
    good = bytes(compressed(np.zeros((8, 8, 3), np.uint8), form="jpeg").data)
    with pytest.raises(Rejection, match="1001 scans"):
        decode_compressed(picture(good[:-2] + b"\xff\xda\0\x02" * 1000 + good[-2:]))


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP", b"iTXt"])
def test_text_in_a_png_that_becomes_too_much_is_refused(kind):
    between = b"\0\1\0\0\0" if kind == b"iTXt" else b"\0\0"
    for size, fits in ((1 << 16, True), (10 << 20, False), (65 << 20, False)):
        pack = zlib.compressobj(9)
        body = b"".join(pack.compress(bytes(1 << 20)) for _ in range(size >> 20))
        body += pack.compress(bytes(size % (1 << 20))) + pack.flush()
        data = png([(kind, b"name" + between + body)])
        if fits:
            assert decode_compressed(picture(data)).shape == (2, 2, 3)
            continue
        with pytest.raises(Rejection, match=r"text and profiles of|becomes more than"):
            decode_compressed(picture(data))


def test_a_png_of_more_bytes_than_pixels_allow_or_of_chunks_without_end_is_refused():
    with pytest.raises(Rejection, match="over 1024 chunks"):
        decode_compressed(picture(png([(b"tEXt", b"a\0b")] * 2000)))
    wide = png([(b"tEXt", bytes(100_000))], kind=6)
    wide = wide[:16] + struct.pack(">II", 7000, 7000) + wide[24:]  # of 8 bytes each
    with pytest.raises(Rejection, match="claims pixels of 392000000 bytes"):
        decode_compressed(picture(wide))


# -- the command ----------------------------------------------------------------------------------

CHILD = """
import os, sys
from robustseg_core.cli.main import main
sys.argv = ["robustseg", *sys.argv[1:]]
try:
    main()
finally:
    with open(os.environ["PEAK"], "w") as file:
        # Not ru_maxrss, which a process inherits from the one that started it
        status = open("/proc/self/status").read()
        file.write(status.partition("VmHWM:")[2].split()[0])
"""


def command(folder: Path, *words: str, **variables: str) -> tuple[int, str, float]:
    """(exit code, standard error, peak of memory in MB) of `robustseg` in a process of its own."""
    peak = folder / "peak"
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *map(str, words)],
        capture_output=True,
        text=True,
        env={**os.environ, "PEAK": str(peak), "COLUMNS": "400", **variables},
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, " ".join(done.stderr.split()), int(peak.read_text()) / 1024


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Path:
    """A file of a few hundred kB that becomes 6.6 GB."""
    one = bomb("zstd", 5, 1 << 20)
    one.packed = zeros("zstd", int(6.6e9), head=b"\5" + struct.pack("<Q", int(6.6e9) - 9))
    one.claim = int(6.6e9)
    return mcap(tmp_path_factory.mktemp("large") / "drive.mcap", [one])


def test_the_command_ends_with_a_sentence_and_little_memory(tmp_path, large):
    assert large.stat().st_size < 1_000_000
    code, said, peak_mb = command(tmp_path, "inspect", large)
    assert (code, peak_mb < 600) == (2, True)
    assert "claims 6.147 GiB (6600000000 bytes); the limit of one piece of " in said
    assert "raise --unpack-limit to 50GiB" in said
    code, said, peak_mb = command(tmp_path, "run", large, "--out", tmp_path / "out")
    assert (code, peak_mb < 1500) == (2, True)
    assert "claims 6.147 GiB" in said


def test_the_option_reaches_the_reader_and_a_wrong_one_is_said(tmp_path):
    path = mcap(tmp_path / "drive.mcap", [Chunk((1,)), bomb("zstd", 2, 80 << 20)])
    code, said, _ = command(tmp_path, "inspect", path)
    assert code == 0
    assert "notice: drive.mcap: 1 piece is not unpacked" in said
    code, said, _ = command(tmp_path, "--unpack-ratio", "40000", "inspect", path)
    assert (code, "not unpacked" in said) == (0, False)
    code, said, _ = command(tmp_path, "--unpack-limit", "lots", "inspect", path)
    assert (code, "is 'lots'; write a size" in said) == (2, True)
    code, said, _ = command(tmp_path, "list", **{RATIO: "-1"})
    assert (code, RATIO in said) == (2, True)
