"""`run --black-box` and `explain`, as people use them: files, report, exit codes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from robustseg_core.bag import Bag, BagWriter
from robustseg_core.bag.typestore import typestore
from robustseg_core.blackbox import layout
from robustseg_core.cli.entry import app
from robustseg_core.faults import parse_fault
from robustseg_core.recording.run import run_bags
from support.drives import write_drive

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> tuple[Path, dict[str, Any]]:
    """A run with one fault, and its `result.json`."""
    folder = tmp_path_factory.mktemp("explain")
    drive = write_drive(folder / "drive", 2.5)
    words = [f"weights={weights}", "black_box.before_s=0.8", "black_box.after_s=0.5"]
    faults = [parse_fault("depth:invalid_depth@1+1")]
    result = run_bags(
        [drive],
        overrides=words,
        out=folder / "run",
        faults=faults,
        video=False,
        black_box=True,
    )
    return folder / "run", result


def test_a_run_with_a_black_box_has_the_fault_and_no_other(made):
    folder, result = made
    (name,) = result["black_box"]
    assert re.fullmatch(r"black_box/fault_\w+_depth_invalid_depth\.mcap", name)
    assert (folder / name).is_file() and not list(folder.rglob(".part-*"))
    account = json.loads((folder / "black_box" / "black_box.json").read_text())
    assert [one["name"] for one in account["files"]] == [Path(name).name]


def test_explain_says_that_it_is_equal_and_why_it_was_decided(made, tmp_path):
    folder, result = made
    file = folder / result["black_box"][0]
    said = CliRunner().invoke(app, ["explain", str(file), "-o", str(tmp_path / "out")])
    assert said.exit_code == 0, said.output
    account = json.loads((tmp_path / "out" / "explain.json").read_text())
    assert account["reproduced"] and account["differences"] == 0 and account["notices"] == []
    assert account["decisions"] > 15 and "equal, to the bit" in account["conclusion"]
    (fault,) = account["faults"]
    assert (fault["modality"], fault["state"], fault["fault"]) == ("depth", "DEAD", "invalid_depth")
    after = next(row for row in account["changes"] if row["at_s"] >= 0)
    assert "depth" not in after["used"]
    assert any("depth" in row["used"] for row in account["changes"] if row["at_s"] < 0)
    assert "invalid_depth" in after["reasons"]["depth"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "depth fell out of use" in page and "equal, to the bit" in page
    assert page.count("data:image/png;base64") >= 2 + 4 * 3  # charts, and sensors at four moments
    assert not re.search(r"(src|href)=\"(?!data:)", page)  # it needs no other file


def test_explain_ends_with_1_and_names_what_differs(made, tmp_path):
    folder, result = made
    with Bag(folder / result["black_box"][0]) as bag:
        came = [(r.topic, r.type, r.raw, r.time_ns) for r in bag.messages()]
    store = typestore()
    with BagWriter(tmp_path / "other") as writer:
        for topic, kind, raw, time_ns in came:
            if topic == layout.HEAD:
                tree = json.loads(store.deserialize_cdr(raw, kind).data)
                tree["numpy"] = "1.0"
                tree["config"]["health"] |= {"bad_to_die": 30, "error_density": 50}
                writer.write(topic, kind, store.types[kind](data=json.dumps(tree)), time_ns)
            else:
                writer.write_raw(topic, kind, raw, time_ns)
    said = CliRunner().invoke(
        app, ["explain", str(tmp_path / "other"), "-o", str(tmp_path / "out")]
    )
    assert said.exit_code == 1, said.output
    account = json.loads((tmp_path / "out" / "explain.json").read_text())
    assert not account["reproduced"] and "the first: " in account["conclusion"]
    assert "numpy 1.0 then" in account["notices"][-1]


@pytest.mark.filterwarnings("error")
def test_a_file_that_holds_no_decision_is_not_called_equal(made, tmp_path):
    folder, result = made
    with (
        Bag(folder / result["black_box"][0]) as bag,
        BagWriter(tmp_path / "early") as writer,
    ):
        for one in bag.messages():
            if one.topic != layout.ACTS:
                writer.write_raw(one.topic, one.type, one.raw, one.time_ns)
    said = CliRunner().invoke(
        app, ["explain", str(tmp_path / "early"), "-o", str(tmp_path / "out")]
    )
    assert said.exit_code == 1, said.output
    account = json.loads((tmp_path / "out" / "explain.json").read_text())
    assert not account["reproduced"] and "holds no decision" in account["conclusion"]
    assert "nothing: " in said.output and "equal" not in said.output
