"""The safety table: detection and reaction against an interval that the user gives."""

from __future__ import annotations

import csv
import json

import pytest

from robustseg_core.errors import RobustsegError
from robustseg_core.robustness import safety
from robustseg_core.robustness.safety import Interval
from robustseg_core.robustness.severities import injections


def result(told_s, *, noticed_s=None, target="rgb", **fields):
    return {"target": target, "told_s": told_s, "noticed_s": noticed_s or told_s, **fields}


def row(results, interval):
    found = safety.table(results, lambda _: [("dust", 3)], interval)
    (only,) = found["rows"]
    return only


def test_delay_and_reaction_together_fit_or_fail():
    fits = row([result(0.3), result(0.4)], Interval(500, 100))
    assert fits["passed"] and fits["diagnostic_coverage"] == 1.0
    assert (fits["delay_p50_ms"], fits["delay_max_ms"], fits["handling_max_ms"]) == (350, 400, 500)
    fails = row([result(0.3), result(0.401)], Interval(500, 100))
    assert not fails["passed"] and fails["diagnostic_coverage"] == 0.5
    assert fails["why"] == "501 ms, interval 500 ms"


def test_what_is_not_detected_fails_whatever_the_interval():
    found = row([result(0.1), result(None)], Interval(1e6))
    assert (found["injections"], found["detected"], found["in_time"]) == (2, 1, 1)
    assert not found["passed"] and found["why"] == "1 of 2 not detected"


def test_where_no_mask_comes_any_more_the_finding_counts():
    assert safety.delay_s({"told_s": None, "noticed_s": 0.2}) == 0.2
    assert safety.delay_s({"told_s": 0.3, "noticed_s": 0.2}) == 0.3
    assert safety.delay_s({"told_s": None, "noticed_s": None}) is None


@pytest.mark.parametrize("ftti, reaction", [(0, 0), (-5, 0), (100, 100), (100, -1)])
def test_an_interval_that_leaves_no_time_is_refused(ftti, reaction):
    with pytest.raises(RobustsegError, match="milliseconds"):
        Interval(ftti, reaction)


def test_a_row_of_the_matrix_that_is_to_be_survived_is_no_row_here():
    assert safety.of_matrix({"row": 1, "finds": ["silent"]}) == [("1 drop-out, permanent", None)]
    assert safety.of_matrix({"row": 2, "finds": []}) == []


def test_severities_of_one_case_are_a_row_each():
    done = [i for i in injections(["mirrored"]) if i.sensor == "rgb"]
    label = safety.of_severities(done)
    assert label({"id": done[2].case.id}) == [("mirrored", 3), ("mirrored", 4), ("mirrored", 5)]
    assert label({"id": "00-all-control"}) == []


def test_files_say_the_unit_in_every_column_of_time(tmp_path):
    found = safety.table([result(0.2)], lambda _: [("dust", None)], Interval(150))
    safety.write(tmp_path, found)
    with (tmp_path / "safety.csv").open() as file:
        (line,) = csv.DictReader(file)
    assert line["delay_max_ms"] == "200.0" and line["passed"] == "False" and line["severity"] == ""
    kept = json.loads((tmp_path / "safety.json").read_text())
    assert (kept["rows_failed"], kept["ftti_ms"], kept["diagnostic_coverage"]) == (1, 150, 0.0)
