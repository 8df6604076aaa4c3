"""Many lives of one node in one process."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any, NamedTuple

import pytest

pytest.importorskip("rclpy")

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState

from support import drives
from support.live_ear import Ear
from support.live_sensors import Sensors, parameter_file

pytestmark = pytest.mark.ros

LIVES = int(os.environ.get("ROBUSTSEG_LIVES", "10"))
"""ROBUSTSEG_LIVES=100 for the whole of it."""
KB_PER_LIFE = 512
"""More than the middleware and the allocator keep of a life; a network's weights are 5 MB."""


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
    warm = min(3, LIVES // 2)  # what is made at the first use, and kept
    settled, last = said[warm], said[-1]
    assert max(one.threads for one in said[warm:]) == settled.threads, said
    assert max(one.files for one in said[warm:]) <= settled.files + 1, said  # one may be in passing
    lives = len(said) - 1 - warm
    assert last.resident_kb - settled.resident_kb <= KB_PER_LIFE * lives + 16 * 1024, said
