"""`robustseg export` and `robustseg bench`: what they refuse, and what they leave behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from robustseg_core.cli.main import app
from robustseg_core.errors import RobustsegError
from robustseg_core.models import checkpoint
from robustseg_core.models.checkpoint import default_spec, untrained

pytestmark = pytest.mark.slow


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "x.safetensors"
    checkpoint.save(path, untrained(default_spec(("rgb", "depth"), size=(32, 32))))
    return path


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("export", "no.safetensors", "--out", "x.rseg"), "no.safetensors does not exist"),
        (("export", "W", "--out", "x.onnx"), "ends in .rseg"),
        (("export", "street", "--out", "x.rseg", "--engine", "eager"), "engine is 'eager'"),
        (("export", "streeet", "--out", "x.rseg"), "did you mean 'street'"),
        (("export", "W", "--out", "x.rseg", "--engine", "eager"), "engine is 'eager'"),
        (("bench", "no.safetensors"), "no.safetensors does not exist"),
        (("bench", "W", "--engine", "openvin"), "did you mean 'openvino'"),
    ],
    ids=lambda value: " ".join(value[:1]) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_is_one_sentence(words, says, weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = CliRunner().invoke(app, [str(weights) if word == "W" else word for word in words])
    assert isinstance(found.exception, RobustsegError) and says in str(found.exception)
    assert {path.name for path in tmp_path.iterdir()} <= {"x.safetensors"}


def test_engines_are_compared_and_one_is_recommended(weights: Path, tmp_path: Path):
    words = ["bench", str(weights), "--engine", "eager", "--rounds", "1", "--threads", "1"]
    found = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "out"), "--json"])
    assert found.exit_code == 0, found.output
    account = json.loads((tmp_path / "out" / "bench.json").read_text())
    assert account["recommended"] == "eager"
    assert [row["sensors"] for row in account["engines"]] == [1, 2]
    assert all(row["cpu_ms"] > 0 for row in account["engines"])
    assert {p.name for p in (tmp_path / "out").glob("bench.*")} == {
        "bench.json",
        "bench.md",
        "bench.png",
    }
