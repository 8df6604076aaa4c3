"""The synchronizer filter in real time: in a thread, in an executor, and beside ROS's own."""

from __future__ import annotations

import importlib.util
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from support import ROOT

pytest.importorskip("rclpy")

from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo

from robustseg_core.sync.stamps import Admission
from robustseg_core.types import MS, SECOND
from robustseg_ros import optional
from robustseg_ros.filter import DeadlineSynchronizer, Subscriber

EPOCH = 1_700_000_000 * SECOND
PATIENCE_S = 30.0


class Source(optional.filter_base()):
    """A filter that a test speaks through."""


def message(stamp_ns: int) -> Any:
    stamp = SimpleNamespace(sec=stamp_ns // SECOND, nanosec=stamp_ns % SECOND)
    return SimpleNamespace(header=SimpleNamespace(stamp=stamp, frame_id=""))


def test_without_a_node_a_thread_keeps_the_deadline():
    source, silent = Source(), Source()
    came = threading.Event()
    synchronizer = DeadlineSynchronizer([source, silent], 10, 0.02)
    synchronizer.registerCallback(lambda a, b: came.set() if b is None else None)
    silent.signalMessage(message(EPOCH))
    source.signalMessage(message(EPOCH + 30 * MS))  # the other is alive, and does not follow
    assert came.wait(PATIENCE_S)
    synchronizer.close()
    assert not [t for t in threading.enumerate() if t.name == "deadline"]


@pytest.mark.ros
def test_over_dds_the_sets_go_on_when_a_topic_dies(world):
    """In the node's own executor: no thread, no race with other callbacks."""
    node = world.node
    subscribers = [Subscriber(node, CameraInfo, f"/{name}") for name in ("left", "right")]
    synchronizer = DeadlineSynchronizer(subscribers, 10, 0.02)
    sets: list[tuple[Any, Any]] = []
    threads: set[int] = set()
    synchronizer.registerCallback(lambda a, b: sets.append((a, b)))
    synchronizer.registerCallback(lambda a, b: threads.add(threading.get_ident()))
    publishers = [
        node.create_publisher(CameraInfo, f"/{n}", QoSProfile(depth=10)) for n in ("left", "right")
    ]
    alive = [True, True]

    def send() -> None:
        sent = CameraInfo()
        sent.header.stamp = node.get_clock().now().to_msg()
        for publisher, speaks in zip(publishers, alive, strict=True):
            if speaks:
                publisher.publish(sent)

    node.create_timer(0.05, send)
    world.until(lambda: sum(None not in sent for sent in sets) >= 5, "five full sets")
    alive[1] = False
    before = len(sets)
    world.until(
        lambda: sum(a is not None and b is None for a, b in sets[before:]) >= 10, "ten lonely sets"
    )
    alive[0], alive[1] = False, True  # and the reference dies, too
    before = len(sets)
    world.until(lambda: sum(a is None for a, _ in sets[before:]) >= 10, "sets of the other alone")
    assert threads == {threading.get_ident()} and not synchronizer.errors
    synchronizer.close()


@pytest.mark.ros
def test_over_dds_a_message_came_when_the_middleware_received_it(world):
    """Though nobody spun the node for a while, as an executor that is busy does not."""
    node = Node("busy", context=world.context)
    executor = SingleThreadedExecutor(context=world.context)
    executor.add_node(node)
    synchronizer = DeadlineSynchronizer([Subscriber(node, CameraInfo, "/left")], 10, 0.02)
    came: list[int] = []
    synchronizer._guard.admit = lambda message: came.append(message.arrival_ns) or Admission()
    publisher = world.node.create_publisher(CameraInfo, "/left", 10)
    world.until(publisher.get_subscription_count, "a match")
    sent = CameraInfo()
    sent.header.stamp.sec = 1
    publisher.publish(sent)
    world.until(publisher.wait_for_all_acked, "its delivery")
    delivered_ns = time.monotonic_ns()
    while not came:
        executor.spin_once(timeout_sec=1.0)
    assert came[0] <= delivered_ns < time.monotonic_ns()
    synchronizer.close()
    executor.shutdown()
    node.destroy_node()


def test_the_side_by_side_example_shows_the_difference(realdata):
    """With ROS's own synchronizer beside it, where message_filters is installed."""
    path = ROOT / "docs" / "examples" / "deadline_vs_approximate.py"
    spec = importlib.util.spec_from_file_location("deadline_vs_approximate", path)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    table = example.compare(*example.read(realdata / "collage_four_sensors"))
    column = {c.header: list(c.cells) for c in table.columns}
    passes = [float(cell) for cell in column["deadline"][-3:]]
    assert max(passes) - min(passes) <= 0.5 and min(passes) >= 29  # one set of two seconds
    assert float(column["deadline"][2]) >= 29  # after the LiDAR's death
    if example.ApproximateTimeSynchronizer:
        assert float(column["approximate"][2]) == 0.0
        assert float(column["approximate"][-2]) < 0.5 * float(column["approximate"][-3])
