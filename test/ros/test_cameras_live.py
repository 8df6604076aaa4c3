"""A node with two cameras over DDS: what each says is below its name, and speaks of its own."""

from __future__ import annotations

import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image

from robustseg_core.blackbox.again import Again, read
from robustseg_core.codecs.fields import nanoseconds
from robustseg_core.errors import RobustsegError
from robustseg_core.output import messages, topics
from robustseg_ros import parameters
from robustseg_ros.publishers import Publishers
from support import rigs
from support.label_maps import a_map, a_spec

pytestmark = pytest.mark.ros

RELIABLE = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
STREAMS = rigs.streams_of(rigs.CAMERAS[:2], ("top",))


def test_each_camera_has_all_outputs_below_its_name_and_is_as_lazy_as_one(world, monkeypatch):
    made: Counter[str] = Counter()

    def counted(output: topics.Output) -> topics.Output:
        make = output.make
        if make is None:
            return output

        def count(mask: topics.Mask) -> Any:
            made[f"{mask.label_map.camera}/{output.name}"] += 1
            return make(mask)

        return replace(output, make=count)

    monkeypatch.setattr(topics, "OUTPUTS", tuple(counted(one) for one in topics.OUTPUTS))
    node, heard = world.node, []
    publishers = Publishers(node, a_spec(), cameras=("front", "left"))
    own = node.get_fully_qualified_name()
    for output in topics.OUTPUTS:
        for camera in ("front", "left"):
            name = output.topic_of(camera).replace("~", own)
            (offer,) = node.get_publishers_info_by_topic(name)
            assert offer.topic_type == output.type
        if output.make is not None:
            assert not node.get_publishers_info_by_topic(output.topic.replace("~", own))
    node.create_subscription(Image, f"{own}/left/label_mask", heard.append, RELIABLE)
    world.until(lambda: node.count_subscribers(f"{own}/left/label_mask"), "a subscriber")

    def said() -> bool:
        for camera in ("front", "left"):
            publishers.publish(replace(a_map(), camera=camera))
        return bool(heard)

    world.until(said, "a mask")
    assert set(made) == {"front/status", "left/status", "left/label_mask"}
    publishers.close()


def robot_file(folder: Path) -> Path:
    """Two cameras and a LiDAR, as rcl reads them."""
    lines = ["/**:", "  ros__parameters:", "    weights: untrained", "    streams:"]
    lines += ["      rgb:"]
    lines += [f"        {name[4:]}: {{topic: {rigs.topic_of(name)}}}" for name in STREAMS[:2]]
    lines += ["      lidar: {top: {topic: /top/points}}"]
    path = folder / "robot.yaml"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.slow
def test_a_node_makes_a_mask_for_each_camera_and_tells_which_streams_made_it(world, tmp_path):
    rigs.write_bag(tmp_path / "bag", rigs.schedule(60, STREAMS)[: 10 * 50], STREAMS)
    robot = robot_file(tmp_path)
    heard: dict[str, list[Any]] = {}

    def hear(kind: type, name: str) -> None:
        heard[name] = []
        world.node.create_subscription(kind, f"/robustseg/{name}", heard[name].append, RELIABLE)

    for camera in ("front", "left"):
        hear(Image, f"{camera}/label_mask")
        hear(CameraInfo, f"{camera}/camera_info")
        hear(DiagnosticArray, f"{camera}/status")
    box = tmp_path / "black_box"
    options = ("-p", f"black_box.folder:={box}", "-p", "black_box.before_s:=2.0")
    node = world.segment("--params-file", str(robot), *options)
    world.until(lambda: world.node.count_publishers("/robustseg/left/status"), "the node")
    player = world.play(tmp_path / "bag")
    used: dict[str, set[str]] = {"front": set(), "left": set()}

    def all_used() -> bool:
        for camera, names in used.items():
            for message in heard[f"{camera}/status"]:
                names |= {*messages.read_status(message)["used"]}
        whole = all(names == {f"rgb.{c}", "lidar.top"} for c, names in used.items())
        return whole and all(len(some) >= 5 for some in heard.values())

    world.until(all_used, "masks of both cameras, made of camera and LiDAR")
    pixels = {}
    for camera in ("front", "left"):
        stamps = {nanoseconds(m.header.stamp) for m in heard[f"{camera}/status"]}
        masks = heard[f"{camera}/label_mask"]
        assert {m.encoding for m in masks} == {"mono8"}
        assert {(m.height, m.width) for m in masks} == {(rigs.HEIGHT, rigs.WIDTH)}
        assert {m.header.frame_id for m in masks} == {f"cam_{camera}"}
        infos = heard[f"{camera}/camera_info"]
        assert {m.header.frame_id for m in infos} == {f"cam_{camera}"}
        assert {nanoseconds(m.header.stamp) for m in masks[:-1]} & stamps
        pixels[camera] = bytes(masks[-1].data)
    assert pixels["front"] != pixels["left"]
    request = SetParameters.Request(
        parameters=[
            Parameter(
                name="streams.rgb.left.mode", value=ParameterValue(type=4, string_value="off")
            )
        ]
    )
    answer = world.call(SetParameters, "/robustseg/set_parameters", request)
    assert answer.results[0].successful, answer.results[0].reason
    health: list[Any] = []
    world.node.create_subscription(DiagnosticArray, "/diagnostics", health.append, 10)

    def told() -> dict[str, Any]:
        known = messages.read_health(health[-1], "robustseg") if health else {}
        off = known.get("rgb.left")
        return known if off is not None and off.state.value == "DISABLED" else {}

    known = world.until(told, "that the left camera is off")
    assert list(known) == ["rgb.front", "lidar.top", "rgb.left"]
    assert player.end(signal.SIGKILL) == -signal.SIGKILL
    for name in ("rgb.front", "lidar.top"):
        world.until(lambda name=name: health_of(health, name) == "DEAD", f"that {name} is silent")
    assert node.end(signal.SIGTERM) == 0, node.output
    every_camera_has_files(box, node.output)


def every_camera_has_files(box: Path, output: str) -> None:
    """Told by the node, and done again to the bit, whatever its threads did, and when."""
    files = sorted(box.glob("*.mcap"))
    for camera in ("front", "left"):  # what a person switches off is no fault
        mine = [path for path in files if f"Z_{camera}_" in path.name]
        assert mine and str(mine[-1]) in output, output
        assert not any("rgb.left_disabled" in path.name for path in mine)
    for path in files:
        assert Again(read(path)).run().differences == []


def health_of(said: list[Any], stream: str) -> str:
    """The newest state of it that /diagnostics has."""
    known = messages.read_health(said[-1], "robustseg").get(stream)
    return "" if known is None else known.state.value


@pytest.mark.parametrize(
    ("streams", "told"),
    [
        (
            "{rgb: {front: {topic: /f}, left: {topic: /f}}}",
            "streams.rgb.front.topic is '/f', and so is that of streams.rgb.left",
        ),
        (
            "{rgb.front: {topic: /f}, rgb.left: {topic: /l}}",
            "below streams, write rgb: and below it front:, as `robustseg inspect` does",
        ),
    ],
)
def test_names_that_do_not_work_are_one_sentence(world, tmp_path, streams, told):
    text = f"/**: {{ros__parameters: {{streams: {streams}}}}}\n"
    (tmp_path / "robot.yaml").write_text(text)
    words = ["--ros-args", "--params-file", str(tmp_path / "robot.yaml")]
    node = Node("robustseg", context=world.context, cli_args=words)
    try:
        with pytest.raises(RobustsegError) as raised:
            parameters.declare(node)
    finally:
        node.destroy_node()
    assert told in str(raised.value)
