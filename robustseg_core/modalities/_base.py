"""The contract of a modality: decode a message, judge it, bring it onto the view's grid."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from robustseg_core.config import Strict, parse
from robustseg_core.errors import RobustsegError
from robustseg_core.geometry.view import View
from robustseg_core.types import Fault, Finding, Reading


class Modality(ABC):
    """One kind of sensor. An instance belongs to one stream and may keep state between messages.

    A new modality is a file in this folder with one public subclass. Health, synchronization,
    subset evaluation, ROS parameters and drawing follow from it.
    """

    messages: ClassVar[tuple[str, ...]]
    """ROS types that `decode` accepts; messages are duck-typed (rclpy's or rosbags')."""
    needs_view: ClassVar[bool] = False
    """True: unusable without intrinsics and a transform (it is projected, not resized)."""
    accumulates: ClassVar[bool] = False
    """True: `encode` wants everything since a while ago (events), not only the newest reading."""
    queue: ClassVar[int] = 2
    """Depth of the subscription's queue; deep where losing one message breaks the decoder."""

    class Encoding(Strict):
        """Options of the array that the network sees; saved in the checkpoint's `ModelSpec`."""

    class Limits(Strict):
        """Content limits that judge a message; a robot may override them in `robot.yaml`."""

    def __init__(
        self, *, encoding: Mapping[str, Any] | None = None, limits: Mapping[str, Any] | None = None
    ) -> None:
        name = type(self).__module__.rpartition(".")[2]
        self.name: str = name
        self.encoding = parse(self.Encoding, encoding or {}, where=f"encodings.{name}")
        self.limits = parse(self.Limits, limits or {}, where=f"streams.{name}.limits")

    @abstractmethod
    def decode(self, message: Any, stamp_ns: int) -> Any:
        """The message's payload in the sensor's own geometry (and in its own time).

        Raises:
            Rejection: it cannot be decoded; the finding says why, with value and expectation.
        """

    def from_array(self, value: Any, size: tuple[int, int] | None = None) -> Any:
        """What `decode` would have returned, of plain arrays; for a sensor without a message.

        Args:
            value: what `robustseg_core.predictor` documents for this modality.
            size: (H, W) of the sensor's pixels, where the value itself does not tell.

        Raises:
            RobustsegError: it cannot be used; the text says what was expected, and the way out.
        """
        raise RobustsegError(f"{self.name} takes no plain arrays; give its messages to a Segmenter")

    @abstractmethod
    def digest(self, message: Any) -> int:
        """A fingerprint of the payload, cheap (0.1 ms for 7 MB); equal in a row means stuck."""

    @abstractmethod
    def check(self, data: Any) -> Iterable[Finding]:
        """Content checks of what `decode` returned (docs/specs/health.md); under a millisecond.

        Alarms, and remarks that only lower the quality (`Finding.alarm` tells them apart).
        """

    @abstractmethod
    def encode(self, readings: Sequence[Reading], view: View, stamp_ns: int) -> NDArray[np.float32]:
        """(3, H, W) float32 on the view's grid, for a set stamped `stamp_ns`.

        `readings` are oldest first and never empty; only an accumulating modality needs more than
        the newest.

        Raises:
            Rejection: NO_CALIB or NO_TF, where the view cannot place this sensor.
        """

    @abstractmethod
    def picture(self, array: NDArray[np.float32]) -> NDArray[np.uint8]:
        """(H, W, 3) RGB for people, from what `encode` returned."""

    def size(self, data: Any) -> tuple[int, int] | None:
        """(H, W) of the sensor's own pixels; None where it has none (a point cloud)."""
        return None

    def usable(self, frame_id: str, view: View) -> Fault | None:
        """Why a message of this frame cannot be used yet, or None: it can."""
        return view.missing_for(self.name, frame_id) if self.needs_view else None

    def warm_up(self) -> None:  # noqa: B027 (most modalities compile nothing)
        """Do now what is slow the first time, so that no first message is late."""

    def reset(self) -> None:  # noqa: B027 (most modalities have no state)
        """Forget what earlier messages left behind: a clock jump, a bag loop, a restart."""
