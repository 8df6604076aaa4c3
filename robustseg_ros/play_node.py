"""Plays recordings onto topics, in real time, through real DDS: sensors for those who have none.

    play_node drive.mcap --kill rgb@0.8+0.6 --kill lidar@1.2

`--clock` publishes /clock, the recording's own time, for nodes with use_sim_time. Messages of ROS 2
bags pass as the bytes that were recorded. A killed sensor is one that is not
published for a while. Topics are reliable, which also suits best-effort subscribers, and keep many
small messages (events) or few large ones; `/tf_static` is latched and sent before all else.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import rclpy
from rclpy.duration import Duration
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.time import Time
from rosgraph_msgs.msg import Clock

from robustseg_core.bag import Bag, Recorded
from robustseg_core.cli.options import FAULT, KILL, faults_of
from robustseg_core.errors import RobustsegError, did_you_mean
from robustseg_core.recording.axis import on_one_axis
from robustseg_core.recording.guess import Candidate, rank
from robustseg_core.recording.inject import FaultyBag
from robustseg_core.robot.topics import TF_STATIC
from robustseg_core.types import SECOND, Rejection
from robustseg_ros import optional
from robustseg_ros.restamp import restamp
from robustseg_ros.running import command_line, leave, run

BULKY = (
    "sensor_msgs/msg/Image",
    "sensor_msgs/msg/CompressedImage",
    "sensor_msgs/msg/PointCloud2",
)
DEPTH_BULKY, DEPTH, DEPTH_CLOCK = 10, 400, 10
CLOCK, CLOCK_HZ = "/clock", 40.0
SETTLE_S = 0.25
"""A subscriber may learn of us this much later than we of it; DDS does not say when it has."""
CALM_S = 3.0
"""Whoever listens to a sensor subscribes to all that it wants at once, and to nothing later."""
CHECK_S = 0.05
"""How often a pause looks whether somebody has ended us."""


class ClockSpeaker:
    """/clock: from `start` on it goes at a speed, whenever somebody gives it the time to speak.

    Args:
        node: the publisher's owner.
        rate_hz: of its messages.
    """

    def __init__(self, node: Node, rate_hz: float) -> None:
        self._publisher = node.create_publisher(Clock, CLOCK, DEPTH_CLOCK)
        self._every_s = 1 / rate_hz
        self._begin: tuple[float, int, float] | None = None
        self._next_s = 0.0

    def start(self, time_ns: int, speed: float) -> None:
        """It is `time_ns` now."""
        self._begin = time.monotonic(), time_ns, speed
        self._next_s = 0.0

    def speak(self) -> float:
        """Say what time it is, if it is time to; seconds until the next time."""
        if self._begin is None:
            return self._every_s
        now_s = time.monotonic()
        begin_s, time_ns, speed = self._begin
        if now_s >= self._next_s:
            said_ns = time_ns + round((now_s - begin_s) * speed * SECOND)
            self._publisher.publish(Clock(clock=Time(nanoseconds=said_ns).to_msg()))
            self._next_s = now_s + self._every_s
        return self._next_s - now_s


class PlayNode(Node):
    """One pass (or several) through the bags that the command line names.

    Raises:
        RobustsegError: no such bag, topic or modality, or an option that makes no sense.
    """

    def __init__(self, words: Sequence[str]) -> None:
        options = _options(words)
        super().__init__("play")
        self._bag = Bag(options.bags)
        self._bag.__enter__()
        self._rate = options.rate
        self._loops = options.loop
        self._wait_s = options.wait
        self._restamp = options.restamp
        self._clock_speaker = ClockSpeaker(self, options.clock) if options.clock else None
        modalities = guess(self._bag)
        known = {t.name for t in self._bag.topics}
        chosen = {_topic(word, modalities, known) for word in options.only or known}
        faults = faults_of(options.kill, options.fault)
        self._source = (
            FaultyBag(self._bag, faults, seed=options.seed, topics=modalities)
            if faults
            else self._bag
        )
        self._stop = threading.Event()
        self._sinks: dict[str, optional.Publisher] = {}
        for topic in self._bag.topics:
            ours = topic.name == CLOCK and self._clock_speaker is not None  # two would quarrel
            if topic.name in chosen and topic.count and topic.name not in self._sinks and not ours:
                self._advertise(topic.name, topic.type)
        if not self._sinks:
            raise RobustsegError(f"nothing to play: {sorted(chosen)} cannot be published")
        self._sensors = set(modalities.values()) & set(self._sinks) or set(self._sinks)

    def work(self) -> None:
        """Wait for subscribers, then play; returns when everything has been sent."""
        self._await_subscribers()
        count, late_s, start_s = 0, 0.0, time.monotonic()
        loop = 0
        while loop < self._loops or self._loops == 0:
            passed, behind_s = self._play()
            count, late_s, loop = count + passed, max(late_s, behind_s), loop + 1
        took_s = time.monotonic() - start_s
        for publisher in self._sinks.values():
            publisher.rcl.wait_for_all_acked(Duration(seconds=2))
        self._sleep(SETTLE_S)
        self.get_logger().info(
            f"played {count} messages in {took_s:.2f} s, at most {late_s * 1000:.0f} ms late"
        )

    def close(self) -> None:
        """Close the bag."""
        self._stop.set()
        self._bag.__exit__()

    def _advertise(self, name: str, kind: str) -> None:
        qos = QoSProfile(depth=DEPTH_BULKY if kind in BULKY else DEPTH)
        if name == TF_STATIC:
            qos.durability = DurabilityPolicy.TRANSIENT_LOCAL
        try:
            self._sinks[name] = optional.publisher(self, kind, name, qos)
        except RobustsegError as error:
            self.get_logger().warning(f"{name} is not played: {error}")

    def _await_subscribers(self) -> None:
        """Until all is heard, or a sensor is and no more becomes so: few robots want labels."""
        end_s, since_s, before = time.monotonic() + self._wait_s, 0.0, len(self._sinks)
        while alone := [
            name for name, p in self._sinks.items() if not p.rcl.get_subscription_count()
        ]:
            now_s = time.monotonic()
            if len(alone) != before:
                before, since_s = len(alone), now_s
            calm = now_s - since_s >= CALM_S and not self._sensors <= set(alone)
            if calm or now_s >= end_s:
                self.get_logger().warning(f"nobody listens to {', '.join(alone)}; playing anyway")
                break
            self._sleep(CHECK_S)
        self._sleep(SETTLE_S)
        self.get_logger().info(f"playing {len(self._sinks)} topics")

    def _play(self) -> tuple[int, float]:
        """One pass: messages sent, and the largest delay in seconds."""
        start_s, count, late_s = time.monotonic(), 0, 0.0
        shift_ns = time.time_ns() - self._bag.start_ns
        if self._clock_speaker is not None:
            begin_ns = self._bag.start_ns + (shift_ns if self._restamp else 0)
            self._clock_speaker.start(begin_ns, self._rate)
        for elapsed_s, recorded in self._timeline():
            due_s = start_s + elapsed_s / self._rate
            self._sleep(due_s - time.monotonic())
            late_s = max(late_s, time.monotonic() - due_s)
            count += self._send(recorded, shift_ns)
        return count, late_s

    def _timeline(self) -> Iterator[tuple[float, Recorded]]:
        """(seconds since the start, message); static transforms first, and the next bag at once."""
        yield from ((0.0, r) for r in self._source.messages({TF_STATIC} & set(self._sinks)))
        sent = self._source.messages(set(self._sinks) - {TF_STATIC})
        for time_ns, recorded in on_one_axis(sent, self._bag.spans):
            yield (time_ns - self._bag.start_ns) / SECOND, recorded

    def _send(self, recorded: Recorded, shift_ns: int) -> int:
        publisher = self._sinks[recorded.topic]
        try:
            raw = recorded.raw if recorded.codec.native else publisher.serialize(recorded.message())
        except (Rejection, AttributeError) as error:  # damaged, or of an older definition
            self.get_logger().warning(
                f"{recorded.topic}: {error}; not played", throttle_duration_sec=5.0
            )
            return 0
        if self._restamp:
            raw = restamp(raw, recorded.type, shift_ns)
        publisher.publish(raw)
        return 1

    def _sleep(self, seconds: float) -> None:
        """Until then, or until somebody ends us: SIGTERM raises nothing by itself."""
        end_s = time.monotonic() + seconds
        while True:
            if not rclpy.ok() or self._stop.is_set():
                raise ExternalShutdownException
            pause_s = CHECK_S if self._clock_speaker is None else self._clock_speaker.speak()
            left_s = end_s - time.monotonic()
            if left_s <= 0:
                return
            self._stop.wait(min(left_s, CHECK_S, max(pause_s, 0.0)))


def guess(bag: Bag) -> dict[str, str]:
    """modality -> the topic that is most likely it, by type and name alone."""
    candidates = [Candidate(t.name, t.type, t.count) for t in bag.topics]
    return {modality: topics[0] for modality, topics in rank(candidates).items()}


def _topic(word: str, modalities: dict[str, str], known: set[str]) -> str:
    """The topic that a word on the command line means."""
    topic = modalities.get(word, word)
    if topic not in known:
        way_out = did_you_mean(word, [*modalities, *known])
        raise RobustsegError(f"the recording has no topic or modality {word!r}; {way_out}")
    return topic


def _options(words: Sequence[str]) -> argparse.Namespace:
    parser = command_line("play_node", __doc__)
    parser.add_argument("bags", nargs="+", type=Path, metavar="BAG")
    parser.add_argument(
        "--only", nargs="+", metavar="TOPIC", help="topics or modalities; default: all"
    )
    KILL.add_to(parser)
    FAULT.add_to(parser)
    parser.add_argument("--seed", type=int, default=0, help="of the faults; default 0")
    parser.add_argument("--rate", type=float, default=1.0, help="speed; default 1")
    parser.add_argument(
        "--clock",
        type=float,
        nargs="?",
        const=CLOCK_HZ,
        metavar="HZ",
        help=f"publish /clock so often, for nodes with use_sim_time; HZ {CLOCK_HZ:g} if not given",
    )
    parser.add_argument("--loop", type=int, default=1, help="passes; 0: until stopped")
    parser.add_argument("--restamp", action="store_true", help="shift header stamps to now")
    parser.add_argument(
        "--wait", type=float, default=5.0, help="longest wait for subscribers, s; default 5"
    )
    options = parser.parse_args(words)
    if not 0 < options.rate < float("inf"):
        raise RobustsegError(f"--rate is {options.rate:g}; give a positive speed, e.g. 0.5")
    if options.clock is not None and not 0 < options.clock <= 1000:
        raise RobustsegError(f"--clock is {options.clock:g}; give a rate up to 1000 Hz, e.g. 40")
    if options.loop < 0:
        raise RobustsegError(f"--loop is {options.loop}; give a number of passes, or 0 for ever")
    return options


def main(args: list[str] | None = None) -> int:
    """Entry point; the exit code."""
    return run(PlayNode, args)


if __name__ == "__main__":
    leave(main())
