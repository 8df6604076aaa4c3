"""The matrix is whole: rows, each measured or proved by a test that exists."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

from robustseg_core import faults
from robustseg_core.cli.robustness import parse_rows
from robustseg_core.errors import RobustsegError
from robustseg_core.faults import parse_fault
from robustseg_core.faults._base import Graded
from robustseg_core.robustness import MATRIX, cases
from robustseg_core.robustness.case import SENSORS, Bit, Limit
from robustseg_core.robustness.matrix import ROWS_TOTAL, pairs
from robustseg_core.robustness.score import Label, Scorer
from robustseg_core.robustness.table import summarize
from robustseg_core.types import MS, Bundle, Frame

pytestmark = pytest.mark.slow

NOT_IN_THE_MATRIX = {
    "wrong",
    "salt_pepper",
    "jitter",
    "holes",
    "hot_pixels",
    "flat",
    "sparse_cloud",
}
"""Faults beyond the rows, and those with severities; `test_faults_health` is about all of them."""


def test_no_row_is_lost():
    assert [row.number for row in MATRIX] == list(range(1, ROWS_TOTAL + 1))
    open_rows = {row.number for row in MATRIX if not row.cases and not row.elsewhere}
    assert open_rows <= {41, 45}, "these have no test yet, and the report says so"


@pytest.mark.parametrize("test", sorted({test for row in MATRIX for test in row.elsewhere}))
def test_what_is_said_to_be_tested_elsewhere_is(test):
    path, _, name = test.partition("::")
    assert re.search(rf"^def {name}\(", (ROOT / path).read_text(), re.MULTILINE)


def test_every_fault_that_can_be_made_is_in_the_matrix_or_known_not_to_be():
    made = {
        parse_fault(span.words.replace("info:", "/info:")).name
        for case in cases()
        for span in case.spans
        if span.words
    }
    graded = {name for name in faults.available() if issubclass(faults.load(name), Graded)}
    assert set(faults.available()) - made == NOT_IN_THE_MATRIX | graded


def test_every_case_has_a_file_of_its_own():
    singles = cases()
    names = [case.id for case in (*singles, *pairs(singles))]
    assert len(names) == len(set(names)) and all(re.fullmatch(r"[\w.+-]+", n) for n in names)


def test_rows_that_hold_for_every_sensor_are_done_to_every_sensor():
    for number in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 34, 47):
        assert {case.target for case in cases([number])} == set(SENSORS)


def test_pairs_join_every_two_sensors():
    joined = {frozenset((case.target, case.partner)) for case in pairs(cases())}
    assert len(joined) == math.comb(len(SENSORS), 2)


def test_a_deadline_in_messages_is_longer_for_a_slower_sensor():
    assert Limit(messages=3).of(0.1) == pytest.approx(0.32)
    assert Limit(seconds=0.5, messages=3).of(0.01) == 0.5


def test_a_row_that_is_not_measured_on_drives_is_refused_with_those_that_are():
    with pytest.raises(RobustsegError, match="row 37 is not measured on drives; have 1, 2"):
        cases([37])


def test_rows_are_written_as_people_write_them():
    assert parse_rows("1, 5,20-22") == [1, 5, 20, 21, 22] and parse_rows("") == []
    with pytest.raises(RobustsegError, match="write numbers and ranges"):
        parse_rows("1-x")


def test_an_image_without_a_mask_is_missed_and_the_nearest_mask_counts():
    truth = [Label(k * 100 * MS, 0, np.full((2, 2), k, np.uint8)) for k in (1, 2, 3)]

    def engine(bundle):
        ids = bundle.frames["rgb"].array[0].astype(np.uint8)
        return ids, ids

    def mask(value):
        return Bundle(0, {"rgb": Frame("rgb", 0, np.full((3, 2, 2), value, np.float32))})

    scorer = Scorer(truth, half_ns=50 * MS, engine=engine, classes=4)
    for stamp_ms, value in ((99, 1), (130, 0), (190, 0), (205, 2), (360, 3)):
        scorer.offer(stamp_ms * MS, mask(value))
    counts = scorer.total()
    assert counts.sum() == 12
    assert counts[1, 1] == counts[2, 2] == 4, "nearer masks won"
    assert counts[3, 4] == 4, "60 ms away is no mask of this image"


def result(**fields):
    usual = {
        "id": "01-rgb-rgb-off",
        "drive": "d",
        "row": 1,
        "target": "rgb",
        "finds": ["silent"],
        "delay_s": 0.2,
        "limit_s": 0.3,
        "missed": False,
        "accused": {},
        "judged_masks": 10,
        "wrong_masks": 0,
        "mask_rate": 1.0,
        "why": [],
        "passed": True,
    }
    return {**usual, **fields}


def test_one_failed_case_fails_its_row_and_shows_in_every_figure():
    late = result(delay_s=0.5, wrong_masks=5, why=["late"], passed=False)
    clean = {
        "false_dead": {"rgb": 1, "lidar": 0},
        "hours": 0.5,
        "accused": {},
        "judged_masks": 80,
        "wrong_masks": 0,
    }
    found = summarize([result(), late], [clean])
    assert (found["rows_total"], found["rows_measured"], found["rows_passed"]) == (51, 1, 0)
    assert found["detection_within_deadline"] == 0.5
    assert found["false_dead_per_hour"] == 1.0
    assert found["wrong_bit_share"] == 0.05
    assert found["rows"][0]["failed"] == ["d 01-rgb-rgb-off: late"]
    assert found["miou_vs_oracle"] is None


def test_a_sensor_that_must_be_left_out_is_never_expected_to_be_used():
    for case in cases():
        assert case.bit is not Bit.OUT or not (case.never and case.reaches)


def test_what_one_process_has_done_another_knows_again(tmp_path):
    drive = tmp_path / "drive.mcap"
    drive.write_bytes(b"")
    code = (
        "import sys; from robustseg_core.robustness.matrix import cases\n"
        "from robustseg_core.robustness.perform import Options, Task\n"
        "for case in [None, *cases()]: print(Task(sys.argv[1], case, Options(), '').key)"
    )
    keys = []
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code, str(drive)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        keys.append(done.stdout.split())
    assert keys[0] == keys[1] and len(set(keys[0])) == len(keys[0])
