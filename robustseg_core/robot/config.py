"""`robot.yaml`: all that a robot says about itself, checked down to each sensor's limits."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pydantic import Field, field_validator, model_validator

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
    lay_over,
    parse,
    places_of,
)
from robustseg_core.errors import RobustsegError, did_you_mean
from robustseg_core.geometry.camera import Camera
from robustseg_core.modalities import limits_of, load, ranked, usable
from robustseg_core.strict import Misfit, within
from robustseg_core.types import LONGEST_NAME, kind_of, name_of, network_size, parse_size

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
        default_factory=dict,
        description="modality, or modality.name of several -> sensor; `robustseg inspect` guesses "
        "them.",
    )
    cameras: tuple[str, ...] = Field(
        (), description="Of several cameras, the names of those that get masks; empty: all."
    )
    weights: str = Field(
        "",
        description="Checkpoint (.safetensors) or what `robustseg export` made of one; empty or "
        "`street`: the shipped student, trained on simulated streets only; `street_tiny`: a tenth "
        "of it, for a slow computer; `untrained`: random weights, for plumbing.",
    )
    input_size: str = Field(
        "",
        description="WIDTHxHEIGHT at which the network sees the scene, sides that divide by 32, as "
        "512x320; empty: as it was trained. A larger one shows smaller things, and takes as many "
        "times as long as it has pixels (docs/students.md). What `robustseg export` made has one "
        "size.",
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
    views: dict[str, ViewConfig] = Field(
        default_factory=dict,
        description="Name of one of several cameras -> what of `view` is its own.",
    )
    sync: RobotSync = Field(default_factory=RobotSync, description="Deadline synchronizer.")
    health: HealthConfig = Field(default_factory=HealthConfig, description="Health monitor.")
    points: PointsConfig = Field(default_factory=PointsConfig, description="Labelled cloud.")
    black_box: BlackBoxConfig = Field(
        default_factory=BlackBoxConfig, description="What happened around a fault, as a file."
    )

    @field_validator("input_size")
    @classmethod
    def _divides(cls, text: str) -> str:
        if text and (up := network_size(*(size := parse_size(text)))) != size:
            raise ValueError(f"{text} has a side that does not divide by 32; use {up[1]}x{up[0]}")
        return text

    @property
    def input_shape(self) -> tuple[int, int] | None:
        """(H, W) of `input_size`; None: that of the checkpoint."""
        return parse_size(self.input_size) if self.input_size else None

    @property
    def topics(self) -> dict[str, str]:
        """modality -> topic of the streams that have one."""
        return {name: stream.topic for name, stream in self.streams.items() if stream.topic}

    @property
    def camera_names(self) -> tuple[str, ...]:
        """The views that get a mask each, in the order of their streams; one that needs no name is
        called "".

        A sensor with pixels of its own belongs to the view of its name, all others to every view
        (docs/specs/cameras.md).
        """
        known = tuple(dict.fromkeys(name_of(name) for name in self.topics if has_pixels(name)))
        return tuple(name for name in known if not self.cameras or name in self.cameras) or ("",)

    def of_camera(self, name: str) -> RobotConfig:
        """The robot that has one of its cameras alone, and what belongs to every view.

        Args:
            name: one of `camera_names`.
        """
        own = {s: c for s, c in self.streams.items() if not has_pixels(s) or name_of(s) == name}
        wanted = [
            stream
            for one in self.sync.reference
            for stream in own
            if one in (stream, kind_of(stream))
        ]
        changed: dict[str, Any] = {"streams": own, "cameras": (), "views": {}}
        if any(name_of(stream) for stream in own):
            reference = tuple(dict.fromkeys(wanted))
            changed["sync"] = self.sync.model_copy(update={"reference": reference})
        if name in self.views:
            told = self.views[name]
            mine = {field: getattr(told, field) for field in told.model_fields_set}
            changed["view"] = self.view.model_copy(update=mine)
        return self.model_copy(update=changed)

    def alone(self) -> RobotConfig:
        """The robot as one with a camera, and one sensor of each modality, that need no names.

        Raises:
            RobustsegError: it has several of one.
        """
        cameras = self.camera_names
        if len(cameras) > 1:
            raise RobustsegError(
                f"the robot has {len(cameras)} cameras ({', '.join(cameras)}), and this takes one; "
                f"say which: --set cameras=[{cameras[0]}]"
            )
        own = self.of_camera(*cameras)
        if not any(name_of(name) for name in own.topics):
            return self
        kinds: dict[str, str] = {}
        for name in own.topics:
            kind = kind_of(name)
            if (other := kinds.setdefault(kind, name)) != name:
                raise RobustsegError(
                    f"the robot has {other} and {name}, and this takes one {kind}; leave one out: "
                    f"--set \"streams.{name}.topic=''\""
                )
        poses = {kind_of(name): pose for name, pose in own.view.extrinsics.items()}
        return own.model_copy(
            update={
                "streams": {kind: own.streams[name] for kind, name in kinds.items()},
                "sync": own.sync.model_copy(
                    update={"reference": tuple(dict.fromkeys(map(kind_of, own.sync.reference)))}
                ),
                "view": own.view.model_copy(update={"extrinsics": poses}),
            }
        )

    @model_validator(mode="before")
    @classmethod
    def _one_level(cls, tree: Any) -> Any:
        """`rgb: {front: ...}`, as ROS and `--set` spell it, is `rgb.front`."""
        if not isinstance(tree, Mapping):
            return tree
        flat = dict(tree)
        if isinstance(tree.get("streams"), Mapping):
            flat["streams"] = _flattened(tree["streams"])
        if "view" in tree:
            flat["view"] = _placed(tree["view"])
        if isinstance(tree.get("views"), Mapping):
            flat["views"] = {name: _placed(view) for name, view in tree["views"].items()}
        return flat

    @model_validator(mode="after")
    def _limits_are_known(self) -> RobotConfig:
        for name, stream in self.streams.items():
            with within("streams", name):
                parse(limits_of(name), stream.limits, where=f"streams.{name}.limits")
        return self

    @model_validator(mode="after")
    def _names_are_good(self) -> RobotConfig:
        for name in self.streams:
            own, path = name_of(name), ("streams", name)
            if "." not in name:
                continue
            if own in StreamConfig.model_fields:
                raise Misfit(
                    f"streams.{name}: {own!r} is a key of every stream; "
                    f"call it something else, e.g. {kind_of(name)}.front",
                    path,
                )
            if not _NAME.fullmatch(own):
                raise Misfit(
                    f"streams.{name}: {own[:LONGEST_NAME]!r} is no name; give letters, digits and "
                    f"single underscores, a letter first, as in {kind_of(name)}.front_left",
                    path,
                )
        return self

    @model_validator(mode="after")
    def _names_belong_together(self) -> RobotConfig:
        named = [name for name in self.topics if name_of(name)]
        for name, stream in self.streams.items():
            others = [other for other in named if kind_of(other) == name]
            if others and stream.model_copy(update={"limits": {}, "topic": ""}) != StreamConfig():
                raise Misfit(
                    f"streams.{name} is no stream, and the robot has {', '.join(others)}; set "
                    f"streams.{others[0]}, and so on",
                    ("streams", name),
                )
        for name in self.topics:
            alike = [
                other
                for other in named
                if kind_of(other) == kind_of(name) or (has_pixels(other) and has_pixels(name))
            ]
            if not name_of(name) and alike:
                raise Misfit(
                    f"streams.{name} has no name, and streams.{alike[0]} has one; call it "
                    f"{name}.{name_of(alike[0])} if it belongs there, or by another name",
                    ("streams", name),
                )
            if name_of(name) and self.topics[name] == AUTO:
                raise Misfit(
                    f"streams.{name}.topic is {AUTO}, and nothing says which of several is meant; "
                    "give its topic, as `robustseg inspect` lists them",
                    ("streams", name, "topic"),
                )
            kind = kind_of(name)
            others = [other for other in named if kind_of(other) == kind and other != name]
            if others and not has_pixels(name) and not load(kind).merges:
                raise Misfit(
                    f"streams.{name} and streams.{others[0]}: several streams of {kind} cannot be "
                    "merged; configure one",
                    ("streams", name),
                )
            twins = [o for o in others if self.topics[o] == self.topics[name]]
            if twins:
                raise Misfit(
                    f"streams.{name}.topic is {self.topics[name]!r}, and so is that of "
                    f"streams.{twins[0]}; give each its own, or leave one out",
                    ("streams", name, "topic"),
                )
        return self

    @model_validator(mode="after")
    def _cameras_are_known(self) -> RobotConfig:
        known = [n for n in dict.fromkeys(map(name_of, filter(has_pixels, self.topics))) if n]
        for name in self.cameras:
            if name not in known:
                raise Misfit(
                    f"cameras: no camera is called {name!r}; {_cameras(name, known)}", ("cameras",)
                )
        for name in self.views:
            if name not in known:
                raise Misfit(
                    f"views.{name}: no camera is called {name!r}; {_cameras(name, known)}",
                    ("views", name),
                )
        if len(self.camera_names) > 1:
            for field in ("frame_id", "intrinsics", "extrinsics"):
                if getattr(self.view, field):
                    first = self.camera_names[0]
                    raise Misfit(
                        f"view.{field} is one camera's, and the robot has "
                        f"{', '.join(self.camera_names)}; write views.{first}.{field}, and so on",
                        ("view", field),
                    )
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
            if load(source).ranges and source == kind_of(source):
                return self
        known = " or ".join(name for name, kind in usable().items() if kind.ranges)
        raise Misfit(f"points.source: {source!r} knows no distances; give {AUTO}, {known}", path)

    @model_validator(mode="after")
    def _view_is_possible(self) -> RobotConfig:
        own = {f"views.{name}": self.of_camera(name).view for name in self.views}
        for where, view in {"view": self.view, **own}.items():
            _check_view(where, view, self.topics)
        return self


_NAME = re.compile(r"(?!.*__)[A-Za-z][A-Za-z0-9_]*")
"""A token of a topic's name, as ROS has it."""


def has_pixels(stream: str) -> bool:
    """Whether a stream has pixels of its own, so that it belongs to one camera."""
    return not load(stream).needs_view


def _flattened(streams: Mapping[Any, Any]) -> dict[Any, Any]:
    """Groups of streams below a modality, each under its whole name; the rest as it is."""
    flat: dict[Any, Any] = {}

    def put(name: Any, value: Any) -> None:
        known = flat.get(name)
        if isinstance(known, Mapping) and isinstance(value, Mapping):
            value = lay_over(known, value)
        flat[name] = value

    for key, value in streams.items():
        below = value if isinstance(value, Mapping) else {}
        inner = {name: one for name, one in below.items() if _is_stream(name, one)}
        if rest := {name: one for name, one in below.items() if name not in inner}:
            put(key, rest)
        elif not inner:
            put(key, value)
        for name, one in inner.items():
            put(f"{key}.{name}", one)
    return flat


def _placed(view: Any) -> Any:
    """A view whose extrinsics go by the whole names of streams."""
    told = view.get("extrinsics") if isinstance(view, Mapping) else None
    if not isinstance(told, Mapping):
        return view
    flat: dict[Any, Any] = {}
    for name, pose in told.items():
        inner = pose if isinstance(pose, Mapping) else None
        flat |= {name: pose} if inner is None else {f"{name}.{k}": v for k, v in inner.items()}
    return {**view, "extrinsics": flat}


def nested(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A parameter file as ROS takes it: streams with a name stand below their modality.

    rcl_yaml_param_parser joins the keys of all levels with dots, and counts each as one level: what
    comes behind a group whose own key has a dot would be taken for a part of it.
    """
    streams = tree.get("streams")
    if not isinstance(streams, Mapping):
        return dict(tree)
    groups: dict[Any, Any] = {}
    for name, one in _flattened(streams).items():
        kind, dot, own = str(name).partition(".")
        known = groups.get(kind)
        below = {own: one} if dot else one
        if isinstance(known, Mapping) and isinstance(below, Mapping):
            below = {**known, **below}
        groups[kind] = below
    return {**tree, "streams": groups}


def _is_stream(name: Any, value: Any) -> bool:
    """Whether what stands below a modality is one of its streams, and none of its own keys."""
    fields = StreamConfig.model_fields
    return name not in fields and isinstance(value, Mapping) and bool(fields.keys() & value.keys())


def _cameras(name: str, known: Sequence[str]) -> str:
    """The way out of a camera that there is not."""
    if known:
        return did_you_mean(name, known)
    return f"no camera of this robot has a name; write streams.rgb.{name} for one"


def _check_view(where: str, view: ViewConfig, topics: Collection[str]) -> None:
    path = tuple(where.split("."))
    for name in view.extrinsics:
        with within(*path, "extrinsics", name):
            load(name)  # an unknown one is an error with the nearest name
        several = [s for s in topics if kind_of(s) == name and s != name]
        if several and name not in topics:
            raise Misfit(
                f"{where}.extrinsics.{name}: no stream is called so; give {' or '.join(several)}",
                (*path, "extrinsics", name),
            )
    if view.intrinsics and view.height and view.width:
        fx, fy, cx, cy = view.intrinsics
        if wrong := Camera(view.height, view.width, fx, fy, cx, cy).impossible:
            raise Misfit(
                f"{where}.intrinsics: {wrong}; give fx, fy, cx, cy of these pixels",
                (*path, "intrinsics"),
            )


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
