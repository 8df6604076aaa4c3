"""CameraInfo and transforms: taken, refused or changed in mid-drive, and told once.

The last good calibration stays in use. Nothing here locks: the intake does.
"""

from __future__ import annotations

import logging
from typing import Any

from robustseg_core.geometry.view import View
from robustseg_core.intake.register import Register
from robustseg_core.modalities._base import moment
from robustseg_core.types import Fault, Finding, Reading, Rejection

log = logging.getLogger(__name__)

TRANSFORM = "transform"
"""The subject of what is refused of /tf_static, ..."""
MOVING = "moving transform"
"""... and of /tf."""


class Calibration:
    """What cameras and sensors say of themselves and of their places, put into a `View`.

    Args:
        view: where it is used.
    """

    def __init__(self, view: View) -> None:
        self._view = view
        self.rejected = Register()
        """What was refused of CameraInfo and transforms, and how often; the last good stays."""
        self.changed = Register()
        """What became another in mid-drive, old and new value, and how often; it is used."""
        self._notices: dict[tuple[str, Fault], Finding] = {}
        """What is told of a stream as soon as somebody says what time it is."""
        self._refusals: dict[tuple[str, Fault], Finding] = {}
        """What was last refused of a stream's calibration and place, while nothing better came."""

    def camera_info(self, modality: str, message: Any, *, rectified: bool) -> Finding | None:
        """Take a sensor_msgs/CameraInfo; why it was refused, or None.

        Args:
            modality: the stream whose images it is of.
            message: the message.
            rectified: the images are.
        """
        try:
            changes = self._view.set_camera_info(modality, message, rectified=rectified)
        except Rejection as rejection:
            self.refuse(f"CameraInfo of {modality}", rejection.finding)
            self._refuse_stream(modality, Fault.NO_CALIB, str(rejection))
            return rejection.finding
        self._refusals.pop((modality, Fault.NO_CALIB), None)
        if changes:
            self._changed(modality, f"CameraInfo of {modality} changed", changes)
        return None

    def transforms(self, message: Any, *, moving: bool) -> Finding | None:
        """Take a tf2_msgs/TFMessage of /tf (moving) or /tf_static; why one was refused, or None."""
        try:
            (self._view.move if moving else self._view.add_transforms)(message)
        except Rejection as rejection:
            self.refuse(MOVING if moving else TRANSFORM, rejection.finding)
            return rejection.finding
        return None

    def settle(self, reading: Reading) -> None:
        """Where the data of a stream lie: told if it moved, or if its transform is refused."""
        name = reading.modality
        if moved := self._view.settle(name, reading.frame_id):
            self._changed(name, name, moved)
        far = self._view.far(name, reading.frame_id, moment(reading))
        if not far:
            self._refusals.pop((name, Fault.NO_TF), None)
        elif self._refuse_stream(name, Fault.NO_TF, far):
            refusal = Finding(Fault.NO_TF, fatal=True, text=far)
            if self.rejected.newest(TRANSFORM, Fault.NO_TF) != refusal:
                self.refuse(TRANSFORM, refusal)  # else it was counted when it came

    def refuse(self, subject: str, finding: Finding) -> None:
        """Count what was refused, whatever it is of."""
        if self.rejected.add(subject, finding):
            log.warning("refused: %s: %s", subject, finding)

    def notices(self) -> list[tuple[str, Finding]]:
        """(stream, what people should hear of it), each once."""
        if not self._notices:
            return []
        told = [(modality, finding) for (modality, _), finding in self._notices.items()]
        self._notices.clear()
        return told

    def _refuse_stream(self, modality: str, fault: Fault, text: str) -> bool:
        """Tell that a calibration or place is refused, once; whether this is the first time."""
        finding = Finding(fault, fatal=False, text=f"refused: {text}", score=1.0)
        if self._refusals.get((modality, fault)) == finding:
            return False
        self._refusals[modality, fault] = self._notices[modality, fault] = finding
        return True

    def _changed(self, modality: str, what: str, changes: str) -> None:
        finding = Finding(Fault.RECALIBRATED, fatal=False, text=changes, score=1.0)
        if self.changed.add(what, finding):
            log.warning("%s: %s", what, changes)
        self._notices[modality, Fault.RECALIBRATED] = finding


def blocked(missing: Fault | None, reading: Reading, view: View) -> Finding | None:
    """What people are told while a sensor cannot be placed."""
    if missing is None:
        return None
    text = view.why(missing, reading.modality, reading.frame_id, moment(reading))
    return Finding(missing, fatal=False, text=text)
