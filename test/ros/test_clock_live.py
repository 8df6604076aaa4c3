"""Rows 15 and 16: what the node itself says of /clock, while its masks go on."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("rclpy")

from rclpy.time import Time
from rosgraph_msgs.msg import Clock

from robustseg_core.types import SECOND
from support.live_ear import Ear
from support.live_sensors import Sensors, parameter_file

pytestmark = [pytest.mark.ros, pytest.mark.alone]


class Simulator:
    """Publishes /clock on the world's executor; it can be paused, and set."""

    def __init__(self, node: Any) -> None:
        self.said_ns = 100 * SECOND
        self.paused = False
        self._publisher = node.create_publisher(Clock, "/clock", 10)
        node.create_timer(0.05, self._tick)

    def _tick(self) -> None:
        if not self.paused:
            self.said_ns += SECOND // 20
            self._publisher.publish(Clock(clock=Time(nanoseconds=self.said_ns).to_msg()))


def test_a_clock_that_is_missing_stops_or_goes_back_is_named_and_masks_go_on(world, tmp_path):
    sensors = Sensors(world.node)
    ear = Ear(world, sensors)
    file = parameter_file(tmp_path, use_sim_time="true", weights="untrained")
    node = world.segment("--params-file", str(file))

    def told(words: str) -> None:
        """The node says so with its way out, as a warning, and masks come while it does; nothing
        of /clock, where there are no words."""

        def found() -> bool:
            said = ear.health.get("robustseg: node")
            if said is None or not words:
                return said is not None and "/clock" not in said.message
            return words in said.message and ";" in said.message and said.level == b"\1"

        world.until(found, f"diagnostics that say {words!r}")
        number, count = len(ear.heard), ear.diagnoses
        world.until(lambda: len(ear.heard) > number + 2, "masks, which go on")
        world.until(lambda: ear.diagnoses > count, "diagnostics, which go on")

    told("nobody publishes /clock; masks come all the same")
    simulator = Simulator(world.node)
    told("")
    simulator.paused = True
    told("/clock stands still")
    simulator.paused = False
    told("")
    simulator.said_ns = 0
    told("/clock went back by")
    told("")
    assert node.end() == 0, node.output
    assert node.output.count("nobody publishes /clock") == 1  # once, not every second
    assert node.output.count("one reset") == 1
    assert "Traceback" not in node.output
