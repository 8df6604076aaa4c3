"""A run of its own for each recording: failures, what was done before, and the table."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from robustseg_core.bag import BagWriter
from robustseg_core.cli.main import app
from robustseg_core.cli.terminal import guarded
from robustseg_core.errors import RobustsegError
from robustseg_core.jobs import Workers
from robustseg_core.output.recorder import Recorder
from robustseg_core.recording.many import run_each
from robustseg_core.recording.run import run_bags
from robustseg_core.recording.scene import fingerprint
from support import drives

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bags(tmp_path_factory):
    """Two drives, and between them a recording of nothing."""
    folder = tmp_path_factory.mktemp("bags")
    first = drives.write_drive(folder / "a", 1.0, drives.truths(1.0))
    with BagWriter(folder / "empty"):
        pass
    return [first, folder / "empty", shutil.copytree(first, folder / "c")]


def made(table):
    return [row["made"] for row in table["runs"]]


@pytest.mark.parametrize("workers", [Workers(), Workers(jobs=2)], ids=["here", "two"])
def test_one_that_fails_does_not_stop_the_others(bags, weights, tmp_path, workers):
    words = [f"weights={weights}"]
    table = run_each(bags, out=tmp_path / "many", workers=workers, overrides=words)
    assert table == json.loads((tmp_path / "many" / "runs.json").read_text())
    assert [row["name"] for row in table["runs"]] == ["a", "empty", "c"]
    assert table["failed"] == 1 and "holds no message" in table["runs"][1]["error"]
    run_bags(bags[:1], out=tmp_path / "one", overrides=words)
    files = {name: sorted((tmp_path / name / "masks").iterdir()) for name in ("one", "many/a")}
    for ours, theirs in zip(*files.values(), strict=True):
        assert ours.read_bytes() == theirs.read_bytes()


def test_killed_and_started_again_it_does_none_twice(monkeypatch, bags, weights, tmp_path):
    def run(**options):
        words = {"overrides": [f"weights={weights}"], **options}
        return run_each([bags[0], bags[2]], out=tmp_path, workers=Workers(), **words)

    def interrupted(recorder, *args, **more):
        if "/c/" in str(recorder.folder):
            raise KeyboardInterrupt
        return original(recorder, *args, **more)

    original = Recorder.add
    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "add", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run()
    assert made(run()) == [False, True]
    assert made(run()) == [False, False]
    assert made(run(seed=1)) == [True, True], "other options are another run"


def test_a_result_that_a_kill_has_mixed_with_another_is_made_anew(
    monkeypatch, bags, weights, tmp_path
):
    def run(seed):
        words = {"overrides": [f"weights={weights}"], "seed": seed}
        return run_each(bags[:1], out=tmp_path, workers=Workers(), **words)

    def interrupted(path, target):
        if "masks" in target.parts:
            raise KeyboardInterrupt
        return original(path, target)

    original = Path.replace
    assert made(run(0)) == [True]
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(1)
    assert made(run(0)) == [True], "the account was of seed 0, the files of both"
    assert made(run(0)) == [False]


def test_a_result_is_kept_as_long_as_it_is_as_it_was_left(bags, weights, tmp_path):
    def run():
        return run_each(bags[:1], out=tmp_path, workers=Workers(), overrides=[f"weights={weights}"])

    run()
    first, *_ = sorted((tmp_path / "a" / "masks").iterdir())
    first.unlink()
    assert made(run()) == [True] and first.exists()
    first.write_bytes(b"mine now")
    assert "was changed since" in run()["runs"][0]["error"] and first.read_bytes() == b"mine now"


@pytest.mark.parametrize("size", [40_000, 3 << 20])
def test_another_recording_of_the_same_name_and_size_is_another(size, tmp_path):
    rng = np.random.default_rng(0)
    files = [tmp_path / day / "front.mcap" for day in ("one", "two", "three")]
    content = [rng.bytes(size)] * 2 + [rng.bytes(size)]
    for file, data in zip(files, content, strict=True):
        file.parent.mkdir()
        file.write_bytes(data)
    one, two, three = map(fingerprint, files)
    assert one == two != three and one["files"] == three["files"]


def test_what_is_read_does_not_lie_where_it_is_written(bags, weights, tmp_path):
    mine = shutil.copy(weights, tmp_path / "net.safetensors")
    (tmp_path / ".robustseg").mkdir()
    with pytest.raises(RobustsegError, match=r"contains the input .*net\.safetensors"):
        run_each(bags[:1], out=tmp_path, workers=Workers(), overrides=[f"weights={mine}"])
    with pytest.raises(RobustsegError, match="would take the place of the table"):
        run_each([Path("runs.json.mcap")], out=tmp_path, workers=Workers())


def test_where_a_table_of_somebody_elses_lies_nothing_is_done(bags, weights, tmp_path):
    (tmp_path / "runs.json").write_text("[]")
    with pytest.raises(RobustsegError, match=r"'runs\.json', which robustseg did not write"):
        run_each(bags, out=tmp_path, workers=Workers(), overrides=[f"weights={weights}"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["runs.json"]


def test_its_folder_and_that_of_one_run_are_told_apart(bags, weights, tmp_path):
    words = [f"weights={weights}"]
    run_each(bags[:1], out=tmp_path / "many", workers=Workers(), overrides=words)
    with pytest.raises(RobustsegError, match="the results of `robustseg run --jobs`"):
        run_bags(bags[:1], out=tmp_path / "many", overrides=words)
    run_bags(bags[:1], out=tmp_path / "one", overrides=words)
    with pytest.raises(RobustsegError, match="the results of `robustseg run`"):
        run_each(bags[:1], out=tmp_path / "one", workers=Workers(), overrides=words)
    (tmp_path / "many" / "runs.json").write_text("mine now")
    with pytest.raises(RobustsegError, match=r"runs\.json was changed since"):
        run_each(bags[:1], out=tmp_path / "many", workers=Workers(), overrides=words)


def test_the_command_ends_with_2_and_shows_all(bags, weights, tmp_path, capsys):
    words = ["run", *map(str, bags), "--jobs", "1", "--out", str(tmp_path), "--no-video"]
    assert guarded(lambda: app([*words, "--weights", str(weights)])) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "1 of 3 recordings failed" in said and "empty: " in said and "coverage, %" in said
    assert (tmp_path / "a" / "report.html").exists() and not (tmp_path / "a/overlay.webm").exists()
