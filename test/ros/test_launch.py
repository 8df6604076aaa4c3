"""Launch files, as far as they go without `launch`, which PyPI does not have."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import pytest
import yaml

pytest.importorskip("rclpy")

from rclpy.node import Node

from robustseg_core import config
from robustseg_core.bag import Bag
from robustseg_core.errors import RobustsegError
from robustseg_core.models.classes import CITYSCAPES
from robustseg_core.output import topics
from robustseg_core.robot.config import parse_robot
from robustseg_ros.play_node import _options
from support import ROOT, drives
from support.live_sensors import write_bag

pytestmark = pytest.mark.ros
QUOTED = 'it\'s "mine" $(env HOME).mcap'


class Launched:
    """A launch file whose `launch` is a stand-in."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        parts = ("", ".actions", ".events", ".events.process", ".launch_description_sources")
        for package in ("launch", "launch_ros"):
            for part in (*parts, ".substitutions"):
                monkeypatch.setitem(sys.modules, package + part, MagicMock())
        spec = importlib.util.spec_from_file_location("launched", ROOT / "launch" / name)
        assert spec is not None and spec.loader is not None
        self.file: ModuleType = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.file)

    def perform(self, what: str, around: str = "", **given: str) -> list[Any]:
        """What one of its functions makes of these arguments, and of defaults."""
        values = {name: default for name, (default, _) in self.file.ARGUMENTS.items()} | given
        self.file.LaunchConfiguration = lambda name: MagicMock(perform=lambda _: values[name])
        context = MagicMock(launch_configurations={"ros_namespace": around})
        return getattr(self.file, what)(context)


@pytest.mark.parametrize(
    ("namespace", "around", "full"),
    [
        ("", "", "/"),
        ("front", "", "/front"),
        ("/front/left/", "", "/front/left"),
        ("left", "/front", "/front/left"),
        ("/left", "/front", "/left"),
    ],
)
def test_the_level_is_that_of_the_nodes_own_logger(world, monkeypatch, namespace, around, full):
    launched = Launched(monkeypatch, "robustseg.launch.py")
    node = Node("robustseg", namespace=full, context=world.context, enable_rosout=False)
    assert launched.file.logger_of("robustseg", namespace, around) == node.get_logger().name
    launched.perform("segment_node", around, namespace=namespace, log_level="debug")
    arguments = launched.file.Node.call_args.kwargs["arguments"]
    assert arguments[-1] == f"{node.get_logger().name}:=debug"
    labels = Launched(monkeypatch, "record_labels.launch.py").file.outputs(namespace, around)
    name = node.get_fully_qualified_name()
    node.destroy_node()
    assert f"{name}/label_mask" in labels and f"{name}/overlay" not in labels
    beside = {"/diagnostics", "/tf", "/tf_static"}
    assert beside <= set(labels) and len(labels) == len(topics.OUTPUTS) + 1


def test_a_recording_may_be_called_anything(monkeypatch):
    launched = Launched(monkeypatch, "robustseg.launch.py")
    assert launched.perform("player") == []
    assert len(launched.perform("player", bag=QUOTED)) == 1
    assert launched.file.Node.call_args.kwargs["arguments"][0] == QUOTED


@pytest.mark.parametrize(
    ("given", "ends"),
    [({}, False), ({"bag": "x"}, True), ({"required": "true"}, True)],
)
def test_a_recording_is_not_played_to_a_node_that_has_ended(monkeypatch, given, ends):
    launched = Launched(monkeypatch, "robustseg.launch.py")
    launched.perform("segment_node", **given)
    assert ("on_exit" in launched.file.Node.call_args.kwargs) is ends


def test_a_replay_has_a_clock_and_faults_and_ends_with_the_recording(monkeypatch):
    launched = Launched(monkeypatch, "replay.launch.py")
    given = {"params_file": "robot.yaml", "faults": "rgb:off@2+3  lidar:stuck@5", "seed": "3"}
    launched.perform("replay", bag=QUOTED, namespace="front", **given)
    node = dict(launched.file.IncludeLaunchDescription.call_args.kwargs["launch_arguments"])
    assert node["use_sim_time"] == "true" and node["bag"] == "" and node["namespace"] == "front"
    assert node["required"] == "true"
    play = launched.file.Node.call_args.kwargs
    assert "on_exit" in play
    options = _options(play["arguments"])
    assert options.bags == [Path(QUOTED)] and options.clock == 40.0 and options.seed == 3
    assert len(options.fault) == 2
    launched.perform("replay", bag="x", params_file="y", clock="false", stay="true")
    play = launched.file.Node.call_args.kwargs
    assert "on_exit" not in play and "--clock" not in play["arguments"]
    with pytest.raises(ValueError, match="clock is 'yes'; give true or false"):
        launched.perform("replay", bag="x", clock="yes")
    with pytest.raises(ValueError, match="view is 'rvis'; did you mean 'rviz'"):
        launched.perform("replay", bag="x", params_file="y", view="rvis")


def test_the_robot_of_a_replay_is_guessed_from_the_recording(monkeypatch, realdata):
    launched = Launched(monkeypatch, "replay.launch.py")
    path = launched.file.robot_file(realdata / "collage_four_sensors")
    robot = parse_robot(config.read_file(path))
    with Bag([realdata / "collage_four_sensors"]) as bag:
        assert set(robot.topics.values()) <= {topic.name for topic in bag.topics}
    assert set(robot.topics) == {"rgb", "depth", "event", "lidar"}


def test_labels_are_recorded_of_a_robot_or_of_a_recording(monkeypatch):
    launched = Launched(monkeypatch, "record_labels.launch.py")
    for bag, other in (("", "robustseg.launch.py"), ("a.mcap", "replay.launch.py")):
        robot = str(ROOT / "config" / "robot.yaml") if bag else ""
        launched.perform("record", bag=bag, sensors="true", out="here", params_file=robot)
        words = launched.file.ExecuteProcess.call_args.kwargs["cmd"]
        assert words[:6] == ["ros2", "bag", "record", "--output", "here", "--topics"]
        assert {"/robustseg/label_mask", "/velodyne_points", "/tf_static"} <= {*words}
        source = launched.file.PythonLaunchDescriptionSource.call_args.args[0]
        assert Path(source).name == other


@pytest.mark.parametrize("name", ["robustseg", "replay", "record_labels"])
def test_what_fails_in_a_launch_ends_it_with_an_error(monkeypatch, name):
    ended = Launched(monkeypatch, f"{name}.launch.py").file.ended
    failed = MagicMock(process_name="segment_node-1", returncode=2)
    with pytest.raises(RobustsegError, match="segment_node-1 has ended with exit code 2"):
        ended(failed, MagicMock(is_shutdown=False))
    assert ended(failed, MagicMock(is_shutdown=True)) is not None
    assert ended(MagicMock(returncode=0), MagicMock(is_shutdown=False)) is not None


def test_the_labels_of_a_recording_are_those_of_the_robot_that_made_it(monkeypatch, tmp_path):
    launched = Launched(monkeypatch, "record_labels.launch.py")
    bag = write_bag(tmp_path / "drive", 0.5)
    launched.perform("record", bag=str(bag), sensors="true")
    words = launched.file.ExecuteProcess.call_args.kwargs["cmd"]
    assert {*drives.TOPICS.values(), "/robustseg/label_mask"} <= {*words}
    (given,) = launched.file.IncludeLaunchDescription.call_args_list
    file = dict(given.kwargs["launch_arguments"])["params_file"]
    assert set(parse_robot(config.read_file(Path(file))).topics.values()) <= {*words}


def test_the_labels_of_several_cameras_are_all_recorded(monkeypatch):
    launched = Launched(monkeypatch, "record_labels.launch.py")
    robot = str(ROOT / "config" / "robots" / "six_cameras.yaml")
    launched.perform("record", bag="", sensors="true", out="here", params_file=robot)
    words = launched.file.ExecuteProcess.call_args.kwargs["cmd"]
    assert {"/robustseg/front/label_mask", "/robustseg/back_left/status"} <= {*words}
    assert {"/robustseg/label_info", "/LIDAR_TOP", "/CAM_BACK/camera_info"} <= {*words}
    assert "/robustseg/label_mask" not in words and len(words) == len({*words})


ROBOTS = sorted((ROOT / "config" / "robots").glob("*.yaml"))


@pytest.mark.parametrize("path", ROBOTS, ids=lambda path: path.stem)
def test_every_ready_robot_loads(path):
    robot = parse_robot(config.read_file(path))
    assert len(robot.topics) >= 2 and len(set(robot.topics.values())) == len(robot.topics)
    for name in robot.topics:
        assert robot.streams[name].in_force == "auto"


def test_a_ready_robot_with_a_slip_is_refused(tmp_path):
    path = tmp_path / "robot.yaml"
    path.write_text(ROBOTS[0].read_text().replace("rate_hz", "rate_hzz", 1))
    with pytest.raises(RobustsegError, match=r"unknown key 'streams.*rate_hzz'"):
        parse_robot(config.read_file(path))


def test_the_costmap_knows_our_topics_and_classes():
    text = (ROOT / "config" / "nav2" / "turtlebot4_semantic.yaml").read_text()
    layer = yaml.safe_load(text)["local_costmap"]["local_costmap"]["ros__parameters"]
    source = layer["semantic_layer"]["robustseg"]
    named = [name for kind in source["class_types"] for name in source[kind]["classes"]]
    assert len(named) == len(set(named)) and set(named) == set(CITYSCAPES.names) - {"sky"}
    ours = {f"/robustseg/{output.name}" for output in topics.OUTPUTS}
    told = {source[f"{key}_topic"] for key in ("segmentation", "confidence", "labels")}
    assert told <= ours
