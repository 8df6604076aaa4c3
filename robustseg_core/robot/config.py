"""`robot.yaml`: all that a robot says about itself, checked down to each sensor's limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator

from robustseg_core.config import (
    AUTO,
    BlackBoxConfig,
    HealthConfig,
    PointsConfig,
    StreamConfig,
    Strict,
    SyncConfig,
    Tree,
    ViewConfig,
    parse,
    places_of,
)
from robustseg_core.geometry.camera import Camera
from robustseg_core.modalities import limits_of, load, ranked
from robustseg_core.strict import Misfit, within

IMAGE, COMPRESSED_IMAGE = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
NODE_ONLY = ("use_sim_time", "autostart", "start_type_description_service", "qos_overrides")
"""Parameters that a file for `ros2 launch` may hold beside the robot's."""


class RobotSync(SyncConfig):
    """The deadline synchronizer of sensors whose ranks are known."""

    reference: tuple[str, ...] = Field(
        default_factory=ranked, description=SyncConfig.model_fields["reference"].description
    )


class RobotConfig(Strict):
    """Everything that a robot says about itself: `robot.yaml`."""

    streams: dict[str, StreamConfig] = Field(
        default_factory=dict, description="modality -> sensor; `robustseg inspect` guesses them."
    )
    weights: str = Field(
        "",
        description="Checkpoint (.safetensors) or what `robustseg export` made of one; empty or "
        "`street`: the shipped student, trained on simulated streets only; `untrained`: random "
        "weights, for plumbing.",
    )
    device: str = Field(
        "auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N."
    )
    engine: str = Field(
        "auto",
        pattern=r"^(auto|eager|openvino|onnxruntime)$",
        description="What runs the network: eager (PyTorch), openvino or onnxruntime (CPU, extra "
        "`engines`); auto: what the weights were exported for (`robustseg export`), else eager.",
    )
    cpu_threads: int = Field(
        0,
        ge=0,
        le=1024,
        description="Threads of the network on a CPU; 0: all cores but one, so that the sensors' "
        "callbacks are not starved.",
    )
    alpha: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="Of the pixels that keep their label, at most this share is wrong; the others "
        "become 255. 0: all keep it. The checkpoint must promise it (`robustseg calibrate`; "
        "docs/specs/confidence.md).",
    )
    view: ViewConfig = Field(
        default_factory=ViewConfig, description="Pixel grid, if not on topics."
    )
    sync: RobotSync = Field(default_factory=RobotSync, description="Deadline synchronizer.")
    health: HealthConfig = Field(default_factory=HealthConfig, description="Health monitor.")
    points: PointsConfig = Field(default_factory=PointsConfig, description="Labelled cloud.")
    black_box: BlackBoxConfig = Field(
        default_factory=BlackBoxConfig, description="What happened around a fault, as a file."
    )

    @property
    def topics(self) -> dict[str, str]:
        """modality -> topic of the streams that have one."""
        return {name: stream.topic for name, stream in self.streams.items() if stream.topic}

    @model_validator(mode="after")
    def _limits_are_known(self) -> RobotConfig:
        for name, stream in self.streams.items():
            with within("streams", name):
                parse(limits_of(name), stream.limits, where=f"streams.{name}.limits")
        return self

    @model_validator(mode="after")
    def _transports_fit(self) -> RobotConfig:
        for name, stream in self.streams.items():
            if stream.transport == AUTO:
                continue
            path = ("streams", name, "transport")
            told, known = f"streams.{name}.transport is {stream.transport}", load(name).transports
            if not known:
                raise Misfit(f"{told}, and {name} is no image; leave it out", path)
            if stream.transport not in known:
                raise Misfit(f"{told}; of {name}, give auto, {' or '.join(known)}", path)
            if (named := base_of(stream.topic)[1]) not in ("raw", stream.transport):
                raise Misfit(
                    f"{told}, and streams.{name}.topic {stream.topic!r} is named for {named}; "
                    "give the topic without its transport, or transport auto",
                    path,
                )
        return self

    @model_validator(mode="after")
    def _points_have_a_source(self) -> RobotConfig:
        source, path = self.points.source, ("points", "source")
        if source == AUTO:
            return self
        with within(*path):
            if load(source).ranges:
                return self
        known = " or ".join(name for name in ranked() if load(name).ranges)
        raise Misfit(f"points.source: {source!r} knows no distances; give {AUTO}, {known}", path)

    @model_validator(mode="after")
    def _view_is_possible(self) -> RobotConfig:
        view = self.view
        for name in view.extrinsics:
            with within("view", "extrinsics", name):
                load(name)  # an unknown one is an error with the nearest name
        if view.intrinsics and view.height and view.width:
            fx, fy, cx, cy = view.intrinsics
            if wrong := Camera(view.height, view.width, fx, fy, cx, cy).impossible:
                raise Misfit(
                    f"view.intrinsics: {wrong}; give fx, fy, cx, cy of these pixels",
                    ("view", "intrinsics"),
                )
        return self


def base_of(topic: str) -> tuple[str, str]:
    """(topic without image_transport's name, that name) of an image's topic; raw has none."""
    for transport in ("compressed", "compressedDepth"):
        if topic.endswith(f"/{transport}"):
            return topic.removesuffix(f"/{transport}"), transport
    return topic, "raw"


def parse_robot(tree: Mapping[str, Any]) -> RobotConfig:
    """The robot of a parameter file, without what only a ROS node understands (`NODE_ONLY`).

    Raises:
        RobustsegError: an unknown key, or a value of the wrong kind or range.
    """
    own = {k: v for k, v in tree.items() if not is_node_only(str(k))}
    return parse(RobotConfig, Tree(own, places_of(tree)))


def is_node_only(name: str) -> bool:
    """Whether a parameter, by its dotted name, is a ROS node's and none of the robot's."""
    return name.partition(".")[0] in NODE_ONLY
