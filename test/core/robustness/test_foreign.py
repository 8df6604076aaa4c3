"""A node as a black box: what its masks are worth, by arithmetic."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from robustseg_core.errors import RobustsegError
from robustseg_core.robustness import foreign
from robustseg_core.robustness.case import START_S
from robustseg_core.robustness.foreign import Ear
from robustseg_core.robustness.score import Label
from robustseg_core.types import MS, SECOND

START_NS = 1_000 * SECOND
TRUTH = [
    Label(START_NS + k * 100 * MS, START_NS + k * 100 * MS, np.full((2, 2), 1, np.uint8))
    for k in range(100)
]
"""Ten labelled images a second."""


def heard(times_s, *, age_s=0.05, value=1):
    ear = Ear(TRUTH, start_ns=START_NS)
    for t in times_s:
        now_ns = START_NS + round(t * SECOND)
        ear.add(now_ns, now_ns - round(age_s * SECOND), np.full((2, 2), value, np.uint8))
    return ear


def test_masks_that_stop_are_a_rate_a_gap_and_an_age():
    """A mask every 100 ms until second 4; the window is 3 to 6."""
    ear = heard([0.1 * k + 0.05 for k in range(40)])
    found = ear.figures(3.0, 6.0)
    assert found["masks"] == 10 and found["mask_rate"] == pytest.approx(10 / 30, abs=1e-4)
    assert found["longest_gap_s"] == pytest.approx(6.0 - 3.95)
    assert found["age_p50_s"] == pytest.approx(0.05)
    assert found["stalest_s"] == pytest.approx(6.0 - 3.9), "the newest mask is of 3.9 s"
    assert found["miou"] == pytest.approx(10 / 29, abs=1e-4), "29 images, 10 with a mask"


def test_a_node_that_never_spoke_has_no_age_and_misses_all():
    found = heard([]).figures(1.0, 2.0)
    assert (found["masks"], found["mask_rate"], found["miou"]) == (0, 0.0, 0.0)
    assert found["age_p50_s"] is None and found["stalest_s"] is None
    assert found["longest_gap_s"] == 1.0


def test_of_two_masks_of_one_image_the_nearer_counts_and_far_ones_do_not():
    ear = Ear(TRUTH, start_ns=START_NS)
    for away_ms, value in ((40, 0), (10, 1), (60, 0)):
        stamp_ns = TRUTH[50].stamp_ns + away_ms * MS
        ear.add(stamp_ns, stamp_ns, np.full((4, 4), value, np.uint8))
    at_s = 5.0
    assert ear.figures(at_s - 0.01, at_s + 0.05 + foreign.TAIL_S)["miou"] == 1.0
    assert ear.figures(at_s + 0.09, at_s + 0.15 + foreign.TAIL_S)["miou"] == 0.0


def test_without_another_row_each_sensor_falls_silent():
    cases = foreign.asked([])
    assert {case.target for case in cases} == {"rgb", "depth", "event", "lidar"}
    assert all(case.row == 1 for case in cases)
    assert foreign.asked([14]) == [], "a loop is not one play"
    with pytest.raises(RobustsegError, match="row 37 is not measured"):
        foreign.asked([37])


def test_a_case_stands_beside_the_same_window_of_the_clean_play(tmp_path):
    (case,) = [c for c in foreign.asked([]) if c.target == "rgb"]
    clean, ear = heard([0.1 * k for k in range(99)]), heard([0.1 * k for k in range(25)])
    row = {**foreign.line(case, ["rgb:off"], ear, clean, 9.9), "died": False}
    assert row["miou_clean"] == 1.0 and row["miou"] == 0.0 and row["mask_rate"] == 0.0
    assert foreign.window(case, 9.9) == (START_S, START_S + case.lasts_s)
    own = {**clean.figures(*foreign.window(None, 9.9)), "faults": [], "sensor": "", "died": False}
    about = {"node": "python <b>.py", "mask": "/labels", "drive": "d.mcap", "seed": 0}
    foreign.write(tmp_path, {**about, "clean": {**own, "miou_clean": 1.0}, "cases": [row]})
    assert json.loads((tmp_path / "node.json").read_text())["cases"][0]["case"] == case.id
    with (tmp_path / "node.csv").open() as file:
        (written,) = csv.DictReader(file)
    assert written["faults"] == "rgb:off" and written["age_p50_s"] == ""
    page = (tmp_path / "node.html").read_text()
    assert "&lt;b&gt;" in page and "rgb:off" in page
