"""Configuration: YAML and `key=value` words into frozen pydantic models.

An unknown key is an error. One table serves everybody: the descriptions below are the ROS parameter
descriptors, the template that `robustseg params` prints and the error texts. Defaults are written
here and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from robustseg_core.errors import RobustsegError, did_you_mean


class Strict(BaseModel):
    """Base of every configuration group: frozen, and deaf to no typo."""

    model_config = ConfigDict(frozen=True, extra="forbid")


C = TypeVar("C", bound=Strict)


class StreamConfig(Strict):
    """One sensor of the robot."""

    topic: str = Field("", description="Topic of this modality; empty: the robot has none.")
    camera_info: str = Field(
        "", description="CameraInfo topic; empty: guessed as the `camera_info` beside the topic."
    )
    rectified: bool | None = Field(
        None, description="Image is undistorted already; unset: true if the topic says `rect`."
    )
    enabled: bool = Field(True, description="False forces the modality off.")
    rate_hz: float = Field(
        0.0, ge=0, le=100_000, description="Expected message rate; 0 learns it from the stream."
    )
    slop_ms: float = Field(
        0.0, ge=0, le=10_000,
        description="Largest stamp difference that counts as simultaneous; 0: half a period.",
    )  # fmt: skip
    max_age_ms: float = Field(
        0.0, ge=0, le=60_000,
        description="Oldest data that may be held beside a newer reference; 0: 1.2 own periods.",
    )  # fmt: skip
    limits: dict[str, Any] = Field(
        default_factory=dict, description="Content limits, as the modality's `Limits` names them."
    )


class SyncConfig(Strict):
    """The deadline synchronizer (ros_anchors 4.3)."""

    deadline_ms: float = Field(
        40.0, gt=0, le=10_000, description="Longest wait for a due sensor after the reference."
    )
    deadline_share: float = Field(
        0.8, gt=0, le=1, description="... and never longer than this share of the reference period."
    )
    reference: tuple[str, ...] = Field(
        ("rgb", "depth", "event", "lidar"),
        description="Which modality opens a set, most wanted first; fails over to the next.",
    )
    free_rate_hz: float = Field(
        30.0, gt=0, le=1000,
        description="Rate of sets when only asynchronous sensors (events) could open them.",
    )  # fmt: skip
    ring: int = Field(8, ge=2, le=1000, description="Readings kept per stream.")
    jump_s: float = Field(
        1.0, gt=0, description="A stamp this far from its peers' is an outlier or a clock jump."
    )
    offset_ms: float = Field(
        50.0, gt=0, le=1000,
        description="A sensor whose stamps, or delivery, have moved by more than this against two "
        "others is left out until they are back.",
    )  # fmt: skip
    loop_s: float = Field(
        0.1, gt=0, description="All stamps going back by more than this is a bag loop: one reset."
    )


class HealthConfig(Strict):
    """The health monitor's state machine (ros_anchors 4.2)."""

    silence_periods: float = Field(
        3.0, ge=1.5, description="DEAD after this many expected periods without a message, ..."
    )
    silence_margin_s: float = Field(
        0.015, ge=0, description="... and this long (a rate of a third is slow, not silent), ..."
    )
    silence_min_s: float = Field(0.15, gt=0, description="... but not sooner than this, ...")
    silence_max_s: float = Field(
        1.0, gt=0, description="... nor later than this (or 1.5 periods, for very slow sensors)."
    )
    grace_s: float = Field(10.0, ge=0, description="Start-up time before a silent stream is WARN.")
    good_to_start: int = Field(2, ge=1, description="Good messages in a row from WAITING to LIVE.")
    bad_to_die: int = Field(3, ge=1, description="Bad messages in a row from LIVE to DEAD.")
    error_density: int = Field(
        5, ge=1, description="DEAD when bad messages (+1) outweigh good ones (-1) by this much."
    )
    stuck_count: int = Field(5, ge=2, description="Identical payloads in a row that mean stuck ...")
    stuck_s: float = Field(0.3, ge=0, description="... if they also span this time.")
    stuck_needs_motion: bool | None = Field(
        None,
        description="Believe a freeze only while another stream changes (a simulator or a test rig "
        "may repeat every byte); unset: as `simulated` says.",
    )
    simulated: bool = Field(
        False, description="The sensors are simulated; the node sets it under use_sim_time."
    )
    recover_count: int = Field(5, ge=1, description="Good messages in a row from DEAD to LIVE ...")
    recover_s: float = Field(0.5, ge=0, description="... spanning at least this; doubles ...")
    backoff_max_s: float = Field(8.0, gt=0, description="... up to this with each relapse ...")
    relapse_s: float = Field(30.0, ge=0, description="... within this time after recovering.")
    degraded_below: float = Field(0.5, ge=0, le=1, description="LIVE to DEGRADED under this score,")
    degraded_above: float = Field(0.65, ge=0, le=1, description="and back above this one,")
    degraded_s: float = Field(0.5, ge=0, description="when it has stayed there for so long.")
    slow_ratio: float = Field(
        0.5, gt=0, lt=1, description="Warn of a rate below this share of the expected one."
    )
    doubts_to_warn: int = Field(
        3, ge=1, description="Doubtful messages in a row that are worth a warning."
    )
    notice_s: float = Field(
        2.0, ge=0, description="How long something that happened once stays in the report."
    )


class ViewConfig(Strict):
    """The pixel grid that all sensors are brought onto, when topics do not say it."""

    frame_id: str = Field("", description="Optical frame; empty: that of the camera's CameraInfo.")
    width: int = Field(0, ge=0, le=16384, description="Mask width; 0: that of the camera.")
    height: int = Field(0, ge=0, le=16384, description="Mask height; 0: that of the camera.")
    intrinsics: tuple[float, ...] = Field(
        (), description="fx, fy, cx, cy in pixels; empty: from CameraInfo."
    )
    extrinsics: dict[str, tuple[float, ...]] = Field(
        default_factory=dict,
        description="modality -> x y z qx qy qz qw: pose of the sensor in the view's frame; "
        "replaces TF.",
    )

    @model_validator(mode="after")
    def _lengths(self) -> ViewConfig:
        if len(self.intrinsics) not in (0, 4):
            raise ValueError(f"intrinsics has {len(self.intrinsics)} numbers; give fx, fy, cx, cy")
        for name, pose in self.extrinsics.items():
            if len(pose) != 7:
                raise ValueError(
                    f"extrinsics.{name} has {len(pose)} numbers; give x y z qx qy qz qw"
                )
        return self


class _Loader(yaml.SafeLoader):
    """YAML 1.2 floats: PyYAML alone reads `3e-4` as a string."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def read_yaml(text: str, *, source: str) -> dict[str, Any]:
    """The mapping in `text`; a ROS parameter file (`node: ros__parameters:`) is unwrapped.

    Raises:
        RobustsegError: not YAML, or not a mapping; the text names `source`.
    """
    try:
        tree = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise RobustsegError(f"{source} is not YAML: {' '.join(str(error).split())}") from None
    tree = {} if tree is None else tree
    if not isinstance(tree, dict):
        raise RobustsegError(f"{source} holds a {type(tree).__name__}; expected `key: value` lines")
    nodes = [v for v in tree.values() if isinstance(v, dict) and "ros__parameters" in v]
    if len(nodes) > 1:
        raise RobustsegError(
            f"{source} has parameters of {len(nodes)} nodes ({list(tree)}); keep one"
        )
    return dict(nodes[0]["ros__parameters"] or {}) if nodes else tree


def override(tree: dict[str, Any], words: Iterable[str]) -> dict[str, Any]:
    """`tree` with `dotted.key=value` words put in; values are read as YAML.

    Raises:
        RobustsegError: a word without `=`.
    """
    tree = dict(tree)
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise RobustsegError(f"{word!r} is not an override; write key=value, e.g. device=cpu")
        branch = tree
        *path, leaf = key.split(".")
        for name in path:
            child = branch.get(name)
            branch[name] = dict(child) if isinstance(child, Mapping) else {}
            branch = branch[name]
        branch[leaf] = yaml.load(value, Loader=_Loader)
    return tree


def parse(model: type[C], tree: Mapping[str, Any], *, where: str = "") -> C:
    """`tree` as a `model`.

    Raises:
        RobustsegError: names the first bad key, its value, what was expected and the way out.
    """
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise RobustsegError(_explain(model, error, where)) from None


def load(model: type[C], path: Path | None = None, words: Iterable[str] = ()) -> C:
    """A `model` from a YAML file and `key=value` words (the words win).

    Raises:
        RobustsegError: missing file, no YAML, unknown key, value of the wrong kind or range.
    """
    tree = {} if path is None else read_file(path)
    return parse(model, override(tree, words))


def read_file(path: Path) -> dict[str, Any]:
    """As `read_yaml`, of a file.

    Raises:
        RobustsegError: it cannot be read, or holds no mapping.
    """
    try:
        text = path.read_text()
    except OSError as error:
        raise RobustsegError(f"cannot read {path}: {error.strerror}; give a YAML file") from None
    except UnicodeDecodeError:
        raise RobustsegError(f"{path} is not a text file; give a YAML file") from None
    return read_yaml(text, source=str(path))


def _explain(model: type[Strict], error: ValidationError, where: str) -> str:
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    dotted = ".".join(([where] if where else []) + path)
    if first["type"] == "extra_forbidden":
        return f"unknown key {dotted!r}; {did_you_mean(path[-1], _keys_at(model, path[:-1]))}"
    text = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return f"{dotted}: {text}" if dotted else text
    return f"{dotted} is {first['input']!r}: {text[0].lower()}{text[1:]}"


def _keys_at(model: type[BaseModel], path: list[str]) -> list[str]:
    """Field names of the group that `path` leads to, below `model`."""
    for name in path:
        field = model.model_fields.get(name)
        if field is None:  # a key of a mapping, as in streams.<modality>
            continue
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
        groups = [k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)]
        if groups:
            model = groups[0]
    return list(model.model_fields)
