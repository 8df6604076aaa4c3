"""Two rows of the study from shards to pictures, in this process for its time's sake."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from typer.testing import CliRunner

import study
import study_pilot
from robustseg_core.cli.main import app
from robustseg_core.evaluation import report
from support.learn_data import make_shards

pytestmark = pytest.mark.slow

A_THIRD = 20.0
"""Seconds, of a minute: three steps."""
WORDS = (
    "augment.crop=null",
    "augment.scale=[1,1]",
    "network.head_width=16",
    "validate.calibrate=0",
    "optim.batch=2",
)


@pytest.fixture
def called(monkeypatch) -> list[list[str]]:
    """Commands that were given; processes are replaced by calls."""
    commands: list[list[str]] = []

    def call(command: list[str], folder: Path) -> str:
        assert folder.is_dir()
        commands.append(command)
        if command[1].endswith("study_pilot.py"):
            names = command[2 : command.index("--device")]
            words = [w for flag, w in pairwise(command) if flag == "--set"]
            measured = study_pilot.cost(names, words, "cpu", steps=3)
            assert all(seconds > 0 for seconds in measured.values())
            return "noise\n" + json.dumps(dict.fromkeys(measured, A_THIRD))
        done = CliRunner().invoke(app, command[len(study.ROBUSTSEG) :])
        assert done.exit_code == 0, done.output
        return done.stdout

    monkeypatch.setattr(study, "_call", call)
    monkeypatch.setattr(report, "page", lambda *given: "")  # its pictures take seconds
    return commands


def test_rows_are_measured_once_trained_kept_and_drawn(called, tmp_path, monkeypatch) -> None:
    for number, split in enumerate(("train", "val", "test")):
        for part in "ab"[: 1 + (split == "test")]:
            make_shards(tmp_path / f"shards/study_{split}_{part}", 2, seed=number)
    options = ["--data", "sim", "--systems", "anyseg", "--seeds", "0", "--jobs", "1"]
    options += ["--device", "cpu", *(part for word in WORDS for part in ("--set", word))]
    for name in ("shards", "runs", "results"):
        options += [f"--{name}", str(tmp_path / name)]
    document = tmp_path / "study.md"
    marks = "<!-- table -->\n<!-- /table -->\n<!-- pictures -->\n<!-- /pictures -->\n"
    document.write_text(f"mine\n{marks}")
    options += ["--document", str(document), "--budget"]
    costs = tmp_path / "runs/costs/anyseg.json"
    costs.parent.mkdir(parents=True)
    costs.write_text(json.dumps({"": A_THIRD}))

    monkeypatch.setattr("sys.argv", ["study.py", *options, "1"])
    assert study.main() == 0
    kinds = [c[3] if c[1] == "-m" else "pilot" for c in called]
    assert kinds == ["pilot", "train", "eval", "train", "eval"]
    row = json.loads((tmp_path / "results/anyseg_s0.json").read_text())
    assert row["training"]["steps"] == row["budget"]["steps"][""] == 3
    assert row["training"]["rule"] == "mean"
    assert set(row["reliability"]) == {"all sensors", "all subsets", "noise high"}
    for bins in row["reliability"].values():
        assert sum(share for share, _, _ in bins) == pytest.approx(1, abs=1e-4)
    assert json.loads((tmp_path / "runs/costs/teacher.json").read_text()) == {"": A_THIRD}
    compared = json.loads((tmp_path / "results/comparisons.json").read_text())
    assert set(compared) == {"teacher_s0 anyseg_s0"}
    pictures = sorted(path.name for path in (tmp_path / "results").glob("*.png"))
    assert pictures == ["mean_full.png", "noise.png", "reliability.png", "subsets.png"]
    text = document.read_text()
    assert text.startswith("mine\n") and "| anyseg | 1 | 1 | 3 |" in text
    assert "](results/noise.png)" in text
    assert "](noise.png)" in (tmp_path / "results" / study.reports.README).read_text()

    called.clear()
    monkeypatch.setattr("sys.argv", ["study.py", *options, "7"])
    assert study.main() == 0
    assert called == []
