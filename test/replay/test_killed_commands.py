"""Commands are killed (SIGKILL) in mid-write: nothing of the user's is gone, the next is whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from robustseg_core.cli.main import app
from robustseg_core.cli.terminal import guarded
from robustseg_core.models import checkpoint
from robustseg_core.storage.output_folder import META
from support import ROOT
from support.drives import SIZE, write_drive
from support.learn_data import make_shards, words

pytestmark = pytest.mark.slow

KILLED = """
import importlib, sys
from robustseg_core.cli.main import app
from robustseg_core.cli.terminal import guarded
place, count, sys.argv = sys.argv[1], int(sys.argv[2]), ["robustseg", *sys.argv[3:]]
module, _, path = place.partition(":")
owner = importlib.import_module(module)
*way, name = path.split(".")
for step in way:
    owner = getattr(owner, step)
real, calls = getattr(owner, name), [0]
def stops(*args, **named):
    calls[0] += 1
    if calls[0] == count:
        print("going", flush=True)
        sys.stdin.read()
    return real(*args, **named)
setattr(owner, name, stops)
sys.exit(guarded(app))
"""
"""The command line with one function that stops at its n-th call and waits for the end."""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Recordings, shards, weights: what commands read, beside what a user keeps there, too."""
    folder = tmp_path_factory.mktemp("world")
    write_drive(folder / "drive", 0.8)
    write_drive(folder / "short", 2.2)
    write_drive(folder / "long", 5.0)  # faults take their time
    make_shards(folder / "shards", 8)
    spec = checkpoint.default_spec(
        size=SIZE,
        classes=("road", "wall", "sky"),
        trained=True,
        palette=((128, 64, 128), (70, 70, 70), (70, 130, 180)),
    )
    checkpoint.save(folder / "net.safetensors", checkpoint.untrained(spec, seed=1))
    return folder


RECIPE = [w for word in words(Path("shards")) for w in ("--set", word)]
NET = ("--weights", "net.safetensors", "--set", "device=cpu")
COMMANDS = {
    "run": (
        ["run", "drive", *NET, "--out", "out"],
        "robustseg_core.output.recorder:Recorder.add",
        4,
    ),
    "run, publishing": (
        ["run", "drive", *NET, "--out", "out"],
        "robustseg_core.storage.output_folder:Path.replace",
        9,
    ),
    "inject": (
        ["inject", "drive", "out", "--fault", "rgb:black"],
        "robustseg_core.bag.writer:BagWriter.write_raw",
        9,
    ),
    "extract": (
        ["extract", "drive", "--out", "out", "--size", "64x32", "--jobs", "1"],
        "robustseg_core.shards.archive:ShardWriter.add",
        3,
    ),
    "label": (
        ["label", "drive", *NET, "--out", "out"],
        "robustseg_core.extraction.label:label_png",
        4,
    ),
    "eval": (
        [
            "eval",
            "net.safetensors",
            "shards",
            "--protocol",
            "subsets",
            "--out",
            "out",
            "--device",
            "cpu",
        ],
        "robustseg_core.evaluation.report:page",
        1,
    ),
    "train": (
        ["train", "teacher", *RECIPE, "--out", "out", "--device", "cpu"],
        "robustseg_core.learn.state:save_file",
        2,
    ),
    "adapt": (
        [
            "adapt",
            "short",
            "--teacher",
            "net.safetensors",
            "--from",
            "net.safetensors",
            "--confidence",
            "0",
            "--steps",
            "2",
            "--set",
            "data.workers=0",
            "--jobs",
            "1",
            "--out",
            "out",
            "--device",
            "cpu",
        ],
        "robustseg_core.learn.state:save_file",
        1,
    ),
    "robustness": (
        [
            "robustness",
            "long",
            "--out",
            "out",
            "--rows",
            "1",
            "--no-score",
            "--no-pairs",
            "--jobs",
            "1",
        ],
        "robustseg_core.robustness.perform:replacing",
        2,
    ),
}
WHOLE = {
    "run": {"result.json", "report.html", "overlay.webm", "mcap/metadata.yaml"},
    "inject": {"metadata.yaml", "out.mcap"},
    "extract": {"drive/index.json"},
    "label": {"drive/labels.json"},
    "eval": {"results.json", "counts.npz", "report.html"},
    "train": {"best.safetensors", "result.json"},
    "adapt": {"student.safetensors", "report.html", "report.json"},
    "robustness": {"robustness.json", "report.html"},
}
REPLACING = ("run", "run, publishing", "eval")
"""Commands whose second call replaces the result of the first."""


def call(words, monkeypatch):
    """The command in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["robustseg", *words])
    return guarded(app)


def killed(words, place, count, folder):
    """The command in a process of its own, killed at the `count`-th call of `place`."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, place, str(count), *words],
        cwd=folder,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout.readline() == b"going\n", "the command ended before it was killed"
        process.kill()
    assert process.returncode == -9


def visible(folder):
    """Everything below, but for our own account of it."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and META not in path.parts
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_killed_and_called_again(name, world, tmp_path, monkeypatch):
    words, place, count = COMMANDS[name]
    for source in world.iterdir():
        (tmp_path / source.name).symlink_to(source)
    (tmp_path / "thesis.tex").write_text("years of work")
    before = visible(world)
    monkeypatch.chdir(tmp_path)
    out, command = tmp_path / "out", words[0]
    mine = "masks/mine.png" if command == "run" else "mine.txt"
    if name in REPLACING:
        assert call(words, monkeypatch) == 0
        (out / mine).write_text("annotated for a week")
        first = visible(out)

    killed(words, place, count, tmp_path)

    if name in REPLACING and "publishing" not in name:
        assert visible(out) == first
    elif "publishing" not in name:
        assert not set(visible(out)) & WHOLE[command]
    assert call(words, monkeypatch) == 0
    found = visible(out)
    assert set(found) >= WHOLE[command]
    if name in REPLACING:
        assert found.pop(mine) == b"annotated for a week"
        assert set(found) == set(first) - {mine}
    assert not list(out.rglob("partial"))
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
    assert visible(world) == before


def test_a_simulated_drive(tmp_path, monkeypatch):
    pytest.importorskip("open3d")
    words = ["sim", "drive.mcap", "--preset", "tiny", "--seconds", "0.4"]
    monkeypatch.chdir(tmp_path)
    killed(words, "robustseg_core.bag.writer:BagWriter.write", 9, tmp_path)
    assert visible(tmp_path) == {}
    assert call(words, monkeypatch) == 0
    made = {"drive.mcap", "drive.json", "drive.png", "drive.webm"}
    assert {path.name for path in tmp_path.iterdir()} == made
    first = visible(tmp_path)
    assert call(words, monkeypatch) == 0 and visible(tmp_path) == first

    # What is there is never overwritten
    (tmp_path / "drive.mcap").unlink()
    assert call(words, monkeypatch) == 2 and set(visible(tmp_path)) == made - {"drive.mcap"}
    (tmp_path / "drive.json").write_text("my notes")
    for name in ("drive.png", "drive.webm"):
        (tmp_path / name).unlink()
    assert call(words, monkeypatch) == 2
    assert visible(tmp_path) == {"drive.json": b"my notes"}


@pytest.mark.parametrize("name", ["run", "inject", "eval"])
def test_a_full_disk_is_a_sentence(name, world, tmp_path, monkeypatch, capsys):
    words, _, _ = COMMANDS[name]
    for source in world.iterdir():
        (tmp_path / source.name).symlink_to(source)
    monkeypatch.chdir(tmp_path)
    limit = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from robustseg_core.cli.main import app; from robustseg_core.cli.terminal import guarded\n"
        "import torch, matplotlib.font_manager\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"  # EFBIG, as ENOSPC
        "sys.exit(guarded(app))"
    )
    done = subprocess.run(
        [sys.executable, "-c", limit, *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "cannot write" in done.stderr.replace("\n", " ") and "make room" in done.stderr
    assert not (tmp_path / "out").exists()
