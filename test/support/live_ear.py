"""What a node of ours says of its masks and of itself, heard over genuine DDS."""

from __future__ import annotations

from typing import Any, NamedTuple

from diagnostic_msgs.msg import DiagnosticArray

from robustseg_core.bag.typestore import LABEL_INFO
from robustseg_core.output.messages import read_status
from robustseg_core.output.reasons import faults
from robustseg_ros import optional
from support.live_sensors import LATCHED, Sensors


class Heard(NamedTuple):
    """One mask's account, and where the sensors were when it came."""

    tick: int
    camera: int
    """The tick of the newest image."""
    row: dict[str, Any]


class Ear:
    """What the node says of its masks and of itself."""

    def __init__(self, world: Any, sensors: Sensors | None = None) -> None:
        self.heard: list[Heard] = []
        self.health: dict[str, Any] = {}
        """Status name -> the newest of /diagnostics."""
        self.diagnoses = 0
        self._sensors = sensors
        node = world.node
        node.create_subscription(DiagnosticArray, "/robustseg/status", self._status, 100)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._diagnosis, 10)
        self.classes: list[dict[int, str]] = []
        """Every LabelInfo: id -> name."""
        info = "/robustseg/label_info"
        optional.subscribe(node, LABEL_INFO, info, self._label_info, LATCHED)

    def used(self, names: set[str], after: int = 0) -> Heard | None:
        """The first after number `after` whose mask was made of exactly these sensors."""
        return next((one for one in self.heard[after:] if set(one.row["used"]) == names), None)

    def _status(self, message: DiagnosticArray) -> None:
        ticks = self._sensors.ticks if self._sensors else 0
        camera = self._sensors.spoke.get("rgb", 0) if self._sensors else 0
        row = read_status(message)
        self.heard.append(Heard(ticks, camera, row | {"reasons": faults(row["reasons"])}))

    def _label_info(self, message: Any) -> None:
        self.classes.append({one.class_id: one.class_name for one in message.class_map})

    def _diagnosis(self, message: DiagnosticArray) -> None:
        self.diagnoses += 1
        self.health.update({status.name: status for status in message.status})
