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
    Shutdown,
)
from launch.events.process import ProcessExited
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

from robustseg_core import config
from robustseg_core.output import messages, topics
from robustseg_core.recording.survey import robot_file
from robustseg_core.robot.config import RobotConfig, parse_robot
from robustseg_core.robot.topics import TF_TOPICS, calibrations
from robustseg_ros.launching import must_end_well

HERE = Path(__file__).resolve().parent
EXAMPLE = HERE.parent / "config" / "robot.yaml"
DRAWN = ("overlay",)
"""For people, and made again from mask and image at any time."""

ARGUMENTS = {
    "out": ("labels", "Folder of the new recording; it must not be there."),
    "params_file": (
        "",
        "The robot. Empty: guessed from the bag; without one, config/robot.yaml.",
    ),
    "namespace": ("", "Namespace of the node."),
    "weights": ("", "Checkpoint (.safetensors). Empty: as the parameter file says."),
    "sensors": ("false", "true: record the configured sensors, too."),
    "bag": ("", "A recording to play and label."),
}


def record(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The node, or the replay, and who records."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    around = context.launch_configurations.get("ros_namespace", "")
    if not given["params_file"]:
        given["params_file"] = str(robot_file(Path(given["bag"])) if given["bag"] else EXAMPLE)
    robot = parse_robot(config.read_file(Path(given["params_file"])))
    names = outputs(given["namespace"], around, robot.camera_names)
    if given["sensors"].lower() == "true":
        names += sensors(robot)
    recorder = ["ros2", "bag", "record", "--output", given["out"], "--topics", *names]
    node = {name: given[name] for name in ("params_file", "namespace", "weights", "bag")}
    other = "replay.launch.py" if given["bag"] else "robustseg.launch.py"
    return [
        ExecuteProcess(cmd=recorder, output="screen", on_exit=ended),
        IncludeLaunchDescription(
            PythonLaunchDescriptionSource(str(HERE / other)), launch_arguments=node.items()
        ),
    ]


def ended(event: ProcessExited, context: LaunchContext) -> Shutdown:
    """The recorder has."""
    must_end_well(event.process_name, event.returncode, stopping=context.is_shutdown)
    return Shutdown(reason="nothing is recorded any more")


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
