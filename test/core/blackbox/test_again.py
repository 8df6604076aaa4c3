"""Closing the loop: a fault makes its file and no other, and the file decides as it was decided."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustseg_core.bag import Bag, BagWriter
from robustseg_core.bag.typestore import typestore
from robustseg_core.blackbox import layout
from robustseg_core.blackbox.again import Again, read
from robustseg_core.engines import NoMaskError
from robustseg_core.errors import RobustsegError
from robustseg_core.segmenter import Segmenter
from robustseg_core.types import MS, SECOND, Bundle
from support.drives import ALL, rows, through
from support.gates import boxed, decided, gate, sealed
from support.makers import camera_info, transform

FAULTS = {
    "rgb:off@1+0.4": "rgb_silent",
    "rgb:black@1+0.4": "rgb_black",
    "depth:invalid_depth@1+0.5": "depth_invalid_depth",
    "lidar:stuck@1": "lidar_stuck",
    "event:off@1+0.6": "event_silent",
    "rgb:encoding@1+0.5": "rgb_format",
}


def written(folder: Path, fault: str, *, offered: bool, seconds: float = 2.4) -> list[Path]:
    made = gate()
    box = boxed(made, folder)
    decided(made, through(fault, rows(seconds)), offered=offered)
    box.close()
    assert not box.complaints()
    return box.written


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "offered"),
    [*((fault, True) for fault in FAULTS), ("rgb:black@1+0.4", False), ("lidar:stuck@1", False)],
)
def test_each_fault_makes_its_file_and_it_is_decided_so_again(tmp_path, fault, offered):
    (path,) = written(tmp_path, fault, offered=offered)
    assert path.stem.endswith(FAULTS[fault])
    again = Again(read(path))
    result = again.run()
    assert result.differences == [] and result.versions == []
    assert result.decisions >= 12 and result.states >= 5


class Busy:
    """An engine during which others do things, as the executor's thread does; fails at times."""

    def __init__(self, act: Callable[[int], None]) -> None:
        self.act, self.calls = act, 0

    def __call__(self, bundle: Bundle) -> Any:
        self.calls += 1
        self.act(self.calls)
        shape = bundle.frames[next(iter(bundle.frames))].array.shape[1:]
        return np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)


@pytest.mark.slow
def test_what_others_do_while_the_network_is_at_work_is_done_there_again(tmp_path):
    made = gate()
    sent = through("rgb:off@1+0.4", rows(2.6))
    now, late = [0], list[Any]()
    made._engine = Busy(partial(meanwhile, made, late, now))
    box = boxed(made, tmp_path)
    for number, (at, name, message) in enumerate(sent):
        now[0] = at
        if number % 5 == 0:
            late.append((at, name, message))
        else:
            made.offer(name, sealed(message), at)
        happens(made, number, at)
        with suppress(ZeroDivisionError):
            made.step(at)
        made.wake_ns(at)
    box.close()
    assert not box.complaints() and box.written
    for path in box.written:
        result = Again(read(path)).run()
        assert result.differences == [] and result.decisions > 10


def meanwhile(made: Segmenter, late: list[Any], now: list[int], call: int) -> None:
    """What may happen while the network is at work for the n-th time."""
    if call % 3 == 0:
        for at, name, message in late:
            made.offer(name, sealed(message), at)
        late.clear()
        made.health(now[0] + 5 * MS)
    if call % 11 == 0:
        made.push_camera_info("rgb", camera_info(48, 64, fx=60.0 + call / 100))
    if call % 13 == 0:
        made.push_transforms(transform("camera", "lidar", (0.0, 0.0, call / 100)))
    if call % 17 == 0:
        raise NoMaskError("the device is lost")
    if call % 19 == 0:
        raise ZeroDivisionError


def happens(made: Segmenter, number: int, at: int) -> None:
    """What may happen between two messages."""
    if number % 40 == 39:
        made.intake.missed("event", at)
        made.intake.clock_jumped(at)
    if number % 7 == 6:  # as the node's executor has it: after what was offered before
        for name in ALL:
            made.intake.later(partial(made.intake.missed, name, at + 2 * MS))
    if number == 120:
        slow = made.config.health.model_copy(update={"silence_min_s": 0.2})
        made.configure(made.config.model_copy(update={"health": slow}))


@cache
def a_file(folder: Path) -> Path:
    (path,) = written(folder / "box", "lidar:stuck@1", offered=True)
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_file(tmp_path_factory.mktemp("again"))


@contextmanager
def changed(path: Path, folder: Path) -> Iterator[tuple[list[Any], Callable[[], Path]]]:
    """The messages of a file, to be changed, and what writes them as another."""
    with Bag(path) as bag:
        came = [[r.topic, r.type, r.raw, r.time_ns] for r in bag.messages()]

    def write() -> Path:
        with BagWriter(folder / "other") as bag:
            for topic, kind, raw, time_ns in came:
                bag.write_raw(topic, kind, raw, time_ns)
        return next((folder / "other").glob("*.mcap"))

    yield came, write


def edited(row: list[Any], edit: Callable[[Any], None]) -> None:
    """Change the JSON of a message of ours."""
    store = typestore()
    tree = json.loads(store.deserialize_cdr(row[2], layout.TEXT).data)
    edit(tree)
    row[2] = bytes(
        store.serialize_cdr(store.types[layout.TEXT](data=json.dumps(tree)), layout.TEXT)
    )


def test_one_other_bit_of_a_decision_is_a_difference_that_is_named(path, tmp_path):
    with changed(path, tmp_path) as (came, write):
        first = next(row for row in came if row[0] == layout.ACTS)

        def edit(acts: Any) -> None:
            end = next(a for a in acts if a[0] == "end" and "decision" in a[3])
            end[3]["decision"]["held_ms"]["rgb"] += 1e-12

        edited(first, edit)
        result = Again(read(write())).run()
    assert len(result.differences) == 1
    assert "decision at" in str(result.first) and "held_ms" in str(result.first)


def test_another_limit_is_another_decision(path, tmp_path):
    with changed(path, tmp_path) as (came, write):
        head = next(row for row in came if row[0] == layout.HEAD)
        edited(head, lambda tree: tree["config"]["health"].update(stuck_count=7))
        result = Again(read(write())).run()
    assert result.differences and "limit 5" in str(result.first)


def test_a_message_of_other_bits_ends_it_there(path, tmp_path):
    with changed(path, tmp_path) as (came, write):
        row = [row for row in came if row[0] == "/lidar"][-3]
        row[2] = row[2][:-9] + bytes([row[2][-9] ^ 1]) + row[2][-8:]
        fault = read(write())
        result = Again(fault).run()
    assert result.differences == [] and "lidar is missing or damaged" in fault.notices[-1]


def test_a_message_that_is_missing_ends_it_there(path, tmp_path):
    with changed(path, tmp_path) as (came, write):
        came.remove([row for row in came if row[0] == "/event"][-10])
        fault = read(write())
        result = Again(fault).run()
    assert result.differences == [] and result.decisions > 0
    assert any("a message of event is missing" in notice for notice in fault.notices)


@pytest.mark.parametrize("share", [0.35, 0.7, 0.95])
def test_half_a_file_is_done_again_as_far_as_it_goes_or_refused(path, tmp_path, share):
    raw = path.read_bytes()
    part = tmp_path / path.name
    part.write_bytes(raw[: int(share * len(raw))])
    try:
        fault = read(part)
    except RobustsegError as error:
        assert "lacks its beginning" in str(error) or "black box" in str(error)
        return
    result = Again(fault).run()
    assert result.differences == [] and fault.notices


@pytest.mark.parametrize(
    ("topic", "edit", "told"),
    [
        (layout.HEAD, lambda head: head.update(version=99), "has layout 99, expected 2"),
        (layout.HEAD, lambda head: head["config"].update(streams=3), "streams"),
        (layout.HEAD, lambda head: head["spec"].update(classes=["a"]), "classes"),
        (layout.ACTS, lambda acts: acts.insert(0, ["explode", 1, ""]), "no act of this version"),
        (layout.ACTS, lambda acts: acts.insert(0, ["end", 1, "", {}]), "outside of a step"),
        (layout.ACTS, lambda acts: acts.insert(0, ["configure", 1, "", {"device": 1}]), "device"),
        (layout.ACTS, lambda acts: acts.insert(0, ["reject", 1, "rgb", {"fault": "x"}]), "damaged"),
    ],
)
def test_what_means_nothing_is_refused_in_a_sentence(path, tmp_path, topic, edit, told):
    with changed(path, tmp_path) as (came, write):
        edited(next(row for row in came if row[0] == topic), edit)
        with pytest.raises(RobustsegError, match=told):
            Again(read(write())).run()


def test_another_recording_is_no_fault_file(tmp_path):
    from support.drives import write_drive

    with pytest.raises(RobustsegError, match="was not written by the black box"):
        read(write_drive(tmp_path / "drive", 0.2))


@pytest.mark.slow
def test_after_a_restart_the_next_fault_has_a_file_of_its_own(tmp_path):
    first = written(tmp_path, "rgb:off@1+0.4", offered=True)
    second = written(tmp_path, "rgb:off@1+0.4", offered=True)
    assert len({*first, *second}) == 2 and all(p.exists() for p in (*first, *second))
    assert Again(read(second[0])).run().differences == []


def test_a_window_that_is_open_when_the_node_stops_is_written(tmp_path):
    made = gate()
    box = boxed(made, tmp_path, after_s=30.0)
    decided(made, through("rgb:off@1", rows(1.5)))
    box.close()
    (path,) = box.written
    fault = read(path)
    assert fault.head["cut"] == "the node stopped"
    assert Again(fault).run().differences == []
    assert 1.2 * SECOND < max(row.now_ns for row in fault.rows) <= 1.5 * SECOND
