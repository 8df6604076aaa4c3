"""The contract of a modality: decode a message, judge it, bring it onto the view's grid."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from robustseg_core.config import Strict, parse
from robustseg_core.errors import RobustsegError
from robustseg_core.evidence.sight import Sight
from robustseg_core.geometry.scene import Placed
from robustseg_core.geometry.transforms import Moment
from robustseg_core.geometry.view import View
from robustseg_core.health.content import ContentCheck
from robustseg_core.modalities._corruptions import Corruption
from robustseg_core.modalities._guess import Guess
from robustseg_core.types import CHANNELS, Fault, Finding, Frame, Reading

Content = Literal["picture", "depth", "events", "points"]
"""What messages hold, as `faults.kinds` breaks it: an Image of colors or of depth, packets of
events, a PointCloud2 with x, y, z."""


class Modality(ABC):
    """One kind of sensor. An instance belongs to one stream and may keep state between messages.

    A new modality is a file in this folder with one public subclass. `inspect`'s guess, health,
    synchronization, subsets, tables, ROS parameters, drawing, training and the fault matrix follow
    from what it declares.
    """

    rank: ClassVar[int]
    """Place among the sensors, everywhere: columns, tables, who opens a set, whose picture is
    drawn. Lower is earlier; a modality's own."""
    initial: ClassVar[str]
    """Its letter in names of subsets (`RDEL`); a modality's own."""
    messages: ClassVar[tuple[str, ...]]
    """ROS types that `decode` accepts; messages are duck-typed (rclpy's or rosbags')."""
    transports: ClassVar[tuple[str, ...]] = ()
    """Of images, image_transport's names for how they may come, the most wanted first."""
    payload: ClassVar[str] = "data"
    """The field of its messages that holds what the sensor saw, as bytes; faults disturb it."""
    content: ClassVar[Content | None] = None
    """What its messages hold: the faults of such content can be done to it, beside those of any
    stream. None: something else."""
    overlooks: ClassVar[frozenset[Fault]] = frozenset()
    """Of what faults of such content are found by, what its checks do not look for: a fault that
    nothing else tells has to be survived."""
    needs_view: ClassVar[bool] = False
    """True: unusable without intrinsics and a transform (it is projected, not resized)."""
    accumulates: ClassVar[bool] = False
    """True: `encode` wants everything since a while ago (events), not only the newest reading."""
    queue: ClassVar[int] = 2
    """Depth of the subscription's queue; deep where losing one message breaks the decoder."""
    merges: ClassVar[bool] = False
    """True: several streams of it may be in one view; `merge` makes one reading of them."""
    ranges: ClassVar[bool] = False
    """True: it knows how far away things are; `placed` and `points` say where."""
    guess: ClassVar[Guess] = Guess()
    """How its topics are recognized in a recording, among those of its types."""
    corruptions: ClassVar[Mapping[str, Corruption]] = {}
    """Fault -> how it looks in an encoded image: what training may do, beside what is done to any
    modality."""
    scrambled: ClassVar[frozenset[Fault]] = frozenset({Fault.UNDECODABLE})
    """What random bytes instead of a payload are called, one of these."""

    class Encoding(Strict):
        """Options of the array that the network sees; saved in the checkpoint's `ModelSpec`."""

        @property
        def channels(self) -> int:
            """C of what `encode` returns."""
            return CHANNELS

    Limits: ClassVar[type[Strict]] = Strict
    """Content limits that judge a message; a robot may override them in `robot.yaml`."""

    encoding: Encoding
    limits: Strict
    checks: ContentCheck[Any] | None = None
    """Who holds the content against the limits, and keeps what is usual; None: nobody does."""
    coarse: bool = False
    """Whether this computer is overloaded, and half the detail would do: events are thinned."""

    def __init__(
        self,
        *,
        encoding: Mapping[str, Any] | None = None,
        limits: Mapping[str, Any] | None = None,
        stream: str = "",
    ) -> None:
        self.kind: str = type(self).__module__.rpartition(".")[2]
        """The modality."""
        self.name: str = stream or self.kind
        """Of the stream, by which the view knows where it is."""
        self.encoding = parse(self.Encoding, encoding or {}, where=f"encodings.{self.kind}")
        self.limits = parse(self.Limits, limits or {}, where=f"streams.{self.name}.limits")

    @abstractmethod
    def decode(self, message: Any, stamp_ns: int) -> Any:
        """The message's payload in the sensor's own geometry (and in its own time).

        Raises:
            Rejection: it cannot be decoded; the finding says why, with value and expectation.
        """

    def probe(self, message: Any) -> None:
        """Nothing, where `decode` would take such a message; of an instance that does nothing else.

        Raises:
            Rejection: as of `decode`.
        """
        self.decode(message, 0)

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
        """(C, H, W) float32 on the view's grid, for a set stamped `stamp_ns`; C is the encoding's.

        `readings` are oldest first and never empty; only an accumulating modality needs more than
        the newest. An array that is 0 everywhere says nothing: `astray` knows why. Whatever asks
        the view where the sensor is says when: `moment(readings[-1], stamp_ns)`.

        Raises:
            Rejection: NO_CALIB or NO_TF, where the view cannot place this sensor.
        """

    def merge(self, readings: Sequence[Reading], view: View, stamp_ns: int) -> Reading:
        """What several streams of this modality see of one set, as one reading in the view's frame.

        Args:
            readings: the newest of each stream, at least one, oldest first.
            view: the grid; it has placed each of them (`View.view_from`).
            stamp_ns: of the set.

        Raises:
            Rejection: NO_TF, where the view cannot place one of them.
        """
        raise RobustsegError(f"several streams of {self.kind} cannot be merged; configure one")

    def astray(self, reading: Reading, view: View, stamp_ns: int) -> str:
        """Why nothing of a reading is in the array that `encode` made of it, for people.

        Empty: the reading held nothing in the first place, as `check` tells.
        """
        return f"nothing of {self.name} lands in the image; is T camera-from-{self.name}?"

    def timely(self, reading: Reading, stamp_ns: int) -> bool:
        """Whether a reading holds anything of the time that a set stamped `stamp_ns` looks at.

        If not, that nothing of it is seen says nothing of where the sensor looks.
        """
        return True

    @abstractmethod
    def picture(self, array: NDArray[np.float32]) -> NDArray[np.uint8]:
        """(H, W, 3) RGB for people, from what `encode` returned."""

    def sight(self, frame: Frame, lengths: NDArray[np.float32]) -> Sight | None:
        """What of a frame can be compared with other sensors; None: nothing.

        Args:
            frame: what `encode` returned.
            lengths: (h, w) length of the ray at z = 1 of each cell, `sight.step_of` pixels wide.
        """
        return None

    def placed(self, reading: Reading, view: View, stamp_ns: int | None = None) -> Placed | None:
        """Where the points of a reading lie in the image of a set, as `encode` has it.

        None: it knows no distances (`ranges`), or nobody knows the camera's lens.

        Args:
            reading: of this sensor.
            view: the grid.
            stamp_ns: of the set; None: of the reading.

        Raises:
            Rejection: NO_TF, where the view cannot place this sensor.
        """
        return None

    @classmethod
    def points(cls, placed: Placed, most: int | None = None) -> NDArray[np.float32]:
        """(N, 3) metres in the sensor's own frame, all finite; of more than `most`, every n-th."""
        raise RobustsegError(f"{placed.reading.modality} knows no distances; it has no points")

    @property
    def window_ns(self) -> int:
        """How much of an accumulating stream is in an array; 0: all that `encode` is given."""
        return 0

    def size(self, data: Any) -> tuple[int, int] | None:
        """(H, W) of the sensor's own pixels; None where it has none (a point cloud)."""
        return None

    def usable(self, frame_id: str, view: View, at: Moment | None = None) -> Fault | None:
        """Why a message of this frame cannot be used yet, or None: it can."""
        return view.missing_for(self.name, frame_id, at) if self.needs_view else None

    def relimit(self, limits: Mapping[str, Any]) -> None:
        """Hold messages against these limits from the next one on; what is usual stays so.

        Raises:
            RobustsegError: a limit that there is not, or of a wrong value.
        """
        self.limits = parse(self.Limits, limits, where=f"streams.{self.name}.limits")
        if self.checks is not None:
            self.checks.limits = self.limits

    def skipped(self) -> None:  # noqa: B027 (most messages stand alone)
        """Messages before the next one are never decoded, by our own choice: no loss of theirs."""

    def warm_up(self) -> None:  # noqa: B027 (most modalities compile nothing)
        """Do now what is slow the first time, so that no first message is late."""

    def reset(self) -> None:  # noqa: B027 (most modalities have no state)
        """Forget what earlier messages left behind: a clock jump, a bag loop, a restart."""


def moment(reading: Reading, stamp_ns: int | None = None) -> Moment:
    """When a reading was seen, and when the camera looked: the stamp of the set, or the same."""
    return Moment(reading.stamp_ns, reading.stamp_ns if stamp_ns is None else stamp_ns)
