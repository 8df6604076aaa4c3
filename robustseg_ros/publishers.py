"""What the node says: masks with an account of who made them, what ids mean, and diagnostics."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from rclpy.event_handler import PublisherEventCallbacks
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile

from robustseg_core.config import PointsConfig
from robustseg_core.errors import RobustsegError
from robustseg_core.health.backlog import Load
from robustseg_core.output import messages, topics
from robustseg_core.output.messages import Fields
from robustseg_core.output.topics import HEALTH, Mask, Output
from robustseg_core.types import LabelMap, ModelSpec
from robustseg_ros import optional, qos
from robustseg_ros.convert import to_message

DEPTH = 10
MOST_REMARKS = 20
"""On /diagnostics; a message once a second must not grow without end."""


class Publishers:
    """The node's publishers; they exist from the constructor until `close`.

    All are offered as reliable, as REP 2003 asks of publishers: a best-effort subscriber (Nav2)
    gets best effort, and one that must not miss a mask (a recorder) can ask for it. Measured with
    Fast DDS on two busy cores, best effort loses every third overlay whatever the transport.
    `qos_overrides.*` changes it.

    Args:
        node: the publishers' owner.
        spec: the network's.
        points: which points the robot wants to have labelled.
        cameras: names of several cameras; each has all that belongs to a mask below its name.
    """

    def __init__(
        self,
        node: Node,
        spec: ModelSpec,
        points: PointsConfig | None = None,
        cameras: Sequence[str] = (),
    ) -> None:
        self._node = node
        self._spec = spec
        self._points = points
        self._name = node.get_fully_qualified_name()
        self.matches = qos.Matches(node, "publisher")
        self._open: dict[str, optional.Publisher] = {}
        """By the topic."""
        for output in topics.OUTPUTS:
            for camera in (cameras or ("",)) if output.make is not None else ("",):
                if output.names is None:
                    self._advertise(output, output.topic_of(camera))
        for output in topics.OUTPUTS:
            if output.names is not None:
                self._say_once(output, output.names)

    def publish(
        self,
        label_map: LabelMap,
        account: Callable[[], messages.Account] | None = None,
        shed: Collection[str] = (),
    ) -> None:
        """One mask and what belongs to it; what nobody listens to is neither drawn nor sent.

        Args:
            label_map: the mask.
            account: what the node adds to its status, which is the last of its messages.
            shed: names of outputs that are given up for speed.
        """
        mask = Mask(label_map, self._spec, node=self._name, account=account, points=self._points)
        for name, output in topics.of_a_mask().items():
            if not output.make or {name, output.goes_with} & set(shed):
                continue
            topic = output.topic_of(label_map.camera)
            wanted = not output.lazy or self._open[topic].rcl.get_subscription_count()
            if wanted and (fields := output.make(mask)) is not None:
                self._send(output, topic, fields)

    def publish_health(
        self,
        fields: dict[str, Any],
        complaints: Mapping[str, str],
        errors: int,
        trouble: str,
        remarks: Sequence[str] = (),
        load: Load | None = None,
    ) -> None:
        """`messages.health`, plus the node's own state: QoS mismatches, exceptions, a lost GPU, and
        that it is overloaded.

        `remarks` (`Segmenter.remarks`) are values only: what once happened is no lasting warning.
        """
        load = load or Load()
        problems = [*filter(None, [trouble, load.text]), *complaints.values()]
        if errors:
            problems.append(f"{errors} exceptions in this node; see its log")
        level = messages.ERROR if trouble else messages.WARN if problems else messages.OK
        text = "; ".join(problems) or "ok"
        shown = {f"remark {n}": told for n, told in enumerate(remarks[:MOST_REMARKS], start=1)}
        values = {**complaints, **shown, **messages.load_values(load)}
        status = messages.of_node(self._name, "node", level, text, values)
        fields = {**fields, "status": [*fields["status"], status]}
        self._send(HEALTH, HEALTH.topic, fields)

    def close(self) -> None:
        """Destroy all publishers."""
        for publisher in self._open.values():
            self._node.destroy_publisher(publisher.rcl)

    def _say_once(self, output: Output, make: Callable[[ModelSpec, int], Fields]) -> None:
        """What is said at the start, if its type is to be had under this middleware."""
        try:
            self._advertise(output, output.topic)
        except RobustsegError as error:
            self._node.get_logger().warning(f"no {output.topic}: {error}")
            return
        said = make(self._spec, self._node.get_clock().now().nanoseconds)
        self._send(output, output.topic, said)

    def _send(self, output: Output, topic: str, fields: Mapping[str, Any]) -> None:
        kind = optional.message_class(output.type)
        message = to_message(kind, fields) if kind else messages.to_rosbags(output.type, fields)
        self._open[topic].publish(message)

    def _advertise(self, output: Output, topic: str) -> None:
        """Latched: of one message, which late subscribers get, too."""
        profile = QoSProfile(depth=1 if output.latched else DEPTH)
        if output.latched:
            profile.durability = DurabilityPolicy.TRANSIENT_LOCAL
        publisher = optional.publisher(
            self._node,
            output.type,
            topic,
            profile,
            qos_overriding_options=qos.OVERRIDABLE,
            event_callbacks=PublisherEventCallbacks(use_default_callbacks=False),
        )
        self.matches.add(publisher.rcl.topic_name, profile)  # with the user's qos_overrides in it
        self._open[topic] = publisher
