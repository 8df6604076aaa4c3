"""From stamp to publication: the parts of each mask add up, whatever the clocks are."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustseg_core.health.backlog import Load
from robustseg_core.output import messages
from robustseg_core.output.latency import OF_LATE, OLDEST_NS, PARTS, Latencies, parts
from robustseg_core.types import MS
from support.label_maps import a_map, a_spec

STAGES = ("queue", "decode", "encode", "infer")
SPANS = st.lists(st.integers(0, 10**9), min_size=6, max_size=6)


@given(SPANS, st.integers(0, 10**18), st.integers(-(10**12), 10**12))
def test_the_parts_of_a_mask_add_up_to_what_a_watch_at_both_ends_says(spans, came_ns, system_ns):
    """Two clocks: the steady one, and the stamps', which is `system_ns` ahead of it."""
    sensor_ns, *own, publish_ns = spans
    stages = dict(zip(STAGES, (ns / MS for ns in own), strict=True))
    mask = replace(
        a_map(),
        latency_ms={**stages, "total": 0.0},
        came_ns=came_ns,
        stamp_ns=came_ns + system_ns - sensor_ns,
    )
    done_ns = came_ns + sum(own) + publish_ns
    age_ns = done_ns + system_ns - mask.stamp_ns
    found = parts(mask, done_ns, age_ns)
    total = found.pop("total")
    assert sum(found.values()) == pytest.approx(total, abs=1e-6)
    assert total == pytest.approx(sum(spans) / MS, abs=1e-3)
    assert list(found) == list(PARTS)
    assert all(ms >= -1e-3 for ms in found.values())


def test_stamps_of_another_clock_say_nothing_of_the_sensor():
    mask = replace(a_map(), latency_ms=dict.fromkeys(STAGES, 1.0), came_ns=0)
    for age_ns in (None, OLDEST_NS + 1, -OLDEST_NS - 1):
        found = parts(mask, 7 * MS, age_ns)
        assert "sensor" not in found and found["total"] == pytest.approx(7.0)
    assert parts(replace(mask, came_ns=None), 7 * MS, 0) == {}


def test_percentiles_are_of_the_masks_of_late():
    kept = Latencies()
    for k in range(3 * OF_LATE):
        kept.add({"infer": float(k), "total": k + 1.0})
    found = kept.percentiles()
    assert found["p50"]["infer"] == 2 * OF_LATE + (OF_LATE - 1) / 2
    assert found["p99"]["total"] == pytest.approx(3 * OF_LATE, rel=0.02)
    assert "sensor" not in found["p50"]
    assert Latencies().percentiles() == {"p50": {}, "p95": {}, "p99": {}}


def test_a_status_says_all_of_it_and_reads_back():
    mask = replace(a_map(), latency_ms=dict.fromkeys((*STAGES, "total"), 2.0), came_ns=0)
    kept = Latencies()
    taken = parts(mask, 10 * MS, 12 * MS)
    kept.add(taken)
    load = Load(True, 5, {"rgb": 312.0, "lidar": 3.0}, 8.0, {"rgb": 0, "lidar": 2}, ("overlay",))
    account = messages.account(taken, kept.percentiles(), load)
    fields = messages.status(mask, a_spec(), more=account)
    row = messages.read_status(messages.to_rosbags("diagnostic_msgs/msg/DiagnosticArray", fields))
    latency = row["latency_ms"]
    assert latency["stamp_to_publish"] == pytest.approx(sum(latency[name] for name in PARTS))
    status = fields["status"][-1]
    values = {pair["key"]: pair["value"] for pair in status["values"]}
    assert (
        status["level"] == messages.WARN and "OVERLOADED: messages wait 312 ms" in status["message"]
    )
    assert values["overloaded"] == "true" and values["backlog_ms.rgb"] == "312.0"
    assert values["lost.lidar"] == "2" and values["shed"] == "overlay"
    assert float(values["p95_ms.infer"]) == 2.0 and "latency_ms.total" in values
