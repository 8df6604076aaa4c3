"""`robustseg robustness` on a small simulated drive: a few rows against what is known of them."""

from __future__ import annotations

import csv
import json
import shutil

import pytest

pytest.importorskip("open3d", reason="the drive is simulated (extra `sim`)")

from typer.testing import CliRunner

from robustseg_core.cli.robustness import commands as app
from robustseg_core.errors import RobustsegError
from robustseg_core.robustness.matrix import MATRIX
from robustseg_core.robustness.proofs import named_tests
from support import replayed
from support.replayed import small_weights, tiny_drive

pytestmark = pytest.mark.slow

GOLDEN = {
    "01-rgb-rgb-off": "silent",
    "01-depth-depth-off": "silent",
    "01-event-event-off": "silent",
    "01-lidar-lidar-off": "silent",
    "14-all-loop": None,
    "18-depth-depth-invalid_depth": "invalid_depth",
    "18-depth-depth-invalid_depth-value-zero": "invalid_depth",
    "20-rgb-rgb-black": "black",
    "33-event-event-encoding": "undecodable",
}
"""Case -> what the broken sensor is called."""


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    return tiny_drive(tmp_path_factory.mktemp("robustness"), seed=31, seconds=5.2)


def robustness(drive, out, *words):
    return replayed.robustness(drive, out, "--no-pairs", *words)


@pytest.fixture(scope="module")
def out(drive, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    weights = small_weights(drive.parent)
    done = robustness(drive, folder, "--rows", "1,14,18,20,33", "--weights", str(weights))
    assert done.exit_code == 0, done.output
    return folder


def test_a_small_matrix_gives_the_known_report(out):
    found = json.loads((out / "robustness.json").read_text())
    assert list(found)[:6] == [
        "rows_total",
        "rows_passed",
        "detection_within_deadline",
        "false_dead_per_hour",
        "wrong_bit_share",
        "miou_vs_oracle",
    ]
    assert (found["rows_total"], found["rows_measured"], found["rows_passed"]) == (51, 5, 5)
    assert found["detection_within_deadline"] == 1.0
    assert found["false_dead_per_hour"] == 0.0 and found["false_alarms_clean"] == 0
    assert found["wrong_bit_share"] <= 0.02
    assert found["skipped"] == []
    with (out / "robustness.csv").open() as file:
        named = {row["target"] and row["faults"]: row for row in csv.DictReader(file)}
    assert len(named) == len(GOLDEN) and all(row["passed"] == "True" for row in named.values())
    kept = {p.stem: json.loads(p.read_text())["result"] for p in out.glob("cases/drive/*.json")}
    assert {name: r.get("named") for name, r in kept.items() if name != "clean"} == GOLDEN


def test_masks_are_scored_and_who_waits_for_all_gets_nothing_for_its_silence(out):
    found = json.loads((out / "robustness.json").read_text())
    dead = next(row for row in found["rows"] if row["row"] == 1)["miou"]
    assert all(dead[name] > 0 for name in ("ours", "ungated", "oracle"))
    assert dead["all_or_nothing"] < 0.5 * dead["ungated"]
    black = next(row for row in found["rows"] if row["row"] == 20)["miou"]
    assert black["all_or_nothing"] == black["ungated"], "a black image is there, so it goes on"


def test_the_report_needs_nothing_from_outside_and_shows_every_row(out):
    page = (out / "report.html").read_text()
    measured, _, others = page.partition("<h2>Rows that are not measured here</h2>")
    assert "<td>1</td>" in measured and "not run" not in measured and "not run" in others
    assert "5 of 5 rows pass, 5 of them measured" in page and "Untrained" in page
    assert page.count("<tr><td>") == len(MATRIX) and "data:image/png" in page
    table = (out / "robustness.md").read_text().splitlines()
    assert len(table) == len(MATRIX) + 2 and len({line.count("|") for line in table}) == 1
    assert 'src="http' not in page and (out / "robustness.png").stat().st_size > 10_000


def test_what_was_done_is_not_done_again(drive, out):
    files = {path: path.stat().st_mtime_ns for path in out.glob("cases/drive/*.json")}
    weights = drive.parent / "small.safetensors"
    again = robustness(drive, out, "--rows", "1,14,18,20,33", "--weights", str(weights))
    assert again.exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in out.glob("cases/drive/*.json")} == files


def test_a_robot_that_looks_away_fails_and_the_exit_code_says_so(drive, tmp_path):
    blind = ["streams.rgb.limits.black_std=0", "streams.rgb.limits.flat_std=0"]
    words = [word for text in blind for word in ("--set", text)]
    done = robustness(drive, tmp_path, "--rows", "20", "--no-score", *words)
    assert done.exit_code == 1
    found = json.loads((tmp_path / "robustness.json").read_text())
    assert found["rows_passed"] == 0 and found["detection_within_deadline"] == 0.0
    assert "none of black was named" in found["rows"][19]["failed"][0]


def test_healthy_recordings_are_only_watched_and_tests_prove_the_other_rows(drive, tmp_path):
    calm = shutil.copy(drive, tmp_path / "calm.mcap")
    checkout = tmp_path / "checkout"
    (test,) = named_tests([18, 23, 28])  # the others need none
    path, _, name = test.partition("::")
    place = checkout / path
    place.parent.mkdir(parents=True)
    words = ["--rows", "28", "--no-score", "--healthy", str(calm), "--tests", str(checkout)]
    for verdict, code in (("True", 0), ("False", 1)):
        place.write_text(f"def {name}():\n    assert {verdict}\n")
        done = robustness(drive, tmp_path / "out", *words)
        assert done.exit_code == code, done.output
        found = json.loads((tmp_path / "out" / "robustness.json").read_text())
        assert found["rows"][27]["passed"] is (code == 0)
    assert [line["drive"] for line in found["clean"]] == ["calm", "drive"]
    assert found["clean_sensor_hours"] > 1.5 * found["clean"][1]["hours"] * 4
    done = robustness(drive, tmp_path / "out", "--rows", "28", "--no-score", "--tests", "/nowhere")
    assert "wants a checkout" in str(done.exception)


def test_what_the_user_can_mend_is_one_sentence(drive, tmp_path):
    done = CliRunner().invoke(app, ["--out", str(tmp_path)])
    assert isinstance(done.exception, RobustsegError) and "give drives or --sim" in str(
        done.exception
    )
    done = robustness(drive, tmp_path, "--rows", "37")
    assert "row 37 is not measured on drives" in str(done.exception)
