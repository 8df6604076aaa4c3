"""The configuration as a flat table: one row per parameter, with dotted name, meaning and range.

`RobotConfig` is walked, not repeated. The table is what the ROS layer declares as parameters and
what `robustseg params` prints, so code, node and template cannot drift apart.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

from robustseg_core import modalities
from robustseg_core.config import OFF, StreamConfig
from robustseg_core.robot.config import RobotConfig, has_pixels
from robustseg_core.types import name_of

LEGEND = (
    "Every parameter at its default. Those marked (live) are in force at once when `ros2 param "
    "set` changes them, also while the node is active; it refuses the others until it is "
    "deactivated."
)
"""What `template` begins with."""


@dataclass(frozen=True)
class Parameter:
    """One parameter: a field of the configuration model, and where it hangs."""

    path: tuple[str, ...]
    annotation: Any
    default: Any
    description: str
    low: float | None
    high: float | None
    """Ends of the range, where both are finite; an exclusive end counts as an end."""
    live: bool = False
    """Whether it may change while a node is active; else it takes effect at activation."""

    @property
    def name(self) -> str:
        """Its dotted name: `streams.rgb.topic`."""
        return ".".join(self.path)

    @property
    def when(self) -> str:
        """From when on a change is in force, for people."""
        return "in force at once, also while active" if self.live else "in force from activation on"

    @property
    def unset(self) -> bool:
        """Whether the default is "not set": None or an empty list, which ROS has no types for."""
        return self.default is None or self.default == ()

    def coerce(self, value: Any) -> Any:
        """`value` as the field's type: 30 is 30.0 where a float is meant.

        And where a word is meant, YAML 1.1 has read `off` as a boolean.
        """
        if value is False and isinstance(self.default, str):
            return OFF
        return TypeAdapter(self.annotation).validate_python(value)


def parameters(
    model: type[BaseModel] = RobotConfig,
    path: tuple[str, ...] = (),
    streams: Collection[str] = (),
) -> Iterator[Parameter]:
    """All rows of `model`, in its order; a mapping has one key for every modality there is.

    Args:
        model: the configuration.
        path: where it hangs.
        streams: names of streams beside the modalities, such as `rgb.front`.
    """
    whole = _live(model.model_config.get("json_schema_extra"), otherwise=False)
    for key, field in model.model_fields.items():
        live = _live(field.json_schema_extra, otherwise=whole)
        yield from _below(field.annotation, field, (*path, key), streams, live=live)


def named_streams(names: Iterable[str]) -> tuple[str, ...]:
    """The streams with a name that dotted names of parameters speak of: `rgb.front` of
    `streams.rgb.front.topic`; in their order.
    """
    found: dict[str, None] = {}
    for name in names:
        group, *parts = name.split(".")
        if group != "streams" or len(parts) < 3 or parts[1] in StreamConfig.model_fields:
            continue
        if parts[0] in modalities.available() and parts[2] in StreamConfig.model_fields:
            found[f"{parts[0]}.{parts[1]}"] = None
    return tuple(found)


def _live(extra: Any, *, otherwise: bool) -> bool:
    """What a field, or a model, says in its `json_schema_extra` (`config.LIVE`)."""
    return bool(extra.get("live", otherwise)) if isinstance(extra, Mapping) else otherwise


def _below(
    annotation: Any,
    field: FieldInfo,
    path: tuple[str, ...],
    streams: Collection[str],
    *,
    live: bool,
) -> Iterator[Parameter]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield from parameters(annotation, path, streams)
    elif path[-1] == "limits" and len(path) == 3:  # streams.<modality>.limits
        yield from parameters(modalities.limits_of(path[1]), path)
    elif get_origin(annotation) in (dict, Mapping):
        names = [*sorted(modalities.usable()), *streams]
        if path == ("views",):
            names = list(dict.fromkeys(name_of(name) for name in streams if has_pixels(name)))
        for name in names:
            yield from _below(get_args(annotation)[1], field, (*path, name), streams, live=live)
    else:
        mapped = get_origin(field.annotation) in (dict, Mapping)
        default = () if mapped else field.get_default(call_default_factory=True)
        ends = _range(field)
        yield Parameter(path, annotation, default, field.description or "", *ends, live=live)


def _range(field: FieldInfo) -> tuple[float | None, float | None]:
    ends: dict[str, float] = {}
    for constraint in field.metadata:
        for name, side in (("ge", "low"), ("gt", "low"), ("le", "high"), ("lt", "high")):
            end = getattr(constraint, name, None)
            if isinstance(end, (int, float)) and math.isfinite(end):
                ends[side] = end
    return (ends["low"], ends["high"]) if len(ends) == 2 else (None, None)


def to_tree(table: Iterable[Parameter], values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by dotted name as the nested mapping that `config.parse` reads; defaults left out."""
    tree: dict[str, Any] = {}
    for parameter in table:
        value: Any = values.get(parameter.name)
        if isinstance(parameter.default, tuple) and hasattr(value, "__len__"):
            value = value if isinstance(value, str) else tuple(value)
        if value is None or value == parameter.default:
            continue
        branch = tree
        for name in parameter.path[:-1]:
            branch = branch.setdefault(name, {})
        branch[parameter.path[-1]] = value
    return tree


def template() -> str:
    """A `robot.yaml` with every parameter at its default, each explained.

    Rows without a default are commented out. The file serves `ros2 launch ... params_file:=` and
    `robustseg` alike.
    """
    lines = [f"# {line}" for line in textwrap.wrap(LEGEND, width=98)]
    lines += ["/**:", "  ros__parameters:"]
    open_groups: tuple[str, ...] = ()
    for parameter in parameters():
        *groups, key = parameter.path
        shared = 0
        while shared < min(len(groups), len(open_groups)) and groups[shared] == open_groups[shared]:
            shared += 1
        live = any(
            not other.unset for other in parameters() if other.path[: len(groups)] == (*groups,)
        )
        for depth in range(shared, len(groups)):
            lines.append(f"{_indent(depth)}{'' if live else '# '}{groups[depth]}:")
        open_groups = tuple(groups)
        indent = _indent(len(groups))
        for line in textwrap.wrap(_meaning(parameter), width=96 - len(indent)):
            lines.append(f"{indent}# {line}")
        if parameter.unset:
            kind = "true" if "bool" in str(parameter.annotation) else "..."
            lines.append(f"{indent}# {key}: {kind}")
        else:
            lines.append(f"{indent}{key}: {_yaml(parameter.default)}")
    return "\n".join(lines) + "\n"


def _indent(depth: int) -> str:
    return " " * (4 + 2 * depth)


def _meaning(parameter: Parameter) -> str:
    span = "" if parameter.low is None else f" [{parameter.low:g} .. {parameter.high:g}]"
    mark = " (live)" if parameter.live else ""
    return f"{parameter.description}{span}{mark}".strip()


def _yaml(value: Any) -> str:
    plain = list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump(plain, default_flow_style=True, width=10_000).strip()
    return text.removesuffix("\n...").strip()
