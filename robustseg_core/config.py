"""Configuration: YAML and `key=value` words into frozen pydantic models.

An unknown key is an error. One table serves everybody: the descriptions below are the ROS parameter
descriptors, the template that `robustseg params` prints and the error texts. Defaults are written
here and nowhere else.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator

from robustseg_core.errors import RobustsegError
from robustseg_core.storage.budget import DEEPEST, read_text
from robustseg_core.strict import SHORT, Misfit, Strict, misfit

__all__ = [
    "AUTO",
    "DEAD",
    "FIXED",
    "LIVE",
    "OFF",
    "BlackBoxConfig",
    "HealthConfig",
    "PointsConfig",
    "StreamConfig",
    "Strict",
    "SyncConfig",
    "Tree",
    "ViewConfig",
    "lay_over",
    "load",
    "override",
    "parse",
    "parse_yaml",
    "read_file",
    "read_yaml",
    "scalar",
]


C = TypeVar("C", bound=Strict)

LIVE: dict[str, Any] = {"live": True}
"""`json_schema_extra` of a field, or in a model's configuration of all its fields: it may change
while a node is active. Who reads it does so for each message, and nothing was learned by it."""
FIXED: dict[str, Any] = {"live": False}
"""... of a field of such a model: it takes effect at activation."""

OFF, AUTO, DEAD = "off", "auto", "dead"
"""Modes of a stream."""

_MOST_REPEATED = 1 << 18
"""Characters and nodes that a YAML's aliases may stand for, all together."""
_DEEPEST_KEY = 8
"""Levels of keys whose lines are remembered; no model has more."""


class Tree(dict[str, Any]):
    """Settings that remember where they were written.

    Args:
        values: the settings.
        places: keys from the outermost on -> e.g. `robot.yaml:3`; no key -> `robot.yaml`.
    """

    def __init__(
        self, values: Mapping[str, Any] | None = None, places: Mapping[tuple[str, ...], str] = {}
    ) -> None:
        super().__init__(values or {})
        self.places = dict(places)

    def place(self, path: tuple[str, ...]) -> str:
        """Where the value at `path` was written, or the group that lacks it; empty: in no file."""
        found, branch = self.places.get((), ""), dict[str, Any](self)
        for depth, name in enumerate(path, 1):
            named = {str(k): v for k, v in branch.items()} if isinstance(branch, Mapping) else {}
            if name not in named:
                break  # an item of a list, or a key that is missing
            found, branch = self.places.get(path[:depth], ""), named[name]
        return found


yaml.SafeDumper.add_representer(Tree, yaml.SafeDumper.represent_dict)


def places_of(tree: Mapping[str, Any]) -> dict[tuple[str, ...], str]:
    """The places that `tree` remembers; of a plain mapping none."""
    return tree.places if isinstance(tree, Tree) else {}


def lay_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> Tree:
    """`above` over `below`: groups are laid over one another key by key, all else is replaced."""
    kept = {p: s for p, s in places_of(below).items() if not _replaced(p, below, above)}
    return Tree(_merged(below, above), kept | places_of(above))


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            merged[key] = _merged(old, value)
        else:
            merged[key] = value
    return merged


def _replaced(path: tuple[str, ...], below: Mapping[str, Any], above: Mapping[str, Any]) -> bool:
    """Whether what is written at `path` of `below` is not there any more."""
    old, new = below, above
    for name in path:
        if name not in new:
            return False
        old, new = old[name], new[name]
        if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
            return True
    return False


class StreamConfig(Strict):
    """One sensor of the robot."""

    topic: str = Field(
        "",
        description="Topic of this modality; empty: the robot has none; auto: the one that looks "
        "like it, as `robustseg inspect` guesses.",
    )
    camera_info: str = Field(
        "", description="CameraInfo topic; empty: guessed as the `camera_info` beside the topic."
    )
    transport: str = Field(
        "auto",
        pattern=r"^(auto|raw|compressed|compressedDepth)$",
        description="Of an image, how it comes (image_transport): raw, compressed or "
        "compressedDepth, on the topic's sibling of that name; auto: the topic as it is, else the "
        "sibling that is there.",
    )
    rectified: bool | None = Field(
        None, description="Image is undistorted already; unset: true if the topic says `rect`."
    )
    enabled: bool = Field(
        default=True, description="False: as mode off, whatever that says.", json_schema_extra=LIVE
    )
    mode: str = Field(
        "auto",
        pattern=r"^(off|auto|dead)$",
        description="off: its messages are ignored, and nothing is said of it; dead: acknowledged "
        "as dead, so that it is not used and nobody is alarmed; auto: health decides.",
        json_schema_extra=LIVE,
    )
    rate_hz: float = Field(
        0.0, ge=0, le=100_000, description="Expected message rate; 0 learns it from the stream."
    )
    slop_ms: float = Field(
        0.0,
        ge=0,
        le=10_000,
        description="Largest stamp difference that counts as simultaneous; 0: half a period.",
        json_schema_extra=LIVE,
    )
    max_age_ms: float = Field(
        0.0,
        ge=0,
        le=60_000,
        description="Oldest data that may be held beside a newer reference; 0: 1.2 own periods.",
        json_schema_extra=LIVE,
    )
    limits: dict[str, Any] = Field(
        default_factory=dict, description="Content limits, as the modality's `Limits` names them."
    )

    @field_validator("mode", mode="before")
    @classmethod
    def _word(cls, value: Any) -> Any:
        return OFF if value is False else value  # YAML 1.1 reads `off` as a boolean

    @property
    def in_force(self) -> str:
        """The mode: `OFF`, `AUTO` or `DEAD`."""
        return self.mode if self.enabled else OFF

    @property
    def why_off(self) -> str:
        """What in the file switches it off."""
        return "mode is off" if self.enabled else "enabled is false"


class SyncConfig(Strict):
    """The deadline synchronizer (docs/specs/synchronizer.md)."""

    deadline_ms: float = Field(
        40.0, gt=0, le=10_000, description="Longest wait for a due sensor after the reference."
    )
    deadline_share: float = Field(
        0.8, gt=0, le=1, description="... and never longer than this share of the reference period."
    )
    reference: tuple[str, ...] = Field(
        (),
        description="Which modality opens a set, most wanted first; fails over to the next. Empty: "
        "by rank, as everywhere.",
    )
    free_rate_hz: float = Field(
        30.0,
        gt=0,
        le=1000,
        description="Rate of sets when only asynchronous sensors (events) could open them.",
    )
    ring: int = Field(8, ge=2, le=1000, description="Readings kept per stream.")
    jump_s: float = Field(
        1.0, gt=0, description="A stamp this far from its peers' is an outlier or a clock jump."
    )
    offset_ms: float = Field(
        50.0,
        gt=0,
        le=1000,
        description="A sensor whose stamps, or delivery, have moved by more than this against two "
        "others is named; by more than 200 ms, or ahead, it is left out until they are back.",
    )
    loop_s: float = Field(
        0.1, gt=0, description="All stamps going back by more than this is a bag loop: one reset."
    )


class HealthConfig(Strict):
    """The health monitor's state machine (docs/specs/health.md)."""

    model_config = ConfigDict(json_schema_extra=LIVE)

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
        default=False,
        description="The sensors are simulated; the node sets it under use_sim_time.",
        json_schema_extra=FIXED,
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
    compare: bool = Field(
        default=True,
        description="Hold sensors against each other: who is merely suspected counts for less, and "
        "who is proven turned, mirrored, of another scale or elsewhere is left out.",
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

    max_distance_m: float = Field(
        100.0,
        gt=0,
        le=100_000,
        description="A transform that puts a sensor farther than this from the view's camera is "
        "refused; the last good one stays.",
    )

    tf_grace_s: float = Field(
        0.2,
        ge=0,
        le=10,
        description="Of a mount that moves (/tf): data may be newer than its newest transform, or "
        "older than the oldest, by so much; then that one is used, and nothing is extrapolated. "
        "Beyond it the sensor is left out (no_tf).",
    )
    tf_kept_s: float = Field(
        10.0, gt=0, le=600, description="How much of the past of /tf is kept, as tf2 does."
    )

    @model_validator(mode="after")
    def _possible(self) -> ViewConfig:
        if len(self.intrinsics) not in (0, 4):
            raise ValueError(f"intrinsics has {len(self.intrinsics)} numbers; give fx, fy, cx, cy")
        for name, pose in self.extrinsics.items():
            if len(pose) != 7:
                raise ValueError(
                    f"extrinsics.{name} has {len(pose)} numbers; give x y z qx qy qz qw"
                )
            self._check_pose(name, pose)
        if self.intrinsics:
            self._check_lens(*self.intrinsics)
        return self

    def _check_pose(self, name: str, pose: tuple[float, ...]) -> None:
        shown = f"extrinsics.{name} is {list(pose)}"
        if not all(map(math.isfinite, pose)):
            raise ValueError(f"{shown}; give finite numbers x y z qx qy qz qw")
        if not 0.5 <= (length := math.hypot(*pose[3:])) <= 2:
            raise ValueError(
                f"{shown}, whose quaternion has length {length:.3g}, expected 1; "
                "give x y z qx qy qz qw, with 0 0 0 1 for no rotation"
            )
        if (distance_m := math.hypot(*pose[:3])) > self.max_distance_m:
            raise ValueError(
                f"{shown}, {distance_m:.1f} m from the camera, limit {self.max_distance_m:g} m; "
                "give metres in the view's frame, or raise view.max_distance_m"
            )

    def _check_lens(self, fx: float, fy: float, cx: float, cy: float) -> None:
        """What is wrong for every image; where its size is configured, `Camera` knows more."""
        shown = f"intrinsics is {[fx, fy, cx, cy]}"
        if not all(map(math.isfinite, (fx, fy, cx, cy))) or min(fx, fy) <= 0:
            raise ValueError(f"{shown}; give finite fx, fy > 0, cx, cy in pixels")
        if min(cx, cy) < -0.5:
            raise ValueError(f"{shown}, a principal point outside every image; give pixels")


AUTO = "auto"


class PointsConfig(Strict):
    """The labelled cloud, `~/points`."""

    source: str = Field(
        AUTO,
        description="Whose points: a sensor that knows distances (lidar, depth), or auto: the "
        "LiDAR's, else depth's; organized, depth's, else the LiDAR's.",
    )
    organized: bool = Field(
        default=False,
        description="One point for each pixel of the mask, the nearest, NaN where there is none "
        "(Nav2's semantic layer); false: all points that land in the mask, one after the other.",
    )
    most: int = Field(
        200_000,
        ge=1,
        le=10_000_000,
        description="Of a sensor's points, if they are more than this, every n-th is taken; "
        "organized, all are.",
    )
    recorded: bool = Field(
        default=False,
        description="Whether the MCAP of `run` and `demo` holds them, too: 24 bytes a point.",
    )


class BlackBoxConfig(Strict):
    """The black box: what happened around a fault, as a file (docs/specs/black_box.md)."""

    folder: str = Field(
        "",
        description="Where fault_*.mcap are written, a folder of its own; empty: no black box.",
    )
    before_s: float = Field(
        5.0, ge=0.2, le=60, description="A file begins at least so long before a fault, ..."
    )
    after_s: float = Field(3.0, ge=0, le=60, description="... and ends so long after it.")
    memory_mb: float = Field(
        256.0,
        ge=1,
        le=65_536,
        description="Memory of the last seconds, and of files that wait to be written; where it is "
        "not enough, files begin later, or end earlier, and say so.",
    )
    files: int = Field(20, ge=1, le=10_000, description="Files that are kept, at most ...")
    total_mb: float = Field(
        2000.0, ge=1, le=10_000_000, description="... and their size, all together."
    )
    replace: bool = Field(
        default=False,
        description="Whether the oldest file that the black box wrote goes when there would be too "
        "many or too much; false: no more are written, and that is told.",
    )
    suspected: bool = Field(
        default=True,
        description="Whether it is a fault that a sensor is suspected (DEGRADED); false: only that "
        "it falls out of use.",
    )
    again_s: float = Field(
        60.0,
        ge=0,
        le=86_400,
        description="The same fault of the same sensor makes no second file before so long.",
    )

    def one_of(self, count: int) -> BlackBoxConfig:
        """What one of so many boxes has, which share the memory."""
        return self.model_copy(update={"memory_mb": self.memory_mb / count})


class _TwiceError(ValueError):
    """A key that stands in one mapping twice; YAML forbids it, and PyYAML lets the last one win.

    Args:
        text: of the key.
        first: line that it stands in first.
        line: line that it stands in again.
    """

    def __init__(self, text: str, first: int, line: int) -> None:
        again = f"first in line {first}" if first != line else "both times in this line"
        super().__init__(f"the key {SHORT.repr(text)} is there twice, {again}; keep one")
        self.line = line


class _Loader(yaml.SafeLoader):
    """YAML 1.2 floats: PyYAML alone reads `3e-4` as a string. Depth and aliases are bounded.

    A key that is there twice is an error.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._total = self._repeated = 0
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        """As PyYAML does; counts nodes as if every alias were written out."""
        if self.check_event(yaml.AliasEvent):
            node = super().compose_node(parent, index)
            if id(node) not in self._sizes:
                raise yaml.YAMLError("an alias stands inside of what it names")
            self._repeated += self._sizes[id(node)]
            self._total += self._sizes[id(node)]
            if self._repeated > _MOST_REPEATED:
                raise yaml.YAMLError(f"its aliases stand for over {_MOST_REPEATED} characters")
            return node
        self._depth += 1
        if self._depth > DEEPEST:
            raise yaml.YAMLError(f"it nests over {DEEPEST} levels deep")
        before = self._total
        node = super().compose_node(parent, index)
        self._total += len(node.value) + 1 if isinstance(node, yaml.ScalarNode) else 1
        self._depth -= 1
        self._sizes[id(node)] = self._total - before
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """As PyYAML does, of keys that all differ."""
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
                line = key.start_mark.line + 1
                if first := lines.setdefault((key.tag, key.value), 0):
                    raise _TwiceError(key.value, first, line)
                lines[key.tag, key.value] = line
        return node


_MERGE = "tag:yaml.org,2002:merge"
_FLOAT = re.compile(r"^[-+]?(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+$")
"""Numbers of YAML 1.2 that PyYAML takes for texts, such as 1e-3."""
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


def parse_yaml(text: str) -> Any:
    """What is in `text`; every YAML that robustseg reads comes through here.

    Raises:
        ValueError: it is no YAML, has a key twice, or would become too much.
    """
    return _composed(text)[0]


def _composed(text: str) -> tuple[Any, yaml.Node | None]:
    """What is in `text`, and the nodes that it is made of, as they are after making it.

    Raises:
        ValueError: as `parse_yaml`.
    """
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            return (None if node is None else loader.construct_document(node)), node
        finally:
            loader.dispose()
    except _TwiceError:
        raise
    except Exception as error:  # `!!int x` or a day 32: PyYAML's constructors raise anything
        named = "" if isinstance(error, yaml.YAMLError) else f"{type(error).__name__}: "
        raise ValueError(" ".join(f"{named}{error}".split())) from None


def _lines(
    node: yaml.Node | None, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], int]]:
    """(keys from the outermost on, line) of every key; merged ones where they were written."""
    if not isinstance(node, yaml.MappingNode) or len(path) >= _DEEPEST_KEY:
        return
    for key, value in node.value:
        if isinstance(key, yaml.ScalarNode):
            yield (*path, key.value), key.start_mark.line + 1
            yield from _lines(value, (*path, key.value))


def read_yaml(text: str, *, source: str) -> Tree:
    """The mapping in `text`, with its lines; a ROS file (`node: ros__parameters:`) is unwrapped.

    Raises:
        RobustsegError: not YAML, or not a mapping; the text names `source`, and the line of a key
            that is there twice.
    """
    try:
        tree, node = _composed(text)
    except _TwiceError as error:
        raise RobustsegError(f"{source}:{error.line}: {error}") from None
    except ValueError as error:
        said = str(error).replace('in "<unicode string>", ', "at ")  # PyYAML's name for a text
        raise RobustsegError(f"{source} is not YAML: {said}") from None
    tree = {} if tree is None else tree
    if not isinstance(tree, dict):
        raise RobustsegError(f"{source} holds a {type(tree).__name__}; expected `key: value` lines")
    nodes = [k for k, v in tree.items() if isinstance(v, dict) and "ros__parameters" in v]
    if len(nodes) > 1:
        raise RobustsegError(
            f"{source} has parameters of {len(nodes)} nodes ({list(tree)}); keep one"
        )
    own = (tree[nodes[0]]["ros__parameters"] or {}) if nodes else tree
    if not isinstance(own, dict):
        raise RobustsegError(
            f"{source} has a {type(own).__name__} as ros__parameters; expected `key: value` lines"
        )
    above = 2 if nodes else 0
    places = {path[above:]: f"{source}:{line}" for path, line in _lines(node)}
    return Tree(own, places | {(): source})


def override(tree: Mapping[str, Any], words: Iterable[str]) -> Tree:
    """`tree` with `dotted.key=value` words put in; values are read as YAML.

    Raises:
        RobustsegError: a word without `=`, a key with an empty part or below a plain value, or a
            value that is not YAML.
    """
    tree = Tree(tree, places_of(tree))
    for word in words:
        key, equals, value = word.partition("=")
        *path, leaf = key.split(".")
        if not equals or not all(part.strip() for part in (*path, leaf)):
            raise RobustsegError(f"{word!r} is not an override; write key=value, e.g. device=cpu")
        branch: dict[str, Any] = tree
        for depth, name in enumerate(path, 1):
            child = branch.get(name)
            if child is not None and not isinstance(child, Mapping):
                above = ".".join(path[:depth])
                raise RobustsegError(
                    f"{word!r} sets something below {above}, which is {SHORT.repr(child)}; "
                    f"write {above}=... for all of it"
                )
            branch[name] = dict(child or {})
            branch = branch[name]
        branch[leaf] = _value(value, key)
        whole = (*path, leaf)
        tree.places = {p: s for p, s in tree.places.items() if p[: len(whole)] != whole}
    return tree


def scalar(text: str) -> str:
    """`text` as a YAML value on one line, in ASCII, whatever is in it."""
    quoted = None if text.isprintable() and not _FLOAT.match(text) else '"'
    width = 10 * len(text) + 100
    return yaml.safe_dump(text, width=width, default_style=quoted).splitlines()[0]


def _value(text: str, key: str) -> Any:
    """The YAML value of an override."""
    try:
        return parse_yaml(text)
    except _TwiceError as error:
        raise RobustsegError(f"--set {key}: {error}") from None
    except ValueError as error:
        raise RobustsegError(
            f"--set {key}: {SHORT.repr(text)} is not YAML ({error}); "
            "put quotes around a text that has brackets, braces or colons in it"
        ) from None


def parse(model: type[C], tree: Mapping[str, Any], *, where: str = "") -> C:
    """`tree` as a `model`.

    Raises:
        RobustsegError: names the first bad key, its value, what was expected and the way out; and
            where it was written, if `tree` remembers that.
    """
    above = tuple(where.split(".")) if where else ()
    try:
        made: C = model.__pydantic_validator__.validate_python(tree)
    except ValidationError as error:
        wrong = misfit(model, error, above)
    except Misfit as error:  # of something that a validator made
        wrong = error
    else:
        return made
    place = wrong.place
    if isinstance(tree, Tree) and not place and wrong.path[: len(above)] == above:
        place = tree.place(wrong.path[len(above) :])
    raise Misfit(wrong.text, wrong.path, place)


def load(model: type[C], path: Path | None = None, words: Iterable[str] = ()) -> C:
    """A `model` from a YAML file and `key=value` words (the words win).

    Raises:
        RobustsegError: missing file, no YAML, unknown key, value of the wrong kind or range.
    """
    tree = Tree() if path is None else read_file(path)
    return parse(model, override(tree, words))


def read_file(path: Path) -> Tree:
    """As `read_yaml`, of a file.

    Raises:
        RobustsegError: it cannot be read, or holds no mapping.
    """
    try:
        text = read_text(path)
    except OSError as error:
        raise RobustsegError(f"cannot read {path}: {error.strerror}; give a YAML file") from None
    except UnicodeDecodeError:
        raise RobustsegError(f"{path} is not a text file; give a YAML file") from None
    with suppress(ValueError, OSError):  # one elsewhere; or this folder is gone
        path = path.relative_to(Path.cwd())
    return read_yaml(text, source=str(path))
