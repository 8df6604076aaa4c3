"""Many lives of one node in one process."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import pytest

pytest.importorskip("rclpy")

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState

from support import drives
from support.live_ear import Ear
from support.live_sensors import Sensors, parameter_file

pytestmark = [pytest.mark.ros, pytest.mark.alone]

LIVES = int(os.environ.get("ROBUSTSEG_LIVES", "20"))
"""ROBUSTSEG_LIVES=100 for the whole of it."""
KB_PER_LIFE = 2560
"""Half of a network's weights. The allocator gives and takes 20 MB between any two lives."""


class Holdings(NamedTuple):
    """What a process holds of the system."""

    threads: int
    files: int
    resident_kb: int


def holdings(pid: int) -> Holdings:
    process = Path("/proc") / str(pid)
    rows = dict(
        line.split(":", 1) for line in (process / "status").read_text().splitlines() if ":" in line
    )
    files = len(list((process / "fd").iterdir()))
    return Holdings(int(rows["Threads"]), files, int(rows["VmRSS"].split()[0]))


def change(world: Any, number: int) -> None:
    request = ChangeState.Request(transition=Transition(id=number))
    assert world.call(ChangeState, "/robustseg/change_state", request).success


@pytest.mark.slow
@pytest.mark.timeout(60 + 20 * LIVES)
def test_lives_leave_no_thread_no_file_and_no_memory_behind(world, tmp_path):
    """Configure, activate, a mask of all sensors, deactivate, cleanup; again and again."""
    ear = Ear(world, Sensors(world.node))
    file = parameter_file(tmp_path, weights="untrained", autostart="false")
    node = world.segment("--params-file", str(file))
    topics = [*drives.TOPICS.values(), "/tf_static", "/tf", "/camera_info"]
    before = {topic: world.node.count_subscribers(topic) for topic in topics}
    said: list[Holdings] = []
    for _ in range(LIVES):
        number = len(ear.heard)
        change(world, Transition.TRANSITION_CONFIGURE)
        change(world, Transition.TRANSITION_ACTIVATE)
        world.until(lambda n=number: ear.used(set(drives.ALL), n), "a mask of all sensors")
        change(world, Transition.TRANSITION_DEACTIVATE)
        for topic in topics:
            world.until(
                lambda t=topic: world.node.count_subscribers(t) == before[t], f"nobody on {topic}"
            )
        change(world, Transition.TRANSITION_CLEANUP)
        said.append(holdings(node.process.pid))
    assert node.end(signal.SIGTERM) == 0, node.output
    assert "Traceback" not in node.output and "ERROR" not in node.output, node.output
    quarter = LIVES // 4
    settled, last = said[quarter : 2 * quarter], said[-quarter:]  # the first makes what is kept
    assert max(one.threads for one in last) <= max(one.threads for one in settled), said
    assert max(one.files for one in last) <= max(one.files for one in settled) + 1, said
    grown = median(one.resident_kb for one in last) - median(one.resident_kb for one in settled)
    assert grown <= KB_PER_LIFE * (LIVES - 2 * quarter), said
