"""When messages came, as the middleware saw it, and until when all that came has been heard.

An executor calls back when it is free. A callback of two seconds, or a computer that is too busy,
is *our* backlog: messages wait in the middleware's queues, and the time of their callbacks says
nothing about the sensors. So a message counts as arrived when the middleware received it, messages
of a backlog are handed on in the order in which they came, and silence, deadlines and diagnostics
are judged by `Ear.heard_ns`, which stands still while nobody listens.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from rclpy.executors import Executor, ShutdownException, TimeoutException

from robustseg_core.types import MS, SECOND

BEHIND_NS = 20 * MS
"""A message that waited for longer, or a callback that took longer, means a backlog."""
COLLECT_NS = SECOND // 4
"""A backlog is handed on after this, though more may wait: it may never end."""
STEP_NS = 5 * MS
"""The system clock was set, if it moved this much beside the steady one."""
STEP_HELD_NS = 10 * SECOND
"""Messages that were received before the clock was set are taken within this."""


class SteadyTimes:
    """Times of the system clock on the steady one; the offset is measured here, and nowhere else.

    Args:
        clock_ns: the steady clock.
        system_ns: the system's clock, which may be set at any time.
    """

    def __init__(self, clock_ns: Callable[[], int], system_ns: Callable[[], int]) -> None:
        self._clock_ns = clock_ns
        self._system_ns = system_ns
        self._offset_ns: int | None = None
        self._before_ns: int | None = None
        """The offset before the system clock was set."""
        self._set_ns = 0
        """When that was seen, on the steady clock."""

    def steady_ns(self, system_ns: int, now_ns: int) -> int:
        """The steady time of a moment of the past, `now_ns` at the latest.

        Of what the offset before and after a step of the system clock make of it, the later one
        that is not in the future is true.
        """
        self._measure(now_ns)
        offsets = (self._offset_ns, self._before_ns)
        times = [system_ns - offset_ns for offset_ns in offsets if offset_ns is not None]
        return max((each for each in times if each <= now_ns), default=now_ns)

    def _measure(self, now_ns: int) -> None:
        before_ns = self._clock_ns()
        system_ns = self._system_ns()
        offset_ns = system_ns - (before_ns + self._clock_ns()) // 2
        known_ns = self._offset_ns
        if known_ns is not None and abs(offset_ns - known_ns) > STEP_NS:
            self._before_ns, self._set_ns = known_ns, now_ns
        elif now_ns - self._set_ns > STEP_HELD_NS:
            self._before_ns = None
        self._offset_ns = offset_ns


class Arrivals:
    """When messages came, by stream; the times of a stream never go back.

    Args:
        clock_ns: the steady clock.
        system_ns: the clock of the middleware's time stamps.
    """

    def __init__(
        self,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        system_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._times = SteadyTimes(clock_ns, system_ns)
        self._last_ns: dict[str, int] = {}

    def arrival_ns(self, stream: str, info: Mapping[str, Any] | None, now_ns: int) -> int:
        """When a message came: as the middleware says, or now, where it does not.

        Args:
            stream: whose message it is.
            info: rclpy's `MessageInfo`; some middlewares leave `received_timestamp` out, or zero.
            now_ns: steady clock.
        """
        received_ns = (info or {}).get("received_timestamp") or 0
        arrival_ns = self._times.steady_ns(received_ns, now_ns) if received_ns > 0 else now_ns
        arrival_ns = max(arrival_ns, self._last_ns.get(stream, arrival_ns))
        self._last_ns[stream] = arrival_ns
        return arrival_ns

    def forget(self) -> None:
        """Streams begin anew."""
        self._last_ns.clear()


class _Waiting(NamedTuple):
    """A message of a backlog."""

    arrival_ns: int
    stream: str
    hand_on: Callable[[int], None]


class Ear:
    """Gives messages their time of arrival, and says until when everything has been heard.

    `turn` drives an executor; all else but `heard_ns` and `nap_ns` belongs to the executor's
    thread. An ear whose executor somebody else drives hands everything on at once.

    Args:
        wake: called when something came, or when time goes on for somebody who asked.
        clock_ns: the steady clock.
        system_ns: the clock of the middleware's time stamps.
    """

    def __init__(
        self,
        wake: Callable[[], None],
        *,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        system_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.wake = wake
        self._clock_ns = clock_ns
        self._arrivals = Arrivals(clock_ns, system_ns)
        self._waiting: list[_Waiting] = []
        self._lossy: dict[str, tuple[int, Callable[[int], None]]] = {}
        """Stream -> depth of its queue, and who is told of losses."""
        self._catching_up = False
        self._old = False
        """Whether a message that waited has been taken since the last look."""
        self._until_ns: int | None = None
        """Time goes no further than this; None: nobody drives us."""
        self._asked = False

    def begin(self) -> None:
        """Forget what was heard: subscriptions are new, or gone."""
        self._waiting.clear()
        self._arrivals.forget()
        self._lossy.clear()
        if self._until_ns is not None:
            self._until_ns = self._clock_ns()

    def heard_ns(self) -> int:
        """The steady time until when all that came has been handed on; it never goes back."""
        now_ns = self._clock_ns()
        return min(now_ns, self._until_ns or now_ns) if self._stands(now_ns) else now_ns

    def nap_ns(self, wake_ns: int | None) -> int | None:
        """How long to sleep until `wake_ns` will have been heard; None: until `wake` is called."""
        now_ns = self._clock_ns()
        return None if wake_ns is None or self._stands(now_ns) else max(wake_ns - now_ns, 0)

    def take(
        self,
        stream: str,
        info: Mapping[str, Any] | None,
        hand_on: Callable[[int], None],
        *,
        depth: int,
        missed: Callable[[int], None],
    ) -> None:
        """Call `hand_on` with the time of arrival: now, or when a backlog has been collected.

        Args:
            stream: whose message it is.
            info: rclpy's `MessageInfo`.
            hand_on: does what is to be done with the message.
            depth: of the subscription's queue; a backlog that fills it has lost messages.
            missed: told then until when they came.
        """
        now_ns = self._clock_ns()
        arrival_ns = self._arrivals.arrival_ns(stream, info, now_ns)
        old = now_ns - arrival_ns > BEHIND_NS
        self._old = self._old or old
        if self._until_ns is None or not (old or self._catching_up):
            hand_on(arrival_ns)
            return
        self._lossy[stream] = depth, missed
        self._waiting.append(_Waiting(arrival_ns, stream, hand_on))

    def turn(self, executor: Executor, timeout_s: float) -> None:
        """Serve one callback, waiting `timeout_s` for it at most; then work a backlog off, if any.

        Raises:
            ExternalShutdownException: the context has ended.
        """
        now_ns, self._old = self._clock_ns(), False
        first = self._until_ns is None  # then nobody knows for how long messages have waited
        if self._until_ns is None:
            self._until_ns = now_ns
        if not first and now_ns - self._until_ns <= BEHIND_NS:  # else the caller has kept us
            self._go_on(now_ns + round(timeout_s * SECOND) + BEHIND_NS)
            self._serve(executor, timeout_s)
        if first or self._old or self._clock_ns() - self._until_ns > BEHIND_NS:
            self._catching_up = True
            try:
                while self._serve(executor, 0):  # what was ready when the wait began
                    pass
                while not self._catch_up(executor):
                    pass
            finally:
                self._catching_up = False

    def _stands(self, now_ns: int) -> bool:
        """Whether time stands still; if so, the caller will be woken."""
        if self._until_ns is None or now_ns <= self._until_ns:
            return False
        self._asked = True  # before the second look: time may have gone on meanwhile
        return now_ns > self._until_ns

    def _serve(self, executor: Executor, timeout_s: float) -> bool:
        """Whether there was a callback to serve; time stands still meanwhile."""
        try:
            handler = executor.wait_for_ready_callbacks(timeout_sec=timeout_s)[0]
        except (TimeoutException, ShutdownException):
            handler = None
        now_ns = self._clock_ns()
        self._until_ns = now_ns if self._until_ns is None else min(self._until_ns, now_ns)
        if handler is None:
            return False
        handler()
        if (exception := handler.exception()) is not None:
            raise exception
        return True

    def _catch_up(self, executor: Executor) -> bool:
        """Collect what waits, hand it on in order; whether all of it has been heard now."""
        start_ns = self._clock_ns()
        while True:
            pass_ns, self._old = self._clock_ns(), False
            while self._serve(executor, 0):
                pass
            if not self._old:
                self._hand_on()
                self._go_on(pass_ns)
                return self._clock_ns() - pass_ns <= BEHIND_NS
            if self._clock_ns() - start_ns > COLLECT_NS:  # more comes than we can take
                self._go_on(self._hand_on())
                return False

    def _hand_on(self) -> int:
        """All that waits, in the order in which it came; when the last of it came."""
        waiting = sorted(self._waiting, key=lambda each: each.arrival_ns)
        self._waiting.clear()
        streams = [each.stream for each in waiting]
        for stream in dict.fromkeys(streams):
            depth, missed = self._lossy[stream]
            if streams.count(stream) >= depth:
                missed(waiting[streams.index(stream)].arrival_ns)
        for each in waiting:
            each.hand_on(each.arrival_ns)
        return waiting[-1].arrival_ns if waiting else 0

    def _go_on(self, until_ns: int) -> None:
        """Let time go on until then; it never goes back."""
        self._until_ns = max(self._until_ns or 0, until_ns)
        if self._asked:
            self._asked = False
            self.wake()
