"""The doctor on a living robot: listens as the node would, looks at the graph, says what is wrong.

    python -m robustseg_ros.doctor --seconds 5 --ros-args --params-file robot.yaml

`robustseg doctor --live` starts it. Its subscriptions are the node's own (`Inputs`: types, QoS and
`qos_overrides` included), and what decides about messages is the node's own too
(`Segmenter`, watched by a `Probe`). Each of several cameras is examined as a robot that has it
alone, all of them while we listen once.
Exit codes: 0 all is well, or only warnings; 1 something is bad; 2 what the command line says.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Collection, Sequence

from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.utilities import get_rmw_implementation_identifier
from rosgraph_msgs.msg import Clock

from robustseg_core.cli.doctor_table import tell
from robustseg_core.cli.terminal import answer
from robustseg_core.cli.told import add_printing, take_wishes
from robustseg_core.codecs.fields import nanoseconds
from robustseg_core.doctor.examine import admit, diagnose, one_by_one, refused, together
from robustseg_core.doctor.loss import Reception, Wire, kernel_limits
from robustseg_core.doctor.observation import BAD, OK, Observation, Offer
from robustseg_core.doctor.probe import Probe, Probes
from robustseg_core.doctor.report import Check, Report
from robustseg_core.doctor.surroundings import (
    ClockWatch,
    check_clock,
    check_computer,
    check_transports,
)
from robustseg_core.output import topics
from robustseg_core.output.messages import NODE
from robustseg_core.robot.config import RobotConfig
from robustseg_core.robot.topics import TF_TOPICS, calibrations
from robustseg_core.segmenter import Segmenter
from robustseg_core.types import MS, SECOND
from robustseg_ros import graph, parameters, qos
from robustseg_ros.arrivals import Ear
from robustseg_ros.inputs import Inputs
from robustseg_ros.rclpy_names import ClockType, LoggingSeverity
from robustseg_ros.running import command_line, run

MASKS = "label_mask"
LOOK_NS = SECOND
"""How often the graph is looked at, as the node does."""
NAP_NS = 20 * MS


class DoctorNode(Node):
    """One examination; `work` makes it, prints it and leaves `exit_code`.

    Args:
        words: `--seconds S`, `--json`, `--quiet`, `--out FILE`.
        environment: that of the shell, before anything of ours was set in it.

    Raises:
        RobustsegError: a parameter that `RobotConfig` refuses.
    """

    def __init__(self, words: Sequence[str], environment: dict[str, str]) -> None:
        super().__init__("robustseg_doctor")
        self.get_logger().set_level(LoggingSeverity.ERROR)  # warnings are rows of the report
        options = _options(words)
        self.exit_code = 0
        self._seconds: float = options.seconds
        take_wishes(options, prints=True)
        self._environment = environment
        self._config = parameters.declare(self)
        self._clock_watch = ClockWatch(time.monotonic_ns())
        self._held_up_s = 0.0
        self._inputs: Inputs | None = None
        self._ear = Ear(lambda: None)

    def work(self) -> None:
        """Listen, diagnose, print."""
        self._listen_beside()
        robot = graph.transported(self, graph.settled(self, self._config))
        report = together(self._examine(robot))
        self.exit_code = report.exit_code
        if not answer(report.to_json()):
            tell(report)

    def close(self) -> None:
        """Destroy the subscriptions."""
        if self._inputs is not None:
            self._inputs.close()
            self._inputs = None

    def _examine(self, robot: RobotConfig) -> dict[str, Report]:
        """By camera."""
        views = one_by_one(robot)
        admitted = {camera: admit(own) for camera, (own, _) in views.items()}
        probes = {camera: probe for camera, (probe, _) in admitted.items() if probe is not None}
        for probe in probes.values():
            for decoder in probe.segmenter.intake.modalities.values():
                decoder.warm_up()
        everybody = Probes(robot, probes)
        receptions = {name: Reception() for name in everybody.streams}
        inputs = Inputs(self, everybody, self._ear, receptions=receptions)
        self._inputs = inputs
        start_ns = time.monotonic_ns()
        if probes:
            segmenters = [probe.segmenter for probe in probes.values()]
            self._listen(segmenters, inputs, start_ns + round(self._seconds * SECOND))
        end_ns = self._ear.heard_ns()
        wire = Wire(
            get_rmw_implementation_identifier(), receptions, kernel_limits(), self._environment
        )
        of_node = self._of_node(wire.middleware)
        unseen = ["what happens before and after; see --seconds"]
        unseen.append("the drivers' own shells and clocks: DDS is judged by this shell's settings")
        reports = {}
        for camera, (own, others) in views.items():
            problem = admitted[camera][1]
            if camera not in probes:
                reports[camera] = refused("live", problem)
                continue
            probe = probes[camera]
            offers = self._offers(own, others, inputs)
            observation = Observation(
                probe,
                offers,
                start_ns,
                end_ns,
                live=True,
                ages_ms=self._ages(probe),
                wire=wire,
            )
            output = self._output(camera if len(views) > 1 else "")
            checks = [*of_node, output]
            reports[camera] = diagnose(observation, "live", problem, checks, unseen=unseen)
        return reports

    def _of_node(self, middleware: str) -> list[Check]:
        """What of this computer and its clock every camera shares."""
        sim = bool(self.get_parameter("use_sim_time").value)
        return [
            check_clock(
                self.count_publishers("/clock"),
                self._clock_watch,
                time.monotonic_ns(),
                use_sim_time=sim,
            ),
            check_transports(self._environment, middleware),
            check_computer(self._held_up_s, os.getloadavg()[0], os.cpu_count() or 1),
        ]

    def _listen_beside(self) -> None:
        """/clock: the node does not need it, the diagnosis does."""
        loose = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
        self.create_subscription(Clock, "/clock", self._tick, loose)

    def _tick(self, message: Clock) -> None:
        self._clock_watch.look(nanoseconds(message.clock), time.monotonic_ns())

    def _listen(self, segmenters: Sequence[Segmenter], inputs: Inputs, end_ns: int) -> None:
        """One thread: callbacks push, and a segmenter is stepped when it asks for it."""
        executor = SingleThreadedExecutor(context=self.context)
        executor.add_node(self)
        look_ns, before_ns = 0, time.monotonic_ns()
        try:
            while (now_ns := time.monotonic_ns()) < end_ns:
                if not self.context.ok():
                    raise ExternalShutdownException
                self._held_up_s = max(self._held_up_s, (now_ns - before_ns) / SECOND)
                before_ns = now_ns
                if now_ns >= look_ns:
                    inputs.watch()
                    look_ns = now_ns + LOOK_NS
                nap_ns = NAP_NS
                for segmenter in segmenters:
                    while segmenter.step(self._ear.heard_ns()) is not None:
                        pass
                    if (wake_ns := segmenter.wake_ns(self._ear.heard_ns())) is not None:
                        nap_ns = min(max(wake_ns - now_ns, 0), nap_ns)
                self._ear.turn(executor, nap_ns / SECOND)
        finally:
            executor.remove_node(self)
            executor.shutdown(timeout_sec=0)

    def _offers(
        self, own: RobotConfig, others: Collection[str], inputs: Inputs
    ) -> dict[str, Offer]:
        """Topics with publishers: those of one camera's robot as it spells them, then the rest.

        Args:
            own: the robot that has this camera alone.
            others: topics that are only the other cameras'.
            inputs: what was subscribed to.
        """
        streams = list(own.topics.values())
        ours = {*streams, *calibrations(own), *TF_TOPICS}
        mismatches = inputs.mismatches()  # of types, `examine` has its own check
        offers: dict[str, Offer] = {}
        for topic in ours:
            name = self.resolve_topic_name(topic)
            found = self.get_publishers_info_by_topic(name)
            if found:
                offers[topic] = Offer(
                    types=tuple(dict.fromkeys(one.topic_type for one in found)),
                    publishers=len(found),
                    mismatch=mismatches.get(name, ""),
                    latched=all(qos.is_latched(one.qos_profile) for one in found),
                )
        beside = {self.resolve_topic_name(topic) for topic in others}
        for name, types in self.get_topic_names_and_types():
            count = self.count_publishers(name)
            if count and name not in offers and name not in beside:
                offers[name] = Offer(tuple(types), publishers=count)
        return offers

    def _ages(self, probe: Probe) -> dict[str, float]:
        """How old each stream's newest stamp was when it arrived, on the robot's clock."""
        clock = self.get_clock()
        now_ns, steady_ns = clock.now().nanoseconds, time.monotonic_ns()
        if clock.clock_type == ClockType.ROS_TIME and now_ns == 0:
            return {}  # simulated time that nobody tells
        return {
            name: (now_ns - (steady_ns - log.arrivals_ns[-1]) - log.stamp_ns) / MS
            for name, log in probe.logs.items()
            if log.arrivals_ns and log.stamp_ns
        }

    def _output(self, camera: str = "") -> Check:
        """Whether the node itself runs, is active, and is understood by those who listen."""
        named = self.get_node_names_and_namespaces()
        where = Counter(f"{ns.rstrip('/')}/{name}" for name, ns in named if name == NODE)
        if not where:
            return Check("output", OK, f"the node {NODE!r} does not run; listened in its place")
        checks = [self._output_of(full, count, camera) for full, count in sorted(where.items())]
        worst = next((check for check in checks if check.status is not OK), None)
        return worst or Check("output", OK, "; ".join(check.found for check in checks))

    def _output_of(self, full: str, count: int, camera: str = "") -> Check:
        """The same of the nodes with this full name."""
        if count > 1:
            found = f"{count} nodes are called {full!r}"
            return Check("output", BAD, found, "stop all but one, or give each a namespace")
        topic = topics.of_a_mask()[MASKS].topic_of(camera).replace("~", full, 1)
        publishers = self.get_publishers_info_by_topic(topic)
        if not publishers:
            fix = f"ros2 lifecycle set {full} configure, then activate; its log says why it failed"
            return Check("output", BAD, f"{full} runs, and is not active", fix)
        listeners = self.get_subscriptions_info_by_topic(topic)
        if text := qos.why_not(topic, publishers[0].qos_profile, listeners, we="publisher"):
            found, _, fix = text.rpartition("; ")
            return Check("output", BAD, found, f"{fix}, or let the listener ask for less")
        return Check("output", OK, f"{topic} has {len(listeners)} listeners")


def _options(words: Sequence[str]) -> argparse.Namespace:
    parser = command_line("doctor", __doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="how long to listen")
    add_printing(parser)
    return parser.parse_args(words)


def main(args: list[str] | None = None) -> int:
    """Entry point; the exit code."""
    environment = dict(os.environ)  # `run` sets the transport for us
    made: list[DoctorNode] = []

    def make(words: list[str]) -> DoctorNode:
        made.append(DoctorNode(words, environment))
        return made[-1]

    code = run(make, args)
    return code or (made[-1].exit_code if made else 0)


if __name__ == "__main__":
    sys.exit(main())
