"""Fault injection on a live robot: relays its sensor topics, broken as parameter `faults` says.

    /camera/image_raw -> /faulty/camera/image_raw

Start it with the robot's own robot.yaml, let the segmenter listen to the relayed topics, and switch
faults while both run: `ros2 param set /saboteur faults "['rgb:stuck', 'lidar:sector']"`. Schedules
in a fault (`@2+3`) count from the moment that it is set.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from rcl_interfaces.msg import ParameterDescriptor, ParameterType, SetParametersResult
from rclpy.clock import Clock
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy

from robustseg_core import modalities
from robustseg_core.errors import RobustsegError
from robustseg_core.faults import Injector, Sample, parse_fault
from robustseg_ros import graph, optional, parameters
from robustseg_ros.inputs import choose_type
from robustseg_ros.rclpy_names import ClockType
from robustseg_ros.running import command_line, leave, run, spin

LOOK_S = 0.5
"""How often topics are looked for that nobody published before."""
BEAT_S = 0.005
"""How often delayed messages are looked after."""


class FaultNode(Node):
    """Relays every configured stream to `prefix` + topic.

    Raises:
        RobustsegError: a stream or a fault that there is not.
    """

    def __init__(self) -> None:
        super().__init__("saboteur")
        strings = ParameterDescriptor(
            type=ParameterType.PARAMETER_STRING_ARRAY,
            description="What is broken now: TARGET:FAULT(key=value), as `robustseg list` names.",
        )
        prefix: str = self.declare_parameter("prefix", "/faulty").value
        self._prefix = prefix.rstrip("/")
        declared: Parameter[Any] = self.declare_parameter(
            "faults", Parameter.Type.STRING_ARRAY, strings
        )
        wanted: list[str] = declared.value or []
        config = graph.settled(self, parameters.declare(self))
        self._topics = config.topics
        if not self._topics:
            raise RobustsegError("no stream has a topic; set streams.<modality>.topic")
        self._relays: dict[str, optional.Publisher] = {}
        self._injector = self._plan(wanted)
        self.add_on_set_parameters_callback(self._on_set)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(LOOK_S, self._look, clock=steady)
        self.create_timer(BEAT_S, self._beat, clock=steady)
        self._look()

    def work(self) -> None:
        """Relay until the context ends."""
        spin(self)

    def close(self) -> None:
        """Nothing runs beside the executor."""

    def _plan(self, words: list[str]) -> Injector:
        specs = [parse_fault(word) for word in words if word]
        return Injector(specs, topics=self._topics, start_ns=time.monotonic_ns())

    def _on_set(self, changed: list[Parameter[Any]]) -> SetParametersResult:
        for parameter in changed:
            if parameter.name == "faults":
                try:
                    injector = self._plan(list(parameter.value or []))
                except RobustsegError as error:
                    return SetParametersResult(successful=False, reason=str(error))
                self._send(self._injector.flush())
                self._injector = injector
                self.get_logger().info(f"faults: {', '.join(map(str, injector.specs)) or 'none'}")
        return SetParametersResult(successful=True)

    def _look(self) -> None:
        """Relay what has appeared on the graph."""
        for name, topic in self._topics.items():
            offers = self.get_publishers_info_by_topic(self.resolve_topic_name(topic))
            if topic in self._relays or not offers:
                continue
            decoder = modalities.load(name)
            kind = choose_type(topic, decoder.messages, [offer.topic_type for offer in offers])
            qos = QoSProfile(depth=decoder.queue)
            self._relays[topic] = optional.publisher(self, kind, self._prefix + topic, qos)
            qos = QoSProfile(depth=decoder.queue, reliability=ReliabilityPolicy.BEST_EFFORT)
            optional.subscribe(self, kind, topic, partial(self._relay, topic), qos)
            self.get_logger().info(f"relaying {topic} to {self._prefix}{topic}")

    def _relay(self, topic: str, message: Any) -> None:
        self._send(self._injector.feed(topic, message, time.monotonic_ns()))

    def _beat(self) -> None:
        self._send(self._injector.release(time.monotonic_ns()))

    def _send(self, samples: list[Sample]) -> None:
        for sample in samples:
            self._relays[sample.topic].publish(sample.message)


def main(args: list[str] | None = None) -> int:
    """Entry point; the exit code."""

    def make(words: list[str]) -> FaultNode:
        command_line("fault_node", __doc__).parse_args(words)
        return FaultNode()

    return run(make, args)


if __name__ == "__main__":
    leave(main())
