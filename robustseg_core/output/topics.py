"""What the node and a recording say: each output topic once, and how its message is made.

Node, MCAP, demo, what `inspect` takes for no sensor, and docs/reference/topics.md follow from
`OUTPUTS`. A new output is one more entry; `python docs/reference/pages.py` writes its row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from robustseg_core.bag.typestore import LABEL_INFO
from robustseg_core.codecs.message_types import CAMERA_INFO, CLOUD, COMPRESSED_IMAGE, IMAGE
from robustseg_core.config import PointsConfig
from robustseg_core.output import cloud, draw, messages, states
from robustseg_core.output.messages import Fields
from robustseg_core.types import LabelMap, ModelSpec

CURVES = "sensor_msgs/msg/JointState"
DIAGNOSTICS = "diagnostic_msgs/msg/DiagnosticArray"


class Mask:
    """One mask, and what its messages are made of.

    Args:
        label_map: the mask.
        spec: the network's.
        node: full name of the node that says it.
        picture: (H, W, 3) uint8 RGB, as `draw.overlay` makes it; None: it is drawn when asked for.
        account: says what a live node has to add to its status; asked when that is made.
        points: which points the robot wants to have labelled.
    """

    def __init__(
        self,
        label_map: LabelMap,
        spec: ModelSpec,
        *,
        node: str = messages.NODE,
        picture: NDArray[np.uint8] | None = None,
        account: Callable[[], messages.Account] | None = None,
        points: PointsConfig | None = None,
    ) -> None:
        self.label_map, self.spec, self.node = label_map, spec, node
        self.points = points or PointsConfig()
        self._account = account
        self._picture = picture

    @cached_property
    def picture(self) -> NDArray[np.uint8]:
        """(H, W, 3) RGB for people."""
        if self._picture is not None:
            return self._picture
        return draw.overlay(self.label_map, self.spec)

    @property
    def status(self) -> Fields:
        """Who made it."""
        more = self._account() if self._account else None
        return messages.status(self.label_map, self.spec, self.node, more)


@dataclass(frozen=True, slots=True)
class Output:
    """One topic."""

    name: str
    """Below the node's own name, `~/`, unless it begins with a slash."""
    type: str
    note: str
    """Of the table in docs/reference/topics.md, which is in Markdown."""
    form: str = ""
    """Encoding of an image, for the table."""
    make: Callable[[Mask], Fields | None] | None = None
    """Fields of the message of one mask, or None: there is nothing to be said of this one. None
    instead of a function: it is not said of masks at all."""
    names: Callable[[ModelSpec, int], Fields] | None = None
    """Fields of the one message that is said at the start, at this time in nanoseconds; latched."""
    lazy: bool = False
    """Live, neither made nor sent while nobody listens."""
    sure: bool = True
    """Whether every mask has it."""
    large: bool = False
    """Whether a recording holds it only if that is asked for."""
    goes_with: str = ""
    """Another output, with which it is given up for speed (`health.backlog.SHED`)."""
    recorded: tuple[str, Callable[[Mask], Fields]] | None = None
    """Type and fields in a recording, where they are others than live."""

    @property
    def topic(self) -> str:
        """As a node names it."""
        return self.topic_of("")

    def topic_of(self, camera: str) -> str:
        """The same, of one of several cameras; of what is said once for all of them, `topic`."""
        if self.name.startswith("/"):
            return self.name
        return f"~/{camera}/{self.name}" if camera and self.make is not None else f"~/{self.name}"

    @property
    def latched(self) -> bool:
        """Whether late subscribers get the last message, too."""
        return self.names is not None


HEALTH = Output("/diagnostics", DIAGNOSTICS, "1 Hz on the steady clock")
"""What is believed of the sensors, masks or not."""

OUTPUTS: tuple[Output, ...] = (
    Output(
        "label_mask",
        IMAGE,
        "class ids, 255 unlabelled; stamp of the reference sensor",
        "mono8",
        make=lambda mask: messages.label_mask(mask.label_map),
        lazy=True,
    ),
    Output(
        "confidence",
        IMAGE,
        "probability of the winner, 0 to 255",
        "mono8",
        make=lambda mask: messages.confidence(mask.label_map),
        lazy=True,
    ),
    Output(
        "overlay",
        IMAGE,
        "drawn only while somebody listens",
        "rgb8",
        make=lambda mask: messages.drawn(mask.picture, mask.label_map),
        lazy=True,
        recorded=(
            COMPRESSED_IMAGE,
            lambda mask: messages.compressed_overlay(mask.picture, mask.label_map),
        ),
    ),
    Output(
        "label_color",
        IMAGE,
        "the classes' colors, black where unlabelled",
        "rgb8",
        make=lambda mask: messages.drawn(
            draw.colorize(mask.label_map.ids, mask.spec), mask.label_map
        ),
        lazy=True,
        goes_with="overlay",
    ),
    Output(
        "camera_info",
        CAMERA_INFO,
        "of the mask's own pixels; not while no lens is known",
        make=lambda mask: messages.camera_info(mask.label_map),
        lazy=True,
        sure=False,
    ),
    Output("label_info", LABEL_INFO, "what the ids mean; latched", names=messages.label_info),
    Output(
        "points",
        CLOUD,
        "x y z rgb label confidence, of the LiDAR or of depth (`points.source`), in its frame",
        make=lambda mask: cloud.cloud(mask.label_map, mask.spec, mask.points),
        lazy=True,
        sure=False,
        large=True,
    ),
    Output(
        "sensor_states",
        CURVES,
        "for plots: of each sensor state, used, quality, age; confidence, latency",
        make=lambda mask: states.sensor_states(mask.label_map, mask.spec),
        lazy=True,
    ),
    Output(
        "status",
        DIAGNOSTICS,
        "the mask's own stamp: used, state, reason, age, latency",
        make=lambda mask: mask.status,
    ),
    HEALTH,
)
"""In the order of the table."""


@dataclass(frozen=True, slots=True)
class Service:
    """One service, beside those that ROS 2 gives every lifecycle node."""

    name: str
    type: str
    note: str


RESET = Service("~/reset", "std_srvs/srv/Trigger", "forget stamps and states")
SERVICES = (RESET,)
"""In the order of the table."""


def of_a_mask() -> dict[str, Output]:
    """By name, what one mask consists of; all carry its stamp."""
    return {output.name: output for output in OUTPUTS if output.make is not None}


def is_output(topic: str) -> bool:
    """Whether a node of ours, in whatever namespace, or a recording of a run says this topic."""
    node, _, name = topic.rpartition("/")
    names = {output.name for output in OUTPUTS}
    return name in names and messages.NODE in node.split("/")[-2:]  # a camera may stand between


def recorded_topic(name: str, camera: str = "") -> str:
    """Where a recording keeps what `recorded` names, of one of several cameras."""
    (output,) = [one for one in OUTPUTS if one.name == name]
    return output.topic_of(camera).replace("~", f"/{messages.NODE}", 1)


def recorded(
    mask: Mask, *, first: bool, heard: Mapping[str, bytes] | None = None
) -> list[tuple[str, str, Fields | bytes, bool]]:
    """(topic below /robustseg, type, fields or CDR, latched) of what a recording keeps of a mask.

    Args:
        mask: the mask.
        first: whether it is the first one: what is said once precedes it.
        heard: name -> CDR of what a node said of it, and is kept as it is.
    """
    stamp_ns = mask.label_map.stamp_ns
    kept: list[tuple[str, str, Fields | bytes, bool]] = [
        (output.name, output.type, output.names(mask.spec, stamp_ns), True)
        for output in OUTPUTS
        if first and output.names is not None
    ]
    for name, output in of_a_mask().items():
        if output.large and not mask.points.recorded:
            continue
        if heard is not None and name in heard:
            kept.append((name, output.type, heard[name], False))
        elif output.make is not None:
            kind, make = output.recorded or (output.type, output.make)
            if (fields := make(mask)) is not None:
                kept.append((name, kind, fields, False))
    return kept


def table() -> list[str]:
    """The rows of the outputs in docs/reference/topics.md."""
    return [
        f"| `{output.topic}` | {_shown(output.type)} {output.form}".rstrip() + f" | {output.note} |"
        for output in OUTPUTS
    ]


def service_table() -> list[str]:
    """The rows of the services there."""
    return [f"| `{one.name}` | {_shown(one.type)} | {one.note} |" for one in SERVICES]


def _shown(kind: str) -> str:
    """A ROS type as the tables write it."""
    package, _, short = kind.replace("/srv/", "/msg/").partition("/msg/")
    return short if package in ("sensor_msgs", "diagnostic_msgs") else f"{package}/{short}"
