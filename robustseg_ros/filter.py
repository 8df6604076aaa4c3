"""The deadline synchronizer in the shape of `message_filters`: a dead input never stops the rest.

    synchronizer = DeadlineSynchronizer([image, depth, points], queue_size=10, slop=0.05)
    synchronizer.registerCallback(on_set)      # on_set(image, depth, points); None: not there

It stands where `ApproximateTimeSynchronizer(fs, queue_size, slop)` stood. That one waits for every
input, so one silent topic silences all, and after a bag loop it throws new messages away. Here the
first filter opens a set, which leaves when all living inputs are in it or at its deadline.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rclpy.node import Node
from rclpy.qos import QoSProfile

from robustseg_core import config
from robustseg_core.codecs.fields import header
from robustseg_core.config import HealthConfig, StreamConfig, SyncConfig
from robustseg_core.errors import RobustsegError
from robustseg_core.health.arrival import ArrivalMonitor
from robustseg_core.sync.stamps import Stamped, StampGuard
from robustseg_core.sync.synchronizer import Match, Synchronizer
from robustseg_core.types import MS, SECOND, Fault, Finding, Rejection
from robustseg_ros.alarm import alarm_for
from robustseg_ros.arrivals import Arrivals
from robustseg_ros.optional import MessageInfo, filter_base

if TYPE_CHECKING:
    from robustseg_ros.optional import SimpleFilter as _Filter
else:
    _Filter = filter_base()

log = logging.getLogger(__name__)

LOG_EVERY_NS = 5 * SECOND
SILENT = Finding(Fault.SILENT, fatal=True)
"""Why an input that is not waited for is not in a set."""
LEAST_SLOP_MS = 2.0
"""An input is waited for if its next stamp is predicted within the slop, or within this: periods
jitter. What comes is then held to the real slop."""


@dataclass(frozen=True, slots=True)
class Account:
    """What a set is made of; inputs are numbered as in `fs`."""

    stamp_ns: int
    """That of the input that opened it, or of the newest message in it."""
    opened_by: int | None
    """None: the inputs that open sets stayed away, and time did."""
    present: tuple[bool, ...]
    """Which arguments are not None."""
    absent: Mapping[int, Finding]
    """Why the others are None; `str` makes a line of it."""
    age_ms: Mapping[int, float]
    """How much older than `stamp_ns` each message is; negative: newer."""


class Subscriber(_Filter):
    """As `message_filters.Subscriber`; it also says when the middleware received each message.

    Args:
        node: the subscription's owner.
        kind: the message class.
        topic: its topic.
        qos: of the subscription.
    """

    def __init__(self, node: Node, kind: type, topic: str, qos: QoSProfile | int = 10) -> None:
        super().__init__()
        self.node = node
        self.sub = node.create_subscription(kind, topic, self._heard, qos)

    def _heard(self, message: Any, info: MessageInfo) -> None:
        self.signalMessage(message, info)


class DeadlineSynchronizer(_Filter):
    """Calls back with one argument per input, on time, `None` where an input has nothing.

    Sets come at the rate of the first filter in `fs`; when it dies, whenever the others have
    brought something new, and not more often. Messages of a set are at most `slop` apart (unless
    `hold` allows older ones); one message may be in several sets. A stamp that jumps alone is
    refused; when all go back (a bag loop) one reset follows, which costs no message.

    Callbacks are called one set after the other, in the thread that brought the last message or in
    the node's executor; no lock is held meanwhile, so they may block or feed filters. What they
    raise is counted in `errors` and logged, and the next set comes all the same.

    Args:
        fs: filters; anything with `registerCallback`, such as `message_filters.Subscriber`. With
            `Subscriber` of this module a message counts as arrived when the middleware received it,
            however long the executor was busy; else when the filter is called.
        queue_size: messages kept per input.
        slop: seconds between messages that count as simultaneous.
        allow_headerless: stamp messages that have no header when they arrive, instead of refusing.
        deadline: longest wait of a set in seconds, as `sync.deadline_ms` of the node; default: the
            same as there. The rule is the synchronizer's.
        hold: seconds that an older message may be used again, of an input slower than the first.
        node: whose executor calls back when a deadline passes; default: that of the first filter
            that has one, else a thread of our own does.
        clock_ns: for tests and replays: then nothing runs by itself, and `poll` is to be called
            when `wake_ns` says; default: the steady clock.

    Raises:
        RobustsegError: no filters, or a number out of its range.
    """

    def __init__(
        self,
        fs: Sequence[Any],
        queue_size: int,
        slop: float,
        allow_headerless: bool = False,  # noqa: FBT001, FBT002  # as in message_filters
        *,
        deadline: float | None = None,
        hold: float = 0.0,
        node: Any = None,
        clock_ns: Callable[[], int] | None = None,
    ) -> None:
        super().__init__()
        if not fs or slop < 0 or hold < 0:
            raise RobustsegError(
                f"{len(fs)} filters, slop {slop} s, hold {hold} s; "
                "give at least one filter and no negative times"
            )
        self._names = [f"{number:03d}" for number in range(len(fs))]  # sorted as numbered
        self.rejected: Counter[Fault] = Counter()
        """Messages that were refused."""
        self.errors = 0
        """Exceptions that callbacks raised."""
        self.resets = 0
        """Clock jumps and bag loops."""
        self.account: Account | None = None
        """Of the set that is being delivered, or of the last one."""
        self._slop_ns = round(slop * SECOND)
        self._held = hold > slop
        self._headerless = allow_headerless
        self._clock_ns = clock_ns or time.monotonic_ns
        self._arrivals = Arrivals(self._clock_ns)
        self._node = node or next((n for f in fs if (n := getattr(f, "node", None))), None)
        slop_ms = max(slop * 1e3, LEAST_SLOP_MS)
        stream = {"slop_ms": slop_ms, "max_age_ms": max(slop_ms, hold * 1e3)}
        streams = {name: config.parse(StreamConfig, stream, where="slop") for name in self._names}
        rules = config.parse(
            SyncConfig,
            {
                **({} if deadline is None else {"deadline_ms": deadline * 1e3}),
                "reference": tuple(self._names),
                "ring": max(2, queue_size),
            },
            where="synchronizer",
        )
        self._sync: Synchronizer[Any] = Synchronizer(rules, streams)
        self._guard: StampGuard[Any] = StampGuard(rules, dict.fromkeys(self._names, 0.0))
        self._arrival = {name: ArrivalMonitor(HealthConfig(), 0.0) for name in self._names}
        self._lock = threading.Lock()
        self._ready: deque[tuple[tuple[Any, ...], Account]] = deque()
        self._delivering = threading.Lock()
        """Tried, never waited for: whoever delivers takes along what others have brought."""
        self._logged_ns: int | None = None
        self._alarm = alarm_for(self._node, self.poll) if clock_ns is None else None
        self.input_connections = [f.registerCallback(self.add, n) for n, f in enumerate(fs)]

    def add(self, message: Any, *told: Any) -> None:
        """Take a message; filters in `fs` call this.

        Args:
            message: of any type with a header.
            told: the input's number; before it rclpy's `MessageInfo`, if the filter has it.
        """
        name, info = self._names[told[-1]], told[0] if len(told) > 1 else None
        now_ns = self._arrivals.arrival_ns(name, info, self._clock_ns())
        stamp_ns = self._stamp_ns(message)
        if stamp_ns is None:
            return
        with self._lock:
            self._arrival[name].arrived(now_ns)
            admission = self._guard.admit(Stamped(name, stamp_ns, now_ns, message))
            self.rejected.update(finding.fault for _, finding in admission.rejected)
            if admission.jump_ns is not None:
                self.resets += 1
                self._sync.reset()
            for accepted in admission.accepted:
                self._sync.push(accepted)
        self.poll()

    def poll(self) -> None:
        """Deliver what is due by now."""
        now_ns = self._clock_ns()
        with self._lock:
            while (match := self._sync.poll(now_ns, self._alive(now_ns))) is not None:
                self._ready.append(self._set(match))
            wake_ns = self._sync.wake_ns(now_ns, self._alive(now_ns))
        if self._alarm is not None:
            self._alarm.ring_in(None if wake_ns is None else wake_ns - now_ns)
        while self._ready and self._delivering.acquire(blocking=False):
            try:
                self._deliver()
            finally:
                self._delivering.release()

    def wake_ns(self) -> int | None:
        """When `poll` wants to be called if no message comes before; None: no need."""
        now_ns = self._clock_ns()
        with self._lock:
            return self._sync.wake_ns(now_ns, self._alive(now_ns))

    def close(self) -> None:
        """Stop the timer or the thread; messages that still come are synchronized as they come."""
        if self._alarm is not None:
            self._alarm.close()
            self._alarm = None

    def _alive(self, now_ns: int) -> list[str]:
        """Inputs that have spoken, and are not silent for three periods, or a second."""
        return [
            name
            for name, arrival in self._arrival.items()
            if arrival.last_ns is not None and arrival.silent_ns(now_ns) is None
        ]

    def _set(self, match: Match[Any]) -> tuple[tuple[Any, ...], Account]:
        """The arguments of a callback, and the account of them."""
        found = {name: items[-1] for name, items in match.items.items()}
        absent = dict(match.absent)
        while not self._held and found and _spread_ns(found.values()) > self._slop_ns:
            # Both within slop of the reference, on either side of it: the farther one goes.
            farthest = max(found, key=lambda name: abs(found[name].stamp_ns - match.stamp_ns))
            apart_ms = _spread_ns(found.values()) / MS
            absent[farthest] = self._apart(apart_ms)
            del found[farthest]
        messages = tuple(found[n].payload if n in found else None for n in self._names)
        account = Account(
            stamp_ns=match.stamp_ns,
            opened_by=None if match.opened_by is None else int(match.opened_by),
            present=tuple(name in found for name in self._names),
            absent={
                int(name): absent.get(name, SILENT) for name in self._names if name not in found
            },
            age_ms={int(n): (match.stamp_ns - m.stamp_ns) / MS for n, m in found.items()},
        )
        return messages, account

    def _apart(self, apart_ms: float) -> Finding:
        """Why a message that the reference would match is left out of a set."""
        slop_ms = self._slop_ns / MS
        text = f"{apart_ms:.1f} ms from another, slop {slop_ms:g} ms"
        return Finding(
            Fault.LATE, fatal=False, text=text, score=1.0, value=apart_ms, limit=slop_ms, unit="ms"
        )

    def _deliver(self) -> None:
        """All that is ready, in order."""
        while self._ready:
            messages, self.account = self._ready.popleft()
            for callback, arguments in list(self.callbacks.values()):
                try:
                    callback(*messages, *arguments)
                except Exception:
                    self.errors += 1
                    self._complain(f"a callback failed ({self.errors} times)", trace=True)

    def _stamp_ns(self, message: Any) -> int | None:
        try:
            return header(message)[0]
        except Rejection as rejection:
            if self._headerless:
                clock = None if self._node is None else self._node.get_clock()
                return time.time_ns() if clock is None else int(clock.now().nanoseconds)
            self.rejected[Fault.FORMAT] += 1
            self._complain(f"{rejection}; or set allow_headerless", trace=False)
            return None

    def _complain(self, text: str, *, trace: bool) -> None:
        """To the log, not more than once in five seconds."""
        now_ns = self._clock_ns()
        if self._logged_ns is None or now_ns - self._logged_ns >= LOG_EVERY_NS:
            self._logged_ns = now_ns
            log.error(text, exc_info=trace)


def _spread_ns(messages: Any) -> int:
    stamps: list[int] = [message.stamp_ns for message in messages]
    return max(stamps) - min(stamps)
