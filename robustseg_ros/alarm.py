"""An alarm that rings once at a time that keeps changing: in a node's executor, or in a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from rclpy.clock import Clock
from rclpy.node import Node

from robustseg_core.types import SECOND
from robustseg_ros.rclpy_names import ClockType


class Alarm(Protocol):
    """Calls back once per setting; the newest setting counts."""

    def ring_in(self, wait_ns: int | None) -> None:
        """Ring after so long, from now; None: not at all."""

    def close(self) -> None:
        """Never ring again."""


def alarm_for(node: Node | None, ring: Callable[[], None]) -> Alarm:
    """An alarm in the executor that spins `node`, or in a thread of its own where there is none."""
    return ThreadAlarm(ring) if node is None else NodeAlarm(node, ring)


class NodeAlarm:
    """One timer on the steady clock, which goes on while /clock stands still."""

    def __init__(self, node: Node, ring: Callable[[], None]) -> None:
        self._node = node
        self._ring = ring
        self._timer: Any = node.create_timer(
            3600.0, self._on_time, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )
        self._timer.cancel()

    def ring_in(self, wait_ns: int | None) -> None:
        """See `Alarm`."""
        timer = self._timer
        if timer is None:
            return
        if wait_ns is None:
            timer.cancel()
        else:
            timer.timer_period_ns = max(wait_ns, 1)
            timer.reset()  # counts from now, and wakes an executor that waits

    def close(self) -> None:
        """See `Alarm`."""
        timer, self._timer = self._timer, None
        if timer is not None:
            self._node.destroy_timer(timer)

    def _on_time(self) -> None:
        if self._timer is not None:
            self._timer.cancel()  # once; `ring` sets the next
        self._ring()


class ThreadAlarm:
    """A daemon thread that sleeps until it is needed."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._changed = threading.Condition()
        self._due_ns: int | None = None
        self._open = True
        self._thread = threading.Thread(target=self._run, name="deadline", daemon=True)
        self._thread.start()

    def ring_in(self, wait_ns: int | None) -> None:
        """See `Alarm`."""
        with self._changed:
            self._due_ns = None if wait_ns is None else time.monotonic_ns() + wait_ns
            self._changed.notify()

    def close(self) -> None:
        """See `Alarm`."""
        with self._changed:
            self._open = False
            self._changed.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while self._open and (left_ns := self._left_ns()) != 0:
                    self._changed.wait(None if left_ns is None else left_ns / SECOND)
                if not self._open:
                    return
                self._due_ns = None
            self._ring()

    def _left_ns(self) -> int | None:
        return None if self._due_ns is None else max(self._due_ns - time.monotonic_ns(), 0)
