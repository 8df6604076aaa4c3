"""Start the node `robustseg`: `ros2 launch robustseg robustseg.launch.py params_file:=robot.yaml`.

What is said on the command line beats the parameter file, which beats the defaults. One process for
one node: `ros2 component` loads libraries of C++, and no Python.
"""

from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    OpaqueFunction,
    SetEnvironmentVariable,
    Shutdown,
)
from launch.events.process import ProcessExited
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import Node

from robustseg_core.robot.transports import ROOMY, VARIABLE
from robustseg_ros.launching import PATIENCE_S, must_end_well

EXAMPLE = Path(__file__).resolve().parent.parent / "config" / "robot.yaml"

ARGUMENTS = {
    "params_file": (str(EXAMPLE), "The robot: its topics and limits, as in config/robot.yaml."),
    "namespace": ("", "Namespace of the node."),
    "use_sim_time": ("", "true: follow /clock. Empty: as the parameter file says."),
    "autostart": ("", "false: wait for lifecycle transitions. Empty: as the parameter file says."),
    "weights": ("", "Checkpoint (.safetensors). Empty: as the parameter file says."),
    "log_level": ("info", "debug, info, warn, error or fatal."),
    "bag": ("", "A recording to play beside the node, for trying things out."),
    "required": ("", "true: all that was launched ends with the node. Empty: with a bag, it does."),
}


def segment_node(context: LaunchContext) -> list[Node]:
    """The node, with the arguments that were given laid over the parameter file."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    overrides: dict[str, object] = {}
    for name in ("use_sim_time", "autostart"):
        if given[name]:
            overrides[name] = _truth(name, given[name])
    if given["weights"]:
        overrides["weights"] = given["weights"]
    around = context.launch_configurations.get("ros_namespace", "")  # of PushRosNamespace
    logger = logger_of("robustseg", given["namespace"], around)
    required = _truth("required", given["required"] or str(bool(given["bag"])))
    end = {"on_exit": ended} if required else {}
    return [
        Node(
            package="robustseg",
            executable="segment_node",
            name="robustseg",
            namespace=given["namespace"],
            parameters=[given["params_file"], overrides],
            arguments=["--ros-args", "--log-level", f"{logger}:={given['log_level']}"],
            output="screen",
            **end,
        )
    ]


def ended(event: ProcessExited, context: LaunchContext) -> Shutdown:
    """A recording without the node is no success."""
    must_end_well(event.process_name, event.returncode, stopping=context.is_shutdown)
    return Shutdown(reason="the node has ended")


def player(context: LaunchContext) -> list[Node]:
    """Who plays the recording, if there is one; any name will do, quotes and all."""
    bag = LaunchConfiguration("bag").perform(context)
    words = [bag, "--wait", PATIENCE_S]
    play = {"package": "robustseg", "executable": "play_node", "output": "screen"}
    return [Node(**play, arguments=words)] if bag else []


def logger_of(name: str, namespace: str, around: str = "") -> str:
    """The name of a node's logger: its full name, with dots.

    Args:
        name: the node's.
        namespace: its own; relative to `around` unless it begins with a slash.
        around: that of the group which the node is started in.
    """
    full = namespace if namespace.startswith("/") else f"{around}/{namespace}"
    return ".".join([*filter(None, full.split("/")), name])


def _truth(name: str, word: str) -> bool:
    if word.lower() not in ("true", "false"):
        raise ValueError(f"{name} is {word!r}; give true or false")
    return word.lower() == "true"


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` asks for."""
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=text)
                for name, (default, text) in ARGUMENTS.items()
            ),
            SetEnvironmentVariable(VARIABLE, EnvironmentVariable(VARIABLE, default_value=ROOMY)),
            OpaqueFunction(function=segment_node),
            OpaqueFunction(function=player),
        ]
    )
