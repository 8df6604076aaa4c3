"""Stages that run side by side: order, errors, their end; the masks are those of one stage."""

from __future__ import annotations

import json
import threading
from contextlib import closing

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustseg_core.bag import Bag
from robustseg_core.engines import NotFiniteError
from robustseg_core.errors import RobustsegError
from robustseg_core.output.recorder import Recorder
from robustseg_core.recording import run as module
from robustseg_core.recording.pipeline import ReadAhead, ahead
from robustseg_core.recording.replay import replay
from robustseg_core.recording.robot import robot_for
from robustseg_core.recording.run import run_bags
from robustseg_core.segmenter import Segmenter
from robustseg_core.shards.levels import read_label_png
from support import drives

pytestmark = pytest.mark.slow


def stages() -> set[str]:
    return {t.name for t in threading.enumerate()} & {"stage", "read", "decode", "infer", "draw"}


@given(st.lists(st.integers()), st.integers(1, 5))
def test_items_come_in_order(items, most):
    assert list(ahead(items, most)) == items
    assert not stages()


def test_it_is_never_more_than_so_many_items_ahead():
    taken, asked = [], threading.Event()

    def numbers():
        for k in range(100):
            taken.append(k)
            if k == 3:
                asked.set()
            yield k

    with closing(ahead(numbers(), 3)) as items:
        assert next(items) == 0 and asked.wait(60)
        assert len(taken) <= 5, "one in hand, three in the queue, one that waits"
    assert not stages()


def test_an_error_comes_in_its_place():
    def numbers():
        yield 1
        yield 2
        raise RobustsegError("the disk is gone")

    items = ahead(numbers(), 5)
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(RobustsegError, match="gone"):
        next(items)
    assert not stages()


@pytest.mark.parametrize("error", [RobustsegError, KeyboardInterrupt])
def test_who_breaks_off_ends_every_stage_and_closes_them_in_their_threads(error):
    closed = []

    def source():
        try:
            yield from range(1000)
        finally:
            closed.append(threading.current_thread().name)

    def second():
        with closing(ahead(source(), 2, name="read")) as items:
            for item in items:
                yield -item

    with pytest.raises(error), closing(ahead(second(), 2, name="decode")) as items:
        for item in items:
            if item == -5:
                raise error("enough")
    assert closed == ["read"] and not stages()


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    path = tmp_path_factory.mktemp("bag") / "drive"
    return drives.write_drive(path, 1.5, drives.truths(1.5))


def test_masks_are_those_of_one_stage_to_the_bit(drive, weights, tmp_path):
    words = [f"weights={weights}"]
    result = run_bags([drive], out=tmp_path, overrides=words)
    with Bag([drive]) as bag:
        plain = list(replay(bag, Segmenter.from_config(robot_for(bag, None, words))))
    assert len(plain) == len(result["masks"]) > 20
    files = sorted((tmp_path / "masks").iterdir())
    for made, row, file in zip(plain, result["masks"], files, strict=True):
        assert (made.stamp_ns, list(made.used)) == (row["stamp_ns"], row["used"])
        assert np.array_equal(read_label_png(file.read_bytes()), made.ids)
    with Bag(tmp_path / "mcap") as bag:
        sure = [m.message().data for m in bag.messages({"/robustseg/confidence"})]
    assert all(np.array_equal(a, b.confidence.ravel()) for a, b in zip(sure, plain, strict=True))


def test_read_ahead_reads_the_same(drive):
    with Bag([drive]) as bag:
        plain = [(m.topic, m.time_ns, m.raw) for m in bag.messages()]
        early = ReadAhead(bag)
        assert (early.start_ns, early.spans) == (bag.start_ns, bag.spans)
        assert [(m.topic, m.time_ns, m.raw) for m in early.messages()] == plain


def test_without_video_there_is_no_film(drive, weights, tmp_path):
    run_bags([drive], out=tmp_path, overrides=[f"weights={weights}"], video=False)
    assert not (tmp_path / "overlay.webm").exists()
    assert "<video" not in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("error", [RobustsegError, KeyboardInterrupt])
@pytest.mark.parametrize(
    "where",
    [
        (Recorder, "add"),
        (Recorder, "place_ns"),
        (module.draw, "overlay"),
        (module.Inference, "__call__"),
    ],
    ids=["write", "decode", "draw", "infer"],
)
def test_an_error_in_any_stage_leaves_nothing(monkeypatch, drive, weights, tmp_path, where, error):
    count = 0

    def fails(*args, **options):
        nonlocal count
        count += 1
        if count == 5:
            raise error("in the middle")
        return original(*args, **options)

    original = getattr(*where)
    monkeypatch.setattr(*where, fails)
    with pytest.raises(error, match="in the middle"):
        run_bags([drive], out=tmp_path / "out", overrides=[f"weights={weights}"])
    assert not (tmp_path / "out").exists() and not stages()


def test_sets_that_the_network_makes_no_mask_of_are_told(monkeypatch, drive, weights, tmp_path):
    def now_and_then(robot):
        (spec, engine), count = original(robot), iter(range(1000))

        def run(bundle):
            if next(count) % 2:
                raise NotFiniteError("the network's logits are not finite")
            return engine(bundle)

        return spec, run

    original = module.engine_of
    monkeypatch.setattr(module, "engine_of", now_and_then)
    result = run_bags([drive], out=tmp_path, overrides=[f"weights={weights}"])
    told = [text for text in result["notices"] if "not finite" in text]
    sets = sum(int(notice.rpartition("(")[2].split()[0]) for notice in told)
    assert abs(sets - len(result["masks"])) <= 1
    assert len(json.loads((tmp_path / "result.json").read_text())["masks"]) == len(result["masks"])
