"""Play a recording through the node: `ros2 launch robustseg replay.launch.py bag:=drive.mcap`.

The recording's clock is /clock, and the node goes by it. Sensors may break on the way
(`faults:="rgb:off@2+3 lidar:stuck@5"`), RViz or Foxglove may look on (`view:=rviz`). Without
`params_file` the robot is guessed from the recording, as `robustseg inspect` does.
"""

from pathlib import Path

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import (
    DeclareLaunchArgument,
    IncludeLaunchDescription,
    OpaqueFunction,
    Shutdown,
)
from launch.events.process import ProcessExited
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from robustseg_core.errors import did_you_mean
from robustseg_core.recording.survey import robot_file
from robustseg_ros.launching import PATIENCE_S, must_end_well

HERE = Path(__file__).resolve().parent
VIEWS = HERE.parent / "config" / "view"

ARGUMENTS = {
    "bag": (None, "The recording: .mcap, .db3, a ROS 1 .bag, or the folder of one."),
    "params_file": ("", "The robot, as config/robot.yaml. Empty: guessed from the recording."),
    "namespace": ("", "Namespace of the node."),
    "weights": ("", "Checkpoint (.safetensors). Empty: as the parameter file says."),
    "log_level": ("info", "debug, info, warn, error or fatal."),
    "clock": ("true", "false: publish no /clock; the node goes by the computer's."),
    "rate": ("1.0", "Speed."),
    "loop": ("1", "Passes; 0: until stopped."),
    "faults": ("", "What breaks, as `robustseg inject --fault` has it, with spaces in between."),
    "seed": ("0", "Of the faults."),
    "view": ("none", "rviz, foxglove (its bridge) or none."),
    "frame": ("", "RViz's fixed frame. Empty: as config/view/robustseg.rviz says."),
    "stay": ("false", "true: the node outlives the recording."),
}
BRIDGE = {"package": "foxglove_bridge", "executable": "foxglove_bridge", "output": "screen"}
RVIZ = {"package": "rviz2", "executable": "rviz2", "output": "log"}
PLAYER = {"package": "robustseg", "executable": "play_node", "output": "screen"}


def replay(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The node, who plays, and who looks on."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    clock, stay = (truth(name, given[name]) for name in ("clock", "stay"))
    node = {name: given[name] for name in ("namespace", "weights", "log_level")}
    node |= {
        "params_file": given["params_file"] or str(robot_file(Path(given["bag"]))),
        "use_sim_time": str(clock).lower(),
        "bag": "",  # played here
        "required": "true",
    }
    end = {} if stay else {"on_exit": ended}
    return [
        IncludeLaunchDescription(
            PythonLaunchDescriptionSource(str(HERE / "robustseg.launch.py")),
            launch_arguments=node.items(),
        ),
        Node(**PLAYER, arguments=words_of(given, clock=clock), **end),
        *viewer(given["view"], given["frame"], clock=clock),
    ]


def ended(event: ProcessExited, context: LaunchContext) -> Shutdown:
    """The player has."""
    must_end_well(event.process_name, event.returncode, stopping=context.is_shutdown)
    return Shutdown(reason="the recording is over")


def words_of(given: dict[str, str], *, clock: bool) -> list[str]:
    """The player's command line."""
    words = [given["bag"], "--wait", PATIENCE_S, "--rate", given["rate"], "--loop", given["loop"]]
    words += ["--clock"] * clock
    for fault in given["faults"].split():
        words += ["--fault", fault]
    return [*words, "--seed", given["seed"]] if given["faults"] else words


def viewer(view: str, frame: str, *, clock: bool) -> list[Node]:
    """Who looks on."""
    time = {"parameters": [{"use_sim_time": clock}]}
    if view == "rviz":
        fixed = ["-f", frame] if frame else []
        return [Node(**RVIZ, **time, arguments=["-d", str(VIEWS / "robustseg.rviz"), *fixed])]
    if view == "foxglove":  # open config/view/foxglove.json there
        return [Node(**BRIDGE, **time)]
    if view != "none":
        raise ValueError(f"view is {view!r}; {did_you_mean(view, ['rviz', 'foxglove', 'none'])}")
    return []


def truth(name: str, word: str) -> bool:
    """true or false."""
    if word.lower() not in ("true", "false"):
        raise ValueError(f"{name} is {word!r}; give true or false")
    return word.lower() == "true"


def argument(name: str) -> DeclareLaunchArgument:
    """One without a default has to be given."""
    default, text = ARGUMENTS[name]
    return DeclareLaunchArgument(name, default_value=default, description=text)


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` asks for."""
    return LaunchDescription([*map(argument, ARGUMENTS), OpaqueFunction(function=replay)])
