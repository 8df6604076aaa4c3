"""What the README and the examples show runs as it is printed."""

from __future__ import annotations

import importlib.util
import re
from typing import Any

import pytest

from robustseg_core.predictor import Result
from support import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def example() -> Any:
    pytest.importorskip("open3d", reason="the simulator needs open3d")
    path = ROOT / "docs" / "examples" / "predict_arrays.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def moment(example: Any) -> Any:
    return example.moment("tiny")


def test_the_lines_of_the_readme_run_as_printed(moment, tmp_path, monkeypatch, capsys) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert len(blocks) == 1
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {
        "image": moment.inputs["rgb"],
        "metres": moment.inputs["depth"],
        "points": moment.inputs["lidar"],
        "events": moment.inputs["event"],
        "K": moment.camera["rgb"]["K"],
        "T": moment.extrinsics["lidar"],
    }
    exec(compile(blocks[0], "README.md", "exec"), names)  # noqa: S102 (our own README)
    result = names["result"]
    assert isinstance(result, Result) and result.used == ("rgb", "depth", "event", "lidar")
    assert "'road'" in capsys.readouterr().out
    assert (tmp_path / "street.png").read_bytes().startswith(b"\x89PNG")


def test_the_example_finds_the_street_with_any_sensors(
    example, moment, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(example, "moment", lambda: moment)
    assert example.main([str(tmp_path / "out.png")]) == 0
    shares = [int(n) for n in re.findall(r"(\d+)% of the pixels", capsys.readouterr().out)]
    assert len(shares) == 3 and min(shares) > 50
    assert (tmp_path / "out.png").stat().st_size > 10_000
