"""`robustseg robustness --severities --ftti` on a small simulated drive, from end to end."""

from __future__ import annotations

import csv
import json

import pytest

pytest.importorskip("open3d", reason="the drive is simulated (extra `sim`)")

from robustseg_core.errors import RobustsegError
from support.replayed import robustness, small_weights, tiny_drive

pytestmark = pytest.mark.slow
WORDS = ("--severities", "5", "--faults", "flapping,swapped_channels", "--lasts", "2")


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    return tiny_drive(tmp_path_factory.mktemp("severities"), seed=32, seconds=8.2)


@pytest.fixture(scope="module")
def done(drive, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    words = (
        *WORDS,
        "--weights",
        str(small_weights(drive.parent)),
        "--ftti",
        "1000",
        "--reaction",
        "100",
    )
    return folder, robustness(drive, folder, *words)


def test_a_dead_camera_is_found_at_severity_five_and_colors_are_not(done):
    folder, result = done
    found = json.loads((folder / "severities.json").read_text())
    faults = {row["fault"]: row for row in found["faults"]}
    assert faults["flapping"]["cases"] == 4 and faults["swapped_channels"]["cases"] == 1
    worst = faults["flapping"]["levels"][-1]
    assert worst["detected"] == worst["named"] == worst["right_sensor"] == 4
    assert worst["delay_p99_s"] < 0.5 and worst["mask_rate_min"] > 0.8
    assert faults["flapping"]["exposure"] == ["held out"]
    assert found["clean_miou"]["ours"] > 0, "the control is scored"
    assert found["figures"]["mce"]["ungated"]["ungated"] == 1.0
    assert found["false_alarms"]["alarms"]["count"] == 0
    assert found["false_alarms"]["dead"]["upper_95"] > 100, "8 s of driving prove little"
    assert len(found["drives"]["drive.mcap"]) == 64 and found["skipped"] == []
    with (folder / "severities.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 5
    assert (folder / "severities.png").stat().st_size > 10_000
    assert result.exit_code == 0, "all that is asked for fits the interval"


def test_the_safety_table_says_which_rows_fit(done):
    folder, _ = done
    found = json.loads((folder / "safety.json").read_text())
    rows = {(r["fault"], r["severity"], r["sensor"]): r for r in found["rows"]}
    assert len(rows) == 5
    dead = rows["flapping", 5, "rgb"]
    assert dead["passed"] and dead["handling_max_ms"] == dead["delay_max_ms"] + 100 <= 1000
    page = (folder / "severities.html").read_text()
    assert page.count('<tr class="safety">') == 5 and "certifies nothing" in page


def test_what_was_done_is_not_done_again(drive, done):
    folder, _ = done
    files = {path: path.stat().st_mtime_ns for path in folder.glob("cases/drive/*.json")}
    assert len(files) == 5 + 1 + 1, "the cases, the control, the drive as it is"
    words = (*WORDS, "--weights", str(drive.parent / "small.safetensors"))
    assert robustness(drive, folder, *words).exit_code == 0
    assert robustness(drive, folder, *words, "--ftti", "150").exit_code == 1, "nobody is so fast"
    assert {path: path.stat().st_mtime_ns for path in folder.glob("cases/drive/*.json")} == files


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--severities", "0"), "severity is 0; expected 1 to 5"),
        (("--severities", "x"), "write numbers and ranges, e.g. 1,3,5"),
        (("--severities", "1", "--faults", "black"), "no fault 'black' with severities"),
        (("--severities", "1", "--rows", "1"), "leave out --rows"),
        (("--faults", "dust"), "--faults belongs to --severities"),
        (("--reaction", "5"), "--reaction belongs to --ftti"),
        (("--rows", "1", "--ftti", "5", "--reaction", "7"), "both in milliseconds"),
        (("--topics", "mask:=/x"), "--topics belongs to --node"),
    ],
)
def test_what_the_user_can_mend_is_one_sentence(drive, tmp_path, words, why):
    result = robustness(drive, tmp_path / "out", *words)
    assert isinstance(result.exception, RobustsegError) and why in str(result.exception)
