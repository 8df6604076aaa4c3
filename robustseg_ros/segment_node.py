"""The node `robustseg`: sensors in, masks out, each saying which sensors made it.

    executor thread   callbacks offer messages to the `Segmenter`, in the order of their arrival
    inference thread  steps it when something came or when it asked to be woken: looks into the
                      messages that a mask needs, thinks, and publishes

Subscriptions and publishers exist while the node is active. Watchdogs and diagnostics run on the
steady clock, which goes on when /clock stops; header stamps only match sensors with each other.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.clock import Clock, JumpThreshold
from rclpy.duration import Duration
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_srvs.srv import Trigger

from robustseg_core.blackbox.files import BlackBox, close_all
from robustseg_core.doctor.surroundings import LOOK_S, ClockWatch
from robustseg_core.errors import RobustsegError
from robustseg_core.health.backlog import Load
from robustseg_core.output import messages, topics
from robustseg_core.output.latency import Latencies, parts
from robustseg_core.rig import Rig
from robustseg_core.robot.config import RobotConfig
from robustseg_core.storage.budget import budget
from robustseg_core.types import SECOND, LabelMap
from robustseg_ros import graph, parameters
from robustseg_ros.arrivals import Ear
from robustseg_ros.convert import serialized
from robustseg_ros.inputs import Inputs
from robustseg_ros.medkit import FaultReporter
from robustseg_ros.publishers import Publishers
from robustseg_ros.rclpy_names import ClockType
from robustseg_ros.running import command_line, leave, run, spin
from robustseg_ros.transitions import refuse_impossible

DIAGNOSTICS_S = 1.0
JOIN_S = 5.0
"""An inference that takes longer than this to end has hung, as on a lost GPU."""
FORGOTTEN_S = 20
"""Who was killed counts for so long: Fast DDS's `leaseDuration` (Cyclone DDS: 10)."""
CLOCK = "/clock"
LONGEST_NAP_S = 0.5
"""The inference thread looks around this often even if nobody woke it."""
AUTOSTART = ParameterDescriptor(
    description="Configure and activate at the start, without anybody asking.", read_only=True
)
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class SegmentNode(LifecycleNode):
    """Configure loads and warms up the network, activate listens, cleanup forgets.

    With the parameter `autostart` (default true) it configures and activates itself.

    Raises:
        RobustsegError: a parameter that `RobotConfig` refuses.
    """

    def __init__(self, overrides: list[Parameter[Any]] | None = None) -> None:
        super().__init__(messages.NODE, parameter_overrides=overrides or [])
        self.problem = ""
        """Why the last transition failed, in one sentence."""
        self._starting = False
        self.declare_parameter("autostart", value=True, descriptor=AUTOSTART)
        self._config: RobotConfig = parameters.declare(self)
        parameters.guard(self, lambda: self._thread is not None, self._reconfigure)
        self._segmenter: Rig | None = None
        self._inputs: Inputs | None = None
        self._sinks: Publishers | None = None
        self._boxes: dict[str, BlackBox] = {}
        """By camera, as the rig's segmenters."""
        self._thread: threading.Thread | None = None
        self._news = threading.Event()
        self._ear = Ear(self._news.set)
        self._stopping = threading.Event()
        """Ends the inference thread of this activation, and no other."""
        self._hung: list[threading.Thread] = []
        """Inference threads that did not end when told to."""
        self._failures = 0
        self._clock_trouble = ""
        """What was last said of /clock."""
        self._twins = 1
        """Nodes of this name."""
        self._overloaded = False
        self._timer: Any = None
        self._clock_timer: Any = None
        self._hurry: Any = None
        """Publishes diagnostics at once."""
        self._jumps: Any = None
        self._clock_watch = ClockWatch(time.monotonic_ns())
        self._medkit = FaultReporter(self)
        self.create_service(Trigger, topics.RESET.name, self._on_reset)
        refuse_impossible(self)

    def work(self) -> None:
        """Start (if so configured) and serve until the context ends.

        Raises:
            RobustsegError: the configuration does not work.
        """
        if self.get_parameter("autostart").value:
            self._starting = True
            for step in (self.trigger_configure, self.trigger_activate):
                if step() != SUCCESS:
                    if not self.context.ok():
                        raise ExternalShutdownException
                    raise RobustsegError(self.problem)
            self._starting = False
        spin(self, self._ear)

    def close(self) -> None:
        """Stop listening and thinking."""
        self._deactivate()

    def destroy_node(self) -> None:
        """And the state machine, which rclpy forgets: it keeps the node's middleware open."""
        super().destroy_node()
        self._state_machine.destroy_when_not_in_use()

    # -- lifecycle --------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the checkpoint and run it once."""
        return self._transition(self._load)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe, advertise, think."""
        return self._transition(self._activate)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Destroy subscriptions and publishers; the network stays loaded."""
        return self._transition(self._deactivate)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Forget the network."""
        return self._transition(self._unload)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop whatever runs."""
        return self._transition(self._unload)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Back to unconfigured, with nothing left running."""
        return self._transition(self._unload)

    def _transition(self, act: Callable[[], object]) -> TransitionCallbackReturn:
        """`act`, whose failure is logged (rclpy would swallow it) and undone."""
        try:
            act()
        except RobustsegError as error:
            self.problem = str(error)
        except Exception as error:
            self.problem = f"{type(error).__name__}: {error}"
            if self.context.ok():  # else somebody has switched us off meanwhile
                self.get_logger().error(traceback.format_exc())
        else:
            return SUCCESS
        self._deactivate()
        if not self._starting:  # else `work` raises it, for one sentence on stderr
            self.get_logger().error(self.problem)
        return FAILURE

    def _load(self) -> Rig:
        budget()  # a wrong one is said now, and not at the first message
        self._config = parameters.read(self)
        segmenter = Rig.from_config(graph.settled(self, self._config))
        segmenter.warm_up()
        self._segmenter = segmenter
        wanted = [n for c in segmenter.segmenters.values() for n in c.config.topics]
        deaf = [n for n in dict.fromkeys(wanted) if n not in segmenter.streams]
        for name in deaf:
            self.get_logger().warning(
                f"{name} is ignored: the network knows {segmenter.spec.modalities}"
            )
        return segmenter

    def _activate(self) -> None:
        segmenter = self._segmenter
        if segmenter is None or parameters.read(self) != self._config:
            segmenter = self._load()
        segmenter.reset(self._ear.heard_ns())
        self._boxes = self._black_boxes(segmenter)
        self._sinks = Publishers(self, segmenter.spec, self._config.points, segmenter.cameras)
        self._inputs = Inputs(self, segmenter, self._ear, offers=True)
        self._stopping = threading.Event()
        own = (segmenter, self._sinks, self._stopping)
        self._thread = threading.Thread(
            target=self._inference_loop, args=own, name="inference", daemon=True
        )
        self._thread.start()
        self._clock_watch, self._clock_trouble = ClockWatch(time.monotonic_ns()), ""
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = self.create_timer(DIAGNOSTICS_S, self._on_timer, clock=steady)
        self._clock_timer = self.create_timer(LOOK_S, self._look_at_clock, clock=steady)
        self._hurry = self.create_guard_condition(self._on_timer)
        threshold = JumpThreshold(
            min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=True
        )
        self._jumps = self.get_clock().create_jump_callback(threshold, post_callback=self._on_jump)

    def _black_boxes(self, rig: Rig) -> dict[str, BlackBox]:
        """What keeps the last seconds of each camera, where anybody wants it."""
        config = self._config.black_box
        if not config.folder:
            return {}
        return {
            name: BlackBox(
                segmenter,
                config.one_of(len(rig.segmenters)),
                serialize=serialized,
                now_ns=self._ear.heard_ns(),
                offset_ns=time.time_ns() - time.monotonic_ns(),
                made=self.get_fully_qualified_name(),
            )
            for name, segmenter in rig.segmenters.items()
        }

    def _reconfigure(self, config: RobotConfig) -> None:
        """A parameter has changed that may, while active."""
        self._config = config
        if self._segmenter is not None:
            config = graph.as_settled(config, self._segmenter.config)
            self._segmenter.configure(config)
            self._news.set()
        if self._inputs is not None:
            self._inputs.configure(config)

    def _deactivate(self) -> None:
        self._stopping.set()
        self._news.set()
        if self._thread is not None:
            self._thread.join(JOIN_S)
            if self._thread.is_alive():
                self._abandon(self._thread)
                self._boxes = {}  # they may wait for what that thread holds
        self._close_boxes()
        for part in (self._inputs, self._sinks):
            if part is not None:
                part.close()
        for timer in (self._timer, self._clock_timer):
            if timer is not None:
                self.destroy_timer(timer)
        if self._hurry is not None:
            self.destroy_guard_condition(self._hurry)
        if self._jumps is not None:
            self._jumps.unregister()
        self._thread = self._inputs = self._sinks = self._timer = self._jumps = None
        self._hurry = self._clock_timer = None

    def _close_boxes(self) -> None:
        """Write what is open, and say what was not written."""
        boxes, self._boxes = self._boxes, {}
        close_all(boxes.values())
        for box in boxes.values():
            for text in [*(f"black box: {path}" for path in box.news()), *box.complaints()]:
                self.get_logger().warning(text)

    def _abandon(self, thread: threading.Thread) -> None:
        """Leave a hung thread with its segmenter: the next activation loads another."""
        self._hung.append(thread)
        self._segmenter = None
        self.get_logger().error(
            f"inference has not ended within {JOIN_S:g} s and is left alone; the next activation "
            "loads the network anew; restart the node if that hangs, too"
        )

    def _unload(self) -> None:
        self._deactivate()
        self._segmenter = None

    # -- threads ----------------------------------------------------------------------------------

    def _inference_loop(
        self, segmenter: Rig, publishers: Publishers, stopping: threading.Event
    ) -> None:
        """The inference thread: step, publish, sleep until there is something to do."""
        ear, latencies = self._ear, Latencies()
        while not stopping.is_set():
            self._news.clear()  # before the step: what comes during it is seen by the next
            try:
                now_ns = ear.heard_ns()
                label_maps = segmenter.step(now_ns)
                if stopping.is_set():
                    return  # it took so long that nobody waits for it any more
                if label_maps:
                    load = segmenter.load()
                    if load.overloaded is not self._overloaded and self._hurry is not None:
                        self._hurry.trigger()
                    for label_map in label_maps:
                        tell = partial(self._account, label_map, latencies, load)
                        publishers.publish(label_map, tell, load.shed)
                    if "rate" in load.shed:  # as much time for who receives
                        stopping.wait(min((ear.heard_ns() - now_ns) / SECOND, LONGEST_NAP_S))
                    continue
                wake_ns = segmenter.wake_ns(ear.heard_ns())
            except Exception:
                if stopping.is_set() or not self.context.ok():
                    return
                self._failures += 1
                text = f"inference failed {self._failures} times: {traceback.format_exc()}"
                self.get_logger().error(text, throttle_duration_sec=5.0)
                stopping.wait(0.1)
                continue
            nap_ns = ear.nap_ns(wake_ns)
            nap_s = LONGEST_NAP_S if nap_ns is None else nap_ns / SECOND
            self._news.wait(min(nap_s, LONGEST_NAP_S))

    def _account(self, label_map: LabelMap, latencies: Latencies, load: Load) -> messages.Account:
        """What the status of a mask says of the way that it took, up to now."""
        stamp_age_ns = self.get_clock().now().nanoseconds - label_map.stamp_ns
        taken = parts(label_map, time.monotonic_ns(), stamp_age_ns)
        latencies.add(taken)
        return messages.account(taken, latencies.percentiles(), load)

    def _on_timer(self) -> None:
        """Once a second, whatever the ROS clock does: diagnostics, and a look at the graph."""
        inputs, sinks, segmenter = self._inputs, self._sinks, self._segmenter
        if inputs is None or sinks is None or segmenter is None:
            return  # deactivated meanwhile
        inputs.watch()
        complaints = {**inputs.complaints(), **sinks.matches.complaints()}
        complaints |= self._twin_complaint()
        if self._clock_trouble:
            complaints[CLOCK] = self._clock_trouble
        remarks = segmenter.remarks()
        boxes = self._boxes
        remarks += segmenter.together({name: box.remarks() for name, box in boxes.items()})
        for path in (path for box in boxes.values() for path in box.news()):
            self.get_logger().warning(f"black box: {path}; robustseg explain {path}")
        if told := segmenter.together({name: box.complaints() for name, box in boxes.items()}):
            complaints["black_box"] = "; ".join(told)
        errors = inputs.errors + self._failures
        healths = segmenter.health(self._ear.heard_ns(), wait=False)
        stamp_ns = self.get_clock().now().nanoseconds
        self._medkit.report(healths)
        fields = messages.health(healths, stamp_ns, node=self.get_fully_qualified_name())
        self._hung = [thread for thread in self._hung if thread.is_alive()]
        hung = f"{len(self._hung)} inference threads hang; restart the node" if self._hung else ""
        trouble = "; ".join(filter(None, [segmenter.trouble, hung]))
        load = segmenter.load()
        if load.overloaded and not self._overloaded:
            self.get_logger().warning(load.text)
        self._overloaded = load.overloaded
        sinks.publish_health(fields, complaints, errors, trouble, remarks, load)

    def _look_at_clock(self) -> None:
        """What is wrong with /clock; on /diagnostics at once."""
        now_ns, clock_ns = time.monotonic_ns(), self.get_clock().now().nanoseconds
        before, text = self._clock_trouble, ""
        if self.get_parameter("use_sim_time").value:
            self._clock_watch.look(clock_ns, now_ns)
            text = self._clock_watch.complaint(self.count_publishers(CLOCK), now_ns)
        else:
            self._clock_watch = ClockWatch(now_ns)
        self._clock_trouble = text
        if text == before:
            return
        if text:
            self.get_logger().warning(text)
        if self._hurry is not None:
            self._hurry.trigger()

    def _twin_complaint(self) -> dict[str, str]:
        """Whether another node has the same name: ROS lets both speak and listen as one."""
        name = self.get_fully_qualified_name()
        whole = [f"{n.rstrip('/')}/{own}" for own, n in self.get_node_names_and_namespaces()]
        count, before = whole.count(name), self._twins
        text = (
            f"{count} nodes are called {name}, so that their topics, parameters and services mix; "
            "start one with -r __ns:=/other, or with -r __node:=other; one that was killed is "
            f"forgotten within {FORGOTTEN_S} s"
        )
        self._twins = count
        if count < 2:
            return {}
        if count != before:
            self.get_logger().warning(text)
        return {name: text}

    def _on_jump(self, _jump: Any) -> None:
        self._clock_watch.look(self.get_clock().now().nanoseconds, time.monotonic_ns())
        if self._segmenter is not None:
            self._segmenter.clock_jumped(self._ear.heard_ns())

    def _on_reset(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = self._segmenter is not None
        response.message = "reset" if response.success else "not configured; configure first"
        if self._segmenter is not None:
            self._segmenter.reset(self._ear.heard_ns())
        return response


def main(args: list[str] | None = None) -> int:
    """Entry point; the exit code."""

    def make(words: list[str]) -> SegmentNode:
        command_line("segment_node", __doc__).parse_args(words)
        return SegmentNode()

    return run(make, args)


if __name__ == "__main__":
    leave(main())
