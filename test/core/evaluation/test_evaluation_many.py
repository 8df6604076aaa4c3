"""An evaluation by many processes: the same results to the bit, and nothing is counted twice."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustseg_core import evaluation
from robustseg_core.cli.main import app
from robustseg_core.cli.terminal import guarded
from robustseg_core.errors import RobustsegError
from robustseg_core.evaluation import many
from robustseg_core.evaluation.many import Data, Plan, evaluate_each
from robustseg_core.evaluation.parts import load, together
from robustseg_core.evaluation.run import Entry, How
from robustseg_core.jobs import Workers
from robustseg_core.models import checkpoint
from support.eval_samples import InMemory, network, random_samples
from support.learn_data import CLASSES, SIZE, make_shards

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

HOW = How(protocols=("subsets", "nm"), batch=3, device="cpu", worst=2)
ONE, TWO = Workers(), Workers(jobs=2)
FILES = ("results.json", "counts.npz")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Three recordings as shards, one of them without labels, and weights."""
    folder = tmp_path_factory.mktemp("world")
    for number, name in enumerate(("a", "b", "c")):
        make_shards(folder / "shards" / name, 4 + number, seed=number, labelled=name != "b")
    spec = checkpoint.default_spec(
        size=SIZE, classes=CLASSES.names, palette=CLASSES.palette, trained=True
    )
    checkpoint.save(folder / "net.safetensors", checkpoint.untrained(spec, seed=1))
    return folder


def plan_of(world, keep, **changes):
    data = Data("shards", (world / "shards",))
    return replace(Plan(world / "net.safetensors", data, HOW, keep), **changes)


def written(results, folder):
    folder.mkdir()
    results.save(folder, {})
    return [(folder / name).read_bytes() for name in FILES]


@pytest.mark.parametrize("workers", [ONE, TWO], ids=["here", "two"])
def test_many_find_what_one_finds_to_the_bit(world, tmp_path, workers):
    plan = plan_of(world, tmp_path / "keep")
    one = evaluation.evaluate(
        plan.weights, plan.data.open(), protocols=HOW.protocols, batch=3, device="cpu", worst=2
    )
    found, there = evaluate_each(plan, workers)
    assert there == 0
    assert written(found, tmp_path / "many") == written(one, tmp_path / "one")
    for ours, theirs in zip(found.worst, one.worst, strict=True):
        for name in ("picture", "truth", "labels"):
            assert np.array_equal(getattr(ours, name), getattr(theirs, name))
    again, there = evaluate_each(plan, workers)
    assert there == 3
    assert written(again, tmp_path / "again") == written(one, tmp_path / "once more")


@pytest.fixture(scope="module")
def scenes():
    """An entry, the part of all its samples, and that of each scene."""
    samples = random_samples(6, lacking={1: ["rgb"], 3: ["rgb", "depth", "event"]})
    entry = Entry(MODEL, InMemory(samples), replace(HOW, protocols=("subsets",)))
    return entry, entry.count(range(6)), [entry.count(range(k, k + 2)) for k in (0, 2, 4)]


@settings(deadline=None)
@given(order=st.permutations(range(3)), cut=st.integers(1, 2), nested=st.booleans())
def test_it_does_not_matter_how_scenes_are_shared_out(scenes, order, cut, nested):
    entry, whole, parts = scenes
    some = [parts[k] for k in order]
    some = [together(some[:cut]), together(some[cut:])] if nested else some
    found, expected = entry.results(some), entry.results([whole])
    assert found.about == expected.about
    assert (found.groups, found.sizes) == (expected.groups, expected.sizes)
    for name in ("counts", "blind", "bins", "kept", "prior"):
        assert np.array_equal(getattr(found, name), getattr(expected, name)), name
    assert [(f.id, f.score) for f in found.worst] == [(f.id, f.score) for f in expected.worst]


MODEL = network()


def test_a_part_is_read_back_to_the_bit_or_not_at_all(tmp_path):
    entry = Entry(MODEL, InMemory(random_samples(3)), HOW)
    part = entry.count(range(3))
    part.save(tmp_path / "part")
    back = load(tmp_path / "part")
    assert written(entry.results([back]), tmp_path / "b") == written(
        entry.results([part]), tmp_path / "a"
    )
    data = (tmp_path / "part").read_bytes()
    for cut in range(0, len(data), max(1, len(data) // 20)):
        (tmp_path / "cut").write_bytes(data[:cut])
        assert load(tmp_path / "cut") is None
    assert load(tmp_path / "nowhere") is None


def test_parts_of_two_sizes_are_one_sentence():
    entry = Entry(MODEL, InMemory(random_samples(1)), HOW)
    small = entry.count(range(1))
    with pytest.raises(RobustsegError, match=r"images of f0 are 32x32 and those of f0 64x64"):
        together([small, replace(small, size=(32, 32))])


def test_killed_and_started_again_it_counts_none_twice(monkeypatch, world, tmp_path):
    plan, real, counted = plan_of(world, tmp_path), Entry.count, []

    def interrupted(entry, part, **more):
        if len(counted) == 2:
            raise KeyboardInterrupt
        counted.append(part)
        return real(entry, part, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Entry, "count", interrupted)
        with pytest.raises(KeyboardInterrupt):
            evaluate_each(plan, ONE)
    assert evaluate_each(plan, ONE)[1] == 2
    assert evaluate_each(plan, ONE)[1] == 3
    assert evaluate_each(replace(plan, fresh=True), ONE)[1] == 0
    assert evaluate_each(replace(plan, how=replace(HOW, absent="skip")), ONE)[1] == 3
    assert evaluate_each(replace(plan, how=replace(HOW, seed=1)), ONE)[1] == 0
    assert len(list(tmp_path.iterdir())) == 3, "what is of other options is gone"


def test_another_recording_is_counted_alone(world, tmp_path):
    shards = shutil.copytree(world / "shards", tmp_path / "shards")
    plan = plan_of(world, tmp_path / "keep", data=Data("shards", (shards / "a", shards / "b")))
    evaluate_each(plan, ONE)
    every = replace(plan, data=Data("shards", (shards,)))
    results, there = evaluate_each(every, ONE)
    assert there == 2 and results.values("scene") == ["a", "c"]
    shutil.rmtree(shards / "c")
    make_shards(shards / "c", 6, seed=9)
    assert evaluate_each(every, ONE)[1] == 2, "other pictures are another recording"


@pytest.mark.parametrize("workers", [ONE, TWO], ids=["here", "two"])
def test_one_that_fails_does_not_stop_the_others(world, tmp_path, workers):
    shards = shutil.copytree(world / "shards", tmp_path / "shards")
    (archive,) = (shards / "a").glob("*.tar")
    whole = archive.read_bytes()
    archive.write_bytes(bytes(byte ^ 1 for byte in whole))
    plan = plan_of(world, tmp_path / "keep", data=Data("shards", (shards,)))
    with pytest.raises(RobustsegError, match=r"^1 of 3 recordings failed, the others are kept; a:"):
        evaluate_each(plan, workers)
    archive.write_bytes(whole)
    assert evaluate_each(plan, workers)[1] == 2


def test_the_command_says_what_was_there_and_writes_the_same(world, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(many, "share_cores", lambda *args, **more: None)
    words = ["eval", str(world / "net.safetensors"), str(world / "shards"), "--device", "cpu"]
    words += ["--protocol", "subsets"]

    def call(*more):
        assert guarded(lambda: app([*words, *more])) == 0
        return capsys.readouterr().err

    call("--out", str(tmp_path / "one"))
    assert "done before" not in call("--out", str(tmp_path / "many"), "--jobs", "1")
    assert "3 of the recordings were done before" in call(
        "--out", str(tmp_path / "many"), "--jobs", "1"
    )
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "many" / name).read_bytes()
    made = {path.name for path in (tmp_path / "many").iterdir()}
    assert made == {path.name for path in (tmp_path / "one").iterdir()}
