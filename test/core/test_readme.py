"""What the README and the examples show runs as it is printed."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import robustseg_core
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


def test_the_lines_of_the_readme_run_as_printed(tmp_path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert len(blocks) == 1
    done = subprocess.run(
        [sys.executable, "-"],
        input=blocks[0],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "('rgb', 'depth', 'event', 'lidar') {'road'" in done.stdout
    assert (tmp_path / "street.png").read_bytes().startswith(b"\x89PNG")


def test_the_example_of_the_package_is_that_of_the_script(example) -> None:
    """`training/make_example.py` makes it of this moment."""
    made, shipped = example.moment(), robustseg_core.example()
    away = np.abs(made.inputs["rgb"].astype(int) - shipped.arrays["rgb"])
    assert away.mean() < 4, "JPEG"
    np.testing.assert_allclose(shipped.arrays["depth"], made.inputs["depth"], atol=0.0051)
    ahead = made.inputs["lidar"][made.inputs["lidar"][:, 0] > 0]
    np.testing.assert_allclose(shipped.arrays["lidar"], ahead, rtol=1e-3, atol=1e-3)
    for name in ("x", "y", "polarity"):
        assert np.array_equal(shipped.arrays["event"][name], made.inputs["event"][name])
    predictor = robustseg_core.load()
    ids = predictor.predict(
        shipped.arrays, camera=shipped.camera, extrinsics=shipped.extrinsics
    ).ids
    assert np.mean(ids == made.label) > 0.85


def test_the_example_finds_the_street_with_any_sensors(
    example, moment, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(example, "moment", lambda: moment)
    assert example.main([str(tmp_path / "out.png")]) == 0
    shares = [int(n) for n in re.findall(r"(\d+)% of the pixels", capsys.readouterr().out)]
    assert len(shares) == 3 and min(shares) > 50
    assert (tmp_path / "out.png").stat().st_size > 10_000
