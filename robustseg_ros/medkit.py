"""Faults for ros2_medkit's fault manager, where its messages are installed; else nothing.

The service is `/fault_manager/report_fault` (`ros2_medkit_msgs/srv/ReportFault`). Nobody waits for
an answer, and nothing is sent while no manager is there or the one before was not answered.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rclpy.node import Node

from robustseg_core.output.fault_codes import FaultCodes, FaultReport
from robustseg_core.types import Health
from robustseg_ros import optional

SERVICE, TYPE = "/fault_manager/report_fault", "ros2_medkit_msgs/srv/ReportFault"
MOST_PENDING = 64
"""Reports without an answer; then none is sent until one comes."""


class FaultReporter:
    """Reports sensors' faults, and that they have passed.

    Args:
        node: reports them.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        kind = optional.message_class(TYPE)
        self._client: Any = None if kind is None else node.create_client(kind, SERVICE)
        self._kind: Any = kind
        self._codes = FaultCodes()
        self._pending: list[Any] = []

    def report(self, healths: Mapping[str, Health]) -> None:
        """What is believed now; call it now and then."""
        if self._client is None or not self._client.service_is_ready():
            return
        self._pending = [future for future in self._pending if not future.done()]
        if len(self._pending) < MOST_PENDING:
            self._pending += [self._send(one) for one in self._codes.look(healths)]

    def close(self) -> None:
        """Report nothing any more."""
        if self._client is not None:
            self._node.destroy_client(self._client)
            self._client = None

    def _send(self, told: FaultReport) -> Any:
        request = self._kind.Request()
        request.fault_code, request.severity = told.code, told.severity
        request.event_type = (
            self._kind.Request.EVENT_FAILED if told.failed else self._kind.Request.EVENT_PASSED
        )
        request.description = told.text
        request.source_id = self._node.get_fully_qualified_name()
        pair = optional.message_class("diagnostic_msgs/msg/KeyValue")
        if told.evidence and pair is not None and hasattr(request, "evidence"):  # since 2026
            request.evidence = [pair(key=key, value=value) for key, value in told.evidence]
        return self._client.call_async(request)
