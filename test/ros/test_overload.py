"""Row 51, over DDS: a node that is fed faster than it can think says so, and blames no sensor."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

pytest.importorskip("rclpy")

from robustseg_core.output.latency import PARTS
from robustseg_core.output.messages import OK, WARN
from support import drives
from support.live_ear import Ear
from support.live_sensors import Sensors, parameter_file

pytestmark = [pytest.mark.ros, pytest.mark.alone]
ALL = set(drives.ALL)
HEAVY = """
import sys, time
from pathlib import Path
from robustseg_core.engines.blank import blank
from robustseg_core.models.checkpoint import default_spec
from robustseg_core.rig import Rig
from robustseg_ros.segment_node import main
heavy = Path(sys.argv.pop(1))
spec = default_spec(size=(64, 64))
think = blank(spec)
def slowly(bundle):
    if heavy.exists():
        time.sleep(0.45)
    return think(bundle)
Rig.from_config = classmethod(lambda cls, config: cls(config, spec, slowly))
sys.exit(main())
"""
"""The load: images come every 200 ms, and the network takes twice as long as that."""


def test_a_node_fed_faster_than_it_can_think_says_so_and_blames_no_sensor(world, tmp_path):
    sensors = Sensors(world.node)
    ear = Ear(world, sensors)
    heavy = tmp_path / "heavy"
    # Lenient beside what a starved machine does to the sensors.
    file = parameter_file(tmp_path, health="{silence_min_s: 0.8}", weights="untrained")
    node = world.start("-c", HEAVY, str(heavy), "--ros-args", "--params-file", str(file))
    world.until(lambda: ear.used(ALL), "a mask made of all sensors")
    number = len(ear.heard)
    world.until(lambda: len(ear.heard) > number + 15, "the periods to be learned")

    def told() -> Any:
        return ear.health.get("robustseg: node")

    def values(of: Any) -> dict[str, str]:
        return {pair.key: pair.value for pair in of.values}

    world.until(lambda: told() and "OVERLOADED" not in told().message, "a node that keeps up")
    began, ticks = len(ear.heard), sensors.ticks
    heavy.touch()
    world.until(lambda: "OVERLOADED" in told().message, "diagnostics that name the overload")
    assert sensors.ticks - ticks <= 4 / 0.025  # 2 s, diagnostics once a second, a starved machine
    said = told()
    assert said.level in (bytes([WARN]), bytes([WARN + 1])) and "use a smaller" in said.message
    assert float(values(said)["backlog_ms.rgb"]) >= 300 and values(said)["overloaded"] == "true"
    busy = len(ear.heard)
    world.until(lambda: len(ear.heard) > busy + 8, "masks, which go on")
    rows = [one.row for one in ear.heard[began:]]
    stamps = [row["stamp_ns"] for row in rows]
    assert all(earlier < later for earlier, later in pairwise(stamps))
    for row in rows:
        why = {word for words in row["reasons"].values() for word in words}
        assert not why & {"late", "silent", "slow", "lossy", "offset", "recovering"}, row
        assert set(row["states"].values()) <= {"LIVE", "DEGRADED"}, row
    assert sum(set(row["used"]) == ALL for row in rows) >= 0.7 * len(rows)
    # Latest only: what a mask is of came after the mask before it was begun.
    ages = [one.tick - one.camera for one in ear.heard[busy:]]
    assert sorted(ages)[len(ages) // 2] <= (0.45 + 0.2) / 0.025, ages

    heavy.unlink()
    ticks = sensors.ticks
    world.until(lambda: "OVERLOADED" not in told().message, "relief to be told")
    assert sensors.ticks - ticks <= 5 / 0.025
    assert values(told())["overloaded"] == "false"
    count = ear.diagnoses
    world.until(lambda: ear.diagnoses > count + 1, "diagnostics after it")
    states = {n: ear.health[f"robustseg: {n}"] for n in ALL}
    assert all(status.level == bytes([OK]) for status in states.values()), states
    assert not any(key.startswith("rejected_") for s in states.values() for key in values(s))
    latency = ear.heard[-1].row["latency_ms"]
    assert sum(latency[part] for part in PARTS) == pytest.approx(latency["stamp_to_publish"], abs=1)
    assert node.end() == 0, node.output
    assert node.output.count("OVERLOADED") == 1 and "Traceback" not in node.output
