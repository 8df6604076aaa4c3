"""What is loaded to say something: not torch for help, nor for a path that is not there."""

from __future__ import annotations

import sys

import pytest

from robustseg_core.cli.main import app
from robustseg_core.cli.terminal import guarded
from support.programs import run_program

pytestmark = pytest.mark.slow

SLOW = ("torch", "cv2", "numba", "lightning", "matplotlib", "open3d", "transformers", "ray")

HELP = [["--help"], ["--version"], ["run", "--help"], ["train", "--help"], ["robustness", "--help"]]
MISSING = {
    "run": ["run", "nothere.mcap"],
    "run --params": ["run", "{bag}", "--params", "nothere.yaml"],
    "run --weights": ["run", "{bag}", "--weights", "nothere.safetensors"],
    "run --jobs": ["run", "nothere.mcap", "nor_here.mcap", "--jobs", "2"],
    "extract": ["extract", "nothere.mcap", "--out", "{out}"],
    "label": ["label", "nothere.mcap", "--weights", "nothere.safetensors", "--out", "{out}"],
    "eval": ["eval", "nothere.safetensors", "shards"],
    "train, data": ["train", "teacher", "sim", "--out", "{out}"],
    "train, recipe": ["train", "nothere", "--out", "{out}"],
    "robustness": ["robustness", "nothere.mcap", "--out", "{out}"],
}


def started(words, folder, unwanted):
    """Exit code, standard error, and which of the unwanted modules were loaded."""
    program = f"""
        import sys
        from robustseg_core.cli.main import app
        from robustseg_core.cli.terminal import guarded
        code = guarded(lambda: app({words!r}))
        print(*({unwanted!r} & sys.modules.keys()))
        raise SystemExit(code)
    """
    done = run_program(program, cwd=folder, check=False)
    return done.returncode, done.stderr, done.stdout.splitlines()[-1].split()


@pytest.mark.parametrize("words", HELP, ids=" ".join)
def test_help_loads_nothing_that_is_slow(words, tmp_path):
    unwanted = {*SLOW, "numpy", "yaml", "rosbags"}
    assert started(words, tmp_path, unwanted) == (0, "", [])


@pytest.mark.parametrize("what", MISSING)
def test_what_is_not_there_is_said_before_torch_is_loaded(what, tmp_path):
    (tmp_path / "bag.mcap").touch()
    words = [w.format(bag="bag.mcap", out=tmp_path / "out") for w in MISSING[what]]
    code, said, loaded = started(words, tmp_path, set(SLOW))
    assert code == 2 and said.startswith("error: ") and loaded == []
    assert "nothere" in said or "shards/study_train" in said
    assert not (tmp_path / "out").exists()


ON_A_CLUSTER = {
    "run": ["run", "nothere.mcap"],
    "extract": ["extract", "nothere.mcap", "--out", "out"],
    "label": ["label", "nothere.mcap", "--weights", "nothere.safetensors", "--out", "out"],
    "eval": ["eval", "nothere.safetensors", "shards"],
    "robustness": ["robustness", "nothere.mcap"],
    "adapt": ["adapt", "nothere.mcap", "--teacher", "nothere", "--out", "out"],
    "sim": ["sim", "out", "--split", "nothere.yaml"],
}


@pytest.mark.parametrize("what", ON_A_CLUSTER)
def test_a_cluster_that_cannot_be_is_said_first(what, monkeypatch, capsys):
    """Every command has the same `--ray`."""
    for address, told in (
        ("auto", "ray is not installed; pip install 'robustseg[cluster]'"),
        ("here", "ray is 'here'; expected local, auto or HOST:PORT"),
    ):
        monkeypatch.setitem(sys.modules, "ray", None)
        words = [*ON_A_CLUSTER[what], "--ray", address]
        assert guarded(lambda words=words: app(words)) == 2
        assert told in " ".join(capsys.readouterr().err.split())
