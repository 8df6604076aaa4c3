"""What the node says: masks with an account of who made them, what ids mean, and diagnostics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image

from robustseg_core.bag.typestore import LABEL_INFO
from robustseg_core.errors import RobustsegError
from robustseg_core.output import draw, messages
from robustseg_core.types import LabelMap, ModelSpec
from robustseg_ros import optional, qos
from robustseg_ros.convert import to_message

IMAGE, DIAGNOSTICS = "sensor_msgs/msg/Image", "diagnostic_msgs/msg/DiagnosticArray"
PICTURES = ("label_mask", "confidence", "overlay")
DEPTH = 10
MOST_REMARKS = 20
"""On /diagnostics; a message once a second must not grow without end."""


class Publishers:
    """The node's publishers; they exist from the constructor until `close`.

    All are offered as reliable, as REP 2003 asks of publishers: a best-effort subscriber (Nav2)
    gets best effort, and one that must not miss a mask (a recorder) can ask for it. Statistic with
    Fast DDS on two busy cores, best effort loses every third overlay whatever the transport.
    `qos_overrides.*` changes it.
    """

    def __init__(self, node: Node, spec: ModelSpec) -> None:
        self._node = node
        self._spec = spec
        self._name = node.get_fully_qualified_name()
        self.matches = qos.Matches(node, "publisher")
        self._pictures = {name: self._advertise(IMAGE, f"~/{name}") for name in PICTURES}
        self._status = self._advertise(DIAGNOSTICS, "~/status")
        self._health = self._advertise(DIAGNOSTICS, "/diagnostics")
        self._names = self._advertise_names()

    def publish(self, label_map: LabelMap) -> None:
        """One mask and what belongs to it; what nobody listens to is neither drawn nor sent."""
        makers = {
            "label_mask": messages.label_mask,
            "confidence": messages.confidence,
            "overlay": self._draw,
        }
        for name, make in makers.items():
            if self._pictures[name].rcl.get_subscription_count():
                self._pictures[name].publish(to_message(Image, make(label_map)))
        status = messages.status(label_map, self._spec, self._name)
        self._status.publish(to_message(DiagnosticArray, status))

    def publish_health(
        self,
        fields: dict[str, Any],
        complaints: Mapping[str, str],
        errors: int,
        trouble: str,
        remarks: Sequence[str] = (),
    ) -> None:
        """`messages.health`, plus the node's own state: QoS mismatches, exceptions, a lost GPU.

        `remarks` (`Segmenter.remarks`) are values only: what once happened is no lasting warning.
        """
        problems = [*filter(None, [trouble]), *complaints.values()]
        if errors:
            problems.append(f"{errors} exceptions in this node; see its log")
        level = messages.ERROR if trouble else messages.WARN if problems else messages.OK
        text = "; ".join(problems) or "ok"
        shown = {f"remark {n}": told for n, told in enumerate(remarks[:MOST_REMARKS], start=1)}
        values = {**complaints, **shown}
        status = messages.of_node(self._name, "node", level, text, values)
        fields = {**fields, "status": [*fields["status"], status]}
        self._health.publish(to_message(DiagnosticArray, fields))

    def close(self) -> None:
        """Destroy all publishers."""
        for publisher in (*self._pictures.values(), self._status, self._health, self._names):
            if publisher is not None:
                self._node.destroy_publisher(publisher.rcl)

    def _advertise_names(self) -> optional.Publisher | None:
        """What ids mean, said once; None: the type is not to be had under this middleware."""
        try:
            names = self._advertise(LABEL_INFO, "~/label_info", latched=True)
        except RobustsegError as error:
            self._node.get_logger().warning(f"no ~/label_info: {error}")
            return None
        now_ns = self._node.get_clock().now().nanoseconds
        names.publish(messages.to_rosbags(LABEL_INFO, messages.label_info(self._spec, now_ns)))
        return names

    def _draw(self, label_map: LabelMap) -> dict[str, Any]:
        return messages.overlay(draw.overlay(label_map, self._spec), label_map)

    def _advertise(self, msgtype: str, topic: str, *, latched: bool = False) -> optional.Publisher:
        """Latched: of one message, which late subscribers get, too."""
        profile = QoSProfile(depth=1 if latched else DEPTH)
        if latched:
            profile.durability = DurabilityPolicy.TRANSIENT_LOCAL
        publisher = optional.publisher(
            self._node,
            msgtype,
            topic,
            profile,
            qos_overriding_options=qos.OVERRIDABLE,
            event_callbacks=PublisherEventCallbacks(use_default_callbacks=False),
        )
        self.matches.add(publisher.rcl.topic_name, profile)  # with the user's qos_overrides in it
        return publisher
