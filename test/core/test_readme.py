"""What the README and the examples show runs as it is printed."""

from __future__ import annotations

import glob
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import robustseg_core
from robustseg_core.cli.main import app
from robustseg_core.config import load
from robustseg_core.sim.produce import Split
from support import ROOT
from support.drives import truths, write_drive

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
    assert len(blocks) == 1 and blocks[0] in (ROOT / "docs" / "get_started.md").read_text()
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
    away = np.abs(shipped.arrays["depth"] - made.inputs["depth"])
    assert away.max() < 0.02, "centimetres"
    assert (away > 0.0051).mean() < 1e-4, "where a ray meets an edge, processors differ"
    ahead = made.inputs["lidar"][made.inputs["lidar"][:, 0] > 0]
    np.testing.assert_allclose(shipped.arrays["lidar"], ahead, rtol=1e-3, atol=1e-3)
    shown, fired = (
        np.histogram2d(event["y"], event["x"], 64)[0]
        for event in (shipped.arrays["event"], made.inputs["event"])
    )
    assert np.abs(shown - fired).sum() < 1e-3 * fired.sum()
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


def test_the_cells_of_the_notebook_run_in_order(capsys) -> None:
    """In this process: a kernel and nbclient are 106 MB, and do nothing else for it."""
    book = json.loads((ROOT / "docs" / "examples" / "python_api.ipynb").read_text())
    cells = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    names: dict[str, Any] = {}
    for cell in cells:
        assert all(output["output_type"] != "error" for output in cell["outputs"])
        exec("".join(cell["source"]), names)  # noqa: S102
    shown = capsys.readouterr().out
    assert "('rgb', 'depth', 'event', 'lidar')" in shown and "rgb - black" in shown
    assert names["broken"].used == ("depth", "event", "lidar")


def commands(page: str, heading: str) -> list[str]:
    """The lines of the first block of commands below a heading, continued ones joined."""
    text = (ROOT / page).read_text().partition(f"## {heading}\n")[2]
    block = text.partition("```bash\n")[2].partition("```")[0]
    return block.replace("\\\n", " ").splitlines()


SMALL = {
    "extract": "--jobs 1",
    "train": "optim.steps=2 optim.batch=2 data.workers=0 network.head_width=16 "
    "validate.every=2 validate.samples=2",
    "eval": "--protocol subsets",
}
"""What makes a command quick; the words as printed stay before it."""


def test_the_commands_of_the_study_are_the_same_in_both_pages() -> None:
    told = [line.split() for line in commands("docs/train.md", "From drives to a student")]
    assert told == [
        line.split()
        for line in commands("training/README.md", "From nothing to a table, in five commands")
    ]


def test_the_commands_for_training_run_one_after_the_other_as_printed(
    tmp_path, monkeypatch
) -> None:
    """On short drives under the names that the first command, which takes long, would give them."""
    monkeypatch.chdir(tmp_path)
    simulated, *others = commands("docs/train.md", "From drives to a student")
    assert simulated.startswith("robustseg sim drives ")
    (tmp_path / "bags").mkdir()
    (tmp_path / "drives").mkdir()
    for word in re.findall(r"--split (\S+)", simulated):
        split = ROOT / word
        name = f"{split.stem}_{load(Split, split).recipes()[0].seed:05d}"
        bag = write_drive(tmp_path / "bags" / name, 0.3, truths(0.3))
        next(bag.glob("*.mcap")).rename((tmp_path / "drives" / name).with_suffix(".mcap"))
    for line in others:
        program, command, *words = shlex.split(f"{line} {SMALL.get(line.split()[1], '')}")
        assert program == "robustseg"
        typed = [found for word in words for found in sorted(glob.glob(word)) or [word]]
        done = CliRunner().invoke(app, [command, *typed])
        assert done.exit_code == 0, f"{line}\n{done.output}\n{done.exception!r}"
    assert (tmp_path / "out" / "anyseg" / "results.json").stat().st_size > 0
