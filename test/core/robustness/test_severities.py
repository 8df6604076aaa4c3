"""Severities as cases, and their figures from results that are written by hand."""

from __future__ import annotations

import csv
import re

import numpy as np
import pytest
from conftest import ROOT

from robustseg_core.errors import RobustsegError
from robustseg_core.robustness import severities, severity_report
from robustseg_core.robustness.assess import assess_case
from robustseg_core.robustness.case import Case, Limit, Span
from robustseg_core.robustness.files import write_csv
from robustseg_core.robustness.observe import Seen
from robustseg_core.robustness.perform import POLICIES
from robustseg_core.robustness.severities import CONTROL, cell, graded, injections, summarize
from robustseg_core.types import Fault, State

EXPOSURE = {"dust": {"rgb": "trained", "depth": "never", "lidar": "trained"}}


def test_every_fault_with_severities_is_done_at_each_to_every_sensor_that_can_have_it():
    found = injections()
    assert {i.fault for i in found} == set(graded()) and len(graded()) == 16
    assert len(found) == 5 * 57
    assert {i.sensor for i in found if i.fault == "dust"} == {"rgb", "depth", "lidar"}
    assert all(re.fullmatch(r"[\w.+-]+", i.case.id) for i in found)
    assert CONTROL.id == "00-all-control" and not CONTROL.broken


def test_every_such_fault_has_a_right_name():
    assert all(kind.called for kind in graded().values())


def test_the_page_says_the_right_names():
    page = (ROOT / "docs/specs/faults.md").read_text()
    page = page.partition("## Right names")[2].partition("## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", page, re.MULTILINE))
    for name, kind in graded().items():
        assert rows[name] == ", ".join(f"`{fault.value}`" for fault in sorted(kind.called)), name


def test_severities_of_one_amount_are_one_case():
    ids = {i.severity: i.case.id for i in injections(["mirrored"]) if i.sensor == "rgb"}
    assert ids[3] == ids[4] == ids[5] != ids[2]
    assert [i.amount for i in injections(["mirrored"]) if i.sensor == "rgb"] == [0.25, 0.5, 1, 1, 1]


def test_what_creeps_is_at_its_amount_after_half_of_the_time():
    (one,) = [i for i in injections(["dew"], [3], lasts_s=6.0) if i.sensor == "rgb"]
    assert one.case.spans[0].words == "rgb:dew(severity=3,minutes=0.05)"
    assert one.case.spans[0].fault.model().minutes == pytest.approx(6.0 / 2 / 60)


def test_unknown_faults_and_severities_are_refused():
    with pytest.raises(RobustsegError, match="no fault 'black' with severities"):
        injections(["black"])
    with pytest.raises(RobustsegError, match="severity is 6; expected 1 to 5"):
        injections([], [6])


def counts(hits, total=100):
    """(2, 3) pixels of one class: `hits` of `total` right, the rest without a mask."""
    return np.array([[hits, 0, total - hits], [0, total, 0]]).tolist()


def result(case, drive="d", hits=(80, 50, 90, 40), **fields):
    usual = {
        "id": case.id,
        "drive": drive,
        "target": case.target,
        "faults": [span.words for span in case.spans],
        "delay_s": None,
        "limit_s": 5.0,
        "named": None,
        "said": {},
        "noticed_s": None,
        "told_s": None,
        "recovery_s": None,
        "accused": {},
        "mask_rate": 1.0,
        "longest_gap_s": 0.1,
        "counts": {n: counts(h) for n, h in zip(POLICIES, hits, strict=True)},
    }
    return {**usual, **fields}


def test_the_figures_are_those_that_are_done_by_hand():
    """Two classes: the second is always right, so mIoU is (hits/100 + 1) / 2."""
    done = [i for i in injections(["dust"], [1, 2]) if i.sensor == "rgb"]
    one, two = (i.case for i in done)
    found = summarize(
        done,
        [
            result(CONTROL, hits=(100, 100, 100, 100)),
            result(one, hits=(80, 60, 100, 0), said={"rgb": {"hazy": 0.5}}, noticed_s=0.5,
                   named="hazy", delay_s=0.5, recovery_s=1.0),
            result(two, hits=(40, 20, 100, 0), said={"depth": {"noisy": 1.0}},
                   accused={"depth": {"noisy": 1.0}}),
        ],
        [{"hours": 0.5, "false_dead": {"rgb": 0, "depth": 0}, "accused": {}}],
        EXPOSURE,
        drives={},
    )  # fmt: skip
    ours, base = (0.9, 0.7), (0.8, 0.6)
    mce = found["figures"]["mce"]["ungated"]
    assert mce["ours"] == pytest.approx((0.1 + 0.3) / (0.2 + 0.4), abs=1e-4)
    assert mce["ungated"] == 1.0 and mce["oracle"] == 0.0
    assert found["figures"]["mrr"]["ours"] == pytest.approx(0.8, abs=1e-4)
    assert found["figures"]["mra"] == found["figures"]["mrr"]
    mrra = found["figures"]["mrra"]["ungated"]["ours"]
    assert mrra == pytest.approx(sum(ours) / sum(base) - 1, abs=1e-4)
    assert found["clean_miou"]["ours"] == 1.0
    first, second = found["severities"]
    assert (first["detected"], first["named"], first["blamed"], first["right_sensor"]) == (
        1,
        1,
        1,
        1,
    )
    assert (second["detected"], second["blamed"], second["right_sensor"]) == (0, 1, 0)
    assert first["delay_p99_s"] == 0.5 and second["delay_p50_s"] is None
    assert first["coverage"]["ours"] == 0.9 and first["coverage"]["all_or_nothing"] == 0.5
    (dust,) = found["faults"]
    assert dust["exposure"] == ["trained"] and dust["sensors"]["rgb"]["detected"] == {
        "1": [1, 1],
        "2": [0, 1],
    }
    alarms = found["false_alarms"]
    assert alarms["sensor_hours"] == 1.0 and alarms["dead"]["upper_95"] == pytest.approx(2.996)


def test_a_fault_that_fits_no_drive_is_in_no_mean():
    done = injections(["dust", "dew"], [1])
    case = next(i.case for i in done if i.fault == "dust" and i.sensor == "rgb")
    found = summarize(done, [result(CONTROL), result(case)], [], EXPOSURE, drives={})
    assert [row["fault"] for row in found["faults"]] == ["dust"]
    assert found["false_alarms"]["alarms"] == {"count": 0, "per_hour": None, "upper_95": None}


def test_without_masks_that_are_scored_the_figures_are_empty_and_the_page_is_written(tmp_path):
    done = injections(["dust"], [1])
    results = [result(i.case, counts={}) for i in done]
    about = {"scored": False, "trained": True, "skipped": [], "seed": 0, "lasts_s": 5.0}
    found = summarize(
        done, results, [], EXPOSURE, drives={"d.mcap": "12"}, healthy={}, after_s=2.0,
        provenance="", weights_sha256="", **about,
    )  # fmt: skip
    assert found["figures"]["mce"]["ungated"]["ours"] is None
    page = severity_report.write(tmp_path, found).read_text()
    assert "Fault by fault" in page and not (tmp_path / "severities.png").exists()


def test_the_csv_has_a_line_for_each_severity(tmp_path):
    done = [i for i in injections(["mirrored"]) if i.sensor == "rgb"]
    results = [result(CONTROL), *(result(c) for c in {i.case.id: i.case for i in done}.values())]
    lines = severities.lines(done, results, {"mirrored": {"rgb": "held out"}})
    write_csv(tmp_path / "x.csv", severities.COLUMNS, lines)
    with (tmp_path / "x.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert sorted(line["severity"] for line in lines) == list("12345")
    assert {line["exposure"] for line in lines} == {"held out"}
    assert all(line["noticed_s"] == "" for line in lines), "not found is not 0"


def test_whose_fault_it_was_said_to_be_first_counts():
    case = injections(["dust"], [1])[0].case
    both = result(case, said={case.target: {"hazy": 0.4}, "lidar": {"noisy": 0.9}}, noticed_s=0.4)
    late = result(case, said={case.target: {"hazy": 1.4}, "lidar": {"noisy": 0.9}}, noticed_s=1.4)
    assert severities.right_sensor(both) and not severities.right_sensor(late)
    found = cell([both, late])
    assert (found["detected"], found["blamed"], found["right_sensor"]) == (2, 2, 1)


class Robot:
    """What `Watched` holds at the end of a drive."""

    def __init__(self, said, states, masks_at):
        self.said, self.states = said, states
        self.seen = [Seen(t, round(t * 1e9), frozenset({"rgb"}), frozenset()) for t in masks_at]
        self.segmenter = type("S", (), {"intake": type("I", (), {"jumps": 0})()})()


def test_what_is_noticed_told_and_recovered_is_in_seconds_of_the_fault():
    case = Case(
        0, "rgb", (Span("rgb:dust"),), finds=frozenset({Fault.HAZY}),
        within=Limit(seconds=2.0), begins_s=4.0, lasts_s=2.0, after_s=2.0,
    )  # fmt: skip
    robot = Robot(
        {"rgb": [(3.0, Fault.DIM), (4.5, Fault.LATE), (4.75, Fault.FLAT), (5.0, Fault.HAZY)]},
        {"rgb": [(0.0, State.LIVE), (4.75, State.DEGRADED), (6.5, State.LIVE)]},
        [4.0 + 0.1 * k + 0.02 for k in range(40)],
    )
    found = assess_case(case, robot, {"rgb": 10.0})
    assert found["said"] == {"rgb": {"flat": 0.75, "hazy": 1.0}}, "late is on the way, dim before"
    assert found["noticed_s"] == 0.75 and found["delay_s"] == 1.0 and found["named"] == "hazy"
    assert found["told_s"] == pytest.approx(0.82)
    assert found["recovery_s"] == 0.5
    robot.states["rgb"].pop()
    assert assess_case(case, robot, {"rgb": 10.0})["recovery_s"] is None
    robot.states["rgb"].pop()
    assert assess_case(case, robot, {"rgb": 10.0})["recovery_s"] == 0.0
