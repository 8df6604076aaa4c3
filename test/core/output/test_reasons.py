"""One silence is one reason, however long it lasts and however many masks are made meanwhile."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustseg_core.faults import parse_kill
from robustseg_core.output.reasons import (
    UNFIT,
    PauseLog,
    ReasonLog,
    Sentences,
    entries,
    faults,
    in_words,
)
from robustseg_core.recording.run import run_bags
from robustseg_core.types import Fault, Finding, Health, State
from support import drives

pytestmark = pytest.mark.slow


def silence(quiet_ms: float) -> Finding:
    text = f"nothing for {quiet_ms:.0f} ms, limit 150 ms"
    return Finding(Fault.SILENT, fatal=True, text=text, value=quiet_ms, limit=150.0, unit="ms")


def test_a_silence_is_told_once_with_its_newest_words_and_numbers():
    log = ReasonLog()
    for k in range(27):
        log.add(k / 10, {"rgb": (silence(200 + 100 * k),)})
    (told,) = json.loads(json.dumps(log.to_json()))
    assert told == {
        "modality": "rgb",
        "fault": "silent",
        "from_s": 0.0,
        "to_s": 2.6,
        "masks": 27,
        "text": "nothing for 2800 ms, limit 150 ms",
        "value": 2800.0,
        "limit": 150.0,
        "unit": "ms",
    }


def test_a_second_silence_is_another_one_and_each_row_finds_its_own():
    log, rows = ReasonLog(), []
    for k, quiet_ms in enumerate((200, 300, None, 400)):
        reasons = {} if quiet_ms is None else {"rgb": (silence(quiet_ms),)}
        log.add(float(k), reasons)
        rows.append({"at_s": float(k), "reasons": faults(reasons)})
    assert [(t["from_s"], t["to_s"], t["masks"]) for t in log.to_json()] == [
        (0.0, 1.0, 2),
        (3.0, 3.0, 1),
    ]
    said = [Sentences(log.to_json()).of(row).get("rgb") for row in rows]
    first, second = (f"silent: nothing for {ms} ms, limit 150 ms" for ms in (300, 400))
    assert said == [first, first, None, second]
    assert Sentences().of(rows[0]) == {"rgb": "silent"}, "without the account, the fault"


def test_two_findings_of_one_fault_are_one_and_the_stronger_one_is_told():
    log = ReasonLog()
    covered = tuple(
        Finding(Fault.COVERED, fatal=False, text=text) for text in ("half of it", "a corner")
    )
    log.add(0.0, {"rgb": (*covered, Finding(Fault.BURSTS, fatal=False, text="in bursts"))})
    told = {one["fault"]: (one["text"], one["masks"]) for one in log.to_json()}
    assert told == {"covered": ("half of it", 1), "bursts": ("in bursts", 1)}
    assert faults({"rgb": covered}) == {"rgb": ["covered"]}
    assert all("value" not in one and "unit" not in one for one in log.to_json())


@given(st.lists(st.sets(st.sampled_from(list(Fault)), max_size=3), max_size=30))
def test_every_fault_of_every_mask_is_in_exactly_one_entry(masks):
    log = ReasonLog()
    for k, found in enumerate(masks):
        log.add(float(k), {"rgb": tuple(Finding(fault, fatal=False) for fault in sorted(found))})
    told = log.to_json()
    counted = Counter(fault.value for found in masks for fault in found)
    summed: Counter[str] = Counter()
    for one in told:
        summed[one["fault"]] += one["masks"]
        assert one["to_s"] - one["from_s"] == one["masks"] - 1
    assert summed == counted
    for fault in counted:
        own = [one for one in told if one["fault"] == fault]
        assert all(b["from_s"] > a["to_s"] + 1 for a, b in pairwise(own)), "else it was one"


def test_a_pause_has_the_findings_of_when_most_was_wrong():
    log, live, dead = PauseLog(), Health(State.LIVE), Health(State.DEAD, (silence(900),))
    log.add(0, {"rgb": live, "lidar": live})
    log.add(2, {"rgb": live, "lidar": dead})
    log.add(2, {"rgb": Health(State.DEAD, (silence(500),)), "lidar": dead})
    log.add(2, {"rgb": dead, "lidar": dead})
    log.add(2, {"rgb": live, "lidar": live})
    log.add(9, {"rgb": live})
    why = log.why([1.5, 2.5])
    assert why == {
        0.0: {"rgb": (UNFIT,), "lidar": (UNFIT,)},
        2.5: {"rgb": (silence(500),), "lidar": (silence(900),)},
    }
    told = entries(why[2.5])
    assert [one["value"] for one in told] == [500, 900] and "from_s" not in told[0]
    assert in_words(told).startswith("rgb silent: nothing for 500 ms") and "; lidar" in in_words(
        told
    )
    log.add(2, {"rgb": dead, "lidar": dead}, newest=True)
    assert log.why([1.5, 2.5])[2.5]["rgb"] == (silence(900),)


def test_between_two_bursts_nobody_is_late():
    log, live = PauseLog(), Health(State.LIVE)
    bursts = {"rgb": Finding(Fault.BURSTS, fatal=False, text="20 messages at once every 1.0 s")}
    log.add(1, {"rgb": live, "lidar": Health(State.DEAD, (silence(900),))}, bursts=bursts)
    assert log.why([0.0]) == {0.0: {"rgb": (bursts["rgb"],), "lidar": (silence(900),)}}


def test_a_run_says_a_silence_once(tmp_path):
    drive = drives.write_drive(tmp_path / "bag", 3.0)
    kills = [parse_kill("rgb@1")]
    run_bags([drive], out=tmp_path / "out", overrides=["weights=untrained"], faults=kills)
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    silent = [row for row in result["masks"] if row["reasons"].get("rgb") == ["silent"]]
    (told,) = [one for one in result["reasons"] if one["fault"] == "silent"]
    assert told["modality"] == "rgb" and told["masks"] == len(silent) > 20
    assert told["value"] > 1500 and f"nothing for {told['value']:.0f} ms" in told["text"]
