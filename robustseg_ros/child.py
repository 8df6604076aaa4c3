"""Programs that this process starts beside itself: until one is there, and until it is quiet."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

import rclpy
from rclpy.node import Node

from robustseg_core.errors import RobustsegError

START_S = 300.0
"""A node may take so long to load its network, and to publish and subscribe, on a slow machine: its
first start compiles bytecode, and 120 s were not enough on two cores that eight programs shared."""
QUIET_S = 1.5
"""A run is over when the player is gone and no mask came for so long."""


def wait_until(
    ready: Callable[[], bool],
    listener: Node,
    node: subprocess.Popen[bytes],
    *,
    late: str,
    see: str = "",
) -> None:
    """Listen until a node that was started is `ready`.

    Args:
        ready: whether it is.
        listener: who listens meanwhile.
        node: its process.
        late: what is said if it is not within `START_S`, but lives.
        see: where more stands, behind any complaint.

    Raises:
        RobustsegError: it is not, or has ended.
    """
    end_s = time.monotonic() + START_S
    while not ready():
        rclpy.spin_once(listener, timeout_sec=0.1)
        if node.poll() is not None:
            raise RobustsegError(f"the node ended with exit code {node.returncode}{see}")
        if time.monotonic() > end_s:
            raise RobustsegError(f"within {START_S:g} s the node {late}{see}")
