"""Messages of one robot, on their way to every intake that listens to their stream."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from robustseg_core.errors import RobustsegError, did_you_mean
from robustseg_core.intake.intake import Intake
from robustseg_core.robot.config import RobotConfig
from robustseg_core.types import Finding


class Router(ABC):
    """Hands what comes to its intakes: to one of a camera, or to those of several.

    May be called from one thread while another steps the segmenters behind the intakes. `now_ns` is
    a clock that only goes forward: the steady clock on a robot, the recording's time in a replay.
    """

    config: RobotConfig
    """The robot."""

    @property
    @abstractmethod
    def intakes(self) -> tuple[Intake, ...]:
        """All of them."""

    @property
    def streams(self) -> tuple[str, ...]:
        """Whom any of them listens to: modalities, or `modality.name` of several."""
        return tuple(dict.fromkeys(name for one in self.intakes for name in one.modalities))

    @property
    def needs_motion(self) -> bool:
        """As `Intake.needs_motion`, of any."""
        return any(intake.needs_motion for intake in self.intakes)

    def hearing(self, stream: str) -> tuple[Intake, ...]:
        """The intakes that listen to a stream.

        Raises:
            RobustsegError: none does.
        """
        found = tuple(intake for intake in self.intakes if stream in intake.modalities)
        if not found:
            way_out = did_you_mean(stream, self.streams)
            raise RobustsegError(f"no stream called {stream!r}; {way_out}")
        return found

    def push(self, stream: str, message: Any, now_ns: int) -> Finding | None:
        """Take one message.

        Args:
            stream: one of `streams`.
            message: rclpy's or rosbags' message.
            now_ns: when it arrived.

        Returns:
            Why the first of those who hear it rejected the message, or None: it is used, or still
            under consideration.

        Raises:
            RobustsegError: as of `hearing`.
        """
        found = [intake.push(stream, message, now_ns) for intake in self.hearing(stream)]
        return found[0]

    def offer(self, stream: str, message: Any, now_ns: int) -> None:
        """Take one message and return at once: it is looked into when a mask needs it.

        Raises:
            RobustsegError: as of `hearing`.
        """
        for intake in self.hearing(stream):
            intake.offer(stream, message, now_ns)

    def push_camera_info(self, stream: str, message: Any) -> Finding | None:
        """Take the calibration of a camera, depth camera or event camera; cheap if unchanged.

        Returns:
            Why the first rejected it, or None.

        Raises:
            RobustsegError: as of `hearing`.
        """
        found = [intake.push_camera_info(stream, message) for intake in self.hearing(stream)]
        return found[0]

    def push_transforms(self, message: Any, *, moving: bool = False) -> Finding | None:
        """Take transforms (tf2_msgs/TFMessage), static or of /tf; why one was rejected, or None."""
        found = [intake.push_transforms(message, moving=moving) for intake in self.intakes]
        return found[0]
