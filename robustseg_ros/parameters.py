"""ROS parameters out of the one configuration table: declarations and checks.

Values go back through `robustseg_core.config.parse`, so that `ros2 launch`, `ros2 param set` and
`robustseg run` refuse the same values with the same sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from robustseg_core import modalities
from robustseg_core.config import OFF, parse
from robustseg_core.errors import RobustsegError, did_you_mean
from robustseg_core.robot.config import RobotConfig, is_node_only
from robustseg_core.robot.parameters import Parameter, named_streams, parameters, to_tree
from robustseg_core.types import kind_of, name_of


def declare(node: Node, model: type[RobotConfig] = RobotConfig) -> RobotConfig:
    """Declare every parameter of `model` on `node`; the configuration that its overrides make.

    Overrides of unknown names are warned about, with the nearest known one, and otherwise ignored.
    Call `guard` afterwards to check later changes.

    Raises:
        RobustsegError: an override that the model refuses.
    """
    overrides = node._parameter_overrides  # rclpy has no public name for them
    named = named_streams(overrides)
    known = {parameter.name: parameter for parameter in parameters(model, streams=named)}
    given: dict[str, Any] = {}
    strange: dict[str, None] = {}
    for name, override in overrides.items():
        if name in known:
            given[name] = override.value
        elif kind := _strange_kind(name):
            strange[kind] = None
        elif named and name.startswith("streams."):
            raise RobustsegError(
                f"unknown parameter {name!r}: ROS takes keys with a dot in them for something else "
                f"than they say; below streams, write {kind_of(named[0])}: and below it "
                f"{name_of(named[0])}:, as `robustseg inspect` does"
            )
        elif not is_node_only(name):
            node.get_logger().warning(
                f"unknown parameter {name!r} is ignored; {_nearest(name, known)}"
            )
    for kind in strange:
        node.get_logger().warning(
            f"streams.{kind} is ignored: no sensor is called that; "
            f"{did_you_mean(kind, modalities.available())}"
        )
    config = parse(model, to_tree(known.values(), given))
    for name, parameter in known.items():
        value = given.get(name)
        value = parameter.default if value is None else parameter.coerce(value)
        value = list(value) if isinstance(value, tuple) else value
        value = None if value == [] else value
        node.declare_parameter(name, value, _descriptor(parameter), ignore_override=True)
    return config


def _strange_kind(name: str) -> str:
    """`radar` of `streams.radar.topic` or `streams.radar.front.topic`, if we know none; else ""."""
    group, *parts = name.split(".")
    if group != "streams" or len(parts) < 2 or parts[0] in modalities.available():
        return ""
    return parts[0]


def _descriptor(parameter: Parameter) -> ParameterDescriptor:
    """What `ros2 param describe` shows; dynamic where "not set" must be a value."""
    result = ParameterDescriptor(
        description=parameter.description,
        additional_constraints=parameter.when,
        dynamic_typing=parameter.unset,
    )
    low, high = parameter.low, parameter.high
    if low is None or high is None:
        return result
    if isinstance(parameter.default, float):
        ends = FloatingPointRange(from_value=float(low), to_value=float(high))
        result.floating_point_range = [ends]
    elif isinstance(parameter.default, int):
        result.integer_range = [IntegerRange(from_value=int(low), to_value=int(high))]
    return result


def read(node: Node, model: type[RobotConfig] = RobotConfig) -> RobotConfig:
    """The configuration that the declared parameters hold now; `use_sim_time` says "simulated"."""
    known, values = _held(node, model)
    values["health.simulated"] |= node.get_parameter("use_sim_time").value
    return parse(model, to_tree(known, values))


def guard(
    node: Node,
    is_active: Callable[[], bool],
    apply: Callable[[RobotConfig], object] = lambda _config: None,
    model: type[RobotConfig] = RobotConfig,
) -> None:
    """Refuse `ros2 param set`s, whole batches at a time, that make no valid configuration.

    While `is_active()`, those are refused, too, that take effect when the node is activated.

    Args:
        node: whose parameters were declared.
        is_active: whether the robot's parameters are in use.
        apply: told, in the executor's thread, of the configuration that a change has made then.
        model: of the configuration.
    """

    def check(batch: list[RosParameter[Any]]) -> SetParametersResult:
        known, values = _held(node, model)
        live = {parameter.name: parameter.live for parameter in known}
        changes = {p.name: p.value for p in batch if p.name in live}
        fixed = [name for name in changes if not live[name]]
        if fixed and is_active():
            return SetParametersResult(
                successful=False,
                reason=f"{fixed[0]} takes effect at activation; first run "
                f"`ros2 lifecycle set {node.get_fully_qualified_name()} deactivate`, "
                "then set it, then activate",
            )
        try:
            parse(model, to_tree(known, {**values, **changes}))
        except RobustsegError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def tell(batch: list[RosParameter[Any]]) -> None:
        names = {parameter.name for parameter in _declared(node, model)}
        if is_active() and names & {p.name for p in batch}:
            apply(read(node, model))

    def word(batch: list[RosParameter[Any]]) -> list[RosParameter[Any]]:
        texts = {p.name for p in _declared(node, model) if isinstance(p.default, str)}
        return [
            RosParameter(p.name, value=OFF) if p.value is False and p.name in texts else p
            for p in batch
        ]  # as `Parameter.coerce`: `ros2 param set` reads YAML, too

    node.add_pre_set_parameters_callback(word)
    node.add_on_set_parameters_callback(check)
    node.add_post_set_parameters_callback(tell)


def _declared(node: Node, model: type[RobotConfig]) -> Iterator[Parameter]:
    """The table with those streams that have a name."""
    below = node.get_parameters_by_prefix("streams")
    return parameters(model, streams=named_streams(f"streams.{name}" for name in below))


def _held(node: Node, model: type[RobotConfig]) -> tuple[list[Parameter], dict[str, Any]]:
    known = list(_declared(node, model))
    return known, {parameter.name: node.get_parameter(parameter.name).value for parameter in known}


def _nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a misspelt dotted name: among its siblings first, for the list is long."""
    names = list(known)
    parent = name.rpartition(".")[0]
    while parent and not any(n.startswith(parent + ".") for n in names):
        parent = parent.rpartition(".")[0]
    siblings = [n for n in names if n.startswith(parent + ".")] if parent else names
    hint = did_you_mean(name, siblings)
    return hint if hint.startswith("did") else "`robustseg params` lists them all"
