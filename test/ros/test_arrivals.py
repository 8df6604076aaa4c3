"""When a message came is the middleware's word, and our own backlog is nobody's fault but ours."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

pytest.importorskip("rclpy")

from hypothesis import example, given
from hypothesis import strategies as st
from rclpy.executors import SingleThreadedExecutor, TimeoutException
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo
from std_srvs.srv import Trigger

from robustseg_core import config
from robustseg_core.doctor.examine import admit
from robustseg_core.robot.config import RobotConfig
from robustseg_core.types import MS, SECOND, State
from robustseg_ros import optional
from robustseg_ros.arrivals import BEHIND_NS, Ear, SteadyTimes
from support import drives
from support.live_ear import Ear as Listener
from support.live_sensors import Sensors, parameter_file

ALL = set(drives.ALL)
EPOCH = drives.EPOCH


class Clocks:
    """A steady clock, and the system's beside it, which can be set."""

    def __init__(self) -> None:
        self.now_ns = 10**12
        self.offset_ns = EPOCH - self.now_ns

    def steady(self) -> int:
        return self.now_ns

    def system(self) -> int:
        return self.now_ns + self.offset_ns


class Desk:
    """An executor's stand-in: messages wait in queues of a middleware until a turn takes them."""

    def __init__(self, depth: int = 1000) -> None:
        self.clocks = Clocks()
        self.depth = depth
        self.queues: dict[str, list[tuple[int, int]]] = {}
        self.slow_ns = 0
        """What the next callback costs."""
        self.got: list[tuple[str, int, int, int]] = []
        """(stream, when it was sent, arrival told, time heard meanwhile)."""
        self.missed: list[tuple[str, int]] = []
        self.woken = 0
        self.ear = Ear(self._wake, clock_ns=self.clocks.steady, system_ns=self.clocks.system)
        self._ready: list[str] = []

    def send(self, stream: str) -> None:
        queue = self.queues.setdefault(stream, [])
        queue.append((self.clocks.now_ns, self.clocks.system()))
        del queue[: -self.depth]

    def wait_for_ready_callbacks(self, timeout_sec: float) -> Any:
        if not self._ready:
            self._ready = ["", *(name for name, queue in self.queues.items() if queue)]
            if len(self._ready) == 1:
                self.clocks.now_ns += round(timeout_sec * SECOND)
        if (name := self._ready.pop()) == "":
            raise TimeoutException
        return Handler(lambda: self._callback(name)), None, None

    def turn(self) -> None:
        self.ear.turn(self, 0.05)

    def _callback(self, name: str) -> None:
        sent_ns, received_ns = self.queues[name].pop(0)
        self.ear.take(
            name,
            {"received_timestamp": received_ns},
            lambda at_ns: self.got.append((name, sent_ns, at_ns, self.ear.heard_ns())),
            depth=self.depth,
            missed=lambda until_ns: self.missed.append((name, until_ns)),
        )
        self.clocks.now_ns += self.slow_ns
        self.slow_ns = 0

    def _wake(self) -> None:
        self.woken += 1


class Handler:
    """What rclpy calls a task."""

    def __init__(self, act: Callable[[], None]) -> None:
        self._act = act

    def __call__(self) -> None:
        self._act()

    def exception(self) -> None:
        return None


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["send", "turn", "wait", "slow", "set"]),
        st.sampled_from(["a", "b", "c"]),
        st.integers(0, 3 * SECOND),
    ),
    max_size=60,
)


@pytest.mark.slow
@given(STEPS)
@example([("send", "a", 0), ("wait", "a", 20 * MS), ("send", "b", 0)])  # before the first turn
def test_any_history_is_handed_on_in_order_and_time_never_goes_back(steps):
    desk = Desk()
    heard = [desk.ear.heard_ns()]
    sent = 0
    for what, stream, number in steps:
        if what == "send":
            sent += 1
            desk.send(stream)
            desk.clocks.now_ns += 1
        elif what == "turn":
            desk.turn()
        elif what == "wait":
            desk.clocks.now_ns += number
        elif what == "slow":
            desk.slow_ns = number
        else:
            desk.clocks.offset_ns += number - SECOND
        heard.append(desk.ear.heard_ns())
        assert heard[-1] <= desk.clocks.now_ns
    while any(desk.queues.values()):
        desk.turn()
    assert all(a <= b for a, b in pairwise(heard))
    assert len(desk.got) == sent
    for name in "abc":
        mine = [each for each in desk.got if each[0] == name]
        assert [m[1] for m in mine] == sorted(m[1] for m in mine)
        told = [m[2] for m in mine]
        assert told == sorted(told) and all(t <= desk.clocks.now_ns for t in told)
    if not any(what == "set" for what, _, _ in steps):
        assert all(abs(told - sent_ns) <= 1 for _, sent_ns, told, _ in desk.got)
        for (*_, early_ns, _), (*_, late_ns, _) in pairwise(desk.got):
            assert late_ns >= early_ns - BEHIND_NS  # a backlog is in order; what is fresh, nearly


def test_a_backlog_is_handed_on_in_order_before_time_goes_on():
    blocked = Desk(depth=3)
    blocked.turn()
    heard_ns = blocked.ear.heard_ns()
    for _ in range(20):  # two seconds in which nobody takes anything
        blocked.send("camera")
        blocked.clocks.now_ns += 10 * MS
        blocked.send("lidar")
        blocked.clocks.now_ns += 90 * MS
    assert blocked.ear.heard_ns() - heard_ns <= 20 * MS
    assert blocked.ear.nap_ns(heard_ns + SECOND) is None  # until woken
    blocked.turn()
    assert [name for name, *_ in blocked.got] == ["camera", "lidar"] * 3
    assert all(told == sent for _, sent, told, _ in blocked.got)
    assert all(at <= heard_ns + BEHIND_NS for *_, at in blocked.got)
    assert blocked.ear.heard_ns() == blocked.clocks.now_ns and blocked.woken
    # Of each queue, that had run over, it is told until when nothing is known.
    assert blocked.missed == [(name, sent) for name, sent, *_ in blocked.got[:2]]


def test_an_overload_without_end_lets_time_go_on():
    desk = Desk(depth=5)
    desk.turn()
    began_ns = desk.clocks.now_ns
    take = desk._callback

    def busy(name: str) -> None:  # every callback takes longer than the messages are apart
        take(name)
        for _ in range(3):
            desk.clocks.now_ns += 10 * MS
            desk.send(name)
        if desk.clocks.now_ns - began_ns > 3 * SECOND:
            desk.queues[name].clear()

    desk._callback = busy
    for _ in range(3):
        desk.send("camera")
        desk.clocks.now_ns += 30 * MS
    desk.turn()
    times = sorted({at for *_, at in desk.got})
    assert len(times) > 8 and max(b - a for a, b in pairwise(times)) < SECOND


@pytest.mark.parametrize(
    "told", [None, {}, {"received_timestamp": 0}, {"received_timestamp": None}]
)
def test_where_the_middleware_does_not_say_a_message_came_now(told):
    desk, got = Desk(), []
    desk.ear.take("a", told, got.append, depth=1, missed=got.append)
    assert got == [desk.clocks.now_ns]


@given(st.integers(-30 * SECOND, 30 * SECOND), st.integers(0, 2 * SECOND), st.booleans())
def test_a_system_clock_that_is_set_moves_no_arrival(step_ns, age_ns, before):
    """Whether the message came before it was set, or after; within the step, if that is small."""
    clocks = Clocks()
    times = SteadyTimes(clocks.steady, clocks.system)
    times.steady_ns(clocks.system(), clocks.now_ns)
    if not before:
        clocks.offset_ns += step_ns
    came_ns, received_ns = clocks.now_ns, clocks.system()
    if before:
        clocks.offset_ns += step_ns
    clocks.now_ns += age_ns
    found_ns = times.steady_ns(received_ns, clocks.now_ns)
    assert found_ns <= clocks.now_ns
    ambiguous = abs(step_ns) if abs(step_ns) <= max(age_ns, 5 * MS) else 0
    assert abs(found_ns - came_ns) <= ambiguous
    clocks.now_ns += 20 * SECOND
    times.steady_ns(clocks.system(), clocks.now_ns)
    assert times.steady_ns(clocks.system() - MS, clocks.now_ns) == clocks.now_ns - MS


def test_a_sensor_whose_messages_we_lost_is_not_silent_and_a_dead_one_is():
    robot = config.parse(
        RobotConfig,
        {"weights": "untrained", "streams": {n: {"topic": f"/{n}"} for n in ("rgb", "depth")}},
    )
    probe, _ = admit(robot)
    segmenter = probe.segmenter
    health = segmenter.intake._health
    for k in range(40):
        for name in ("rgb", "depth"):
            health.arrived(name, k * 50 * MS)
            health.accept(name, k * 50 * MS)
    segmenter.intake.missed("rgb", 4 * SECOND)
    states = {name: found.state for name, found in segmenter.health(3 * SECOND).items()}
    assert states == {"rgb": State.LIVE, "depth": State.DEAD}
    health.arrived("rgb", 4 * SECOND)
    assert segmenter.health(4 * SECOND + 100 * MS)["rgb"].state is State.LIVE
    assert segmenter.health(5 * SECOND)["rgb"].state is State.DEAD  # as soon as ever


@pytest.mark.ros
@pytest.mark.alone
@pytest.mark.parametrize("way", ["installed", "stand-in"])
def test_the_middleware_says_when_a_message_came(world, monkeypatch, way):
    """Compiled or serialized: both get the time at which it was received."""
    if way == "stand-in":
        monkeypatch.setattr(optional, "message_class", lambda msgtype: None)
    node = Node("listener", context=world.context)
    executor = SingleThreadedExecutor(context=world.context)
    executor.add_node(node)
    ear, got = Ear(lambda: None), []

    def heard(_message: Any, info: Any) -> None:
        ear.take("a", info, got.append, depth=10, missed=lambda until_ns: None)

    kind = "sensor_msgs/msg/CameraInfo"
    optional.subscribe(node, kind, "/info", heard, 10, informed=True)
    publisher = world.node.create_publisher(CameraInfo, "/info", 10)
    world.until(publisher.get_subscription_count, "a match")
    publisher.publish(CameraInfo())
    world.until(publisher.wait_for_all_acked, "its delivery")
    sent_ns = ear.heard_ns()
    while not got:
        executor.spin_once(timeout_sec=1.0)
    assert got[0] <= sent_ns < ear.heard_ns()
    executor.shutdown()
    node.destroy_node()


BLOCKED = """
import sys, time
from robustseg_ros.segment_node import SegmentNode, main
def block(self, _request, response):
    time.sleep(2.0)
    return response
SegmentNode._on_reset = block
sys.exit(main())
"""


@pytest.mark.ros
@pytest.mark.alone
def test_two_seconds_in_which_we_do_not_listen_are_no_sensors_fault(world, tmp_path):
    sensors = Sensors(world.node)
    ear = Listener(world, sensors)
    # Lenient beside what a starved machine does to the sensors, strict beside two seconds.
    file = parameter_file(tmp_path, health="{silence_min_s: 0.8}")
    words = ("--ros-args", "--params-file", str(file))
    node = world.start("-c", BLOCKED, *words)
    world.until(lambda: ear.used(ALL), "a mask made of all sensors")
    number = len(ear.heard)
    world.until(lambda: len(ear.heard) > number + 12, "the periods to be learned")
    world.until(lambda: ear.used(ALL, len(ear.heard) - 1), "all to be well")
    number, count = len(ear.heard), ear.diagnoses
    world.call(Trigger, "/robustseg/reset", Trigger.Request())  # the fault: it takes 2 s
    world.until(lambda: len(ear.heard) > number + 12, "masks after it")
    world.until(lambda: ear.diagnoses > count + 1, "diagnostics after it")
    for one in ear.heard[number:]:
        why = {word for words in one.row["reasons"].values() for word in words}
        assert not why & {"silent", "offset", "recovering", "out_of_order"}, one.row
        assert set(one.row["states"].values()) <= {"LIVE", "DEGRADED"}, one.row
    early = [set(one.row["used"]) for one in ear.heard[number : number + 4]]
    assert ALL in early, early  # no probation
    rejected = {
        pair.key: pair.value
        for status in ear.health.values()
        for pair in status.values
        if pair.key.startswith("rejected_")
    }
    assert not rejected, rejected
    sensors.silent.add("lidar")  # and one that really dies is found as ever
    world.until(
        lambda: "silent" in ear.heard[-1].row["reasons"].get("lidar", ""), "the dead one to be told"
    )
    assert node.end() == 0, node.output
    assert "one reset" not in node.output and "Traceback" not in node.output
