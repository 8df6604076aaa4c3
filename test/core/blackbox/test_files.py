"""What is written around a fault, what is not, and whose files may ever be replaced."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from robustseg_core.bag import Bag
from robustseg_core.bag.typestore import typestore
from robustseg_core.blackbox import layout
from robustseg_core.blackbox.files import ACCOUNT, BlackBox, Shelf
from robustseg_core.config import BlackBoxConfig
from robustseg_core.errors import RobustsegError
from support import ROOT
from support.drives import TOPICS, rows, through
from support.gates import boxed, decided, gate, place

LATER = 1_800_000_000 * 10**9


def struck(folder: Path, fault: str = "rgb:off@0.9+0.4", **options: Any) -> BlackBox:
    """A short drive with a fault, in front of a black box."""
    made = gate()
    box = boxed(made, folder, **options)
    sent = rows(1.8)
    decided(made, through(fault, sent) if fault else sent)
    box.close()
    return box


def test_no_fault_no_file(tmp_path):
    box = struck(tmp_path / "box", "")
    assert not box.written and not box.complaints() and not (tmp_path / "box").exists()


@pytest.mark.slow
def test_a_file_holds_what_came_as_it_came(tmp_path):
    made = gate(placed=False)
    box = BlackBox(
        made,
        BlackBoxConfig(folder=str(tmp_path), before_s=0.4, after_s=0.3),
        offset_ns=LATER,
        made="/robustseg",
    )
    place(made)  # before the window, and still in the file
    sent = through("rgb:off@0.9+0.4", rows(1.8))
    decided(made, sent, offered=True)
    box.close()
    (path,) = box.written
    assert path.name == "fault_20270115T080001Z_rgb_silent.mcap"
    with Bag(path) as bag:
        came = list(bag.messages())
        latched = {topic.name for topic in bag.topics if topic.latched}
        assert not bag.notices
    by_topic: dict[str, list[Any]] = {}
    for one in came:
        by_topic.setdefault(one.topic, []).append(one)
    assert set(by_topic) == {*TOPICS.values(), "/camera_info", "/tf_static", *layout.OWN}
    assert latched == {"/tf_static", layout.HEAD, layout.STATE}
    head = json.loads(by_topic[layout.HEAD][0].message().data)
    begins, strike = head["begins_ns"], head["faults"][0]
    assert begins <= strike["at_ns"] - 0.4e9 and head["made"] == "/robustseg"
    assert strike["modality"] == "rgb" and strike["finding"]["fault"] == "silent"
    acts = [act for one in by_topic[layout.ACTS] for act in json.loads(one.message().data)]
    ends = acts[-1][1]
    store = typestore()
    for name, topic in TOPICS.items():
        fed = [
            (at, bytes(store.serialize_cdr(message, message.__msgtype__)))
            for at, who, message in sent
            if who == name and at <= ends
        ]
        found = [
            (at, by_topic[topic][n].raw)
            for _, at, who, (_, n, _) in (act for act in acts if act[0] == "offer")
            if who == name
        ]
        assert found == fed[-len(found) :] and len(by_topic[topic]) == len(found)
        assert len(found) >= sum(at > begins for at, _ in fed)
    assert all(one.time_ns >= LATER + begins for one in came)
    decisions = [json.loads(one.message().data) for one in by_topic[layout.DECISIONS]]
    dropped = [d for d in decisions if "rgb" not in d["used"]]
    assert dropped and all(
        d["why"]["rgb"][0]["value"] > d["why"]["rgb"][0]["limit"]
        for d in dropped
        if d["states"]["rgb"] == "DEAD"
    )
    states = [json.loads(one.message().data) for one in by_topic[layout.STATES]]
    assert {s["sensors"]["rgb"]["state"] for s in states} >= {"LIVE", "DEAD"}


@pytest.mark.slow
def test_when_there_are_too_many_no_more_is_written_and_it_is_said_once(tmp_path, caplog):
    for _ in range(2):
        assert struck(tmp_path, files=2).written
    before = {p: p.read_bytes() for p in tmp_path.glob("*.mcap")}
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="robustseg_core.blackbox.files"):
        box = struck(tmp_path, files=2)
    (complaint,) = box.complaints()
    assert "1 faults have no file" in complaint and "holds 2 files" in complaint
    assert "set black_box.replace" in complaint and len(caplog.records) == 1
    assert {p: p.read_bytes() for p in tmp_path.glob("*.mcap")} == before


@pytest.mark.slow
def test_the_oldest_of_ours_goes_where_that_is_allowed_and_nobody_elses(tmp_path):
    _, second = (struck(tmp_path).written[0] for _ in range(2))
    foreign = tmp_path / "fault_0.mcap"
    foreign.write_bytes(b"somebody else's")
    third = struck(tmp_path, files=2, replace=True).written[0]
    assert {p.name for p in tmp_path.glob("*.mcap")} == {foreign.name, second.name, third.name}
    second.write_bytes(b"somebody has changed it")  # it is not ours any more
    assert struck(tmp_path, files=1, replace=True).written
    assert second.read_bytes() == b"somebody has changed it" and foreign.exists()
    assert len(list(tmp_path.glob("*.mcap"))) == 3  # its name is that of the third


def test_a_size_for_all_files_together(tmp_path):
    box = struck(tmp_path, total_mb=1)
    assert not box.written and "limit 20 and 1 MB" in box.complaints()[0]
    assert not list(tmp_path.glob("*.mcap"))


def test_a_damaged_account_is_one_sentence_and_nothing_is_touched(tmp_path):
    (tmp_path / ACCOUNT).write_text("{")
    box = struck(tmp_path)
    assert "black_box.json is damaged" in box.complaints()[0]
    assert (tmp_path / ACCOUNT).read_text() == "{" and not list(tmp_path.glob("*.mcap"))


@pytest.mark.parametrize("name", ["../robot.yaml", "/etc/passwd"])
def test_an_account_names_files_of_its_folder_only(tmp_path, name):
    entry = {"name": name, "bytes": 0, "mtime_ns": 0}
    (tmp_path / ACCOUNT).write_text(json.dumps({"version": 1, "files": [entry]}))
    with pytest.raises(RobustsegError, match="is damaged"):
        Shelf(tmp_path, BlackBoxConfig()).files()


def test_what_a_killed_process_left_counts_and_stays(tmp_path):
    left = tmp_path / ".part-fault_x"
    left.mkdir()
    (left / "fault_x.mcap").write_bytes(bytes(3_000_000))
    box = struck(tmp_path, total_mb=4)
    assert "limit 20 and 4 MB" in box.complaints()[0] and left.exists()


FULL = """
import resource, sys
from pathlib import Path
sys.path.insert(0, "test")
from support.drives import rows, through
from support.gates import boxed, decided, gate
made = gate()
box = boxed(made, Path(sys.argv[1]))
sent = through("rgb:off@0.9+0.4", rows(1.8))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))  # EFBIG, as ENOSPC
masks = len(decided(made, sent))
box.close()
print(masks, *box.complaints(), sep="\\n")
"""


@pytest.mark.slow
def test_a_full_disk_is_one_sentence_and_masks_go_on(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", FULL, str(tmp_path / "box")]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    masks, complaint = done.stdout.strip().splitlines()
    assert int(masks) >= 33
    assert "1 faults have no file: cannot write" in complaint and "make room" in complaint
    assert not list((tmp_path / "box").glob("*.mcap")), done.stderr
    assert not list((tmp_path / "box").glob(".part-*"))


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    box = struck(tmp_path / "file" / "box")
    assert "cannot write" in box.complaints()[0] and not box.written
