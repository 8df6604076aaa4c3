"""Record what the node says: `ros2 launch robustseg record_labels.launch.py out:=labels`.

Masks, confidence, status, class names and diagnostics, with the transforms, into an MCAP of
rosbag2; `sensors:=true` adds what the sensors say. With `bag:=drive.mcap` a recording is played and
labelled, and all ends with it.
"""

from collections.abc import Sequence
from pathlib import Path

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

from robustseg_core import config
from robustseg_core.output import messages, topics
from robustseg_core.robot.config import RobotConfig, parse_robot
from robustseg_core.robot.topics import TF_TOPICS, calibrations

HERE = Path(__file__).resolve().parent
EXAMPLE = HERE.parent / "config" / "robot.yaml"
DRAWN = ("overlay",)
"""For people, and made again from mask and image at any time."""

ARGUMENTS = {
    "out": ("labels", "Folder of the new recording; it must not be there."),
    "params_file": (str(EXAMPLE), "The robot: its topics and limits."),
    "namespace": ("", "Namespace of the node."),
    "weights": ("", "Checkpoint (.safetensors). Empty: as the parameter file says."),
    "sensors": ("false", "true: record the configured sensors, too."),
    "bag": ("", "A recording to play and label."),
}


def record(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The node, or the replay, and who records."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    around = context.launch_configurations.get("ros_namespace", "")
    robot = parse_robot(config.read_file(Path(given["params_file"])))
    names = outputs(given["namespace"], around, robot.camera_names)
    if given["sensors"].lower() == "true":
        names += sensors(robot)
    recorder = ["ros2", "bag", "record", "--output", given["out"], "--topics", *names]
    node = {name: given[name] for name in ("params_file", "namespace", "weights", "bag")}
    other = "replay.launch.py" if given["bag"] else "robustseg.launch.py"
    return [
        ExecuteProcess(cmd=recorder, output="screen"),
        IncludeLaunchDescription(
            PythonLaunchDescriptionSource(str(HERE / other)), launch_arguments=node.items()
        ),
    ]


def outputs(namespace: str, around: str = "", cameras: Sequence[str] = ()) -> list[str]:
    """What a node in this namespace says, and where its frames are.

    Args:
        namespace: its own; relative to `around` unless it begins with a slash.
        around: that of the group which the launch file is included in.
        cameras: their names, if there are several.
    """
    full = namespace if namespace.startswith("/") else f"{around}/{namespace}"
    node = "/".join(["", *filter(None, full.split("/")), messages.NODE])
    told = [output for output in topics.OUTPUTS if output.name not in DRAWN]
    several = cameras if len(cameras) > 1 else ("",)
    said = {output.topic_of(camera): None for output in told for camera in several}
    return [*(topic.replace("~", node) for topic in said), *TF_TOPICS]


def sensors(robot: RobotConfig) -> list[str]:
    """The topics of the configured sensors, and their calibration."""
    return [*robot.topics.values(), *calibrations(robot)]


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` asks for."""
    declared = (
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in ARGUMENTS.items()
    )
    return LaunchDescription([*declared, OpaqueFunction(function=record)])
